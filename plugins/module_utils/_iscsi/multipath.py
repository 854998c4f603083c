# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The multipath map above a disk. A map is always the thing to use and to remove, never one of its paths."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.iscsiadm import explain

_MAP_PREFIX = "mpath-"
_PID_FILES = ("/run/multipathd.pid", "/run/multipathd/multipathd.pid")


@dataclass(frozen=True)
class Map:
    """One multipath map. ``device`` is dm-N, ``disks`` the kernel names of its paths."""

    device: str
    name: str
    wwid: str
    disks: tuple[str, ...]

    @property
    def by_id(self) -> str:
        """The name that does not depend on the host's settings for friendly names."""
        return f"/dev/disk/by-id/dm-uuid-{_MAP_PREFIX}{self.wwid}"


def map_above(host: Host, disk: str) -> Map | None:
    """The map that holds this disk, if there is one."""
    for holder in host.names(f"/sys/class/block/{disk}/holders"):
        base = f"/sys/class/block/{holder}"
        uuid = host.read(f"{base}/dm/uuid") or ""
        if uuid.startswith(_MAP_PREFIX):
            return Map(
                device=holder,
                name=host.read(f"{base}/dm/name") or "",
                wwid=uuid[len(_MAP_PREFIX) :],
                disks=tuple(host.names(f"{base}/slaves")),
            )
    return None


def daemon_pid(host: Host) -> str | None:
    """The process id of a running multipathd."""
    pids = (host.read(path) for path in _PID_FILES)
    return next((pid for pid in pids if pid and host.read(f"/proc/{pid}/comm") == "multipathd"), None)


def daemon_runs(host: Host) -> bool:
    return daemon_pid(host) is not None


def claimed(host: Host, disk: str) -> bool:
    """Whether udev's multipath rule gave this disk to multipathd, so that a map is on its way."""
    number = host.read(f"/sys/class/block/{disk}/dev")
    return "E:DM_MULTIPATH_DEVICE_PATH=1" in (host.read(f"/run/udev/data/b{number}") or "").splitlines()


def remove_map(host: Host, found: Map, timeout_s: float) -> None:
    """Flush and remove a map, by its name: for any other name 'multipath -f' does nothing and says 0."""
    argv = ["multipath", "-f", found.name]
    result = host.run(argv, timeout_s)
    if result.rc:
        raise MigrationError(f"multipath map {found.name}: {explain(argv, result)}", error_id="map_not_removed")
    if not host.wait_for(lambda: host.read(f"/sys/class/block/{found.device}/dm/uuid") != _MAP_PREFIX + found.wwid, timeout_s):
        raise MigrationError(
            f"multipath map {found.name} is still there after 'multipath -f'; look for its users (dmsetup info {found.name})",
            error_id="map_not_removed",
        )


__all__ = ("Map", "claimed", "daemon_pid", "daemon_runs", "map_above", "remove_map")
