# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What has to be done so that volumes are attached: read first, decided here, the same for a run and for check mode."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import Chap
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import node_record
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.in_use import users_of, with_partitions
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.lookalikes import ids_on_record
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.multipath import Map, daemon_runs, map_above, wwid_of
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.request import VolumeRequest
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.session import (
    Session,
    Target,
    Unit,
    disk_of,
    sessions_of,
    target_of,
    unit_of,
)
from ansible_collections.lunshift.migration.plugins.module_utils._operation import MadePath, MadeTarget, Record

ABSENT = "absent"
PRESENT = "present"
# Another volume answers at this number than the one that the kernel found there, or none does.
STALE = "stale"
RESIZED = "resized"
_SECTOR_BYTES = 512


@dataclass(frozen=True)
class PlannedPath:
    """One volume over one portal, and what the kernel has of it. ``leading``: the first path of the volume."""

    serial: str
    lun: int
    state: str
    disk: str | None = None
    leading: bool = True


@dataclass(frozen=True)
class PlannedTarget:
    """One portal of one target with the volumes asked for there."""

    target: Target
    chap: Chap | None
    has_session: bool
    has_record: bool
    settings_before: t.Mapping[str, str]
    paths: tuple[PlannedPath, ...]

    def actions(self) -> t.Iterator[str]:
        """What will be done, in order, as sentences."""
        if not self.has_session:
            if not self.has_record:
                yield f"make a node record for {self.target}"
            yield f"log in to {self.target}"
        for path in self.paths:
            if path.state == STALE:
                yield f"remove the stale disk {path.disk} at LUN {path.lun} of {self.target}"
            if path.state in (ABSENT, STALE):
                yield f"scan LUN {path.lun} of {self.target} (volume {path.serial})"
            if path.state == RESIZED:
                yield f"read the new size of {path.disk} (volume {path.serial})"


@dataclass(frozen=True)
class AttachPlan:
    """``stale_maps``: multipath maps above nothing but stale disks."""

    targets: tuple[PlannedTarget, ...]
    stale_maps: tuple[Map, ...] = ()

    @property
    def actions(self) -> list[str]:
        return [
            *(f"remove the stale multipath map {found.name}" for found in self.stale_maps),
            *(action for target in self.targets for action in target.actions()),
        ]

    @property
    def stale_disks(self) -> list[str]:
        return list(_stale_disks(self.targets))

    def places(self, serial: str) -> list[tuple[Target, int]]:
        """Where the volume is, one entry for each of its paths."""
        return [(target.target, path.lun) for target in self.targets for path in target.paths if path.serial == serial]

    def attached_before(self, serial: str) -> bool:
        """Whether every planned path of the volume was there."""
        return all(path.state in (PRESENT, RESIZED) for target in self.targets for path in target.paths if path.serial == serial)

    def record(self, operation_id: str, boot_id: str, requests: t.Iterable[VolumeRequest]) -> Record:
        """The part of the plan that makes something, as it is written down before."""
        paths = tuple(
            MadePath(serial=path.serial, address=target.target.address, port=target.target.port, iqn=target.target.iqn, lun=path.lun)
            for target in self.targets
            for path in target.paths
            if path.state in (ABSENT, STALE)
        )
        targets = tuple(
            MadeTarget(
                address=target.target.address,
                port=target.target.port,
                iqn=target.target.iqn,
                session=True,
                node_record=not target.has_record,
                settings_before=target.settings_before,
            )
            for target in self.targets
            if not target.has_session
        )
        made = {path.serial for path in paths}
        infos = {request.serial: request.redacted_info for request in requests if request.serial in made}
        return Record(operation_id=operation_id, boot_id=boot_id, paths=paths, targets=targets, connection_infos=infos)


def plan_attach(
    host: Host, requests: t.Sequence[VolumeRequest], timeout_s: float, own_records: t.Container[tuple[str, int, str]] = ()
) -> AttachPlan:
    """Look at the host and decide. Raises InputError with everything that stands in the way.

    ``own_records``: address, port and IQN of node records that a killed run of this operation made, perhaps by half. They
    are made anew.
    """
    multipath = daemon_runs(host)
    wanted: dict[Target, list[tuple[VolumeRequest, int, bool]]] = {}
    for request in requests:
        # Several paths without multipathd would be several disks with the same data: the first one is used alone.
        for number, path in enumerate(request.connection.paths if multipath else request.connection.paths[:1]):
            wanted.setdefault(target_of(path), []).append((request, path.lun, number == 0))
    problems: list[str] = []
    targets = tuple(
        _plan_target(host, target, volumes, (target.address, target.port, target.iqn) in own_records, problems)
        for target, volumes in wanted.items()
    )
    stale_maps = _stale_maps(host, targets)
    problems += _stale_in_use(host, targets, stale_maps, timeout_s)
    if not all(target.has_session for target in targets) and not host.has_command("iscsiadm"):
        problems.append("a login needs iscsiadm; install the package open-iscsi (Debian) or iscsi-initiator-utils (RHEL)")
    if problems:
        raise InputError(problems, error_id="attach_refused")
    return AttachPlan(targets=targets, stale_maps=stale_maps)


