# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
import threading
import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils import _leased_job
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import JobDirectory, Lease, is_running, job_path, watch

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_leased_job, "JOBS", tmp_path / "lunshift" / "jobs")
    monkeypatch.setattr(_leased_job, "RESULTS", tmp_path / "lunshift" / "results")
    monkeypatch.setattr(_leased_job, "LOCK_PATIENCE_S", 0.1)
    return tmp_path / "lunshift"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_counts_from_its_last_renewal(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "lease"
    path.touch()
    lease = Lease(path, 10, clock)
    assert not lease.lapsed()
    clock.now = 9
    os.utime(path, ns=(1, 2))
    assert not lease.lapsed()
    clock.now = 18.9
    assert not lease.lapsed()
    clock.now = 19.1
    assert lease.lapsed()
    os.utime(path, ns=(1, 3))
    assert not lease.lapsed()


def test_a_lease_can_get_another_length(tmp_path: Path) -> None:
    clock = Clock()
    lease = Lease(tmp_path / "lease", 10, clock)
    assert not lease.lapsed()
    clock.now = 15
    lease.change(20)
    assert not lease.lapsed()
    lease.change(14)
    assert lease.lapsed()
    lease.change(0)
    assert not lease.lapsed()


def test_controls_reach_the_running_job_only() -> None:
    assert not _leased_job.write_controls("web1", {"bandwidth_mib": 1})
    with JobDirectory("web1") as directory:
        assert directory.read_controls() is None
        assert _leased_job.write_controls("web1", {"bandwidth_mib": 2})
        assert directory.read_controls() == {"bandwidth_mib": 2}
    assert not _leased_job.write_controls("web1", {"bandwidth_mib": 1})


def test_controls_of_a_killed_job_are_not_the_next_ones() -> None:
    left = job_path("web1")
    left.mkdir(parents=True)
    (left / "controls.json").write_text('{"bandwidth_mib": 1}')
    assert not _leased_job.write_controls("web1", {"bandwidth_mib": 3})
    with JobDirectory("web1") as directory:
        assert directory.read_controls() is None


def test_a_lease_does_not_mind_the_wall_clock(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "lease"
    path.touch()
    lease = Lease(path, 10, clock)
    lease.lapsed()
    # Somebody set the host's clock: the file's time lies far away, in both directions.
    for moment in (0, 4102444800):
        os.utime(path, (moment, moment))
        assert not lease.lapsed()
    clock.now = 10.5
    assert lease.lapsed()


def test_a_lease_of_zero_never_lapses(tmp_path: Path) -> None:
    clock = Clock()
    lease = Lease(tmp_path / "absent", 0, clock)
    clock.now = 1e9
    assert not lease.lapsed()


def test_the_directory_exists_as_long_as_the_job(run_directory: Path) -> None:
    with JobDirectory("web1") as directory:
        assert is_running("web1")
        assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
        assert stat.S_IMODE(run_directory.stat().st_mode) == 0o700
        directory.write_progress({"percent": 3})
        assert watch("web1", None, renew_lease=True, wait_s=0) == {
            "running": True,
            "finished": False,
            "progress": {"percent": 3},
            "result": {},
        }
    assert not directory.path.exists()
    assert watch("web1", None, renew_lease=True, wait_s=0) == {"running": False, "finished": False, "progress": {}, "result": {}}


def test_a_second_job_for_the_same_operation_is_refused() -> None:
    with JobDirectory("web1"), pytest.raises(MigrationError, match="running already") as caught, JobDirectory("web1"):
        pass
    assert caught.value.error_id == "job_running"
    assert caught.value.details == {"operation_id": "web1"}


def test_who_only_looks_does_not_keep_a_job_from_starting() -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_running("web1")

    threading.Thread(target=look).start()
    try:
        for _attempt in range(50):
            with JobDirectory("web1"):
                pass
    finally:
        stop.set()


@pytest.mark.parametrize("operation_id", ["..", "a/b", "a b", ".", "web:1", "ü"])
def test_any_name_is_one_directory_of_its_own(operation_id: str) -> None:
    assert job_path(operation_id).parent == _leased_job.JOBS
    assert job_path(operation_id).name not in (".", "..", "")


@pytest.mark.parametrize("operation_id", ["", "x" * 201])
def test_what_cannot_be_a_name_is_refused(operation_id: str) -> None:
    with pytest.raises(MigrationError) as caught:
        job_path(operation_id)
    assert caught.value.error_id == "invalid_input"


@pytest.mark.parametrize("ticket", ["", "../x", "a.b"])
def test_a_ticket_leads_nowhere_else(ticket: str) -> None:
    with pytest.raises(MigrationError):
        _leased_job.result_path("web1", ticket)


def test_a_result_is_read_once_and_ends_the_waiting(run_directory: Path) -> None:
    path = _leased_job.result_path("web1", "abc1")
    path.parent.mkdir(parents=True)
    threading.Timer(0.2, lambda: path.write_text('{"changed": true}')).start()
    seen = watch("web1", "abc1", renew_lease=True, wait_s=30)
    assert seen["finished"] is True
    assert seen["result"] == {"changed": True}
    assert not path.exists()
    assert watch("web1", "abc1", renew_lease=True, wait_s=0)["finished"] is False


def test_without_a_ticket_the_jobs_end_ends_the_waiting() -> None:
    assert watch("web1", None, renew_lease=False, wait_s=30)["running"] is False


def test_renewing_touches_the_lease_and_looking_does_not() -> None:
    with JobDirectory("web1") as directory:
        os.utime(directory.lease_path, (1, 1))
        watch("web1", None, renew_lease=False, wait_s=0)
        assert directory.lease_path.stat().st_mtime == 1
        watch("web1", None, renew_lease=True, wait_s=0)
        assert directory.lease_path.stat().st_mtime > 1
    assert _leased_job.renew("web1") is False


def test_a_user_who_may_not_write_is_told_to_become_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: t.Any, **_options: t.Any) -> t.NoReturn:
        raise PermissionError(13, "Permission denied", "/run/lunshift-migration")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with (
        pytest.raises(MigrationError, match=r"may not write to /run/lunshift-migration; run the task as root") as caught,
        JobDirectory("web1"),
    ):
        pass
    assert caught.value.error_id == "not_permitted"
