# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcome of a migration, over every pair of states that two hosts can report."""

from __future__ import annotations

import itertools
import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.names import REASONS, STATES
from ansible_collections.lunshift.migration.plugins.module_utils._migration import outcome as rules
from ansible_collections.lunshift.migration.plugins.module_utils._migration.outcome import outcome

UUID = "8f1f0bb6-0f4e-4b0e-9f3c-2f7d3b3a1a11"
NO_JOB = {"active": False, "operation": None}
JOB = {"active": True, "operation": "migration_out"}
ABSENT: dict[str, t.Any] = {"exists": False, "name": "web1", "uuid": None, "state": None}
UNREAD: dict[str, t.Any] = {
    "none": None,
    "empty": {},
    "unreachable": {"unreachable": True, "msg": "timed out", "changed": False},
    "failed": {"failed": True, "msg": "libvirtd hangs"},
    "skipped": {"skipped": True},
    "stateless": {"exists": True, "name": "web1", "uuid": UUID, "state": None, "job": NO_JOB},
    "jobless": {"exists": True, "name": "web1", "uuid": UUID, "state": {"state": "running", "reason": "booted"}},
    "unreachable with old data": {"exists": False, "unreachable": True},
}


def seen(state: str, reason: str, job: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
    return {"exists": True, "name": "web1", "uuid": UUID, "state": {"state": state, "reason": reason}, "job": job or NO_JOB}


# Every state and reason that libvirt has, and one of each that it may get.
WORDS = [(state, reason) for state in (*STATES, "unknown_9") for reason in (*REASONS.get(state, ("unknown",)), "unknown_99")]
SIDES: dict[str, dict[str, t.Any] | None] = {
    "absent": ABSENT,
    **UNREAD,
    **{f"{state}/{reason}": seen(state, reason) for state, reason in WORDS},
    **{f"{state}/{reason} with a job": seen(state, reason, JOB) for state, reason in WORDS if state in ("running", "paused")},
}
PAIRS = list(itertools.product(SIDES, SIDES))
OTHER_UUID = "99999999-2222-4333-8444-555555555555"
# What the source's note of a pending switchover may say; the first two can permit something.
NOTES: dict[str, t.Any] = {
    "to resume": {"mode": "guarded", "resume": True, "uuid": UUID},
    "to stay paused": {"mode": "guarded", "resume": False, "uuid": UUID},
    "none": None,
    "direct": {"mode": "direct", "resume": True, "uuid": UUID},
    "of another domain": {"mode": "guarded", "resume": True, "uuid": OTHER_UUID},
    "without UUID": {"mode": "guarded", "resume": True, "uuid": None},
    "not understood": {"mode": "guarded", "resume": "yes", "uuid": UUID},
    "no note": "guarded",
}


def with_note(source: dict[str, t.Any] | None, note: str) -> dict[str, t.Any] | None:
    return source and {**source, "switchover": NOTES[note]}


def may_have_process(name: str) -> bool:
    """Whether a QEMU of the domain may exist there, as far as what was said goes."""
    return name != "absent" and not name.startswith("shutoff/")


def paused_copy(name: str) -> bool:
    """As a guarded switchover leaves it before anybody resumes it."""
    return name in ("paused/user", "paused/migration")


# By permit: what has to be true of source, destination, note and outcome wherever it is given.
NEEDS: dict[str, t.Callable[[str, str, str, str], bool]] = {
    "undo_destination": lambda source, destination, _note, word: (
        may_have_process(source) and destination == "absent" and word in ("stayed", "paused_on_source")
    ),
    "clean_source": lambda source, destination, _note, word: (
        not may_have_process(source) and destination.startswith(("running/", "paused/")) and word == "moved"
    ),
    "resume_destination": lambda source, destination, note, _word: (
        not may_have_process(source) and destination == "paused/user" and note == "to resume"
    ),
    "remove_destination": lambda source, destination, note, _word: (
        (
            (source.startswith("running/") and note == "to resume")
            or (source.startswith(("running/", "paused/")) and note == "to stay paused")
        )
        and paused_copy(destination)
    ),
    "remove_source": lambda source, destination, _note, _word: (
        source in ("running/migration_canceled", "paused/migration") and destination == "running/migrated"
    ),
}


@pytest.mark.parametrize("note", NOTES)
def test_every_permit_of_every_pair_is_founded(note: str) -> None:
    for source, destination in PAIRS:
        result = outcome(with_note(SIDES[source], note), SIDES[destination])
        given = [permit for permit, is_given in result["permits"].items() if is_given]
        pair = f"{source} -> {destination}: {result['outcome']} permits {given}"
        assert set(result["permits"]) == set(NEEDS), pair
        assert len(given) <= 1, pair
        assert all(NEEDS[permit](source, destination, note, result["outcome"]) for permit in given), pair
        if " with a job" in source + destination:
            assert not given, pair
        if source in UNREAD or destination in UNREAD:
            assert (result["outcome"], given) == ("unknown", []), pair
        if "_99" in source + destination and not {"shutoff/unknown_99"} & {source, destination}:
            assert (result["outcome"], given) == ("unknown", []), pair


@pytest.mark.parametrize("note", NOTES)
def test_every_pair_is_called_what_it_is(note: str) -> None:
    for source, destination in PAIRS:
        result = outcome(with_note(SIDES[source], note), SIDES[destination])
        pair = f"{source} -> {destination}: {result['outcome']}"
        if result["outcome"] == "moved":
            assert not may_have_process(source), pair
            assert may_have_process(destination), pair
        if source.startswith("running/") and destination.startswith("running/") and "postcopy" not in source + destination:
            assert result["outcome"] in ("running_on_both", "unknown"), pair
        assert result["suspect"] is (result["outcome"] == "running_on_both"), pair
        assert result["message"], pair
        assert result["next_step"], pair
        assert "{" not in result["message"] + result["next_step"], pair


@pytest.mark.parametrize("note", sorted(set(NOTES) - {"to resume", "to stay paused"}))
def test_what_is_no_guarded_note_of_this_domain_changes_nothing(note: str) -> None:
    for source, destination in PAIRS:
        assert outcome(with_note(SIDES[source], note), SIDES[destination]) == outcome(SIDES[source], SIDES[destination])


def test_every_permit_is_given_somewhere() -> None:
    given = {
        permit
        for note in NOTES
        for source, destination in PAIRS
        for permit, is_given in outcome(with_note(SIDES[source], note), SIDES[destination])["permits"].items()
        if is_given
    }
    assert given == set(NEEDS)


def test_every_pair_of_known_sides_is_in_one_rule() -> None:
    known = [side for side in rules._Side if side is not rules._Side.UNKNOWN]
    for pair in itertools.product(known, known):
        matching = [case for sources, destinations, case in rules._RULES if pair[0] in sources and pair[1] in destinations]
        assert len(matching) == 1, pair


# What the lab saw (state and reason of the source, then of the destination) and what has to follow.
LAB = [
    ("running/booted", "absent", "stayed", "undo_destination"),
    ("running/migrated", "absent", "stayed", "undo_destination"),
    ("running/migration_canceled", "absent", "stayed", "undo_destination"),
    ("running/unpaused", "absent", "stayed", "undo_destination"),
    ("paused/user", "absent", "stayed", "undo_destination"),
    ("paused/ioerror", "absent", "paused_on_source", "undo_destination"),
    ("paused/migration", "absent", "paused_on_source", None),
    ("running/booted", "shutoff/destroyed", "stayed", None),
    ("running/migration_canceled", "paused/migration", "paused_on_destination", None),
    ("running/migration_canceled", "paused/starting_up", "paused_on_destination", None),
    ("running/migration_canceled", "paused/user", "paused_on_destination", None),  # guarded switchover, reply lost
    ("running/migration_canceled", "running/migrated", "running_on_both", "remove_source"),  # finish reply lost
    ("running/booted", "running/migrated", "running_on_both", None),
    ("running/migration_canceled", "running/unpaused", "running_on_both", None),
    ("running/migration_canceled with a job", "running/migrated", "running_on_both", None),
    ("running/booted with a job", "running/migrated", "running_on_both", None),
    ("running/booted with a job", "absent", "still_moving", None),
    ("running/booted with a job", "paused/migration", "still_moving", None),
    ("paused/migration with a job", "running/migrated", "still_moving", None),
    ("paused/postcopy with a job", "running/postcopy with a job", "still_moving", None),
    ("paused/migration", "running/migrated", "paused_on_source", "remove_source"),  # with leases
    ("paused/migration", "running/unpaused", "paused_on_source", None),
    ("paused/user", "paused/migration", "paused_on_both", None),
    ("paused/postcopy_failed", "shutoff/crashed", "postcopy_broken", None),
    ("paused/postcopy_failed with a job", "shutoff/crashed", "postcopy_broken", None),
    ("paused/postcopy_failed with a job", "running/postcopy with a job", "postcopy_broken", None),
    ("paused/postcopy with a job", "running/postcopy_failed with a job", "postcopy_broken", None),
    ("paused/postcopy_failed", "running/postcopy", "postcopy_broken", None),
    ("absent", "running/postcopy_failed", "postcopy_broken", None),
    ("absent", "running/migrated", "moved", "clean_source"),
    ("absent", "running/unpaused", "moved", "clean_source"),
    ("absent", "running/booted", "moved", "clean_source"),
    ("absent", "paused/user", "moved", "clean_source"),
    ("shutoff/migrated", "running/migrated", "moved", "clean_source"),
    ("absent", "paused/ioerror", "paused_on_destination", None),
    ("absent", "paused/migration", "paused_on_destination", None),
    ("absent", "running/migrated with a job", "still_moving", None),
    ("absent", "absent", "gone", None),
    ("shutoff/crashed", "absent", "gone", None),
    ("absent", "shutoff/failed", "gone", None),
    ("running/booted", "unreachable", "unknown", None),
    ("unreachable", "running/migrated", "unknown", None),
    ("absent", "failed", "unknown", None),
    ("crashed/panicked", "absent", "unknown", None),
    ("shutdown/user", "absent", "unknown", None),
    ("pmsuspended/unknown", "absent", "unknown", None),
]


@pytest.mark.parametrize(("source", "destination", "expected", "permit"), LAB)
def test_what_the_lab_saw(source: str, destination: str, expected: str, permit: str | None) -> None:
    result = outcome(SIDES[source], SIDES[destination])
    assert result["outcome"] == expected
    assert result["permits"] == {each: each == permit for each in NEEDS}


def test_a_guest_that_ended_in_post_copy_is_not_said_to_be_repairable() -> None:
    lost = outcome(SIDES["paused/postcopy_failed with a job"], SIDES["shutoff/crashed"])
    assert "is LOST" in lost["message"]
    assert "start it again on one host only" in lost["next_step"]
    for source, destination in (("paused/postcopy_failed", "running/postcopy"), ("absent", "running/postcopy_failed")):
        assert "destroy neither" in outcome(SIDES[source], SIDES[destination])["next_step"]


# The same with the note that a guarded switchover of the domain is pending, and whether it has to be resumed.
GUARDED = [
    ("absent", "paused/user", "to resume", "paused_on_destination", "resume_destination"),
    ("shutoff/migrated", "paused/user", "to resume", "paused_on_destination", "resume_destination"),
    ("absent", "paused/user", "to stay paused", "moved", "clean_source"),
    ("absent", "running/unpaused", "to resume", "moved", "clean_source"),
    ("absent", "running/migrated", "to resume", "moved", "clean_source"),
    ("absent", "paused/ioerror", "to resume", "paused_on_destination", None),
    ("absent", "paused/migration", "to resume", "paused_on_destination", None),
    ("absent", "absent", "to resume", "gone", None),
    ("running/migration_canceled", "paused/user", "to resume", "paused_on_destination", "remove_destination"),
    ("running/migration_canceled", "paused/migration", "to resume", "paused_on_destination", "remove_destination"),
    ("running/migration_canceled", "paused/ioerror", "to resume", "paused_on_destination", None),
    ("running/migration_canceled", "running/unpaused", "to resume", "running_on_both", None),
    ("running/booted with a job", "paused/migration", "to resume", "still_moving", None),
    ("running/booted", "absent", "to resume", "stayed", "undo_destination"),
    ("paused/user", "paused/user", "to stay paused", "paused_on_destination", "remove_destination"),
    ("paused/user", "paused/user", "to resume", "paused_on_both", None),
    ("paused/migration", "paused/user", "to resume", "paused_on_both", None),
    ("unreachable", "paused/user", "to resume", "unknown", None),
]


@pytest.mark.parametrize(("source", "destination", "note", "expected", "permit"), GUARDED)
def test_what_a_guarded_switchover_leaves(source: str, destination: str, note: str, expected: str, permit: str | None) -> None:
    result = outcome(with_note(SIDES[source], note), SIDES[destination])
    assert result["outcome"] == expected
    assert result["permits"] == {each: each == permit for each in NEEDS}


def test_a_note_of_an_absent_domain_counts_by_its_uuid() -> None:
    there = {**seen("paused", "user"), "uuid": OTHER_UUID}
    assert outcome(with_note(ABSENT, "to resume"), there)["outcome"] == "moved"
    assert outcome(with_note(ABSENT, "of another domain"), there)["permits"]["resume_destination"] is True


def test_what_two_guests_wrote_to_stays_suspect_when_one_has_gone() -> None:
    noted = {**ABSENT, "switchover": {**NOTES["direct"], "suspect": True}}
    result = outcome(noted, seen("running", "migrated"))
    assert (result["outcome"], result["suspect"], result["permits"]["clean_source"]) == ("moved", True, True)


def test_another_domain_of_the_same_name_permits_nothing() -> None:
    other = {**seen("running", "booted"), "uuid": "11111111-2222-4333-8444-555555555555"}
    result = outcome(seen("shutoff", "migrated"), other)
    assert (result["outcome"], any(result["permits"].values())) == ("unknown", False)


def test_a_job_that_is_not_plainly_inactive_counts() -> None:
    assert outcome(seen("running", "booted", {"active": None}), ABSENT)["outcome"] == "still_moving"
    assert outcome(seen("running", "booted", {}) | {"job": {}}, ABSENT)["outcome"] == "still_moving"


def test_messages_name_domain_states_and_job() -> None:
    result = outcome(seen("running", "booted", JOB), UNREAD["failed"])
    assert "web1" in result["message"]
    assert "running (booted), job migration_out" in result["message"]
    assert "not read (libvirtd hangs)" in result["message"]
    assert "virsh destroy web1 on the source" in outcome(seen("running", "booted"), seen("running", "migrated"))["next_step"]
    assert "SUSPECT" in outcome(seen("running", "booted"), seen("running", "migrated"))["message"]
    assert "the domain" in outcome(None, None)["message"]


def test_a_guest_that_halted_on_the_destination_names_its_disks() -> None:
    halted = {**seen("paused", "ioerror"), "disk_errors": {"vdb": "unspecified", "vda": "no space"}}
    decided = outcome(ABSENT, halted)
    assert decided["outcome"] == "paused_on_destination"
    assert "paused (ioerror), I/O error on disk vda, vdb" in decided["message"]
