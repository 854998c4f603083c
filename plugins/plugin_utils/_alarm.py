# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""A limit for what blocks in Ansible's own code, in the way of Ansible's own task timeout."""

from __future__ import annotations

import signal
import time
import types
import typing as t
from contextlib import contextmanager


@contextmanager
def limit(seconds: float, problem: Exception) -> t.Iterator[None]:
    """Raise C(problem) in what takes longer. For a worker's main thread."""

    def ring(_number: int, _frame: types.FrameType | None) -> None:
        raise problem

    began = time.monotonic()
    # Again and again: a connection plugin may try once more by itself.
    left_s, _interval_s = signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left_s:  # The task has a limit of its own.
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left_s - (time.monotonic() - began)))


__all__ = ("limit",)
