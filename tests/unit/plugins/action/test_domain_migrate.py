# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import time
import types
import typing as t

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.lunshift.migration.plugins.action.domain_migrate import ActionModule, describe_progress, describe_result
from ansible_collections.lunshift.migration.plugins.plugin_utils import _leased_job
from ansible_collections.lunshift.migration.plugins.plugin_utils._alarm import limit
from ansible_collections.lunshift.migration.plugins.plugin_utils._leased_job import LeasedJob, ProgressLines

Answer = dict[str, t.Any]
MIB = 1 << 20


def progress(percent: int = 42, **changes: t.Any) -> Answer:
    return {
        "phase": "migrating",
        "elapsed_s": 3.5,
        "percent": percent,
        "total_bytes": 94 * MIB,
        "remaining_bytes": int(12.3 * MIB),
        "iteration": 3,
        "bandwidth_bytes_per_s": 31 * MIB,
        "dirty_bytes_per_s": 4 * MIB,
        "seconds_left": 3.2,
        **changes,
    }


def test_a_line_says_what_stands_against_the_end() -> None:
    line = describe_progress(
        progress(lowest_remaining_bytes=2 * MIB, throttle_percent=30, expected_downtime_ms=900, downtime_limit_ms=190, converges=False)
    )
    assert line == (
        "42 % | 12.3 of 94 MiB remaining (lowest 2.0) | iteration 3 | 31 MiB/s | dirty 4 MiB/s | guest slowed by 30 %"
        " | downtime 900 ms expected, 190 ms allowed | does not converge"
    )
    assert describe_progress(progress(lowest_remaining_bytes=int(12.3 * MIB), converges=True)).endswith("dirty 4 MiB/s | ~3 s left")


def running(percent: int = 42, **changes: t.Any) -> Answer:
    return {"changed": False, "running": True, "finished": False, "progress": progress(percent), "result": {}, **changes}


def finished(**result: t.Any) -> Answer:
    return {"changed": False, "running": False, "finished": True, "progress": {}, "result": {"changed": True, **result}}


GONE = {"changed": False, "running": False, "finished": False, "progress": {}, "result": {}}


