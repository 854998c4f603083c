# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Where a domain is after a migration, and what may be done about it; decided from what BOTH hosts say. Pure.

Nothing else in the collection may permit undoing, ending or cleaning up: libvirt's error says neither that the migration
failed nor that it is over.
"""

from __future__ import annotations

import enum
import typing as t

_Seen = t.Optional[t.Mapping[str, t.Any]]


class _Side(enum.Enum):
    """What one host says, reduced to what matters here."""

    UNKNOWN = "unknown"  # Not reached, not understood, or a state that no finished migration leaves.
    ABSENT = "absent"
    INACTIVE = "inactive"  # Defined, with no process.
    RUNNING = "running"
    PAUSED = "paused"  # As an operator leaves a guest: it is whole, and only has to be resumed.
    HALTED = "halted"  # By an I/O error, a watchdog, a crash: whole, but something is to be repaired first.
    IN_TRANSIT = "in transit"  # Paused or started by a migration; whole only if the other side says so.
    POSTCOPY = "post-copy"  # The memory is spread over both hosts.


_ACTIVE = frozenset((_Side.RUNNING, _Side.PAUSED, _Side.HALTED, _Side.IN_TRANSIT, _Side.POSTCOPY))
_GONE = frozenset((_Side.ABSENT, _Side.INACTIVE))

# By libvirt's state and reason. What is not listed is UNKNOWN: a newer libvirt's word permits nothing.
_RUNNING_REASONS = (
    "unknown",
    "booted",
    "migrated",
    "restored",
    "from_snapshot",
    "unpaused",
    "migration_canceled",
    "save_canceled",
    "wakeup",
    "crashed",
)
_PAUSED_REASONS = {
    "user": _Side.PAUSED,
    "ioerror": _Side.HALTED,
    "watchdog": _Side.HALTED,
    "crashed": _Side.HALTED,
    "from_snapshot": _Side.PAUSED,
    "migration": _Side.IN_TRANSIT,
    "starting_up": _Side.IN_TRANSIT,
    "postcopy": _Side.POSTCOPY,
    "postcopy_failed": _Side.POSTCOPY,
}


class _Case(t.NamedTuple):
    """An outcome in words. {source}, {destination}, {name} are filled in."""

    outcome: str
    message: str
    next_step: str
    undo_destination: bool = False
    clean_source: bool = False
    resume_destination: bool = False
    remove_destination: bool = False
    remove_source: bool = False
    # Two guests wrote to the same volumes, or may have.
    suspect: bool = False


_PERMITS = ("undo_destination", "clean_source", "resume_destination", "remove_destination", "remove_source")

_UNKNOWN = _Case(
    "unknown",
    "it is not known where {name} is: source {source}, destination {destination}",
    "make both hosts answer and read them again (lunshift.migration.domain_info on each); until then resume, start and detach nothing",
)
_RUNNING_ON_BOTH = _Case(
    "running_on_both",
    "{name} runs on BOTH hosts and both may write to its volumes, which are SUSPECT: source {source}, destination {destination}",
    "stop one of them at once. When the destination runs since it 'migrated', that is the source's (virsh destroy {name} on the source):"
    " it went on from an older state. Then check the guest's file systems",
    suspect=True,
)
# A finish reply that was lost: the destination got the guest and never stopped since; the source went on from the state before.
_LOST_REPLY = _RUNNING_ON_BOTH._replace(
    next_step="run the same play again: it ends the source's, which went on from an older state; then check the guest's file systems",
    remove_source=True,
)
# The same with a lock manager, which did not let the source go on.
_LOST_REPLY_LOCKED = _Case(
    "paused_on_source",
    "{name} runs on the destination ({destination}), and what the migration left of it is paused on the source ({source})",
    "run the same play again: it ends the source's copy, which never ran since, and cleans up",
    remove_source=True,
)
_RESUME_PENDING = _Case(
    "paused_on_destination",
    "{name} is on the destination alone and waits there to be resumed, which is the last step of its guarded switchover: {destination}",
    "run the same play again: it resumes {name} ('virsh resume {name}' on the destination does the same), and cleans up",
    resume_destination=True,
)
_COPY_NEVER_RAN = _Case(
    "paused_on_destination",
    "{name} is on the source ({source}), and a copy that a guarded switchover never let run is paused on the destination ({destination})",
    "run the same play again: it ends the copy and moves the domain once more",
    remove_destination=True,
)
_STILL_MOVING = _Case(
    "still_moving",
    "a job is running on {name}: source {source}, destination {destination}",
    "run the same play again, it takes the job over; or abort it (lunshift.migration.domain_migrate with state: aborted)",
)
_POSTCOPY_BROKEN = _Case(
    "postcopy_broken",
    "a post-copy migration did not end, and the guest's memory is spread over both hosts: source {source}, destination {destination}",
    "repair the connection between the hosts and resume the migration (virsh migrate --postcopy-resume); destroy neither domain",
)
_POSTCOPY_LOST = _Case(
    "postcopy_broken",
    "{name} is LOST: it ran on the destination by post-copy and ended there before all of its memory had come: source {source},"
    " destination {destination}",
    "nothing brings its memory back: end what is left of it on the source (virsh destroy {name}), start it again on one host only, with"
    " that host's devices, and check its file systems",
)
_GONE_CASE = _Case(
    "gone",
    "{name} is active on neither host: source {source}, destination {destination}",
    "find out from libvirt's logs why it stopped; start it on one host only, and with that host's devices",
)
_UNFINISHED = _Case(
    "paused_on_both",
    "{name} is paused on both hosts: source {source}, destination {destination}",
    "decide which one goes on, and destroy the other first: the source's is whole unless libvirt on the destination says that the"
    " migration had finished; resume neither before that",
)

# What each pair of sides means. Every pair of known sides is in exactly one rule.
_RULES: tuple[tuple[t.Collection[_Side], t.Collection[_Side], _Case], ...] = (
    (_ACTIVE - {_Side.RUNNING, _Side.POSTCOPY}, _ACTIVE - {_Side.RUNNING, _Side.POSTCOPY}, _UNFINISHED),
    (_GONE, _GONE, _GONE_CASE),
    ((_Side.RUNNING,), (_Side.RUNNING,), _RUNNING_ON_BOTH),
    (
        (_Side.RUNNING, _Side.PAUSED),
        (_Side.ABSENT,),
        _Case("stayed", "{name} is on the source as before: {source}", "remove the cause and run the play again", undo_destination=True),
    ),
    (
        (_Side.HALTED,),
        (_Side.ABSENT,),
        _Case(
            "paused_on_source",
            "{name} is on the source, but halted: {source}",
            "look at 'virsh domblkerror {name}' there, repair, 'virsh resume {name}', then run the play again",
            undo_destination=True,
        ),
    ),
    (
        (_Side.IN_TRANSIT,),
        _GONE,
        _Case(
            "paused_on_source",
            "a migration left {name} paused on the source: {source}, destination {destination}",
            "'virsh resume {name}' on the source, after a look that the destination really has no such domain; then run the play again",
        ),
    ),
    (
        (_Side.RUNNING, _Side.PAUSED, _Side.HALTED),
        (_Side.INACTIVE,),
        _Case(
            "stayed",
            "{name} is on the source ({source}), and the destination has a definition of it that is not running ({destination})",
            "look at that definition (virsh dumpxml {name}), undefine it if nobody needs it, and run the play again",
        ),
    ),
    (
        (_Side.RUNNING,),
        (_Side.PAUSED, _Side.HALTED, _Side.IN_TRANSIT),
        _Case(
            "paused_on_destination",
            "{name} runs on the source ({source}), and a paused copy of it is on the destination ({destination})",
            "destroy the copy (virsh destroy {name} on the destination), never resume it; then run the play again",
        ),
    ),
    (
        (_Side.PAUSED, _Side.HALTED, _Side.IN_TRANSIT),
        (_Side.RUNNING,),
        _Case(
            "paused_on_source",
            "{name} runs on the destination ({destination}), and a paused copy of it is on the source ({source})",
            "destroy the copy (virsh destroy {name} on the source), never resume it; then run the play again, which cleans the source up",
        ),
    ),
    (
        _GONE,
        (_Side.RUNNING, _Side.PAUSED),
        _Case(
            "moved",
            "{name} is on the destination: {destination}",
            "detach the volumes on the source; running the play again does it",
            clean_source=True,
        ),
    ),
    (
        _GONE,
        (_Side.HALTED,),
        _Case(
            "paused_on_destination",
            "{name} moved to the destination, but is halted there: {destination}",
            "look at 'virsh domblkerror {name}' there, repair, 'virsh resume {name}', then run the play again, which cleans the source up",
        ),
    ),
    (
        _GONE,
        (_Side.IN_TRANSIT,),
        _Case(
            "paused_on_destination",
            "a migration left {name} paused on the destination: {destination}, source {source}",
            "see in libvirt's log there that the migration had finished, then 'virsh resume {name}'; then run the play again",
        ),
    ),
    ((_Side.POSTCOPY,), _ACTIVE, _POSTCOPY_BROKEN),
    ((_Side.POSTCOPY,), _GONE, _POSTCOPY_LOST),
    ((_ACTIVE | _GONE) - {_Side.POSTCOPY}, (_Side.POSTCOPY,), _POSTCOPY_BROKEN),
)


def outcome(source: _Seen, destination: _Seen) -> dict[str, t.Any]:
    """Decide from two results of domain_info; a host that could not be read is None or says ``unreachable``.

    Returns ``{outcome, suspect, permits, message, next_step}``. Each permit needs both hosts read, and no job on either:

    * ``undo_destination``: the source has the domain, and the destination has none of that name.
    * ``clean_source``: the destination has it whole, and on the source it is not active.
    * ``resume_destination``: the source has it no more, and its note says that a guarded switchover waits for the resume.
    * ``remove_destination``: the source has it, and the destination a paused copy that a guarded switchover never let run.
    * ``remove_source``: the destination runs since it migrated, and the source's copy is what a lost reply left.

    ``suspect`` is true when both hosts run it, or did: then the source's note says so.
    """
    case = _case(source, destination)
    words = {"name": _name(source, destination), "source": _describe(source), "destination": _describe(destination)}
    return {
        "outcome": case.outcome,
        "suspect": case.suspect or _noted(source).get("suspect") is True,
        "permits": {permit: getattr(case, permit) for permit in _PERMITS},
        "message": case.message.format(**words),
        "next_step": case.next_step.format(**words),
    }


def _case(source: _Seen, destination: _Seen) -> _Case:
    here, there = _side(source), _side(destination)
    if _Side.UNKNOWN in (here, there) or _others(source, destination):
        return _UNKNOWN
    job = (_job(source) or _job(destination)) and not _broke(source, destination)
    if not job:
        left = _left_by_lost_reply(source, destination) or _left_by_guard(here, source, destination)
        if left:
            return left
    if here is there is _Side.RUNNING:
        return _RUNNING_ON_BOTH
    if job:
        return _STILL_MOVING
    return next((case for sources, destinations, case in _RULES if here in sources and there in destinations), _UNKNOWN)


def _left_by_lost_reply(source: _Seen, destination: _Seen) -> _Case | None:
    """The two pairs of reasons that only a lost finish reply leaves behind."""
    if _state(destination) != ("running", "migrated"):
        return None
    return {("running", "migration_canceled"): _LOST_REPLY, ("paused", "migration"): _LOST_REPLY_LOCKED}.get(_state(source))


def _left_by_guard(here: _Side, source: _Seen, destination: _Seen) -> _Case | None:
    """What a guarded switchover that did not end left, by the note that the source keeps of it."""
    note = _noted(source)
    if note.get("mode") != "guarded" or not isinstance(note.get("resume"), bool):
        return None
    if not note.get("uuid") or note["uuid"] != (destination or {}).get("uuid"):
        return None  # Of another domain, or there is none on the destination.
    finished = _state(destination) == ("paused", "user")
    if here in _GONE:
        return _RESUME_PENDING if finished and note["resume"] else None
    # The source's goes on, or is paused as it was before: so nobody was told to resume the destination's.
    whole = here is _Side.RUNNING or (here is _Side.PAUSED and not note["resume"])
    return _COPY_NEVER_RAN if whole and (finished or _state(destination) == ("paused", "migration")) else None


def _noted(source: _Seen) -> t.Mapping[str, t.Any]:
    """The source's note of a switchover; empty without one."""
    note = source.get("switchover") if source else None
    return note if isinstance(note, t.Mapping) else {}


