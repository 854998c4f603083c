# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._operation import (
    MadePath,
    MadeTarget,
    Move,
    Record,
    RecordStore,
    is_locked,
    locked,
)

TARGET = MadeTarget("192.0.2.10", 3260, "iqn.2026-11.example:hostb", session=True, node_record=True)
PATH = MadePath("vol1", "192.0.2.10", 3260, "iqn.2026-11.example:hostb", 1)


def record(**kwargs: object) -> Record:
    return Record("op1", "boot-1", **kwargs)  # type: ignore[arg-type]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    store = RecordStore(str(tmp_path / "records"))
    made = record(paths=(PATH,), targets=(TARGET,), connection_infos={"vol1": {"data": {}}})
    store.save(made)
    assert store.load("op1") == replace(made, created=str(store.load("op1").created))  # type: ignore[union-attr]


def test_a_record_remembers_when_it_was_made(tmp_path: Path) -> None:
    store = RecordStore(str(tmp_path))
    store.save(record(paths=(PATH,), created="2026-11-22T05:00:00Z"))
    known = store.load("op1")
    assert known
    store.save(known.merged(record(targets=(TARGET,))))
    assert json.loads((tmp_path / "op1.json").read_text())["created"] == "2026-11-22T05:00:00Z"
    store.save(replace(known, created=None))
    assert str(store.load("op1").created) > "2026-11-22T05:00:00Z"  # type: ignore[union-attr]


def test_a_move_is_saved_loaded_and_outlives_a_boot(tmp_path: Path) -> None:
    store = RecordStore(str(tmp_path))
    move = Move("web1", "hostb", True, ({"serial": "vol1", "connection_info": {"data": {}}, "initiator": "kernel"},))
    store.save(record(move=move, paths=(PATH,)))
    known = store.load("op1")
    assert known
    assert known.move == move
    assert known.in_boot("boot-2").move == move
    assert not known.in_boot("boot-2").empty
    assert known.without_volumes({"vol1"}).move == move


def test_a_record_of_release_0_1_0_is_read(tmp_path: Path) -> None:
    store = RecordStore(str(tmp_path))
    store.save(record(paths=(PATH,)))
    content = json.loads((tmp_path / "op1.json").read_text())
    del content["move"], content["created"]
    (tmp_path / "op1.json").write_text(json.dumps(content))
    assert store.load("op1") == record(paths=(PATH,))


def test_all_records_are_listed_with_their_age(tmp_path: Path) -> None:
    store = RecordStore(str(tmp_path / "records"))
    assert store.operation_ids() == []
    for name in ("op2", "op1"):
        store.save(replace(record(paths=(PATH,)), operation_id=name))
    (tmp_path / "records" / "op3.json.77.new").touch()
    assert store.operation_ids() == ["op1", "op2"]
    os.utime(tmp_path / "records" / "op1.json", (time.time() - 100, time.time() - 100))
    os.utime(tmp_path / "records" / "op2.json", (time.time() + 100, time.time() + 100))
    assert 99 < store.age_s("op1") < 110
    assert store.age_s("op2") == 0


def test_only_root_can_read_a_record(tmp_path: Path) -> None:
    RecordStore(str(tmp_path / "records")).save(record(paths=(PATH,)))
    assert stat.S_IMODE((tmp_path / "records").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "records" / "op1.json").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["op1.json"]


def test_an_empty_record_is_no_file(tmp_path: Path) -> None:
    store = RecordStore(str(tmp_path))
    store.save(record(paths=(PATH,)))
    store.save(record())
    store.save(record())
    assert list(tmp_path.iterdir()) == []
    assert store.load("op1") is None


@pytest.mark.parametrize("content", ["", "{", '{"version": 2}', '{"version": 1}', '{"version": 1, "paths": [{"x": 1}]}', "[]"])
def test_a_damaged_record_is_an_error_with_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / "op1.json").write_text(content)
    with pytest.raises(MigrationError, match=r"op1\.json cannot be used") as caught:
        RecordStore(str(tmp_path)).load("op1")
    assert caught.value.error_id == "operation_record"


