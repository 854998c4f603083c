# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What can be asked for: volumes attached, volumes detached, an operation's part undone, a migration noted."""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import at_boot, connector, node_record, probe
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.attach import Journal, attach, check_identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.attach_plan import AttachPlan, plan_attach
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.detach import (
    Removal,
    RemovalPlan,
    plan_removal,
    removal_of_record,
    removal_of_volumes,
    remove,
)
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.lookalikes import Lookalike, find_lookalikes
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.multipath import by_id_of, wwid_of
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.ready import Attached, identity_differences, wait_ready
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.request import KERNEL, VolumeRequest
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.session import Target, kernel_luns, sessions_of, target_of, unit_of
from ansible_collections.lunshift.migration.plugins.module_utils._operation import LOCKS, Move, Record, RecordStore, lock_of, locked

ATTACHED = "attached"
ABSENT = "absent"
_NO_NAME = "this host has no initiator name, in /etc/iscsi/initiatorname.iscsi or as libvirt.initiator_iqn"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@dataclass(frozen=True)
class Call:
    """What every call has: the host, whether it may change anything, and how long it may wait."""

    host: Host
    check_mode: bool
    timeout_s: float
    operation_id: str | None = None
    records: RecordStore = field(default_factory=RecordStore)
    lock_directory: str = LOCKS
    # Whether the volumes shall come back when the host starts; None leaves that as it is.
    at_boot: bool | None = None

    def boot_id(self) -> str:
        return self.host.read(_BOOT_ID) or ""

    def load(self) -> Record:
        """The operation's record so far; an empty one without an operation id, too."""
        known = self.records.load(self.operation_id) if self.operation_id else None
        empty = Record(operation_id=self.operation_id or "", boot_id=self.boot_id())
        return known.in_boot(self.boot_id(), at_boot.serials(self.host)) if known else empty

    def save(self, record: Record) -> None:
        if self.operation_id:
            self.records.save(record)

    @contextlib.contextmanager
    def locked(self, targets: t.Iterable[Target]) -> t.Iterator[None]:
        """Nobody else attaches or detaches there meanwhile. Check mode locks nothing, for it leaves no trace."""
        names = [str(target) for target in targets]
        if self.operation_id:
            names.append(lock_of(self.operation_id))
        if self.check_mode or not names:
            yield
            return
        with locked(names, self.timeout_s, self.host.clock_s, self.host.sleep, self.lock_directory):
            yield


@dataclass(frozen=True)
class Outcome:
    """What a call did or would do. ``before`` and ``after`` are states by serial, ``stale`` are nodes as they were before."""

    actions: t.Sequence[str]
    volumes: t.Mapping[str, t.Mapping[str, t.Any]]
    before: t.Mapping[str, str]
    after: t.Mapping[str, str]
    warnings: t.Sequence[str] = ()
    stale: t.Sequence[str] = ()

    def to_dict(self) -> dict[str, t.Any]:
        return {
            **({"warnings": list(self.warnings)} if self.warnings else {}),
            "changed": bool(self.actions),
            "actions": list(self.actions),
            "volumes": dict(self.volumes),
            "device_path": {serial: volume["device_path"] for serial, volume in self.volumes.items()},
            "stale": list(self.stale),
            "diff": {"before": dict(self.before), "after": dict(self.after)},
        }


def attach_volumes(call: Call, requests: t.Sequence[VolumeRequest], ask: t.Callable[..., t.Any] = probe.ask_identities) -> Outcome:
    """Attach what is not attached. Volumes of libiscsi need nothing on the host; their target is asked for their identity."""
    kernel = [request for request in requests if request.initiator == KERNEL]
    others = [request for request in requests if request.initiator != KERNEL]
    # First, for it changes nothing: a volume that QEMU could not open stops the call before anything is made.
    volumes = _ask_targets(call, others, ask)
    if call.at_boot and kernel and not at_boot.supported(call.host):
        raise MigrationError("at_boot needs systemd, which does not run on this host", error_id="at_boot_unsupported")
    with call.locked(target_of(path) for request in kernel for path in request.connection.paths):
        known = call.load()
        own_records = {target.key for target in known.targets if target.node_record}
        plan = plan_attach(call.host, kernel, call.timeout_s, own_records)
        if call.check_mode:
            volumes.update(_predicted(call, kernel, plan, ask))
        else:
            volumes.update(_attached(call, kernel, plan, known))
        lookalikes = _lookalikes(call.host, volumes, plan)
        listed = at_boot.serials(call.host)
        boot_actions = _choose_boot(call, kernel, plan, volumes)
    wanted = listed if call.at_boot is None else {request.serial for request in kernel if call.at_boot}
    return Outcome(
        actions=[*plan.actions, *boot_actions],
        volumes={request.serial: {**volumes[request.serial], "at_boot": request.serial in wanted} for request in requests},
        before={request.serial: _word(plan.attached_before(request.serial), request.serial in listed) for request in kernel},
        after={request.serial: _word(True, request.serial in wanted) for request in kernel},
        stale=[f"/dev/{disk}" for disk in (*plan.stale_disks, *(each.disk for each in lookalikes))],
        warnings=[*(str(each) for each in lookalikes), *_unused_paths(kernel, plan)],
    )


