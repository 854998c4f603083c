# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Take volumes off this host: only what is not used, in an order that loses nothing, and with proof that nothing is left.

Detach removes what the connection infos name; undo removes what an operation made. Both are a Removal.
"""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError, MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import iscsiadm, node_record
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.in_use import users_of, with_partitions
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.multipath import (
    Map,
    daemon_runs,
    forget,
    map_above,
    maps_of,
    remembers,
    remove_map,
)
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.request import VolumeRequest
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.session import (
    Session,
    Target,
    by_path_of,
    disk_of,
    sessions_of,
    target_of,
    unit_of,
    volumes_on,
)
from ansible_collections.lunshift.migration.plugins.module_utils._operation import MadeMap, Record

_MAX_WORKERS = 8


@dataclass(frozen=True)
class TargetRemoval:
    """What may go of one portal of one target once no volume is left on it."""

    target: Target
    session: bool
    node_record: bool
    # Only this session; None for any.
    sid: int | None = None
    settings_before: t.Mapping[str, str] = field(default_factory=dict)

    @property
    def record_action(self) -> str:
        return "remove the node record for" if self.node_record else "put back the settings of the node record for"


@dataclass(frozen=True)
class Removal:
    """Volumes to take away as (serial, target, LUN), and the targets that they were on.

    ``own_paths``: a multipath map that has other paths, too, keeps those and stays.
    """

    places: tuple[tuple[str, Target, int], ...]
    targets: tuple[TargetRemoval, ...]
    # What multipath was made to remember; it forgets that with the volume.
    maps: tuple[MadeMap, ...] = ()
    own_paths: bool = False


@dataclass(frozen=True)
class FoundPath:
    """A path that is really there."""

    serial: str
    target: Target
    session: Session
    lun: int
    unit: str
    disk: str | None
    by_path: str

    @property
    def action(self) -> str:
        return f"remove disk {self.disk or self.unit.rpartition('/')[2]}, LUN {self.lun} of {self.target} (volume {self.serial})"


@dataclass(frozen=True)
class RemovalPlan:
    """What is there and has to go. ``sessions`` and ``records`` are those that go when the volumes have gone."""

    paths: tuple[FoundPath, ...]
    maps: tuple[Map, ...]
    sessions: tuple[tuple[Target, Session], ...]
    records: tuple[TargetRemoval, ...]
    remembered: tuple[MadeMap, ...] = ()

    @property
    def actions(self) -> list[str]:
        return [
            *(f"remove multipath map {found.name}" for found in self.maps),
            *(path.action for path in self.paths),
            *(f"have multipath forget WWID {made.wwid} (volume {made.serial})" for made in self.remembered),
            *(f"log out of {target} (session {session.sid})" for target, session in self.sessions),
            *(f"{removal.record_action} {removal.target}" for removal in self.records),
        ]


def removal_of_volumes(requests: t.Sequence[VolumeRequest]) -> Removal:
    """All that the connection infos name, whoever made it."""
    places = tuple((request.serial, target_of(path), path.lun) for request in requests for path in request.connection.paths)
    targets = dict.fromkeys(target for _serial, target, _lun in places)
    return Removal(places=places, targets=tuple(TargetRemoval(target=target, session=True, node_record=True) for target in targets))


def removal_of_record(record: Record) -> Removal:
    """What an operation made, and nothing else."""
    return Removal(
        places=tuple((made.serial, Target(made.address, made.port, made.iqn), made.lun) for made in record.paths),
        targets=tuple(
            TargetRemoval(
                target=Target(made.address, made.port, made.iqn),
                session=made.session,
                sid=made.sid,
                node_record=made.node_record,
                settings_before=made.settings_before,
            )
            for made in record.targets
        ),
        maps=record.maps,
        own_paths=True,
    )


def plan_removal(host: Host, removal: Removal, timeout_s: float) -> RemovalPlan:
    """Look at the host and decide. Raises InputError that names every volume in use and all its users."""
    sessions = {target: sessions_of(host, target) for target in _targets(removal)}
    paths = tuple(path for place in removal.places for path in _found_paths(host, sessions[place[1]], *place))
    maps = _maps(host, paths)
    if removal.own_paths:
        maps = tuple(found for found in maps if not _foreign(found, paths))
    problems = _in_use(host, paths, maps, timeout_s)
    if problems:
        raise InputError(problems, error_id="volume_in_use")
    going: dict[int, set[str]] = {}
    for path in paths:
        going.setdefault(path.session.sid, set()).add(path.unit.rpartition("/")[2])
    ending = tuple(
        (wanted.target, session)
        for wanted in removal.targets
        for session in sessions[wanted.target]
        if wanted.session and wanted.sid in (None, session.sid) and not set(volumes_on(host, session)) - going.get(session.sid, set())
    )
    ended = {session.sid for _target, session in ending}
    records = tuple(
        wanted
        for wanted in removal.targets
        if {session.sid for session in sessions[wanted.target]} <= ended and _record_must_change(host, wanted)
    )
    return RemovalPlan(paths=paths, maps=maps, sessions=ending, records=records, remembered=_remembered(host, removal, maps))


def _targets(removal: Removal) -> list[Target]:
    return list(dict.fromkeys([*(target for _serial, target, _lun in removal.places), *(wanted.target for wanted in removal.targets)]))


def _found_paths(host: Host, sessions: t.Sequence[Session], serial: str, target: Target, lun: int) -> t.Iterator[FoundPath]:
    # Several sessions to one portal are possible (node.session.nr_sessions): each has its own disk.
    for session in sessions:
        unit = unit_of(host, session, lun)
        if unit:
            yield FoundPath(
                serial=serial,
                target=target,
                session=session,
                lun=lun,
                unit=unit.base,
                disk=disk_of(host, unit),
                by_path=by_path_of(session, target, unit),
            )


def _maps(host: Host, paths: t.Sequence[FoundPath]) -> tuple[Map, ...]:
    found = (map_above(host, path.disk) for path in paths if path.disk)
    return tuple(dict.fromkeys(one for one in found if one))


def _foreign(found: Map, paths: t.Sequence[FoundPath]) -> list[str]:
    disks = {path.disk for path in paths}
    return [disk for disk in found.disks if disk not in disks]


def _remembered(host: Host, removal: Removal, going: t.Collection[Map]) -> tuple[MadeMap, ...]:
    staying = {found.wwid for found in maps_of(host)} - {found.wwid for found in going}
    return tuple(made for made in removal.maps if remembers(host, made.wwid) and made.wwid not in staying)


def _record_must_change(host: Host, wanted: TargetRemoval) -> bool:
    record = node_record.find(host, wanted.target)
    if record is None:
        return False
    return wanted.node_record or node_record.settings(host, record, wanted.settings_before) != dict(wanted.settings_before)


def _in_use(host: Host, paths: t.Sequence[FoundPath], maps: t.Sequence[Map], timeout_s: float) -> list[str]:
    problems = []
    for found in maps:
        foreign = _foreign(found, paths)
        if foreign:
            problems.append(
                f"multipath map {found.name} has paths that were not named: {', '.join(foreign)}; "
                "name every path in target_portals, target_iqns and target_luns"
            )
    volumes: dict[str, set[str]] = {}
    for path in paths:
        if path.disk:
            above = map_above(host, path.disk)
            devices = [*with_partitions(host, path.disk), *(with_partitions(host, above.device) if above else [])]
            volumes.setdefault(path.serial, set()).update(devices)
    for serial, users in users_of(host, volumes, timeout_s).items():
        problems.append(f"volume {serial} is in use: {'; '.join(users)}; end that use first")
    return problems


def remove(host: Host, plan: RemovalPlan, timeout_s: float) -> None:
    """Do it, in an order that loses nothing. Raises one error with everything that failed."""
    failures = _write_out(host, plan, timeout_s)
    if not failures:
        # After a failed flush going on would throw away what could not be written.
        failures = [*_remove_disks(host, plan, timeout_s), *_end_sessions(host, plan, timeout_s)]
    if failures:
        raise MigrationError("; ".join(failures), error_id="detach_failed", problems=failures)


def _write_out(host: Host, plan: RemovalPlan, timeout_s: float) -> list[str]:
    failures: list[str] = []
    for path in plan.paths:
        # What is written to a map is the map's, which has its other paths when it stays.
        if path.disk and map_above(host, path.disk) is None:
            _collect(failures, _flush, host, path)
    # 'multipath -f' writes out what the map holds.
    for found in plan.maps:
        _collect(failures, remove_map, host, found, timeout_s)
    return failures


def _remove_disks(host: Host, plan: RemovalPlan, timeout_s: float) -> list[str]:
    failures: list[str] = []
    for path in plan.paths:
        _collect(failures, _delete, host, path)
    for path in plan.paths:
        _collect(failures, _wait_gone, host, path, timeout_s)
    if plan.paths and daemon_runs(host):
        _collect(failures, wait_forgotten, host, [path.disk for path in plan.paths if path.disk], timeout_s)
    for made in plan.remembered:
        _collect(failures, forget, host, made.wwid)
    return failures


def _end_sessions(host: Host, plan: RemovalPlan, timeout_s: float) -> list[str]:
    failures: list[str] = []
    with ThreadPoolExecutor(max_workers=_MAX_WORKERS) as pool:
        for errors in pool.map(lambda item: _end_session(host, item[0], item[1], timeout_s), plan.sessions):
            failures += errors
    for removal in plan.records:
        _collect(failures, _undo_record, host, removal)
    return failures


def _collect(failures: list[str], function: t.Callable[..., None], *arguments: t.Any) -> None:
    try:
        function(*arguments)
    except MigrationError as exc:
        failures.append(str(exc))
    except OSError as exc:
        failures.append(f"{function.__name__.strip('_').replace('_', ' ')}: {exc}")


def _flush(host: Host, path: FoundPath) -> None:
    """Have everything written that the kernel holds for this disk."""
    # Without a session this would block for minutes. Nobody has the disk open, and at its last close the kernel wrote all out.
    if not path.disk or not path.session.logged_in or host.read(f"{path.unit}/state") != "running":
        return
    try:
        host.flush(f"/dev/{path.disk}")
    except FileNotFoundError:
        return
    except OSError as exc:
        raise MigrationError(
            f"volume {path.serial}: /dev/{path.disk} cannot be flushed: {exc}; nothing was removed. "
            "Find its user or the target's trouble, then run again",
            error_id="flush_failed",
        ) from exc


def _delete(host: Host, path: FoundPath) -> None:
    try:
        host.write(f"{path.unit}/delete", "1")
    except FileNotFoundError:
        # Gone meanwhile, which is what was wanted.
        return


def _wait_gone(host: Host, path: FoundPath, timeout_s: float) -> None:
    def left() -> str | None:
        if host.exists(path.unit):
            return path.unit
        if path.disk and host.exists(f"/dev/{path.disk}") and not host.exists(f"/sys/class/block/{path.disk}"):
            return f"/dev/{path.disk}"
        return path.by_path if host.exists(path.by_path) else None

    if not host.wait_for(lambda: left() is None, timeout_s):
        raise MigrationError(
            f"volume {path.serial}: {left()} is still there after {timeout_s:g} s; check that systemd-udevd runs, and the kernel's log",
            error_id="device_left",
        )


def wait_forgotten(host: Host, disks: t.Iterable[str], timeout_s: float) -> None:
    """multipathd may still list a disk that has gone; a new one with its name would be taken for it."""
    gone = {disk for disk in disks if not host.exists(f"/sys/class/block/{disk}")}
    argv = ["multipathd", "show", "paths", "raw", "format", "%d"]
    if not host.wait_for(lambda: not gone & set(host.run(argv, timeout_s).stdout.split()), timeout_s):
        raise MigrationError(f"multipathd still lists {', '.join(sorted(gone))}; run: multipathd del path NAME", error_id="device_left")


def _end_session(host: Host, target: Target, session: Session, timeout_s: float) -> list[str]:
    left = volumes_on(host, session)
    if left:
        return [f"session {session.sid} to {target} has volumes again ({', '.join(left)}); it was left alone"]
    failures: list[str] = []
    _collect(failures, lambda: _checked_logout(host, target, session, timeout_s))
    return failures


def _checked_logout(host: Host, target: Target, session: Session, timeout_s: float) -> None:
    iscsiadm.logout(host, target, session.sid, timeout_s)
    if not host.wait_for(lambda: not host.exists(f"/sys/class/iscsi_session/session{session.sid}"), timeout_s):
        message = f"session {session.sid} to {target} is still there after its logout; see the log of iscsid"
        raise MigrationError(message, error_id="session_left")


def _undo_record(host: Host, removal: TargetRemoval) -> None:
    if removal.node_record:
        iscsiadm.delete_node(host, removal.target)
        record = node_record.find(host, removal.target)
        if record:
            raise MigrationError(f"node record {record} is still there after its deletion; remove the file", error_id="node_record_left")
        return
    record = node_record.find(host, removal.target)
    if record:
        node_record.change(host, record, removal.settings_before)


__all__ = (
    "FoundPath",
    "Removal",
    "RemovalPlan",
    "TargetRemoval",
    "plan_removal",
    "removal_of_record",
    "removal_of_volumes",
    "remove",
    "wait_forgotten",
)