def _state(seen: _Seen) -> tuple[t.Any, t.Any]:
    state = seen.get("state") if seen else None
    return (state.get("state"), state.get("reason")) if isinstance(state, t.Mapping) else (None, None)


def _side(seen: _Seen) -> _Side:
    if not seen or seen.get("unreachable") or seen.get("failed") or not isinstance(seen.get("exists"), bool):
        return _Side.UNKNOWN
    if not seen["exists"]:
        return _Side.ABSENT
    state = seen.get("state")
    if not isinstance(state, t.Mapping):
        return _Side.UNKNOWN
    word, reason = state.get("state"), state.get("reason")
    if word == "shutoff":
        return _Side.INACTIVE
    if not isinstance(seen.get("job"), t.Mapping):
        return _Side.UNKNOWN  # Nobody looked whether a job runs.
    if word == "running":
        if reason in ("postcopy", "postcopy_failed"):
            return _Side.POSTCOPY
        return _Side.RUNNING if reason in _RUNNING_REASONS else _Side.UNKNOWN
    return _PAUSED_REASONS.get(str(reason), _Side.UNKNOWN) if word == "paused" else _Side.UNKNOWN


def _job(seen: _Seen) -> bool:
    """Anything but a plain "no" counts as a job."""
    job = seen.get("job") if seen else None
    return isinstance(job, t.Mapping) and job.get("active") is not False


