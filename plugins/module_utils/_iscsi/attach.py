# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Carry out an attach plan: sessions, scans of single LUNs, readiness, identity; all volumes, or nothing is left of any."""

from __future__ import annotations

import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import iscsiadm, node_record
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.attach_plan import (
    ABSENT,
    RESIZED,
    STALE,
    AttachPlan,
    PlannedPath,
    PlannedTarget,
)
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.detach import (
    plan_removal,
    removal_of_record,
    remove,
    wait_forgotten,
)
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.multipath import (
    daemon_runs,
    map_above,
    remember,
    remembers,
    remove_map,
    resize_map,
    wwid_of,
)
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.ready import Attached, identity_differences, wait_ready
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.request import VolumeRequest
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.session import (
    Session,
    Target,
    disk_of,
    kernel_luns,
    sessions_of,
    unit_of,
)
from ansible_collections.lunshift.migration.plugins.module_utils._operation import MadeMap, Record

_MAX_WORKERS = 8
_LOGIN_TIMEOUT_S = 15
# How often a LUN that does not show is scanned for again: an array may need seconds after an export.
_SCAN_PAUSE_S = 1.0

_Item = t.TypeVar("_Item")


class Journal:
    """Keeps what this run makes, and calls ``save`` before and after each step that matters."""

    def __init__(self, made: Record, save: t.Callable[[Record], None]) -> None:
        self._lock = threading.Lock()
        self._save = save
        self.made = made

    def begin(self) -> None:
        if not self.made.empty:
            self._save(self.made)

    def remembers(self, made: MadeMap) -> None:
        with self._lock:
            self.made = self.made.with_map(made)
            self._save(self.made)

    def logged_in(self, target: Target, sid: int) -> None:
        with self._lock:
            self.made = self.made.with_sid((target.address, target.port, target.iqn), sid)
            self._save(self.made)


class _Failures:
    """What went wrong, per volume. Threads add to it."""

    def __init__(self) -> None:
        self.errors: dict[str, list[MigrationError]] = {}

    def add(self, serial: str, error: Exception) -> None:
        known = error if isinstance(error, MigrationError) else MigrationError(f"volume {serial}: {error}", error_id="attach_failed")
        self.errors.setdefault(serial, []).append(known)


def attach(host: Host, requests: t.Sequence[VolumeRequest], plan: AttachPlan, journal: Journal, timeout_s: float) -> dict[str, Attached]:
    """Attach everything and return it by serial. On any failure this run's part is undone and all failures are raised as one."""
    failures = _Failures()
    journal.begin()
    _remove_stale_maps(host, plan, failures, timeout_s)
    _remove_stale_disks(host, plan, failures, timeout_s)
    _each(plan.targets, lambda target: _open_target(host, target, journal, failures, timeout_s))
    # The second path is what makes a map, so the WWID is known, and written down, before it comes.
    several = [request for request in requests if len(plan.places(request.serial)) > 1 and not plan.attached_before(request.serial)]
    _each(several, lambda request: _announce_map(host, request.serial, plan.places(request.serial)[0], journal, failures, timeout_s))
    _each(plan.targets, lambda target: _open_paths(host, target, failures, timeout_s, leading=False))
    attached: dict[str, Attached] = {}

    def wait(request: VolumeRequest) -> None:
        try:
            _resize_map(host, request.serial, plan)
            found = wait_ready(host, request.serial, plan.places(request.serial), timeout_s)
            check_identity(request, found)
            attached[request.serial] = found
        except (MigrationError, OSError) as exc:
            failures.add(request.serial, exc)

    _each([request for request in requests if request.serial not in failures.errors], wait)
    if failures.errors:
        raise _undone(host, journal, failures.errors, timeout_s)
    return attached


def check_identity(request: VolumeRequest, found: Attached) -> None:
    """Raise when the device is not the expected volume."""
    rows = identity_differences(request.serial, request.expected, found.identity) if request.expected else []
    if rows:
        what = "; ".join(f"{row['field']} is {row['seen']}, expected {row['expected']}" for row in rows)
        raise MigrationError(
            f"volume {request.serial}: {found.device_path} is another volume than expected: {what}; "
            "correct portal, IQN and LUN of its connection info",
            error_id="identity_mismatch",
            table=rows,
        )


