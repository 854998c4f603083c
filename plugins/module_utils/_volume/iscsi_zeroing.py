# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Zeros onto a logical unit: without space where it can give space back, and really zeros in any case.

UNMAP alone is a hint that a target may ignore. WRITE SAME of a block of zeros with the UNMAP bit is not: what cannot be unmapped is
written. A unit that refuses it gets WRITE SAME without the bit, or zeros as data; what those wrote is then named to UNMAP.
"""

from __future__ import annotations

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import block_commands
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.libiscsi import CommandError, Session
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import address_of, aligned_buffer
from ansible_collections.lunshift.migration.plugins.module_utils._volume.iscsi_lun import Lun

# How far one command goes, so that it ends in time (and tgt counts bytes in 32 bits). What is not written goes fast.
_LONGEST_UNMAP_BYTES = 1 << 30
_LONGEST_WRITE_BYTES = 32 << 20


class Zeroing:
    """How one unit is zeroed; it learns what the unit refuses. May be used by several threads at once."""

    def __init__(self, lun: Lun, data_bytes: int) -> None:
        self._lun = lun
        self._block_of_zeros = bytes(lun.block_bytes)
        self._data = aligned_buffer(data_bytes)
        self._takes_write_same = True
        limits, provisioning = lun.limits, lun.provisioning
        most = _LONGEST_WRITE_BYTES // lun.block_bytes
        self._most_by_write_same = min(limits.write_same or most, most)
        most = _LONGEST_UNMAP_BYTES // lun.block_bytes
        self._most_by_unmap = min(limits.unmap, most)
        self._most_by_unmapping_write = min(limits.write_same or limits.unmap or self._most_by_write_same, most)
        self._unmaps_by_write = lun.reads_zeros and provisioning.by_write_same
        self._unmaps_by_hint = lun.reads_zeros and provisioning.by_unmap and limits.unmap > 0

    @property
    def can_unmap(self) -> bool:
        return self._unmaps_by_write or self._unmaps_by_hint

    def pieces(self, offset: int, length: int) -> t.Iterator[tuple[int, int, bool]]:
        """The range as (first block, blocks, may be unmapped), each for one call of zero().

        Only whole granules of the unit's space are unmapped: targets are known that round what they unmap.
        """
        start, end = offset // self._lun.block_bytes, (offset + length) // self._lun.block_bytes
        granule, shift = self._lun.limits.unmap_granularity, self._lun.limits.unmap_alignment
        first, last = start + (shift - start) % granule, end - (end - shift) % granule
        if not self.can_unmap or first >= last:
            first = last = end
        unmapped = self._most_by_unmapping_write if self._unmaps_by_write else self._most_by_write_same
        yield from _split(start, first, self._most_by_write_same, may_unmap=False)
        yield from _split(first, last, max(granule, unmapped - unmapped % granule), may_unmap=True)
        yield from _split(last, end, self._most_by_write_same, may_unmap=False)

    def zero(self, session: Session, lba: int, count: int, *, may_unmap: bool) -> None:
        """Make the blocks zeros by the best way that the unit takes."""
        if may_unmap and self._unmaps_by_write:
            try:
                self._order(session, block_commands.write_same16(lba, count, unmap=True), self._block_of_zeros)
                return
            except CommandError:
                self._write(session, lba, count)
                # Only now it is known that this command was refused, and not the range.
                self._unmaps_by_write = False
        else:
            self._write(session, lba, count)
        if may_unmap and self._unmaps_by_hint:
            self._hint(session, lba, count)

    def _write(self, session: Session, lba: int, count: int) -> None:
        if self._takes_write_same:
            try:
                self._write_same(session, lba, count)
                return
            except CommandError:
                self._write_data(session, lba, count)
                self._takes_write_same = False
        else:
            self._write_data(session, lba, count)

    def _write_same(self, session: Session, lba: int, count: int) -> None:
        for start, blocks, _may_unmap in _split(lba, lba + count, self._most_by_write_same):
            self._order(session, block_commands.write_same16(start, blocks, unmap=False), self._block_of_zeros)

    def _write_data(self, session: Session, lba: int, count: int) -> None:
        block_bytes = self._lun.block_bytes
        for start, blocks, _may_unmap in _split(lba, lba + count, len(self._data) // block_bytes):
            self._lun.write(session, start * block_bytes, address_of(self._data), blocks * block_bytes)

    def _hint(self, session: Session, lba: int, count: int) -> None:
        try:
            for start, blocks, _may_unmap in _split(lba, lba + count, self._most_by_unmap):
                self._order(session, block_commands.unmap(), block_commands.unmap_data(start, blocks))
        except CommandError:
            self._unmaps_by_hint = False

    def _order(self, session: Session, request: bytes, data: bytes) -> None:
        session.order(self._lun.way.lun, request, data)


def _split(start: int, end: int, most: int, *, may_unmap: bool = False) -> t.Iterator[tuple[int, int, bool]]:
    for lba in range(start, end, most):
        yield lba, min(most, end - lba), may_unmap


__all__ = ("Zeroing",)
