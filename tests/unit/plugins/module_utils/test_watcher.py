# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watcher's decision in this process, and its life beside a job that is killed in real processes."""

from __future__ import annotations

import os
import signal
import stat
import time
import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection, open_connection
from ansible_collections.lunshift.migration.plugins.module_utils._migration import switchover, watcher
from ansible_collections.lunshift.migration.plugins.module_utils._migration.switchover import Note, read_note, write_note
from ansible_collections.lunshift.migration.plugins.module_utils._migration.watcher import Watcher, watch
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import DESTINATION, SOURCE, FakeDomain, FakeLibvirt

if t.TYPE_CHECKING:
    from pathlib import Path

UUID = "11111111-2222-4333-8444-555555555555"
PENDING = Note(uuid=UUID, name="web1", mode="guarded", resume=True, autostart=False, destination_uri=DESTINATION)


class World:
    """Two hosts, and a clock that only sleeping moves on; what happens in between is a list of steps."""

    def __init__(self) -> None:
        self.api = FakeLibvirt()
        self.now = 0.0
        self.steps: list[t.Callable[[], None]] = []

    def open(self, uri: str, timeout_s: float, *, watch: bool = False) -> Connection:
        return open_connection(uri, min(timeout_s, 1), watch=watch, api=self.api)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.steps:
            self.steps.pop(0)()

    def watch(self) -> bool:
        return watch(UUID, SOURCE, self.open, clock=lambda: self.now, sleep=self.sleep)

    def arrive(self, state: list[int]) -> FakeDomain:
        arrived = FakeDomain(self.api)
        arrived.current_state = state
        self.api.hosts[SOURCE].domains = []
        self.api.hosts[DESTINATION].domains = [arrived]
        return arrived


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(switchover, "NOTES", tmp_path / "lib" / "switchovers")
    monkeypatch.setattr(switchover, "RESUME_PATIENCE_S", 0.05)
    monkeypatch.setattr(switchover, "RETRY_S", 0.01)
    return World()


def test_nothing_pending_is_nothing_to_do(world: World) -> None:
    arrived = world.arrive([3, 1])
    assert world.watch() is False
    for note in (
        Note(UUID, "web1", "direct", True, False, DESTINATION),
        Note(UUID, "web1", "guarded", False, False, DESTINATION),
    ):
        write_note(note)
        assert world.watch() is False
    assert (arrived.calls, world.now) == ([], 0)


def test_it_waits_for_the_end_of_libvirts_job(world: World) -> None:
    write_note(PENDING)
    world.api.domain.job = {"type": 2, "operation": 5}
    later: list[FakeDomain] = []
    world.steps = [*[lambda: None] * 2000, lambda: later.append(world.arrive([3, 1]))]
    assert world.watch() is True
    assert later[0].calls == [("resume",)]
    left = read_note(UUID)
    assert left is not None
    assert not left.waits
    assert stat.S_IMODE((switchover.NOTES / f"{UUID}.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(switchover.NOTES.stat().st_mode) == 0o700


def test_a_domain_that_stayed_is_left_alone(world: World) -> None:
    write_note(PENDING)
    assert world.watch() is False
    assert world.api.domain.calls == []
    assert world.now < 10


def test_a_source_that_does_not_answer_proves_nothing(world: World) -> None:
    write_note(PENDING)
    arrived = world.arrive([3, 1])
    world.api.unreachable = {SOURCE}
    assert world.watch() is False
    assert arrived.calls == []
    assert watcher.PATIENCE_S <= world.now < watcher.PATIENCE_S + 10


def test_a_destination_that_comes_back_is_resumed(world: World) -> None:
    write_note(PENDING)
    arrived = world.arrive([3, 1])
    world.api.unreachable = {DESTINATION}
    world.steps = [lambda: None, world.api.unreachable.clear]
    assert world.watch() is True
    assert arrived.calls == [("resume",)]


@pytest.mark.parametrize("state", [[3, 5], [3, 2], [5, 1]])
def test_what_the_switchover_did_not_leave_is_not_resumed(world: World, state: list[int]) -> None:
    write_note(PENDING)
    arrived = world.arrive(state)
    assert world.watch() is False
    assert arrived.calls == []


def _job(world: World, marker: Path) -> t.NoReturn:
    """A job that is killed in the middle: libvirt finishes without it."""

    def opener(uri: str, timeout_s: float, **_options: t.Any) -> Connection:
        connection = open_connection(uri, timeout_s, api=world.api)
        marker.write_text(f"{os.getpid()} {os.getsid(0)}")
        return connection

    os.setsid()
    guard = Watcher(SOURCE, opener)
    write_note(PENDING)
    guard.arm(UUID)
    os.kill(os.getpid(), signal.SIGKILL)
    os._exit(1)


def test_a_killed_job_is_finished_by_another_process(world: World, tmp_path: Path) -> None:
    # Memory is not shared, so what the other process did is seen in the note that it wrote. The fake libvirt has to look as it will be.
    world.arrive([3, 1])
    marker = tmp_path / "watcher"
    child = os.fork()
    if not child:
        _job(world, marker)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while not ((note := read_note(UUID)) and not note.waits):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid, session = map(int, marker.read_text().split())
    assert pid != child
    assert session not in (child, os.getsid(0))
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, "the watcher did not end"
        time.sleep(0.02)
