# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Calls that may hang, in a few threads and for a bounded time."""

from __future__ import annotations

import queue
import threading
import time
import typing as t

THREADS = 8

_Item = t.TypeVar("_Item")
_Result = t.TypeVar("_Result")


def run_bounded(
    items: t.Sequence[_Item], function: t.Callable[[_Item], _Result], *, deadline: float, late: _Result
) -> dict[_Item, _Result]:
    """Call ``function`` for every item; ``late`` stands for what is not there at the ``deadline`` (monotonic time).

    The threads are daemons, so one that hangs in a library does not keep the module from ending.
    """
    todo: queue.SimpleQueue[_Item] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[_Item, t.Callable[[], _Result]]] = queue.SimpleQueue()
    for item in items:
        todo.put(item)
    for _number in range(min(THREADS, len(items))):
        threading.Thread(target=_work, args=(todo, done, function), daemon=True).start()
    results = dict.fromkeys(items, late)
    for _item in items:
        try:
            item, result = done.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        results[item] = result()
    return results


def _work(
    todo: queue.SimpleQueue[_Item],
    done: queue.SimpleQueue[tuple[_Item, t.Callable[[], _Result]]],
    function: t.Callable[[_Item], _Result],
) -> None:
    while True:
        try:
            item = todo.get_nowait()
        except queue.Empty:
            return
        try:
            done.put((item, _returner(function(item))))
        except BaseException as exc:  # noqa: BLE001  (the thread that waits raises it again)
            done.put((item, _raiser(exc)))


def _returner(result: _Result) -> t.Callable[[], _Result]:
    return lambda: result


def _raiser(error: BaseException) -> t.Callable[[], t.NoReturn]:
    """An error of a thread is raised again by the thread that waits."""

    def fail() -> t.NoReturn:
        raise error

    return fail


__all__ = ("THREADS", "run_bounded")
