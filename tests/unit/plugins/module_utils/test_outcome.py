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


def may_have_process(name: str) -> bool:
    """Whether a QEMU of the domain may exist there, as far as what was said goes."""
    return name != "absent" and not name.startswith("shutoff/")


def test_every_pair_keeps_the_invariants() -> None:
    for source, destination in PAIRS:
        result = outcome(SIDES[source], SIDES[destination])
        undo, clean = result["permits"]["undo_destination"], result["permits"]["clean_source"]
        pair = f"{source} -> {destination}: {result['outcome']}"
        assert not (undo and clean), pair
        if source in UNREAD or destination in UNREAD:
            assert (result["outcome"], undo, clean) == ("unknown", False, False), pair
        if " with a job" in source + destination:
            assert not undo, pair
            assert not clean, pair
        if undo:
            assert destination == "absent", pair
            assert may_have_process(source), pair
            assert result["outcome"] in ("stayed", "paused_on_source"), pair
        if clean:
            assert not may_have_process(source), pair
            assert destination.startswith(("running/", "paused/")), pair
            assert result["outcome"] == "moved", pair
        if result["outcome"] == "moved":
            assert not may_have_process(source), pair
            assert may_have_process(destination), pair
        if source.startswith("running/") and destination.startswith("running/") and "postcopy" not in source + destination:
            assert result["outcome"] in ("running_on_both", "unknown"), pair
        if "_99" in source + destination and not {"shutoff/unknown_99"} & {source, destination}:
            assert result["outcome"] == "unknown", pair
        assert result["message"], pair
        assert result["next_step"], pair
        assert "{" not in result["message"] + result["next_step"], pair


def test_every_pair_of_known_sides_is_in_one_rule() -> None:
    known = [side for side in rules._Side if side is not rules._Side.UNKNOWN]
    for pair in itertools.product(known, known):
        matching = [case for sources, destinations, case in rules._RULES if pair[0] in sources and pair[1] in destinations]
        assert len(matching) == 1, pair


# What the lab saw (state and reason of the source, then of the destination) and what has to follow.
LAB = [
    ("running/booted", "absent", "stayed", "undo"),
    ("running/migrated", "absent", "stayed", "undo"),
    ("running/migration_canceled", "absent", "stayed", "undo"),
    ("running/unpaused", "absent", "stayed", "undo"),
    ("paused/user", "absent", "stayed", "undo"),
    ("paused/ioerror", "absent", "paused_on_source", "undo"),
    ("paused/migration", "absent", "paused_on_source", None),
    ("running/booted", "shutoff/destroyed", "stayed", None),
    ("running/migration_canceled", "paused/migration", "paused_on_destination", None),
    ("running/migration_canceled", "paused/starting_up", "paused_on_destination", None),
    ("running/migration_canceled", "paused/user", "paused_on_destination", None),  # guarded switchover, reply lost
    ("running/migration_canceled", "running/migrated", "running_on_both", None),  # finish reply lost
    ("running/booted with a job", "running/migrated", "running_on_both", None),
    ("running/booted with a job", "absent", "still_moving", None),
    ("running/booted with a job", "paused/migration", "still_moving", None),
    ("paused/migration with a job", "running/migrated", "still_moving", None),
    ("paused/postcopy with a job", "running/postcopy with a job", "still_moving", None),
    ("paused/migration", "running/migrated", "paused_on_source", None),  # with leases
    ("paused/user", "paused/migration", "paused_on_both", None),
    ("paused/postcopy_failed", "shutoff/crashed", "postcopy_broken", None),
    ("paused/postcopy_failed", "running/postcopy", "postcopy_broken", None),
    ("absent", "running/postcopy_failed", "postcopy_broken", None),
    ("absent", "running/migrated", "moved", "clean"),
    ("absent", "running/unpaused", "moved", "clean"),
    ("absent", "running/booted", "moved", "clean"),
    ("absent", "paused/user", "moved", "clean"),
    ("shutoff/migrated", "running/migrated", "moved", "clean"),
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
    assert result["permits"] == {"undo_destination": permit == "undo", "clean_source": permit == "clean"}


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
    assert "the domain" in outcome(None, None)["message"]