def _lookalikes(host: Host, volumes: t.Mapping[str, t.Mapping[str, t.Any]], plan: AttachPlan) -> list[Lookalike]:
    """Disks that claim to be one of the volumes and are not, but for those that the plan deals with."""
    identities = {serial: Identity.from_dict(volume["identity"]) for serial, volume in volumes.items() if volume["identity"]}
    nodes = {node for volume in volumes.values() for node in volume["nodes"]}
    return find_lookalikes(host, identities, {*(os.path.basename(node) for node in nodes), *plan.stale_disks})


def _unused_paths(requests: t.Sequence[VolumeRequest], plan: AttachPlan) -> t.Iterator[str]:
    for request in requests:
        if len(plan.places(request.serial)) < len(request.connection.paths):
            yield (
                f"volume {request.serial}: multipathd does not run on this host, so only the first of {len(request.connection.paths)} paths"
                f" is used, {target_of(request.connection.paths[0])}; start multipathd for all of them"
            )


def _word(attached: bool, at_boot_too: bool) -> str:
    """One side of the diff."""
    return (ATTACHED if attached else ABSENT) + (", comes back at boot" if at_boot_too else "")


def _choose_boot(
    call: Call, requests: t.Sequence[VolumeRequest], plan: AttachPlan, volumes: t.Mapping[str, t.Mapping[str, t.Any]]
) -> list[str]:
    """Have the volumes come back at boot, or no longer. What was done, in words."""
    if call.at_boot is None or not requests:
        return []
    wanted = [path for request in requests for path in _boot_paths(call.host, request, plan, volumes)] if call.at_boot else []
    serials = {request.serial for request in requests}
    with _boot_list(call):
        known = [path for path in at_boot.listed(call.host) if path.serial in serials]
        scans = _other_scans(call.host, requests) if call.at_boot else []
        if not call.check_mode:
            for target in scans:
                _prepare_record(call.host, target)
            if known != wanted:
                at_boot.replace_volumes(call.host, serials, wanted)
    if not call.at_boot:
        return _no_longer({path.serial for path in known})
    # In check mode the name of a map that does not exist yet is not known.
    new = {path.serial for path in set(wanted) - set(known)}
    return [
        *(f"set manual scanning in the node record for {target}" for target in scans),
        *(f"attach volume {request.serial} at boot" for request in requests if request.serial in new),
    ]


def _boot_paths(
    host: Host, request: VolumeRequest, plan: AttachPlan, volumes: t.Mapping[str, t.Mapping[str, t.Any]]
) -> t.Iterator[at_boot.BootPath]:
    device = str(volumes[request.serial]["device_path"])
    for planned in plan.targets:
        for path in planned.paths:
            if path.serial == request.serial:
                units = (unit_of(host, session, path.lun) for session in sessions_of(host, planned.target))
                number = next((unit.lun for unit in units if unit), kernel_luns(path.lun)[0])
                yield at_boot.BootPath(device, planned.target.address, planned.target.port, planned.target.iqn, number, request.serial)


def _other_scans(host: Host, requests: t.Sequence[VolumeRequest]) -> list[Target]:
    """Targets whose node record was there before and would bring in every LUN at the login."""
    found = []
    for target in dict.fromkeys(target_of(path) for request in requests for path in request.connection.paths):
        record = node_record.find(host, target)
        if record and node_record.settings(host, record, (node_record.SCAN,)).get(node_record.SCAN) != "manual":
            found.append(target)
    return found


def _prepare_record(host: Host, target: Target) -> None:
    record = node_record.find(host, target)
    if record:
        node_record.change(host, record, {node_record.SCAN: "manual"})


@contextlib.contextmanager
def _boot_list(call: Call) -> t.Iterator[None]:
    """Nobody else changes the list meanwhile."""
    if call.check_mode:
        yield
        return
    with locked(["at boot"], call.timeout_s, call.host.clock_s, call.host.sleep, call.lock_directory):
        yield


def _unlist(call: Call, serials: t.Collection[str]) -> None:
    """Before the devices go: a host that restarts in the middle must not bring them back."""
    with _boot_list(call):
        at_boot.replace_volumes(call.host, serials)


