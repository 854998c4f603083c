# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""A volume cut into what one worker does at a time. Pure.

Extents are hints of fine grain: they are made coarse, so that nothing but whole granules counts as zero.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import UNKNOWN, ZERO, Extent
from ansible_collections.lunshift.migration.plugins.module_utils._volume.journal import CHUNK_BYTES

# What is looked at for zeros, and the least that a target is told to give back: the unit in which thin storage allocates,
# or a multiple of it, nearly everywhere.
GRANULE_BYTES = 64 << 10
# So many chunks without data are one piece of work.
ZERO_RUN_CHUNKS = 32


@dataclass(frozen=True)
class Piece:
    """A range that is of one kind on the source, and of one kind on the target."""

    offset: int
    length: int
    source_kind: str
    target_kind: str

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True)
class Work:
    """One chunk, or several one after the other of which the source has no data. ``first`` is the index of the first."""

    first: int
    count: int
    pieces: tuple[Piece, ...]

    @property
    def length(self) -> int:
        return self.pieces[-1].end - self.pieces[0].offset


def cut(source: t.Iterable[Extent], target: t.Iterable[Extent], size_bytes: int, *, only_blank_runs: bool) -> t.Iterator[Work]:
    """All of ``size_bytes``, in order. Extents have to be whole and in order, as VolumeHandle.extents() gives them.

    ``only_blank_runs``: chunks are put together only where the target is known to be zero as well, for the others have to be looked at
    one by one.
    """
    run: Work | None = None
    for work in _chunks(_pieces(coarse(source, size_bytes), coarse(target, size_bytes), size_bytes)):
        joins = all(piece.source_kind == ZERO and (piece.target_kind == ZERO or not only_blank_runs) for piece in work.pieces)
        if run and joins and run.count < ZERO_RUN_CHUNKS:
            run = Work(run.first, run.count + 1, _joined((*run.pieces, *work.pieces)))
            continue
        if run:
            yield run
        run = work if joins else None
        if run is None:
            yield work
    if run:
        yield run


def coarse(extents: t.Iterable[Extent], size_bytes: int) -> t.Iterator[Extent]:
    """The same with all borders at granules: a granule is zero only when all of it is."""
    position = 0
    for extent in extents:
        if extent.kind != ZERO or extent.offset >= size_bytes:
            continue
        start = -(-extent.offset // GRANULE_BYTES) * GRANULE_BYTES
        end = extent.end if extent.end >= size_bytes else extent.end // GRANULE_BYTES * GRANULE_BYTES
        start, end = max(start, position), min(end, size_bytes)
        if end <= start:
            continue
        if start > position:
            yield Extent(position, start - position, UNKNOWN)
        yield Extent(start, end - start, ZERO)
        position = end
    if position < size_bytes:
        yield Extent(position, size_bytes - position, UNKNOWN)


def _pieces(source: t.Iterator[Extent], target: t.Iterator[Extent], size_bytes: int) -> t.Iterator[Piece]:
    """Both sides laid over each other, and cut where a chunk ends."""
    here, there = next(source, None), next(target, None)
    position = 0
    while position < size_bytes and here and there:
        end = min(here.end, there.end, (position // CHUNK_BYTES + 1) * CHUNK_BYTES)
        yield Piece(position, end - position, here.kind, there.kind)
        position = end
        if here.end <= position:
            here = next(source, None)
        if there.end <= position:
            there = next(target, None)


def _chunks(pieces: t.Iterable[Piece]) -> t.Iterator[Work]:
    index, found = 0, list[Piece]()
    for piece in pieces:
        if found and piece.offset // CHUNK_BYTES != index:
            yield Work(index, 1, tuple(found))
            found = []
        index = piece.offset // CHUNK_BYTES
        found.append(piece)
    if found:
        yield Work(index, 1, tuple(found))


def _joined(pieces: t.Iterable[Piece]) -> tuple[Piece, ...]:
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if last and (last.source_kind, last.target_kind) == (piece.source_kind, piece.target_kind):
            joined[-1] = Piece(last.offset, last.length + piece.length, piece.source_kind, piece.target_kind)
        else:
            joined.append(piece)
    return tuple(joined)


__all__ = ("GRANULE_BYTES", "ZERO_RUN_CHUNKS", "Piece", "Work", "coarse", "cut")
