# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt import connection
from ansible_collections.lunshift.migration.plugins.module_utils._migration import switchover
from ansible_collections.lunshift.migration.plugins.modules import domain_settle
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import SOURCE, FakeLibvirt

if t.TYPE_CHECKING:
    from pathlib import Path

UUID = "11111111-2222-4333-8444-555555555555"
Answer = dict[str, t.Any]
RESUME = {"uuid": UUID, "state": "resumed", "expected_state": "paused", "expected_reason": "user"}
REMOVE = {"uuid": UUID, "state": "removed", "expected_state": "running", "expected_reason": "migration_canceled"}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLibvirt:
    fake = FakeLibvirt()
    monkeypatch.setattr(connection, "load_api", lambda: fake)
    monkeypatch.setattr(switchover, "NOTES", tmp_path / "switchovers")
    return fake


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> t.Callable[..., Answer]:
    def call(*, check_mode: bool = False, **arguments: t.Any) -> Answer:
        with patch_module_args({**arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            domain_settle.main()
        return json.loads(capfd.readouterr().out)

    return call


def test_a_paused_guest_goes_on(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    api.domain.current_state = [3, 1]
    foretold = run(**RESUME, check_mode=True)
    assert (foretold["changed"], api.domain.calls) == (True, [])
    answer = run(**RESUME)
    assert (answer["changed"], answer["state"]["state"], api.domain.calls) == (True, "running", [("resume",)])
    assert answer["diff"] == {"before": "paused (user)", "after": "running (unpaused)"}
    assert set(answer) - set(yaml.safe_load(domain_settle.RETURN)) - {"invocation"} == {"changed", "diff"}
    assert run(**RESUME)["changed"] is False


def test_a_copy_is_removed_with_its_definition(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    api.domain.current_state = [1, 6]
    foretold = run(**REMOVE, check_mode=True)
    assert (foretold["changed"], api.domain.calls) == (True, [])
    answer = run(**REMOVE)
    assert (answer["changed"], answer["state"], api.hosts[SOURCE].domains) == (True, None, [])
    assert [call[0] for call in api.domain.calls] == ["undefineFlags", "destroy"]
    assert run(**REMOVE)["changed"] is False


@pytest.mark.parametrize(("state", "suspect"), [([1, 6], True), ([3, 1], False)])
def test_that_two_guests_ran_outlives_the_run(api: FakeLibvirt, run: t.Callable[..., Answer], state: list[int], suspect: bool) -> None:
    switchover.NOTES.mkdir()
    switchover.write_note(switchover.Note(UUID, "web1", "direct", True, False, "qemu+tcp://hostb/system"))
    api.domain.current_state = state
    expected = {} if suspect else {"expected_state": "paused", "expected_reason": "user"}
    assert run(**{**REMOVE, **expected}, check_mode=True)["changed"] is True
    assert switchover.read_note(UUID).suspect is False
    assert run(**{**REMOVE, **expected})["changed"] is True
    assert switchover.read_note(UUID).suspect is suspect


def test_a_transient_copy_has_no_definition(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    api.domain.current_state, api.domain.persistent = [1, 6], False
    assert run(**REMOVE)["changed"] is True
    assert api.domain.calls == [("destroy",)]


@pytest.mark.parametrize("state", [[1, 1], [1, 2], [3, 1], [5, 2]])
def test_another_state_than_the_decision_saw_is_left_alone(api: FakeLibvirt, run: t.Callable[..., Answer], state: list[int]) -> None:
    api.domain.current_state = state
    answer = run(**REMOVE)
    assert (answer["failed"], answer["error_id"], answer["state"]["code"]) == (True, "state_changed", state[0])
    assert api.domain.calls == []


def test_a_domain_that_has_gone_is_not_resumed(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    api.hosts[SOURCE].domains = []
    assert run(**RESUME)["error_id"] == "state_changed"


def test_a_running_job_is_left_alone(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    api.domain.current_state = [1, 6]
    api.domain.job = {"type": 2, "operation": 5}
    assert run(**REMOVE)["error_id"] == "job_running"
    assert api.domain.calls == []


def test_a_note_is_forgotten(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    switchover.NOTES.mkdir()
    switchover.write_note(switchover.Note(UUID, "web1", "guarded", True, False, "qemu+tcp://hostb/system"))
    forget = {"uuid": UUID, "state": "forgotten"}
    assert run(**forget, check_mode=True)["changed"] is True
    assert switchover.read_note(UUID) is not None
    assert run(**forget)["changed"] is True
    assert switchover.read_note(UUID) is None
    assert run(**forget)["changed"] is False
    assert api.domain.calls == []


def test_nothing_is_done_without_what_the_decision_saw(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    assert run(uuid=UUID, state="removed")["failed"] is True
    assert api.domain.calls == []