def _attached(call: Call, requests: t.Sequence[VolumeRequest], plan: AttachPlan, known: Record) -> dict[str, dict[str, t.Any]]:
    if known.move:
        # The volumes come back to this host: whatever left it once has ended.
        known = replace(known, move=None)
        call.save(known)
    made = plan.record(call.operation_id or "", call.boot_id(), requests)
    journal = Journal(made, lambda record: call.save(known.merged(record)))
    try:
        found = attach(call.host, requests, plan, journal, call.timeout_s)
    except MigrationError as exc:
        if not exc.details.get("left"):
            call.save(known)
        raise
    return {request.serial: _volume(request, plan, found[request.serial]) for request in requests}


def _volume(request: VolumeRequest, plan: AttachPlan, found: Attached) -> dict[str, t.Any]:
    return {
        "initiator": request.initiator,
        "device_path": found.device_path,
        "nodes": list(found.nodes),
        "identity": found.identity.to_dict(),
        "made": not plan.attached_before(request.serial),
        "unproven": None,
    }


def _predicted(
    call: Call, requests: t.Sequence[VolumeRequest], plan: AttachPlan, ask: t.Callable[..., t.Any]
) -> dict[str, dict[str, t.Any]]:
    """What a run would return, as far as it can be known before."""
    volumes: dict[str, dict[str, t.Any]] = {}
    absent = []
    for request in requests:
        if not plan.attached_before(request.serial):
            absent.append(request)
            continue
        found = wait_ready(call.host, request.serial, plan.places(request.serial), timeout_s=0)
        check_identity(request, found)
        volumes[request.serial] = _volume(request, plan, found)
    answers = ask(_questions(call, absent))
    for request in absent:
        answer = answers.get(request.serial)
        identity = answer.identity if answer else None
        if identity and request.expected:
            _refuse_other_volume(request, identity)
        volumes[request.serial] = {
            "initiator": request.initiator,
            "device_path": _predicted_path(call.host, request, plan, identity),
            "nodes": [],
            "identity": identity.to_dict() if identity else None,
            "made": True,
            "unproven": None if identity else (answer.problem if answer else None) or "it cannot be asked before it is attached",
        }
    return volumes


def _predicted_path(host: Host, request: VolumeRequest, plan: AttachPlan, identity: Identity | None) -> str | None:
    if len(plan.places(request.serial)) > 1:
        wwid = wwid_of(identity.wwid) if identity else None
        return by_id_of(wwid) if wwid else None
    first = request.connection.paths[0]
    address = node_record.as_recorded(host, target_of(first)).address
    return replace(first, address=address, lun=kernel_luns(first.lun)[0]).by_path


def _ask_targets(call: Call, requests: t.Sequence[VolumeRequest], ask: t.Callable[..., t.Any]) -> dict[str, dict[str, t.Any]]:
    answers = ask(_questions(call, requests))
    volumes: dict[str, dict[str, t.Any]] = {}
    problems = []
    for request in requests:
        answer = answers.get(request.serial)
        problem = answer.problem if answer else _NO_NAME
        if answer and answer.identity and request.expected:
            _refuse_other_volume(request, answer.identity)
        if problem and not call.check_mode:
            problems.append(f"volume {request.serial}: {problem}")
        volumes[request.serial] = {
            "initiator": request.initiator,
            "device_path": dict(request.redacted_info),
            "nodes": [],
            "identity": answer.identity.to_dict() if answer and answer.identity else None,
            "made": False,
            "unproven": problem,
        }
    if problems:
        raise MigrationError("; ".join(problems), error_id="not_reachable", problems=problems)
    return volumes


def _questions(call: Call, requests: t.Iterable[VolumeRequest]) -> list[probe.Question]:
    own_name = connector.initiator_name(call.host.root or "/")
    questions = []
    for request in requests:
        name = (request.connection.libvirt.initiator_iqn if request.initiator != KERNEL else None) or own_name
        if name:
            questions.append(probe.Question(request.serial, request.connection, name))
    return questions


def _refuse_other_volume(request: VolumeRequest, seen: t.Any) -> None:
    place = request.connection.paths[0]
    found = Attached(serial=request.serial, device_path=f"LUN {place.lun} of {target_of(place)}", nodes=(), identity=seen)
    check_identity(request, found)


