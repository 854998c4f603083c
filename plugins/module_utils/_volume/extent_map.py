# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""Where a volume is zero, asked for once and kept: each pass needs it, and some storage takes long to answer.

Memory is bounded, whatever the volume: of too many ranges the short ones are dropped. What is not known to be zero is read, so that
nothing is lost by it but time.
"""

from __future__ import annotations

import typing as t
from array import array

from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import UNKNOWN, ZERO, Extent
from ansible_collections.lunshift.migration.plugins.module_utils._volume.pieces import GRANULE_BYTES, coarse

# 16 bytes each.
_MOST_RANGES = 1 << 20


class ExtentMap:
    """The first ``size_bytes`` of a volume; all borders are at whole granules, as C(coarse()) makes them."""

    def __init__(self, extents: t.Iterable[Extent], size_bytes: int, most_ranges: int = _MOST_RANGES) -> None:
        self._size_bytes = size_bytes
        self._starts = array("Q")
        self._ends = array("Q")
        least_bytes = GRANULE_BYTES
        for extent in coarse(extents, size_bytes):
            if extent.kind != ZERO:
                continue
            if self._ends and self._ends[-1] == extent.offset:
                self._ends[-1] = extent.end
                continue
            # Only now the last one is known to grow no more.
            if self._ends and self._ends[-1] - self._starts[-1] < least_bytes:
                self._starts.pop()
                self._ends.pop()
            self._starts.append(extent.offset)
            self._ends.append(extent.end)
            while len(self._starts) > most_ranges:
                least_bytes *= 2
                self._drop_below(least_bytes)

    @property
    def zero_bytes(self) -> int:
        return sum(self._ends) - sum(self._starts)

    @property
    def data_bytes(self) -> int:
        """What may be anything but zero."""
        return self._size_bytes - self.zero_bytes

    def extents(self, start: int = 0) -> t.Iterator[Extent]:
        """All of it from ``start`` on, in order."""
        position = start
        for begin, end in zip(self._starts, self._ends):
            if end <= position:
                continue
            if begin > position:
                yield Extent(position, begin - position, UNKNOWN)
                position = begin
            yield Extent(position, end - position, ZERO)
            position = end
        if position < self._size_bytes:
            yield Extent(position, self._size_bytes - position, UNKNOWN)

    def _drop_below(self, least_bytes: int) -> None:
        last = len(self._starts) - 1
        # The last one may still grow.
        kept = [index for index in range(last + 1) if index == last or self._ends[index] - self._starts[index] >= least_bytes]
        self._starts = array("Q", (self._starts[index] for index in kept))
        self._ends = array("Q", (self._ends[index] for index in kept))


__all__ = ("ExtentMap",)
