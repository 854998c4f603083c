# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""Many threads on one list of work, until it is done or one of them fails."""

from __future__ import annotations

import threading
import typing as t

T = t.TypeVar("T")

# How often the caller is asked while the threads work.
_LOOK_EVERY_S = 0.25


class Stopped(Exception):
    """Raised inside of a worker that has to give up, because another one failed or the caller wants an end."""


class Crew:
    """``count`` threads. Whoever waits in a worker looks at ``stopping``."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.stopping = threading.Event()
        self._errors: list[BaseException] = []
        self._taking = threading.Lock()

    def run(self, works: t.Iterable[T], do: t.Callable[[T], None], look: t.Callable[[], None]) -> None:
        """Do all works, several at once. The first error ends all and is raised, when every thread has come to its end.

        ``look`` is called by this thread all the time; what it raises ends the work too.
        """
        source = iter(works)
        threads = [threading.Thread(target=self._work, args=(source, do), name=f"volume-{number}") for number in range(self._count)]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads):
                # Waiting for one of them: the last one may need much longer than the others.
                next((thread for thread in threads if thread.is_alive()), threads[0]).join(_LOOK_EVERY_S)
                look()
        except BaseException as exc:  # noqa: BLE001 (raised below, after the threads' own)
            self._fail(exc)
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _work(self, source: t.Iterator[T], do: t.Callable[[T], None]) -> None:
        try:
            for work in self._take(source):
                do(work)
        except Stopped:
            pass
        except BaseException as exc:  # noqa: BLE001 (it is raised by the thread that waits)
            self._fail(exc)

    def _take(self, source: t.Iterator[T]) -> t.Iterator[T]:
        """One after the other; a generator may not be asked by two threads at once."""
        end = object()
        while not self.stopping.is_set():
            with self._taking:
                work = next(source, t.cast(T, end))
            if work is end:
                return
            yield work

    def _fail(self, error: BaseException) -> None:
        self._errors.append(error)
        self.stopping.set()


__all__ = ("Crew", "Stopped")
