# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import threading
import time

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._volume.crew import Crew
from ansible_collections.lunshift.migration.plugins.module_utils._volume.limiter import Limiter


def test_all_work_is_done_once_by_several_threads_at_a_time() -> None:
    together = threading.Barrier(4, timeout=10)
    done: list[int] = []

    def do(number: int) -> None:
        together.wait()
        done.append(number)

    Crew(4).run(range(40), do, lambda: None)
    assert sorted(done) == list(range(40))


def test_the_first_error_ends_all_and_is_raised() -> None:
    crew = Crew(3)
    seen: list[int] = []

    def do(number: int) -> None:
        seen.append(number)
        if number == 5:
            raise OSError("fifth")
        assert not crew.stopping.wait(0.01) or number <= 8

    with pytest.raises(OSError, match="fifth"):
        crew.run(itertools.count(), do, lambda: None)
    assert len(seen) < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("volume-")]


def test_what_looking_raises_ends_the_work() -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Crew(2).run(itertools.count(), lambda _number: time.sleep(0.001), look)


def test_an_error_of_the_list_itself_is_raised() -> None:
    def works():  # type: ignore[no-untyped-def]
        yield 1
        raise OSError("extents")

    with pytest.raises(OSError, match="extents"):
        Crew(2).run(works(), lambda _number: None, lambda: None)


def test_the_limit_lets_through_what_it_says_and_follows_a_change() -> None:
    now = 0.0
    waits: list[float] = []

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            nonlocal now
            waits.append(timeout or 0)
            now += timeout or 0
            return False

    limiter = Limiter(1000, Event(), clock=lambda: now)
    for _index in range(11):
        limiter.take(1000)
    assert 9.0 <= now <= 10.1
    limiter.change(0)
    before = now
    for _index in range(100):
        limiter.take(10**9)
    assert now == before


def test_a_wait_ends_with_the_crew() -> None:
    crew = Crew(2)
    limiter = Limiter(1, crew.stopping)

    def do(number: int) -> None:
        if number == 3:
            time.sleep(0.05)
            raise OSError("end")
        limiter.take(10**9)

    started = time.monotonic()
    with pytest.raises(OSError, match="end"):
        crew.run([1, 3, 2, 2, 2], do, lambda: None)
    assert time.monotonic() - started < 5
