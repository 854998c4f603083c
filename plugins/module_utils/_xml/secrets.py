# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Which secrets of libvirt a domain names, by what they are for; never their values."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._xml.disks import read_layers
from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import parse

if t.TYPE_CHECKING:
    from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import Element

# What <secret> calls its kind -> the usage type that libvirt keeps the secret under.
_USAGE_TYPES = {"passphrase": "volume", "iscsi": "iscsi", "ceph": "ceph", "tls": "tls", "vtpm": "vtpm"}


@dataclass(frozen=True)
class SecretUse:
    """One place of a domain that needs a secret, named by its UUID or by its usage."""

    who: str
    usage_type: str
    uuid: str | None
    usage: str | None

    @property
    def name(self) -> str:
        return f"UUID {self.uuid}" if self.uuid else f"usage {self.usage}"


def secret_uses(xml: str) -> list[SecretUse]:
    """Every secret that the destination needs too.

    The CHAP secret of an iSCSI disk is not among them: the destination's own connection info names that.
    """
    root = parse(xml)
    found: list[SecretUse] = []
    for element, disk in read_layers(root):
        parents = ["encryption", "source/encryption"] if disk.needs_entry else ["auth", "encryption", "source/auth", "source/encryption"]
        for path in parents:
            found.extend(_use(secret, f"disk {disk.target}") for secret in element.findall(f"{path}/secret"))
    for element in root.findall("os/nvram/source/auth/secret"):
        found.append(_use(element, "the NVRAM"))
    for element in root.findall("devices/tpm/backend/encryption"):
        found.append(SecretUse("the TPM", "vtpm", element.get("secret"), None))
    return [use for use in found if use.uuid or use.usage]


def _use(secret: Element, who: str) -> SecretUse:
    kind = secret.get("type", "")
    return SecretUse(who, _USAGE_TYPES.get(kind, kind), secret.get("uuid"), secret.get("usage"))


__all__ = ("SecretUse", "secret_uses")
