# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._migration.sweep import sweep_decision

MOVE = {"domain": "web1", "destination": "hostb", "autostart": False, "volumes": []}


def operation(**kwargs: t.Any) -> dict[str, t.Any]:
    quiet = {"operation_id": "op1", "age_s": 5000, "live": False, "move": MOVE, "made": [], "restorable": [], "in_use": [], "problem": None}
    return {**quiet, **kwargs}


def outcome(**permits: bool) -> dict[str, t.Any]:
    return {"message": "web1 is somewhere", "next_step": "look", "permits": {"clean_source": False, "undo_destination": False, **permits}}


def decide(seen: dict[str, t.Any], result: dict[str, t.Any] | None = None, uuid: str = "op1") -> tuple[str, str]:
    domains = [{"exists": False, "uuid": None}, {"exists": True, "uuid": uuid}]
    decision = sweep_decision(seen, result, domains=domains, hosts=["hosta", "hostb"], older_than_s=3600)
    return decision["action"], decision["reason"]


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"problem": "record x cannot be used", "move": None}, "cannot be used"),
        ({"live": True}, "works on it now"),
        ({"age_s": 3599}, "3599 s ago"),
        ({"move": {**MOVE, "destination": "hostz"}}, "hostz is not in the inventory"),
        ({"move": None, "in_use": ["volume vol1 is in use: sda is open"]}, "sda is open"),
        ({"move": None, "made": ["vol1"], "restorable": ["remove disk sda"]}, "state: restored and operation_id: op1"),
        ({"move": None}, "nothing is left"),
    ],
)
@pytest.mark.parametrize("result", [None, outcome(clean_source=True, undo_destination=True)])
def test_kept_whatever_the_outcome(kwargs: dict[str, t.Any], words: str, result: dict[str, t.Any] | None) -> None:
    action, reason = decide(operation(**kwargs), result)
    assert action == "keep"
    assert words in reason


def test_both_hosts_are_read_first() -> None:
    assert decide(operation())[0] == "read"
    assert decide(operation(age_s=3600))[0] == "read"


@pytest.mark.parametrize(
    ("permits", "action"),
    [({"clean_source": True}, "finish"), ({"undo_destination": True}, "undo"), ({"remove_destination": True}, "keep")],
)
def test_only_what_the_outcome_permits(permits: dict[str, bool], action: str) -> None:
    decided, reason = decide(operation(), outcome(**permits))
    assert decided == action
    assert "web1 is somewhere" in reason


def test_another_domain_of_that_name_decides_nothing() -> None:
    action, reason = decide(operation(), outcome(clean_source=True, undo_destination=True), uuid="op2")
    assert (action, "another domain has the name web1" in reason) == ("keep", True)
