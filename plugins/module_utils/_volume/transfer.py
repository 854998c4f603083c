# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""What is done with one piece of work: looked at, copied, verified. Knows handles, and nothing of what is behind them.

Each function here works on one C(Work) and may run in many threads at once.
"""

from __future__ import annotations

import threading
import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import aligned_buffer, is_equal, is_zero, runs_of_zeros
from ansible_collections.lunshift.migration.plugins.module_utils._volume.digest import ChunkDigest, digest_of, digest_of_zeros
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import ZERO, VolumeError, VolumeHandle
from ansible_collections.lunshift.migration.plugins.module_utils._volume.journal import CHUNK_BYTES, NOT_DONE, NOT_HASHED, Journal
from ansible_collections.lunshift.migration.plugins.module_utils._volume.limiter import Limiter
from ansible_collections.lunshift.migration.plugins.module_utils._volume.pieces import GRANULE_BYTES, Piece, Work
from ansible_collections.lunshift.migration.plugins.module_utils._volume.tally import Tally

# What was found out about a chunk before the copy: the target holds nothing but zeros there, or the same as the source.
BLANK, SAME = 1, 2


class TargetNotEmpty(VolumeError):
    """The target holds something that is neither zeros nor the source's, and nobody said that it may go."""


@dataclass(frozen=True)
class Purpose:
    """``hashing``: digests are wanted. ``compare``: what is the same already is not written. ``resume``: the journal's digests count."""

    hashing: bool
    compare: bool
    resume: bool


class Buffers(threading.local):
    """Two chunks of memory for each thread."""

    def __init__(self) -> None:
        self.source = aligned_buffer(CHUNK_BYTES)
        self.target = aligned_buffer(CHUNK_BYTES)