def _each(items: t.Sequence[_Item], function: t.Callable[[_Item], None]) -> None:
    if len(items) < 2:
        for item in items:
            function(item)
        return
    with ThreadPoolExecutor(max_workers=min(_MAX_WORKERS, len(items))) as pool:
        list(pool.map(function, items))


def _open_target(host: Host, planned: PlannedTarget, journal: Journal, failures: _Failures, timeout_s: float) -> None:
    try:
        if not planned.has_session:
            _log_in(host, planned, journal, timeout_s)
    except (MigrationError, OSError) as exc:
        for path in planned.paths:
            failures.add(path.serial, exc)
        return
    _open_paths(host, planned, failures, timeout_s, leading=True)


def _open_paths(host: Host, planned: PlannedTarget, failures: _Failures, timeout_s: float, *, leading: bool) -> None:
    """Bring in the volumes' first paths, or all their others. A volume that failed before needs no more."""
    paths = [path for path in planned.paths if path.leading == leading and path.serial not in failures.errors]
    for path in paths:
        try:
            _open_path(host, planned.target, path)
        except (MigrationError, OSError) as exc:
            failures.add(path.serial, exc)
    _scan_missing(host, planned.target, [path for path in paths if path.serial not in failures.errors], timeout_s)


def _remove_stale_maps(host: Host, plan: AttachPlan, failures: _Failures, timeout_s: float) -> None:
    for found in plan.stale_maps:
        try:
            remove_map(host, found, timeout_s)
        except MigrationError as exc:
            for serial in {path.serial for target in plan.targets for path in target.paths if path.disk in found.disks}:
                failures.add(serial, exc)


def _remove_stale_disks(host: Host, plan: AttachPlan, failures: _Failures, timeout_s: float) -> None:
    """All of them before anything is scanned: one may claim to be a volume that comes in, and multipath would make it a path of that."""
    removed = []
    for target in plan.targets:
        for path in target.paths:
            if path.state == STALE and path.serial not in failures.errors:
                try:
                    _remove_stale_disk(host, target.target, path)
                    removed.append(path)
                except (MigrationError, OSError) as exc:
                    failures.add(path.serial, exc)
    if not removed or not daemon_runs(host):
        return
    try:
        wait_forgotten(host, [path.disk for path in removed if path.disk], timeout_s)
    except MigrationError as exc:
        for path in removed:
            failures.add(path.serial, exc)


def _remove_stale_disk(host: Host, target: Target, path: PlannedPath) -> None:
    unit = unit_of(host, _session(host, target), path.lun)
    if unit is None:
        return
    host.write(f"{unit.base}/delete", "1")
    if not host.wait_for(lambda: not host.exists(unit.base), _LOGIN_TIMEOUT_S):
        message = f"volume {path.serial}: the stale disk {path.disk} does not go away; see the kernel's log"
        raise MigrationError(message, error_id="device_left")


def _announce_map(host: Host, serial: str, place: tuple[Target, int], journal: Journal, failures: _Failures, timeout_s: float) -> None:
    """Have multipath remember a volume whose first path is there, so that with the second one it makes a map."""
    if serial in failures.errors:
        return
    try:
        wwid = wwid_of(_ask_path(host, place, timeout_s))
        if wwid and not remembers(host, wwid):
            journal.remembers(MadeMap(serial=serial, wwid=wwid))
            remember(host, wwid)
    except (MigrationError, OSError) as exc:
        failures.add(serial, exc)


def _ask_path(host: Host, place: tuple[Target, int], timeout_s: float) -> str | None:
    """The WWID that the volume's disk answers with, None when it does not answer: the wait for readiness tells why."""
    wwid: str | None = None

    def answers() -> bool:
        nonlocal wwid
        unit = unit_of(host, _session(host, place[0]), place[1])
        disk = disk_of(host, unit) if unit else None
        try:
            wwid = host.ask_unit(f"/dev/{disk}").wwid if disk else None
        except OSError:
            return False
        return True

    host.wait_for(answers, timeout_s)
    return wwid


def _resize_map(host: Host, serial: str, plan: AttachPlan) -> None:
    grown = [path.disk for target in plan.targets for path in target.paths if path.serial == serial and path.state == RESIZED]
    above = map_above(host, grown[0]) if grown and grown[0] else None
    if above:
        resize_map(host, above)