@pytest.mark.parametrize("operation_id", ["", "../x", "a/b", ".hidden", "-x", "a b", "x" * 129])
def test_an_id_that_is_no_file_name_is_refused(tmp_path: Path, operation_id: str) -> None:
    with pytest.raises(MigrationError, match="operation_id"):
        RecordStore(str(tmp_path)).load(operation_id)


def test_a_further_run_keeps_what_a_killed_one_made() -> None:
    killed = record(paths=(PATH,), targets=(TARGET,))
    again = record(paths=(MadePath("vol2", *TARGET.key[:2], TARGET.iqn, 2),))
    merged = killed.merged(again)
    assert [path.serial for path in merged.paths] == ["vol1", "vol2"]
    assert merged.targets == (TARGET,)


def test_a_second_login_forgets_the_number_of_the_first_session() -> None:
    first = record(targets=(MadeTarget(*TARGET.key, session=True, sid=5, node_record=True),))
    second = record(targets=(MadeTarget(*TARGET.key, session=True),))
    (target,) = first.merged(second).targets
    assert (target.sid, target.node_record) == (None, True)
    (target,) = first.merged(second.with_sid(TARGET.key, 7)).targets
    assert target.sid == 7


def test_the_first_settings_that_were_found_are_the_ones_to_put_back() -> None:
    first = record(targets=(MadeTarget(*TARGET.key, session=True, settings_before={"node.session.scan": "auto"}),))
    second = record(targets=(MadeTarget(*TARGET.key, session=True, settings_before={"node.session.scan": "manual"}),))
    assert first.merged(second).targets[0].settings_before == {"node.session.scan": "auto"}


def test_after_a_reboot_only_node_records_count() -> None:
    old = record(paths=(PATH,), targets=(TARGET, MadeTarget("192.0.2.11", 3260, TARGET.iqn, session=True)))
    new = old.in_boot("boot-2")
    assert new.paths == ()
    assert new.targets == (MadeTarget(*TARGET.key, session=False, node_record=True),)
    assert old.in_boot("boot-1") is old


def test_a_volume_leaves_the_record() -> None:
    made = record(paths=(PATH,), targets=(TARGET,), connection_infos={"vol1": {}})
    left = made.without_volumes({"vol1"})
    assert (left.paths, left.connection_infos, left.empty) == ((), {}, False)
    assert left.without_target(TARGET.key).empty


def test_a_record_is_plain_json(tmp_path: Path) -> None:
    RecordStore(str(tmp_path)).save(record(paths=(PATH,), targets=(TARGET,)))
    assert json.loads((tmp_path / "op1.json").read_text())["paths"][0]["serial"] == "vol1"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_lock_excludes_and_is_freed(tmp_path: Path) -> None:
    clock = Clock()
    with locked(["b", "a", "a"], 1, clock, clock.sleep, str(tmp_path)):
        with (
            pytest.raises(MigrationError, match="a is locked by another run") as caught,
            locked(["a"], 2, clock, clock.sleep, str(tmp_path)),
        ):
            pass
        assert caught.value.error_id == "locked"
        assert clock.now_s >= 2
        with locked(["c"], 1, clock, clock.sleep, str(tmp_path)):
            pass
    with locked(["a", "b"], 0, clock, clock.sleep, str(tmp_path)):
        assert is_locked("a", str(tmp_path))
    assert not is_locked("a", str(tmp_path))
    assert not is_locked("never", str(tmp_path))


def test_a_lock_is_freed_when_its_holder_fails(tmp_path: Path) -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="holder"), locked(["a"], 1, clock, clock.sleep, str(tmp_path)):
        raise ValueError("holder")
    with locked(["a"], 0, clock, clock.sleep, str(tmp_path)):
        pass
