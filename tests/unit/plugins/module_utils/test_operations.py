# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of the records of a host, and what changes them."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.lunshift.migration.plugins.module_utils import _leased_job
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.operations import describe
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.request import parse_requests
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.volumes import note_move
from ansible_collections.lunshift.migration.plugins.module_utils._operation import Move, lock_of, locked
from ansible_collections.lunshift.migration.plugins.modules import operation_info, operation_record
from ansible_collections.lunshift.migration.tests.unit.fake_host import Bench, identity, volume

LEAVING = {"serial": "vol1", "connection_info": volume("vol1", 1)["connection_info"], "initiator": "kernel"}
MOVE = Move("web1", "hostb", True, (LEAVING,))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.host.add_target((1, identity(1)), (2, identity(2)))
    return bench


def one(bench: Bench, running: bool = False) -> dict[str, t.Any]:
    (operation,) = describe(bench.call(operation_id=None), lambda operation_id: running)
    return operation


def test_a_host_without_records(bench: Bench) -> None:
    assert describe(bench.call(operation_id=None)) == []


def test_what_a_killed_run_attached_is_told(bench: Bench) -> None:
    bench.attach(volume("vol1", 1))
    seen = one(bench)
    assert (seen["operation_id"], seen["live"], seen["move"], seen["made"], seen["in_use"]) == ("op1", False, None, ["vol1"], [])
    assert [action.partition(" ")[0] for action in seen["restorable"]] == ["remove", "log", "remove"]
    assert bench.host.disks() == ["sda"], "looking changes nothing"


def test_what_a_domain_uses_is_no_mess(bench: Bench) -> None:
    bench.attach(volume("vol1", 1))
    bench.host.mount("sda", "/srv")
    seen = one(bench)
    assert seen["restorable"] == []
    assert "volume vol1 is in use: sda is mounted on /srv" in seen["in_use"][0]
    assert seen["problem"] is None


def test_a_job_or_a_lock_keeps_it_alive(bench: Bench) -> None:
    note_move(bench.call(), MOVE)
    assert not one(bench)["live"]
    assert one(bench, running=True)["live"]
    with locked([lock_of("op1")], 1, bench.host.clock_s, bench.host.sleep, str(bench.root / "locks")):
        assert one(bench)["live"]


def test_a_damaged_record_is_told_and_hides_no_other(bench: Bench) -> None:
    note_move(bench.call(), MOVE)
    (bench.root / "records" / "op0.json").write_text("{")
    damaged, good = describe(bench.call(operation_id=None))
    assert "cannot be used" in damaged["problem"]
    assert set(damaged) == set(good)
    assert good["move"]["domain"] == "web1"


def test_a_move_is_noted_once_and_taken_away(bench: Bench) -> None:
    assert note_move(bench.call(check=True), MOVE) == (None, True)
    assert describe(bench.call()) == []
    assert note_move(bench.call(), MOVE) == (None, True)
    assert note_move(bench.call(), MOVE) == (MOVE.to_dict(), False)
    assert note_move(bench.call(), None) == (MOVE.to_dict(), True)
    assert note_move(bench.call(), None) == (None, False)
    assert describe(bench.call()) == []


def test_undoing_what_was_made_here_keeps_the_note(bench: Bench) -> None:
    bench.attach(volume("vol1", 1))
    note_move(bench.call(), MOVE)
    bench.restore()
    assert bench.host.clean()
    assert one(bench)["move"]["destination"] == "hostb"


def test_volumes_that_come_back_end_the_note(bench: Bench) -> None:
    bench.attach(volume("vol1", 1), operation_id=None)
    note_move(bench.call(), MOVE)
    bench.attach(volume("vol1", 1))
    assert describe(bench.call()) == []


def test_only_the_named_operation(bench: Bench) -> None:
    note_move(bench.call(), MOVE)
    assert describe(bench.call(operation_id="op2")) == []
    assert [seen["operation_id"] for seen in describe(bench.call(operation_id="op1"))] == ["op1"]


def test_every_key_is_documented(bench: Bench) -> None:
    note_move(bench.call(), MOVE)
    described = yaml.safe_load(operation_info.RETURN)["operations"]["contains"]
    seen = one(bench)
    assert set(seen) == set(described)
    assert set(seen["move"]) == set(described["move"]["contains"])


@pytest.mark.parametrize("module", [operation_info, operation_record])
def test_documented_options_are_the_real_ones(module: t.Any) -> None:
    options, spec = yaml.safe_load(module.DOCUMENTATION)["options"], module.argument_spec()
    assert set(options) == set(spec)
    assert set(options.get("volumes", {}).get("suboptions", {})) == set(spec.get("volumes", {}).get("options", {}))


def test_a_result_that_nobody_read_goes_with_the_note(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(operation_record.os, "geteuid", lambda: 0)
    monkeypatch.setattr(_leased_job, "RESULTS", tmp_path)
    monkeypatch.setattr(_leased_job, "JOBS", tmp_path / "jobs")
    unread, anothers = tmp_path / "op1.1f", tmp_path / "op10.1f"
    for path in (unread, anothers):
        path.write_text("{}")
    forget = {"operation_id": "op1", "state": "absent"}
    operation_record.work(forget, bench.call(check=True))
    assert unread.exists()
    operation_record.work(forget, bench.call())
    assert (unread.exists(), anothers.exists()) == (False, True)


def test_a_note_holds_no_password(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation_record.os, "geteuid", lambda: 0)
    secret = {**LEAVING, "connection_info": volume("vol1", 1, password="planted-secret")["connection_info"]}
    params = {"operation_id": "op1", "state": "present", "domain": "web1", "destination": "hostb", "autostart": True, "volumes": [secret]}
    result = operation_record.work(params, bench.call())
    assert result["changed"]
    assert result["diff"]["after"]["move"]["volumes"][0]["serial"] == "vol1"
    written = (bench.root / "records" / "op1.json").read_text()
    assert "planted-secret" not in written + json.dumps(result)
    assert "target_iqn" in written
    # The next run detaches by the note, and would refuse CHAP without a password.
    (request,) = parse_requests(result["diff"]["after"]["move"]["volumes"])
    assert request.connection.chap is None