HUNG: Answer = {"hung": True}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Host:
    """The action plugin's way to the host: answers with what the test lists, each a second later."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.executed: list[tuple[str | None, Answer]] = []
        self.clock = Clock()
        self.lines: list[str] = []
        self.resets = 0
        self._connection = types.SimpleNamespace(reset=self.reset)

    def reset(self) -> None:
        self.resets += 1

    def _execute_module(self, module_name: str | None, module_args: Answer, task_vars: Answer, **options: t.Any) -> Answer:
        self.clock.now += 1
        self.executed.append((module_name, {**module_args, **options}))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if answer is HUNG:
            time.sleep(20)
        return answer

    def run(self, lease_s: float = 20, parent: t.Callable[[], int] = os.getppid) -> Answer:
        lines = ProgressLines("hosta", lambda seen: f"{seen['percent']} %", self.lines.append, self.clock)
        job = LeasedJob(t.cast(t.Any, self), {}, "web1", lease_s, lines, clock=self.clock, sleep=self.clock.sleep, parent=parent)
        return job.run({"name": "web1"})


def test_a_job_is_started_followed_and_read() -> None:
    host = Host(running(10), running(50), finished(outcome="moved"))
    assert host.run() == {"changed": True, "outcome": "moved"}
    assert [name for name, _arguments in host.executed] == [None, _leased_job.POLL, _leased_job.POLL]
    started, polled = host.executed[0][1], host.executed[1][1]
    assert started["_ticket"] == polled["ticket"]
    assert polled["operation_id"] == "web1"
    assert host.lines == ["[hosta] 10 %", "[hosta] 50 %"]


def test_a_host_that_loses_its_power_while_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_leased_job, "ANSWER_LIMIT_S", 0.02)
    host = Host(running(10), HUNG, HUNG, finished(outcome="moved"))
    assert host.run() == {"changed": True, "outcome": "moved"}
    assert host.resets == 2
    host = Host(running(10), HUNG)
    answer = host.run()
    assert answer["error_id"] == "controller_lost_host"
    assert "no answer within 0.02 s" in answer["msg"]


def test_the_limit_of_the_task_itself_still_holds() -> None:
    def ring(_number: int, _frame: t.Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with limit(10, AnsibleConnectionFailure("too long")):
            pass
        with pytest.raises(TimeoutError):
            time.sleep(20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_worker_whose_controller_was_killed_renews_no_lease() -> None:
    parents = iter([100, 100, 1])
    host = Host(running(10), running(50), running(60))
    assert "was killed" in host.run(parent=lambda: next(parents))["msg"]
    assert len(host.executed) == 2


def test_a_short_job_takes_one_trip() -> None:
    host = Host(finished())
    assert host.run() == {"changed": True}
    assert len(host.executed) == 1


def test_what_did_not_start_is_the_result() -> None:
    host = Host({"failed": True, "msg": "Unsupported parameters"})
    assert host.run() == {"failed": True, "msg": "Unsupported parameters"}


def test_a_host_that_is_unreachable_at_the_start_is_ansibles_business() -> None:
    with pytest.raises(AnsibleConnectionFailure, match="no route"):
        Host(AnsibleConnectionFailure("no route")).run()
    # It answers again, and knows of no job.
    with pytest.raises(AnsibleConnectionFailure, match="no route"):
        Host(AnsibleConnectionFailure("no route"), GONE).run()


@pytest.mark.parametrize("later", [[finished()], [running(), finished()]])
def test_a_connection_lost_while_the_job_began(later: list[Answer]) -> None:
    assert Host(AnsibleConnectionFailure("reset"), *later).run() == {"changed": True}


def test_a_connection_that_comes_back_is_no_failure() -> None:
    host = Host(running(), AnsibleConnectionFailure("gone"), {"failed": True, "msg": "no python"}, running(60), finished())
    assert host.run() == {"changed": True}


def test_a_host_that_stays_away_is_given_up_with_its_lease() -> None:
    host = Host(running(), AnsibleConnectionFailure("no route to host"))
    result = host.run(lease_s=20)
    assert (result["failed"], result["error_id"]) == (True, "controller_lost_host")
    assert "no route to host" in result["msg"]
    assert result["msg"].endswith("run the same task again")
    assert 20 < host.clock.now < 30


def test_a_job_that_disappears_without_a_result() -> None:
    result = Host(running(), GONE).run()
    assert (result["failed"], result["error_id"]) == (True, "job_lost")


def test_lines_are_throttled_and_never_go_back() -> None:
    clock, shown = Clock(), []
    lines = ProgressLines("hosta", lambda seen: f"{seen['phase']} {seen['percent']} %", shown.append, clock)
    lines.update({})
    for second, percent, phase in [(0, 5, "a"), (1, 8, "a"), (2, 16, "a"), (3, 12, "a"), (8, 14, "a"), (9, 14, "b"), (20, 14, "b")]:
        clock.now = second
        lines.update({"percent": percent, "phase": phase})
    assert shown == ["[hosta] a 5 %", "[hosta] a 16 %", "[hosta] b 16 %"]


def test_the_line_for_people() -> None:
    assert describe_progress(progress()) == "42 % | 12.3 of 94 MiB remaining | iteration 3 | 31 MiB/s | dirty 4 MiB/s | ~3 s left"
    assert describe_progress(progress(phase="aborting", seconds_left=None)).startswith("aborting | 42 %")
    assert "left" not in describe_progress(progress(seconds_left=None))
    assert describe_progress({"phase": "starting", "total_bytes": 0}) == "starting"


def test_the_line_at_the_end() -> None:
    statistics = {"downtime_ms": 62, "data_processed_bytes": 94 * MIB, "iterations": 3}
    assert describe_result({"seconds": 1.2, "statistics": statistics}) == "moved in 1.2 s | downtime 62 ms | 94.0 MiB sent | 3 iterations"
    assert describe_result({"seconds": 1.2, "statistics": dict.fromkeys(statistics)}) == "moved in 1.2 s"
    assert describe_result({"failed": True, "statistics": statistics}) is None
    assert describe_result({"changed": False}) is None


class FakeAction(ActionModule):
    """The action plugin without Ansible's machinery around it."""

    answer: t.ClassVar[Answer] = {"seconds": 1.0, "statistics": {"downtime_ms": 5}}

    def __init__(self, arguments: Answer, **task: t.Any) -> None:
        self._task = types.SimpleNamespace(
            **{"args": arguments, "async_val": 0, "check_mode": False, "delegate_to": None, "no_log": False, **task}
        )
        self._connection = types.SimpleNamespace(has_native_async=False, _shell=types.SimpleNamespace(tmpdir="x"))
        self.executed: list[Answer] = []

    def _execute_module(self, **options: t.Any) -> Answer:
        self.executed.append(options)
        return finished(**self.answer) if "_ticket" in options["module_args"] else {"changed": True}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(_leased_job, "Display", lambda: types.SimpleNamespace(display=lines.append))
    return lines


@pytest.mark.parametrize(
    ("arguments", "task", "wrapped"),
    [
        ({"name": "web1"}, {"check_mode": True}, False),
        ({"name": "web1"}, {"async_val": 60}, True),
        ({"name": "web1", "state": "aborted"}, {}, False),
        ({}, {}, False),
    ],
)
def test_without_progress(shown: list[str], arguments: Answer, task: Answer, wrapped: bool) -> None:
    action = FakeAction(arguments, **task)
    assert action.run(task_vars={"inventory_hostname": "hosta"}) == {"changed": True}
    assert [options["wrap_async"] for options in action.executed] == [wrapped]
    assert shown == []


def test_a_task_that_must_not_be_logged_shows_nothing(shown: list[str]) -> None:
    assert FakeAction({"name": "web1"}, no_log=True).run(task_vars={"inventory_hostname": "hosta"})["changed"] is True
    assert shown == []


@pytest.mark.parametrize(("delegate_to", "prefix"), [(None, "hosta"), ("hostx", "hostx")])
def test_with_progress(shown: list[str], delegate_to: str | None, prefix: str) -> None:
    action = FakeAction({"name": "web1", "lease_s": "30"}, delegate_to=delegate_to)
    result = action.run(task_vars={"inventory_hostname": "hosta"})
    assert result["changed"] is True
    assert "finished" not in result
    assert shown == [f"[{prefix}] web1: moved in 1.0 s | downtime 5 ms"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ["[hosta] web1: post-copy was started", "[hosta] web1: moved in 1.0 s | downtime 5 ms"]),
        ({"statistics": None}, ["[hosta] web1: post-copy was started"]),
        ({"failed": True}, []),
    ],
)
def test_what_was_done_about_a_migration_is_told(shown: list[str], more: Answer, expected: list[str]) -> None:
    action = FakeAction({"name": "web1"})
    action.answer = {**FakeAction.answer, "steps": ["post-copy was started"], **more}  # type: ignore[misc]
    action.run(task_vars={"inventory_hostname": "hosta"})
    assert shown == expected
