# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""When a volume is ready: every layer shows it, the device answers for itself, and it is the expected one."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.multipath import Map, claimed, map_above, wwid_of
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.session import (
    Target,
    by_path_of,
    disk_of,
    sessions_of,
    unit_of,
)

# What makes two devices one volume. Vendor and model are for people.
_COMPARED = ("wwid", "unit_serial", "size_bytes", "logical_block_bytes", "physical_block_bytes")
_Place = tuple[Target, int]


@dataclass(frozen=True)
class Attached:
    """A volume that is ready for use. ``nodes`` are the disks of its paths."""

    serial: str
    device_path: str
    nodes: tuple[str, ...]
    identity: Identity


@dataclass(frozen=True)
class _Found:
    """What is there of a volume so far. ``missing`` says what it still lacks."""

    missing: str | None
    disks: tuple[str, ...] = ()
    device_path: str = ""
    map: Map | None = None


def wait_ready(host: Host, serial: str, places: t.Sequence[_Place], timeout_s: float) -> Attached:
    """Wait until the volume can be used over all its paths, and ask it who it is."""
    found = _look(host, places)

    def ready() -> bool:
        nonlocal found
        found = _look(host, places)
        return found.missing is None

    if found.missing is not None and not host.wait_for(ready, timeout_s):
        raise MigrationError(f"volume {serial}: not ready after {timeout_s:g} s: {found.missing}", error_id="not_ready")
    nodes = tuple(f"/dev/{disk}" for disk in found.disks)
    identity = _identity(host, serial, nodes, found.map, timeout_s)
    return Attached(serial=serial, device_path=found.device_path, nodes=nodes, identity=identity)


def _look(host: Host, places: t.Sequence[_Place]) -> _Found:
    disks: list[str] = []
    by_path = ""
    for target, lun in places:
        missing, disk, link = _look_at_path(host, target, lun)
        if missing is not None:
            return _Found(missing=missing)
        disks.append(disk)
        by_path = by_path or link
    # udev is done with the disks here, so its verdict on multipath stands.
    if len(disks) == 1 and not claimed(host, disks[0]) and map_above(host, disks[0]) is None:
        return _Found(missing=None, disks=tuple(disks), device_path=by_path)
    return _look_at_map(host, tuple(disks), {disk for target, lun in places for disk in _disks_at(host, target, lun)})


def _disks_at(host: Host, target: Target, lun: int) -> t.Iterator[str]:
    """The disks of every session to this portal."""
    for session in sessions_of(host, target):
        unit = unit_of(host, session, lun)
        disk = disk_of(host, unit) if unit else None
        if disk:
            yield disk


def _look_at_path(host: Host, target: Target, lun: int) -> tuple[str | None, str, str]:
    """What this path lacks, its disk and its by-path name."""
    seen: tuple[str | None, str, str] = (f"LUN {lun} of {target} has no disk; check that the target exports it to this host", "", "")
    for session in sessions_of(host, target):
        unit = unit_of(host, session, lun)
        disk = disk_of(host, unit) if unit else None
        if unit and disk:
            link = by_path_of(session, target, unit)
            seen = (_look_at_disk(host, disk, link), disk, link)
            # Of several sessions to one portal one disk has the by-path name.
            if seen[0] is None:
                break
    return seen


def _look_at_disk(host: Host, disk: str, link: str) -> str | None:
    base = f"/sys/class/block/{disk}"
    if (host.read(f"{base}/size") or "0") == "0":
        return f"{disk} has no size"
    if host.node_number(f"/dev/{disk}") != host.read(f"{base}/dev"):
        return f"/dev/{disk} is not there; check that systemd-udevd runs"
    if host.resolve(link) != f"/dev/{disk}":
        return f"{link} does not lead to /dev/{disk}; check that systemd-udevd runs"
    return None


def _look_at_map(host: Host, disks: tuple[str, ...], named: t.Collection[str]) -> _Found:
    maps: set[Map | None] = {map_above(host, disk) for disk in disks}
    found = next(iter(maps))
    if found is None or len(maps) != 1:
        return _Found(missing=f"no single multipath map is above {', '.join(disks)}; see 'multipathd show paths' and multipath.conf")
    foreign = [disk for disk in found.disks if disk not in named]
    if foreign:
        # Two volumes with one WWID, as some arrays give by default, would be written to in turn.
        return _Found(
            missing=f"multipath map {found.name} also has {', '.join(foreign)}, no path of this volume by its connection info; name every"
            " path in target_portals, target_iqns and target_luns, or have the array give each volume a WWID of its own; a disk that the"
            " target no longer shows goes by: echo 1 >/sys/block/NAME/device/delete"
        )
    sizes = {device: host.read(f"/sys/class/block/{device}/size") or "0" for device in (found.device, *disks)}
    if len(set(sizes.values())) != 1 or "0" in sizes.values():
        shown = ", ".join(f"{device} {size}" for device, size in sizes.items())
        return _Found(missing=f"multipath map {found.name} and its paths differ in size (sectors): {shown}; see 'multipathd resize map'")
    if host.resolve(found.by_id) != f"/dev/{found.device}":
        return _Found(missing=f"{found.by_id} does not lead to /dev/{found.device} yet")
    return _Found(missing=None, disks=disks, device_path=found.by_id, map=found)


def _identity(host: Host, serial: str, nodes: t.Sequence[str], above: Map | None, timeout_s: float) -> Identity:
    identities: dict[str, Identity] = {}
    error: OSError | None = None

    def answers() -> bool:
        # A unit may answer "becoming ready" for a while after the scan.
        nonlocal error
        try:
            for node in nodes:
                identities[node] = host.ask_unit(node)
                host.read_first_block(node)
            # A map may be there before its paths count as usable.
            if above:
                host.read_first_block(f"/dev/{above.device}")
        except OSError as exc:
            error = exc
            return False
        return True

    if not answers() and not host.wait_for(answers, timeout_s):
        raise MigrationError(f"volume {serial}: the device cannot be read after {timeout_s:g} s: {error}", error_id="not_ready")
    problem = _why_inconsistent(identities, above)
    if problem:
        raise MigrationError(f"volume {serial}: {problem}", error_id="identity_mismatch")
    return identities[nodes[0]]


def _why_inconsistent(identities: t.Mapping[str, Identity], above: Map | None) -> str | None:
    first = next(iter(identities.values()))
    for name in _COMPARED:
        values = {node: getattr(identity, name) for node, identity in identities.items()}
        if len(set(values.values())) != 1:
            seen = ", ".join(f"{node} {value}" for node, value in values.items())
            return f"its paths lead to different volumes: their {name} differs ({seen}); correct target_luns"
    if above and above.wwid != (wwid_of(first.wwid) or above.wwid):
        return f"multipath map {above.name} is named after WWID {above.wwid}, but its paths now lead to {first.wwid}; remove the map"
    return None


def identity_differences(serial: str, expected: Identity, seen: Identity) -> list[dict[str, t.Any]]:
    """The rows of a table for people: each field in which the two differ.

    What is not expected to be anything is no difference, and neither is an id that a target makes up from its own
    numbering: one volume has another one behind each target.
    """
    proves = {"wwid": expected.wwid_key is not None, "unit_serial": expected.serial_key is not None}
    rows = []
    for name in _COMPARED:
        wanted, found = getattr(expected, name), getattr(seen, name)
        if wanted and proves.get(name, True) and wanted != found:
            rows.append({"serial": serial, "field": name, "expected": wanted, "seen": found})
    return rows


__all__ = ("Attached", "identity_differences", "wait_ready")
