# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""How much was done of a copy; several threads count."""

from __future__ import annotations

import threading
import typing as t
from dataclasses import asdict, dataclass


@dataclass
class Counts:
    """Bytes. Everything of the source is read or skipped; everything of the target is written, zeroed, unchanged or skipped.

    ``read_bytes``: read from the source. ``target_read_bytes``: read from the target, for a comparison. ``written_bytes``: data
    given to the target. ``zeroed_bytes``: ranges that the target was told to make zero. ``unchanged_bytes``: found to be right on the
    target already. ``skipped_bytes``: zero on both sides, or done by an earlier run. ``verified_bytes``: read again and found right.
    """

    read_bytes: int = 0
    target_read_bytes: int = 0
    written_bytes: int = 0
    zeroed_bytes: int = 0
    unchanged_bytes: int = 0
    skipped_bytes: int = 0
    verified_bytes: int = 0
    repaired_bytes: int = 0


class Tally:
    """Counts, and how far all passes together are: ``done_bytes`` of the bytes that have to be looked at."""

    def __init__(self) -> None:
        self._counts = Counts()
        self._done_bytes = 0
        self._lock = threading.Lock()

    def add(self, **more: int) -> None:
        with self._lock:
            for name, value in more.items():
                setattr(self._counts, name, getattr(self._counts, name) + value)

    def advance(self, done_bytes: int) -> None:
        with self._lock:
            self._done_bytes += done_bytes

    @property
    def done_bytes(self) -> int:
        return self._done_bytes

    def counts(self) -> dict[str, t.Any]:
        with self._lock:
            return asdict(self._counts)


__all__ = ("Counts", "Tally")
