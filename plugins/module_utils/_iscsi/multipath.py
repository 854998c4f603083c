# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The multipath map above a disk, and the WWIDs that multipath remembers. A map is always the thing to use and to remove,
never one of its paths."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.iscsiadm import explain

_MAP_PREFIX = "mpath-"
# How udev's scsi_id writes these two kinds of names; multipath takes it over.
_KINDS = {"naa": "3", "eui": "2"}
# One line /WWID/ for each; 'multipath -w' only writes over the first character.
_WWIDS = "/etc/multipath/wwids"
_SHORT_S = 30.0
_UDEV_S = 5.0
_IN_USE = "map in use"
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
        return by_id_of(self.wwid)


def by_id_of(multipath_wwid: str) -> str:
    return f"/dev/disk/by-id/dm-uuid-{_MAP_PREFIX}{multipath_wwid}"


def wwid_of(wwid: str | None) -> str | None:
    """A WWID of VPD page 0x83 as multipath writes it; None for a kind that each host may write in its own way."""
    kind, _dot, digits = (wwid or "").partition(".")
    return f"{_KINDS[kind]}{digits}" if digits and kind in _KINDS else None


def map_above(host: Host, disk: str) -> Map | None:
    """The map that holds this disk, if there is one."""
    return next(_maps(host, host.names(f"/sys/class/block/{disk}/holders")), None)


def maps_of(host: Host) -> list[Map]:
    """Every map of this host."""
    return list(_maps(host, host.names("/sys/class/block")))


def _maps(host: Host, devices: t.Iterable[str]) -> t.Iterator[Map]:
    for device in devices:
        base = f"/sys/class/block/{device}"
        uuid = host.read(f"{base}/dm/uuid") if device.startswith("dm-") else None
        if uuid and uuid.startswith(_MAP_PREFIX):
            yield Map(
                device=device,
                name=host.read(f"{base}/dm/name") or "",
                wwid=uuid[len(_MAP_PREFIX) :],
                disks=tuple(host.names(f"{base}/slaves")),
            )


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


def remembers(host: Host, multipath_wwid: str) -> bool:
    """Whether multipath makes a map of this volume even with one path, because it did once before."""
    return f"/{multipath_wwid}/" in (host.read(_WWIDS) or "").splitlines()


def remember(host: Host, multipath_wwid: str) -> None:
    """Have multipath make a map of this volume. With find_multipaths strict, Debian's default, it makes no others."""
    _change_wwids(host, "-a", multipath_wwid)


def forget(host: Host, multipath_wwid: str) -> None:
    _change_wwids(host, "-w", multipath_wwid)
    if remembers(host, multipath_wwid):
        raise MigrationError(f"{_WWIDS} still has {multipath_wwid} after 'multipath -w'; remove the line", error_id="wwid_left")


def _change_wwids(host: Host, flag: str, multipath_wwid: str) -> None:
    argv = ["multipath", flag, multipath_wwid]
    result = host.run(argv, _SHORT_S)
    if result.rc:
        raise MigrationError(f"multipath WWID {multipath_wwid}: {explain(argv, result)}", error_id="wwids_not_changed")


def resize_map(host: Host, found: Map) -> None:
    """Let a map have the size that its paths have now."""
    argv = ["multipathd", "resize", "map", found.name]
    result = host.run(argv, _SHORT_S)
    # multipathd says "fail" and ends with 0 or 1, as its version has it.
    if result.rc or "ok" not in result.stdout.split():
        raise MigrationError(f"multipath map {found.name}: {explain(argv, result)} {result.stdout.strip()}", error_id="map_not_resized")


def remove_map(host: Host, found: Map, timeout_s: float) -> None:
    """Flush and remove a map, by its name: for any other name 'multipath -f' does nothing and says 0."""
    argv = ["multipath", "-f", found.name]
    results = [host.run(argv, timeout_s)]

    def is_decided() -> bool:
        if _IN_USE in results[-1].stderr:
            results.append(host.run(argv, timeout_s))
        return not results[-1].rc or _IN_USE not in results[-1].stderr

    # udev looks into every device that a writer has closed, and has it open for a moment.
    host.wait_for(is_decided, min(timeout_s, _UDEV_S))
    result = results[-1]
    if result.rc:
        raise MigrationError(f"multipath map {found.name}: {explain(argv, result)}", error_id="map_not_removed")
    if not host.wait_for(lambda: host.read(f"/sys/class/block/{found.device}/dm/uuid") != _MAP_PREFIX + found.wwid, timeout_s):
        raise MigrationError(
            f"multipath map {found.name} is still there after 'multipath -f'; look for its users (dmsetup info {found.name})",
            error_id="map_not_removed",
        )


__all__ = (
    "Map",
    "by_id_of",
    "claimed",
    "daemon_pid",
    "daemon_runs",
    "forget",
    "map_above",
    "maps_of",
    "remember",
    "remembers",
    "remove_map",
    "resize_map",
    "wwid_of",
)