def _log_in(host: Host, planned: PlannedTarget, journal: Journal, timeout_s: float) -> None:
    target = planned.target
    # manual: the login itself brings in no LUN at all, only the scans that follow do.
    wanted = {node_record.SCAN: "manual", **node_record.chap_settings(planned.chap)}
    if not planned.has_record:
        iscsiadm.create_node(host, target)
        # Without this limit iscsid tries for two minutes, and goes on after iscsiadm was given up.
        tries = max(1, int(timeout_s) // _LOGIN_TIMEOUT_S)
        wanted[node_record.STARTUP] = "manual"
        wanted[node_record.LOGIN_TRIES] = str(tries)
        wanted[node_record.LOGIN_TIMEOUT] = str(_LOGIN_TIMEOUT_S)
    record = node_record.find(host, target)
    if record is None:
        raise MigrationError(f"{target}: iscsiadm made no node record that can be found; look into its database", error_id="node_record")
    text_before = host.read(record)
    node_record.change(host, record, wanted)
    try:
        iscsiadm.login(host, target, timeout_s + _LOGIN_TIMEOUT_S)
    except MigrationError:
        if planned.has_record and text_before is not None:
            # Credentials that the target refuses shall not take the place of the operator's.
            node_record.put_back(host, record, text_before)
        raise
    if planned.settings_before:
        node_record.change(host, record, planned.settings_before)
    session = _wait_session(host, target, timeout_s)
    journal.logged_in(target, session.sid)


def _wait_session(host: Host, target: Target, timeout_s: float) -> Session:
    found: list[Session] = []

    def there() -> bool:
        found[:] = [session for session in sessions_of(host, target) if session.logged_in]
        return bool(found)

    if not host.wait_for(there, timeout_s):
        raise MigrationError(f"{target}: logged in, but no session is LOGGED_IN; see the log of iscsid", error_id="login_failed")
    return found[-1]


def _open_path(host: Host, target: Target, path: PlannedPath) -> None:
    session = _session(host, target)
    unit = unit_of(host, session, path.lun)
    if path.state == RESIZED and unit:
        host.write(f"{unit.base}/rescan", "1")
    if path.state in (ABSENT, STALE):
        _scan(host, session, path.lun)


def _session(host: Host, target: Target) -> Session:
    return next(session for session in sessions_of(host, target) if session.logged_in)


def _scan(host: Host, session: Session, lun: int) -> None:
    """Have the kernel look at one LUN of one session. It says nothing when there is none."""
    for number in kernel_luns(lun):
        host.write(f"/sys/class/scsi_host/host{session.host_number}/scan", f"0 {session.target_id} {number}")
        if unit_of(host, session, lun):
            return


def _scan_missing(host: Host, target: Target, paths: t.Sequence[PlannedPath], timeout_s: float) -> None:
    """Scan again for what did not show. What is missing in the end is told by the wait for readiness."""
    if not paths:
        return
    session = _session(host, target)
    deadline_s = host.clock_s() + timeout_s / 2
    while host.clock_s() < deadline_s:
        missing = [path.lun for path in paths if unit_of(host, session, path.lun) is None]
        if not missing:
            return
        host.sleep(_SCAN_PAUSE_S)
        for lun in missing:
            _scan(host, session, lun)


def _undone(host: Host, journal: Journal, errors_by_serial: t.Mapping[str, t.Sequence[MigrationError]], timeout_s: float) -> MigrationError:
    """Undo this run's part; the error to raise."""
    errors = [error for several in errors_by_serial.values() for error in several]
    problems = list(dict.fromkeys(str(error) for error in errors))
    try:
        plan = plan_removal(host, removal_of_record(journal.made), timeout_s)
        remove(host, plan, timeout_s)
        undone = plan.actions
        remedy = "this run's own part was undone" if undone else "nothing had been changed"
        left: list[str] = []
    except MigrationError as exc:
        undone, left = [], [str(exc)]
        remedy = f"this run's own part could NOT be undone ({exc}); run again, or state=restored with its operation_id"
    ids = {error.error_id for error in errors}
    return MigrationError(
        f"not attached: {'; '.join(problems)}. As for this host: {remedy}",
        error_id="identity_mismatch" if "identity_mismatch" in ids else "attach_failed",
        problems=problems,
        failed_volumes=sorted(errors_by_serial),
        table=[row for error in errors for row in error.details.get("table", [])],
        undone=undone,
        left=left,
    )


__all__ = ("Journal", "attach", "check_identity")
