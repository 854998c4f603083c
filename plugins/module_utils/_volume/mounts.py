# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Which file system a file lies on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host


@dataclass(frozen=True)
class Mount:
    """``kind`` is the file system's type, ``source`` what it was mounted from."""

    kind: str
    source: str


def mount_of(host: Host, path: str) -> Mount | None:
    """By the number of the mount, for a device number does not always name a file system."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = re.search(r"^mnt_id:\s*(\d+)", host.read(f"/proc/self/fdinfo/{descriptor}") or "", re.MULTILINE)
    finally:
        os.close(descriptor)
    for line in (host.read("/proc/self/mountinfo") or "").splitlines():
        before, _dash, after = line.partition(" - ")
        fields = after.split(" ")
        if found and before.split(" ")[0] == found[1] and len(fields) > 1:
            return Mount(kind=fields[0], source=fields[1])
    return None


__all__ = ("Mount", "mount_of")
