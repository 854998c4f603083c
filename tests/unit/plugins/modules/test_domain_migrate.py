# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import time
import typing as t

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lunshift.migration.plugins.module_utils import _background, _leased_job
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt import connection
from ansible_collections.lunshift.migration.plugins.module_utils._migration import switchover
from ansible_collections.lunshift.migration.plugins.modules import domain_migrate, job_lease
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import DESTINATION, DESTINATION_PATH, FakeLibvirt, domain_xml

if t.TYPE_CHECKING:
    from pathlib import Path

Answer = dict[str, t.Any]
GIVEN = domain_xml(source=DESTINATION_PATH, password="(redacted)")
ARGUMENTS = {"name": "web1", "destination_uri": DESTINATION, "destination_xml": GIVEN, "persistent_xml": GIVEN}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLibvirt:
    fake = FakeLibvirt()
    fake.domain.release.set()
    monkeypatch.setattr(connection, "load_api", lambda: fake)
    for place in (_leased_job, _background):
        monkeypatch.setattr(place, "RESULTS", tmp_path / "run" / "results")
    monkeypatch.setattr(_leased_job, "JOBS", tmp_path / "run" / "jobs")
    monkeypatch.setattr(switchover, "NOTES", tmp_path / "run" / "switchovers")
    return fake


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> t.Callable[..., Answer]:
    def call(module: t.Any = domain_migrate, *, check_mode: bool = False, **arguments: t.Any) -> Answer:
        with patch_module_args({**arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            module.main()
        return json.loads(capfd.readouterr().out)

    return call


def test_only_documented_values_are_returned(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    documented = yaml.safe_load(domain_migrate.RETURN)
    answer = run(**ARGUMENTS)
    assert set(answer) - set(documented) - {"invocation"} == {"changed", "diff"}
    assert set(answer["statistics"]) == set(documented["statistics"]["contains"])
    assert set(answer["source"]) == set(documented["source"]["contains"])


def test_a_second_run_changes_nothing(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    assert run(**ARGUMENTS)["changed"] is True
    assert run(**ARGUMENTS)["changed"] is False
    assert run(**ARGUMENTS, check_mode=True)["changed"] is False


def test_check_mode_changes_nothing(api: FakeLibvirt, run: t.Callable[..., Answer], tmp_path: Path) -> None:
    assert run(**ARGUMENTS, check_mode=True)["changed"] is True
    assert api.domain.calls == []
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_told_with_its_reasons(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    api.domain.snapshots = 1
    answer = run(**ARGUMENTS)
    assert (answer["failed"], answer["error_id"], answer["blockers"][0]["id"]) == (True, "blocked", "snapshots")


def test_no_secret_in_any_output(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    assert "topsecret" not in json.dumps(run(**ARGUMENTS))


def test_aborting(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    api.domain.job = {"type": 2, "operation": 5}
    assert run(name="web1", state="aborted", check_mode=True)["changed"] is True
    assert run(name="web1", state="aborted")["changed"] is True
    assert run(name="web1", state="aborted")["changed"] is False


@pytest.mark.parametrize("arguments", [{}, {"name": "web1"}, {"name": "web1", "uuid": "x", "destination_uri": "y"}])
def test_arguments_that_do_not_go_together(api: FakeLibvirt, run: t.Callable[..., Answer], arguments: Answer) -> None:
    assert run(**arguments)["failed"] is True


def test_in_the_foreground_there_is_no_lease(api: FakeLibvirt, run: t.Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    leases: list[float] = []
    original = _leased_job.Lease

    def remember(path: t.Any, lease_s: float, clock: t.Any) -> _leased_job.Lease:
        leases.append(lease_s)
        return original(path, lease_s, clock)

    monkeypatch.setattr("ansible_collections.lunshift.migration.plugins.module_utils._migration.migrate.Lease", remember)
    run(**ARGUMENTS, lease_s=5)
    assert leases == [0]


class TestInTheBackground:
    """The module forks, so its work is done by another process; what it says comes by way of the file."""

    def test_what_ends_soon_is_answered_at_once(self, api: FakeLibvirt, run: t.Callable[..., Answer], tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        answer = run(**ARGUMENTS, _ticket="abc1")
        assert (answer["finished"], answer["changed"]) == (True, False)
        assert answer["result"]["changed"] is True
        assert answer["result"]["outcome"] == "moved"
        # In memory this process' own libvirt was not touched: it was the other one.
        assert api.domain.calls == []
        assert list((tmp_path / "run" / "results").iterdir()) == []

    def test_what_takes_longer_is_followed(
        self, api: FakeLibvirt, run: t.Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_background, "START_WAIT_S", 1.5)
        (tmp_path / "run").mkdir()
        api.domain.release.clear()
        answer = run(**ARGUMENTS, _ticket="abc1", lease_s=2, on_controller_loss="abort")
        assert (answer["finished"], answer["running"], answer["progress"]["percent"]) == (False, True, 60)
        time.sleep(0.5)
        # Nobody renews, so the lease lapses.
        answer = run(job_lease, operation_id="web1", ticket="abc1", renew=False, wait_s=20)
        assert answer["finished"] is True
        assert (answer["result"]["failed"], answer["result"]["error_id"]) == (True, "lease_lapsed")

    def test_a_defect_is_told_too(
        self, api: FakeLibvirt, run: t.Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "run").mkdir()
        monkeypatch.setattr(domain_migrate.Migration, "migrate", lambda *arguments: 1 // 0)
        answer = run(**ARGUMENTS, _ticket="abc1")
        assert (answer["result"]["failed"], answer["result"]["error_id"]) == (True, "defect")

    def test_a_left_over_result_of_the_same_operation_is_removed(
        self, api: FakeLibvirt, run: t.Callable[..., Answer], tmp_path: Path
    ) -> None:
        results = tmp_path / "run" / "results"
        results.mkdir(parents=True)
        (results / "web1.old").write_text("{}")
        (results / "web2.old").write_text("{}")
        run(**ARGUMENTS, _ticket="abc1")
        assert [path.name for path in results.iterdir()] == ["web2.old"]

    def test_the_job_is_in_a_session_of_its_own(
        self, api: FakeLibvirt, run: t.Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "run").mkdir()
        monkeypatch.setattr(domain_migrate.Migration, "migrate", lambda *arguments: {"sid": os.getsid(0), "pid": os.getpid()})
        result = run(**ARGUMENTS, _ticket="abc1")["result"]
        assert result["sid"] == result["pid"] != os.getpid()