def detach_volumes(call: Call, requests: t.Sequence[VolumeRequest]) -> Outcome:
    """Detach what is attached, whoever attached it, and prove that nothing is left."""
    kernel = [request for request in requests if request.initiator == KERNEL]
    removal = removal_of_volumes(kernel)
    with call.locked(wanted.target for wanted in removal.targets):
        serials = {request.serial for request in kernel}
        removal = replace(removal, maps=tuple(made for made in call.load().maps if made.serial in serials))
        plan = plan_removal(call.host, removal, call.timeout_s)
        _refuse_to_remove_others(call.host, kernel, plan)
        listed = at_boot.serials(call.host) & {request.serial for request in kernel}
        if not call.check_mode:
            if listed:
                _unlist(call, listed)
            _remove(call, removal, plan)
            record = call.load().without_volumes(serials)
            for target in {wanted.target for wanted in removal.targets}:
                if not sessions_of(call.host, target):
                    record = record.without_target((target.address, target.port, target.iqn))
            call.save(record)
    there = {path.serial for path in plan.paths}
    volumes = {request.serial: _gone(request.initiator) for request in requests}
    before = {request.serial: _word(request.serial in there, request.serial in listed) for request in kernel}
    actions = [*_no_longer(listed), *plan.actions]
    return Outcome(actions=actions, volumes=volumes, before=before, after=dict.fromkeys(before, ABSENT))


def _no_longer(listed: t.Iterable[str]) -> list[str]:
    return [f"no longer attach volume {serial} at boot" for serial in sorted(listed)]


def _refuse_to_remove_others(host: Host, requests: t.Sequence[VolumeRequest], plan: RemovalPlan) -> None:
    """A LUN number may have gone to another volume. What does not answer has no volume behind it any more and may go."""
    expected = {request.serial: request.expected for request in requests if request.expected}
    rows: list[dict[str, t.Any]] = []
    for path in plan.paths:
        wanted = expected.get(path.serial)
        if wanted and path.disk and path.session.logged_in:
            with contextlib.suppress(OSError):
                rows += identity_differences(path.serial, wanted, host.ask_unit(f"/dev/{path.disk}"))
    if rows:
        what = "; ".join(f"volume {row['serial']}: {row['field']} is {row['seen']}, expected {row['expected']}" for row in rows)
        raise MigrationError(f"not detached, for other volumes are there than expected: {what}", error_id="identity_mismatch", table=rows)


def restore(call: Call, serials: t.Collection[str] | None = None) -> Outcome:
    """Undo what an operation made on this host, or what it made for some volumes: a session that others use stays."""
    known = call.load()
    targets = [Target(*target.key) for target in known.targets] + [Target(path.address, path.port, path.iqn) for path in known.paths]
    with call.locked(targets):
        # Again, for another run of this operation may have ended while this one waited.
        known = call.load()
        removal = removal_of_record(known if serials is None else known.of_volumes(serials))
        plan = plan_removal(call.host, removal, call.timeout_s)
        listed = at_boot.serials(call.host) & {serial for serial, _target, _lun in removal.places}
        if not call.check_mode:
            if listed:
                _unlist(call, listed)
            _remove(call, removal, plan)
            call.save(_what_remains(call, known, serials))
    undone = list(dict.fromkeys(serial for serial, _target, _lun in removal.places))
    there = {path.serial for path in plan.paths}
    before = {serial: _word(serial in there, serial in listed) for serial in undone}
    return Outcome(
        actions=[*_no_longer(listed), *plan.actions],
        volumes={serial: _gone(KERNEL) for serial in undone},
        before=before,
        after=dict.fromkeys(before, ABSENT),
    )


def _what_remains(call: Call, known: Record, undone: t.Collection[str] | None) -> Record:
    """The record after an undo; without volumes it is done with."""
    rest = known.without_volumes(undone) if undone is not None else known
    if undone is None or not rest.paths:
        # A migration away from here that left its note is no part of what was made here.
        return Record(operation_id=call.operation_id or "", boot_id=call.boot_id(), move=known.move, created=known.created)
    for target in rest.targets:
        if not sessions_of(call.host, Target(*target.key)):
            rest = rest.without_target(target.key)
    return rest


def note_move(call: Call, move: Move | None) -> tuple[dict[str, t.Any] | None, bool]:
    """Note a migration away from this host, or that there is none any more. The note that was there, and whether it changes."""
    with call.locked(()):
        known = call.load()
        changed = known.move != move
        if not call.check_mode and (changed or move):
            # The same note again says that the operation is alive.
            call.save(replace(known, move=move))
    return known.move.to_dict() if known.move else None, changed


def _remove(call: Call, removal: Removal, plan: RemovalPlan) -> None:
    remove(call.host, plan, call.timeout_s)
    left = plan_removal(call.host, removal, call.timeout_s).actions
    if left:
        raise MigrationError(f"something is left after the detach; still to do: {'; '.join(left)}", error_id="detach_failed", problems=left)


def _gone(initiator: str) -> dict[str, t.Any]:
    return {"initiator": initiator, "device_path": None, "nodes": [], "identity": None, "made": False, "unproven": None, "at_boot": False}


__all__ = ("Call", "Outcome", "attach_volumes", "detach_volumes", "note_move", "restore")
