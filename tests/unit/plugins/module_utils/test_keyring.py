# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import struct

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import redact, secrets_of
from ansible_collections.lunshift.migration.plugins.module_utils._keyring import keys_by_entity

KEY = base64.b64encode(struct.pack("<HIIH", 1, 1700000000, 0, 16) + b"0123456789abcdef").decode()
OTHER = base64.b64encode(struct.pack("<HIIH", 1, 1700000000, 0, 16) + b"fedcba9876543210").decode()
TEXT = f'# comment\n[client.lab]\n\tkey = {KEY}\n\tcaps osd = "profile rbd pool=volumes"\n\n[ client.admin ]\nkey="{OTHER}"\n'


def test_each_client_has_its_key() -> None:
    assert keys_by_entity(TEXT) == {"client.lab": KEY, "client.admin": OTHER}
    assert keys_by_entity("") == {} and keys_by_entity("no keyring at all") == {}


def test_a_text_without_its_line_breaks_still_has_its_key() -> None:
    assert keys_by_entity(f"[client.lab] key = {KEY}") == {"client.lab": KEY}
    assert keys_by_entity(f"key={KEY}") == {"": KEY}


def test_every_key_in_a_keyring_is_masked_and_the_keyring_is_shown_to_nobody() -> None:
    info = {"driver_volume_type": "rbd", "data": {"name": "p/i", "keyring": TEXT}, "ceph": {"keyring_path": "/etc/k"}}
    assert secrets_of([info]) == {TEXT, KEY, OTHER}
    assert redact(info) == {"driver_volume_type": "rbd", "data": {"name": "p/i"}, "ceph": {"keyring_path": "/etc/k"}}