def _plan_target(
    host: Host, target: Target, volumes: t.Sequence[tuple[VolumeRequest, int, bool]], own_record: bool, problems: list[str]
) -> PlannedTarget:
    sessions = sessions_of(host, target)
    record = None if own_record else node_record.find(host, target)
    if sessions and not any(session.logged_in for session in sessions):
        problems.append(
            f"session {sessions[0].sid} to {target} is {sessions[0].state}, not LOGGED_IN; bring the portal back, "
            f"or end the session if nothing uses it: iscsiadm -m session -r {sessions[0].sid} --logout"
        )
    return PlannedTarget(
        target=target,
        chap=volumes[0][0].connection.chap,
        has_session=bool(sessions),
        has_record=record is not None,
        settings_before=node_record.settings(host, record, (node_record.SCAN,)) if record and not sessions else {},
        paths=tuple(replace(_plan_path(host, sessions, request.serial, lun), leading=leading) for request, lun, leading in volumes),
    )


def _plan_path(host: Host, sessions: t.Sequence[Session], serial: str, lun: int) -> PlannedPath:
    unit = next((unit for session in sessions if session.logged_in for unit in [unit_of(host, session, lun)] if unit), None)
    if unit is None:
        return PlannedPath(serial=serial, lun=lun, state=ABSENT)
    disk = disk_of(host, unit)
    state = _state(host, unit, disk)
    return PlannedPath(serial=serial, lun=lun, state=state, disk=disk)


def _stale_disks(targets: t.Sequence[PlannedTarget]) -> dict[str, tuple[Target, PlannedPath]]:
    return {path.disk: (target.target, path) for target in targets for path in target.paths if path.state == STALE and path.disk}


def _stale_maps(host: Host, targets: t.Sequence[PlannedTarget]) -> tuple[Map, ...]:
    """Maps that may go with their disks. One with other paths may hold good ones of the volume that was here before."""
    stale = _stale_disks(targets)
    found = dict.fromkeys(above for above in (map_above(host, disk) for disk in stale) if above)
    return tuple(above for above in found if stale.keys() >= set(above.disks))


def _stale_in_use(host: Host, targets: t.Sequence[PlannedTarget], stale_maps: t.Sequence[Map], timeout_s: float) -> t.Iterator[str]:
    stale = _stale_disks(targets)
    devices = {disk: with_partitions(host, disk) for disk in stale}
    for above in stale_maps:
        for disk in above.disks:
            devices[disk] += with_partitions(host, above.device)
    users = users_of(host, devices, timeout_s)
    for disk, sentences in users.items():
        target, path = stale[disk]
        yield (
            f"volume {path.serial}: {disk} at LUN {path.lun} of {target} still stands for another volume than the target shows there now, "
            f"and it is in use: {'; '.join(sentences)}; end that use, then detach the old volume"
        )


def _state(host: Host, unit: Unit, disk: str | None) -> str:
    """Compare the unit's own answers with what the kernel read when it found it."""
    if disk is None:
        return STALE
    try:
        live = host.ask_unit(f"/dev/{disk}")
    except OSError:
        return STALE
    above = map_above(host, disk)
    named_after = wwid_of(live.wwid)
    if ids_on_record(host, unit.base) != (live.wwid, live.unit_serial) or (above and named_after and above.wwid != named_after):
        return STALE
    sizes = {known_size_bytes(host, device) for device in (disk, above.device if above else disk)}
    return PRESENT if sizes == {live.size_bytes} else RESIZED


def known_size_bytes(host: Host, disk: str) -> int:
    """The size that the kernel works with."""
    return int(host.read(f"/sys/class/block/{disk}/size") or 0) * _SECTOR_BYTES


__all__ = ("ABSENT", "PRESENT", "RESIZED", "STALE", "AttachPlan", "PlannedPath", "PlannedTarget", "known_size_bytes", "plan_attach")
