# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""A limit for bytes per second that several threads share, and that may be changed at any time."""

from __future__ import annotations

import threading
import time
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._volume.crew import Stopped

# So much may be used at once after a pause; a longer credit would be a burst.
_CREDIT_S = 0.5
# How long a wait lasts before the limit and the end are looked at again.
_PAUSE_S = 0.2


class Limiter:
    """0 is no limit."""

    def __init__(self, bytes_per_s: int, stopping: threading.Event, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._rate = bytes_per_s
        self._stopping = stopping
        self._clock = clock
        # The moment at which all that was let through is paid for.
        self._paid_until = clock()
        self._lock = threading.Lock()

    @property
    def bytes_per_s(self) -> int:
        return self._rate

    def change(self, bytes_per_s: int) -> None:
        with self._lock:
            if bytes_per_s != self._rate:
                self._rate = bytes_per_s
                self._paid_until = self._clock()

    def take(self, count: int) -> None:
        """Return when so many bytes may pass. A change of the limit counts for what is waiting, too."""
        while True:
            with self._lock:
                now = self._clock()
                if not self._rate:
                    return
                if self._paid_until <= now:
                    self._paid_until = max(self._paid_until, now - _CREDIT_S) + count / self._rate
                    return
                wait_s = min(self._paid_until - now, _PAUSE_S)
            if self._stopping.wait(wait_s):
                raise Stopped


__all__ = ("Limiter",)
