# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""Ceph's keyring files: sections named after clients, each with a key."""

from __future__ import annotations

import re

# A text that lost its line breaks on the way is still read, for its key still has to be hidden.
_ENTRY = re.compile(r"^\s*\[\s*(?P<entity>[^\]\n]+?)\s*\]|\bkey\s*=\s*\"?(?P<key>[^\s\"]+)", re.MULTILINE)


def keys_by_entity(text: str) -> dict[str, str]:
    """The key of each client, as C({client.NAME: KEY}); what stands before the first section has no name."""
    keys: dict[str, str] = {}
    entity = ""
    for entry in _ENTRY.finditer(text):
        if entry["entity"]:
            entity = entry["entity"]
        else:
            keys[entity] = entry["key"]
    return keys


__all__ = ("keys_by_entity",)