def _broke(source: _Seen, destination: _Seen) -> bool:
    """After a post-copy that failed libvirt keeps the job, so that it can be resumed; nothing moves meanwhile."""
    return "postcopy_failed" in (_state(source)[1], _state(destination)[1])


def _others(source: _Seen, destination: _Seen) -> bool:
    """Whether the two hosts speak of different domains that share a name."""
    uuids = {seen.get("uuid") for seen in (source, destination) if seen and seen.get("exists")}
    return len(uuids - {None}) > 1


def _name(source: _Seen, destination: _Seen) -> str:
    return next((str(seen["name"]) for seen in (source, destination) if seen and seen.get("name")), "the domain")


def _describe(seen: _Seen) -> str:
    if not seen or seen.get("unreachable"):
        return "not reached"
    if seen.get("failed") or "exists" not in seen:
        return f"not read ({str(seen.get('msg') or 'no answer')[:200]})"
    if not seen["exists"]:
        return "no such domain"
    state = seen.get("state")
    words = f"{state.get('state')} ({state.get('reason')})" if isinstance(state, t.Mapping) else "state unknown"
    job = seen.get("job")
    if isinstance(job, t.Mapping) and job.get("active"):
        words += f", job {job.get('operation')}"
    if seen.get("disk_errors"):
        words += f", I/O error on disk {', '.join(sorted(seen['disk_errors']))}"
    return f"{words}, UUID {seen.get('uuid')}"


__all__ = ("outcome",)