class Transfer:
    """One source, one target and what is known of them. ``states`` has a byte for each chunk: C(BLANK), C(SAME) or 0."""

    def __init__(
        self, source: VolumeHandle, target: VolumeHandle, journal: Journal, purpose: Purpose, limiter: Limiter, tally: Tally
    ) -> None:
        self.source = source
        self.target = target
        self.journal = journal
        self.purpose = purpose
        self.states = bytearray(journal.pair.chunks)
        self.bad_chunks: list[int] = []
        self._limiter = limiter
        self._tally = tally
        self._buffers = Buffers()
        self._request_bytes = min(CHUNK_BYTES, max(source.facts.request_bytes, target.facts.request_bytes))

    # --- before the copy ---

    def survey(self, work: Work) -> None:
        """Whether the target may be written to here; raises TargetNotEmpty."""
        offset, length = work.pieces[0].offset, work.length
        self._tally.advance(sum(piece.length for piece in work.pieces if piece.target_kind != ZERO))
        if all(piece.target_kind == ZERO for piece in work.pieces):
            self._set_states(work, BLANK)
            return
        # Only one chunk at a time comes here, for only a zero run has several, and surveys are cut without them.
        there = self._read_target(offset, self._padded(offset, length))
        if is_zero(there):
            self._set_states(work, BLANK)
            return
        here = self._read_source(work, believe_extents=True)
        if is_equal(here, there[:length]) and is_zero(there[length:]):
            # Without a digest the chunk is compared once more in the copy, which notes one.
            known = self.journal.digest(work.first)
            self._set_states(work, SAME if known == (digest_of(here) if self.purpose.hashing else NOT_HASHED) else 0)
        elif digest_of(there[:length]) != self.journal.digest(work.first):
            raise TargetNotEmpty(
                f"{self.target.name} is not empty: at offset {offset} it holds {length} bytes that are neither zeros nor the source's;"
                " check that it is the right volume, and say overwrite: true if what it holds may be lost",
                error_id="target_not_empty",
                volume=self.target.name,
                offset=offset,
            )

    def survey_tail(self, piece: Piece) -> None:
        """The same for what the target has behind the source's end."""
        if piece.target_kind == ZERO:
            return
        for offset, length in self._steps(piece, CHUNK_BYTES):
            self._tally.advance(length)
            if not is_zero(self._read_target(offset, length)):
                raise TargetNotEmpty(
                    f"{self.target.name} is not empty: it is larger than the source, and holds data at offset {offset}, behind the source's"
                    " end; check that it is the right volume, and say overwrite: true if what it holds may be lost",
                    error_id="target_not_empty",
                    volume=self.target.name,
                    offset=offset,
                )

    def forget_surveyed(self) -> t.Iterator[tuple[int, int, bytes]]:
        """Notes for the journal: whatever is not the same is to be done, also for a run after a crash."""
        for index, state in enumerate(self.states):
            if state != SAME and self.journal.digest(index) != NOT_DONE:
                yield index, 1, NOT_DONE

    def read(self, work: Work) -> None:
        """Nothing but that, to see how long it takes."""
        self._read_source(work, believe_extents=True)

    def missing_bytes(self, work: Work) -> int:
        """What of it is data of the source that the target is not known to have."""
        if work.count == 1 and (self.states[work.first] == SAME or (self.purpose.resume and self.journal.digest(work.first) != NOT_DONE)):
            return 0
        return data_bytes(work)

    # --- the copy ---

    def copy(self, work: Work) -> None:
        """The target's range is the source's afterwards."""
        if work.count > 1 or not self._is_done(work):
            self.copy_anyway(work, compare=self.purpose.compare or self.journal.digest(work.first) == NOT_HASHED)
        self._tally.advance(data_bytes(work))

    def copy_anyway(self, work: Work, *, compare: bool) -> None:
        """Without looking whether it is done; ``compare``: what the target holds already is not written again."""
        if all(piece.source_kind == ZERO for piece in work.pieces):
            for piece in work.pieces:
                self._zero_piece(piece, compare=compare)
            last = work.first + work.count - 1
            self._note_zeros(work.first, work.count - 1, CHUNK_BYTES)
            self._note_zeros(last, 1, work.pieces[-1].end - last * CHUNK_BYTES)
            return
        chunk = ChunkDigest() if self.purpose.hashing else None
        for piece in work.pieces:
            if piece.source_kind == ZERO:
                self._zero_piece(piece, compare=compare)
                if chunk:
                    chunk.add_zeros(piece.length)
                continue
            for offset, length in self._steps(piece, self._request_bytes):
                view = self._read_padded(offset, length)
                if chunk:
                    chunk.add(view[:length])
                self._put(view, offset, self._target_kind(piece), compare=compare)
        self.journal.note(work.first, 1, chunk.digest() if chunk else NOT_HASHED)

    def _note_zeros(self, first: int, count: int, length: int) -> None:
        if count:
            self.journal.note(first, count, digest_of_zeros(length) if self.purpose.hashing else NOT_HASHED)

    def _target_kind(self, piece: Piece) -> str:
        """What the survey found by reading counts for more than the target's extents, which may be unknown."""
        index = piece.offset // CHUNK_BYTES
        return ZERO if index < len(self.states) and self.states[index] == BLANK else piece.target_kind

    def _is_done(self, work: Work) -> bool:
        """Whether an earlier run, or the survey, has found the chunk to be right. What is not is forgotten before it is written."""
        index = work.first
        known = self.journal.digest(index) if self.purpose.resume else NOT_DONE
        if self.states[index] == SAME:
            self._tally.add(unchanged_bytes=work.length)
            return True
        if known in (NOT_DONE, NOT_HASHED):
            return False
        if self.journal.pair.immutable or digest_of(self._read_source(work, believe_extents=True)) == known:
            self._tally.add(skipped_bytes=work.length)
            return True
        self.journal.forget(index)
        return False

    def _put(self, view: memoryview, offset: int, target_kind: str, *, compare: bool) -> None:
        if compare and target_kind != ZERO:
            there = self._read_target(offset, len(view))
            if is_equal(view, there):
                self._tally.add(unchanged_bytes=len(view))
                return
        # Where zeros give nothing back, one write is better than several requests.
        granule = GRANULE_BYTES if self.target.facts.can_unmap or target_kind == ZERO else len(view)
        for start, length, zero in runs_of_zeros(view, granule):
            if not zero:
                self.target.write_from(view[start : start + length], offset + start)
                self._tally.add(written_bytes=length)
            elif target_kind == ZERO:
                self._tally.add(skipped_bytes=length)
            else:
                self.target.zero(offset + start, length)
                self._tally.add(zeroed_bytes=length)

    def _zero_piece(self, piece: Piece, *, compare: bool) -> None:
        if self._target_kind(piece) == ZERO:
            self._tally.add(skipped_bytes=piece.length)
        elif not compare:
            self._zero(piece.offset, self._padded(piece.offset, piece.length))
        else:
            for offset, length in self._steps(piece, CHUNK_BYTES):
                if is_zero(self._read_target(offset, self._padded(offset, length))):
                    self._tally.add(unchanged_bytes=length)
                else:
                    self._zero(offset, self._padded(offset, length))

    def _zero(self, offset: int, length: int) -> None:
        self.target.zero(offset, length)
        self._tally.add(zeroed_bytes=length)

    def zero_tail(self, piece: Piece) -> None:
        """What the target has behind the source's end."""
        self._zero_piece(piece, compare=True)

    # --- afterwards ---

    def verify_written(self, work: Work) -> None:
        """Read the target again and compare with what was read from the source when it was copied."""
        index = work.first
        self._tally.advance(data_bytes(work))
        if self.states[index] == SAME:
            return
        digest = self.journal.digest(index)
        if digest == NOT_HASHED:
            # An earlier run, which was not to be verified, did it.
            self._compare(work, believe_extents=True)
            return
        chunk, rest_is_zero = ChunkDigest(), True
        for piece in work.pieces:
            if piece.target_kind == ZERO:
                chunk.add_zeros(piece.length)
                continue
            view = self._read_target(piece.offset, self._padded(piece.offset, piece.length))
            chunk.add(view[: piece.length])
            rest_is_zero = rest_is_zero and is_zero(view[piece.length :])
        if rest_is_zero and chunk.digest() == digest:
            self._tally.add(verified_bytes=work.length)
        else:
            self.bad_chunks.append(index)

    def verify_full(self, work: Work) -> None:
        """Read both sides again, whatever they say of themselves."""
        self._tally.advance(work.length)
        self._compare(work, believe_extents=False)

    def _compare(self, work: Work, *, believe_extents: bool) -> None:
        offset, length = work.pieces[0].offset, work.length
        here = self._read_source(work, believe_extents=believe_extents)
        there = self._read_target(offset, self._padded(offset, length))
        if is_equal(here, there[:length]) and is_zero(there[length:]):
            self._tally.add(verified_bytes=length)
        else:
            self.bad_chunks.append(work.first)

    def verify_tail(self, piece: Piece) -> None:
        for offset, length in self._steps(piece, CHUNK_BYTES):
            if piece.target_kind != ZERO and not is_zero(self._read_target(offset, length)):
                raise VolumeError(
                    f"{self.target.name} holds data at offset {offset}, behind the source's end, although it was told to hold zeros there;"
                    " look into the log of its storage",
                    error_id="verification_failed",
                    volume=self.target.name,
                    offset=offset,
                )

    # --- parts ---

    def _set_states(self, work: Work, state: int) -> None:
        for index in range(work.first, work.first + work.count):
            self.states[index] = state

    def _read_source(self, work: Work, *, believe_extents: bool) -> memoryview:
        """A whole chunk of the source; where it has no data, nothing is read."""
        start = work.pieces[0].offset
        whole = self._buffers.source[: work.length]
        for piece in work.pieces:
            here = whole[piece.offset - start : piece.end - start]
            if believe_extents and piece.source_kind == ZERO:
                here[:] = bytes(len(here))
                continue
            for offset, length in self._steps(piece, self._request_bytes):
                self._limiter.take(length)
                self.source.read_into(whole[offset - start : offset - start + length], offset)
                self._tally.add(read_bytes=length)
        return whole

    def _read_padded(self, offset: int, length: int) -> memoryview:
        """From the source, filled up with zeros to a block of the target."""
        self._limiter.take(length)
        padded = self._padded(offset, length)
        view = self._buffers.source[:padded]
        self.source.read_into(view[:length], offset)
        if padded > length:
            view[length:] = bytes(padded - length)
        self._tally.add(read_bytes=length)
        return view

    def _read_target(self, offset: int, length: int) -> memoryview:
        step = self.target.facts.request_bytes
        view = self._buffers.target[:length]
        for start in range(0, length, step):
            part = view[start : start + step]
            self._limiter.take(len(part))
            self.target.read_into(part, offset + start)
        self._tally.add(target_read_bytes=length)
        return view

    def _padded(self, offset: int, length: int) -> int:
        """The length, up to the next block of the target where the source ends within one."""
        block = self.target.facts.logical_block_bytes
        return min(-(-length // block) * block, self.target.facts.size_bytes - offset)

    def _steps(self, piece: Piece, step: int) -> t.Iterator[tuple[int, int]]:
        """The piece in parts that end at multiples of ``step``."""
        offset = piece.offset
        while offset < piece.end:
            end = min((offset // step + 1) * step, piece.end)
            yield offset, end - offset
            offset = end


def data_bytes(work: Work) -> int:
    """What has to be read of it."""
    return sum(piece.length for piece in work.pieces if piece.source_kind != ZERO)


__all__ = ("BLANK", "SAME", "Purpose", "TargetNotEmpty", "Transfer", "data_bytes")
