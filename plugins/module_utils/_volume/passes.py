# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""The passes of one copy over two open handles: survey, copy, verify, repair.

Knows nothing of connection info, jobs or leases: who runs it is asked by ``look`` all the time, and ends it by raising.
"""

from __future__ import annotations

import functools
import itertools
import time
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._volume.crew import Crew
from ansible_collections.lunshift.migration.plugins.module_utils._volume.extent_map import ExtentMap
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import ZERO, VolumeError, VolumeHandle
from ansible_collections.lunshift.migration.plugins.module_utils._volume.journal import CHUNK_BYTES, Journal
from ansible_collections.lunshift.migration.plugins.module_utils._volume.limiter import Limiter
from ansible_collections.lunshift.migration.plugins.module_utils._volume.objections import Options
from ansible_collections.lunshift.migration.plugins.module_utils._volume.pieces import Piece, Work, cut
from ansible_collections.lunshift.migration.plugins.module_utils._volume.tally import Tally
from ansible_collections.lunshift.migration.plugins.module_utils._volume.transfer import Purpose, Transfer, data_bytes

# How much may have to be done again after a crash.
CHECKPOINT_EVERY_S = 5.0
_MAX_WORKERS = 8
# So many places are named of those that differ.
_NAMED_PLACES = 10
# So much of the source is read to know how fast that is.
_SAMPLE_BYTES = 128 << 20
MIB = 1 << 20

Look = t.Callable[[str], None]


class Passes:
    """One copy. ``look`` gets the name of the phase; ``limiter`` and ``crew`` are there to be changed and stopped from outside."""

    def __init__(self, source: VolumeHandle, target: VolumeHandle, journal: Journal, options: Options, look: Look) -> None:
        self.crew = Crew(max(1, min(_MAX_WORKERS, max(source.facts.requests, target.facts.requests))))
        self.limiter = Limiter(options.bandwidth_mib * MIB, self.crew.stopping)
        self.tally = Tally()
        self.total_bytes = 0
        self._source = source
        self._target = target
        self._journal = journal
        self._options = options
        self._look = look
        before = journal.before
        self._known = before is not None
        self._resumes = before is not None and before.usable and not before.finished
        self._surveys = not options.overwrite and not self._resumes
        compare = self._surveys or (before is not None and (before.compare or not self._resumes))
        self._transfer = Transfer(source, target, journal, Purpose(options.hashing, compare, self._resumes), self.limiter, self.tally)
        self._saved_at = time.monotonic()
        self._phase = ""
        self._target_map: ExtentMap | None = None

    @property
    def resumes(self) -> bool:
        """Whether an earlier run was interrupted, and this one goes on."""
        return self._resumes

    @property
    def data_bytes(self) -> int:
        """What the source may hold, as far as its extents tell; it may be zeros for all that is known."""
        return self._source_map.data_bytes

    def target_data_bytes(self) -> int:
        """What the target may hold before the copy, in the same sense."""
        if not self._target_map:
            self._target_map = ExtentMap(self._target.extents(), self._target.facts.size_bytes)
        return self._target_map.data_bytes

    def survey(self) -> None:
        """Look whether the target may be written to. Changes nothing; raises TargetNotEmpty."""
        surveyed = self.target_data_bytes() if self._surveys else 0
        self.total_bytes = surveyed + self.data_bytes + self._to_verify_bytes(self.data_bytes)
        if self._surveys:
            self._run("surveying", self._works(), self._transfer.survey)
            self._run("surveying", self._tail(), self._transfer.survey_tail)

    def to_copy_bytes(self) -> int:
        """After the survey: what the copy would read in order to write it. More than it would write where nothing was surveyed."""
        return sum(self._transfer.missing_bytes(work) for work in self._works())

    def estimate_s(self, to_copy_bytes: int) -> float:
        """The least that the copy of so much takes: as fast as a sample of the source can be read, and no faster than the limit."""
        if not to_copy_bytes:
            return 0.0
        works = (work for work in self._works() if data_bytes(work))
        every = max(1, self.data_bytes // _SAMPLE_BYTES)
        read_before = self.tally.counts()["read_bytes"]
        started = time.monotonic()
        self._run("surveying", itertools.islice(works, 0, None, every), self._transfer.read)
        rate: float = (self.tally.counts()["read_bytes"] - read_before) / max(time.monotonic() - started, 0.001)
        if self.limiter.bytes_per_s:
            rate = min(rate, self.limiter.bytes_per_s)
        return (to_copy_bytes + self._to_verify_bytes(to_copy_bytes)) / rate

    def _to_verify_bytes(self, copied_bytes: int) -> int:
        return {"none": 0, "written": copied_bytes, "full": self._source.facts.size_bytes}[self._options.verify]

    def copy(self) -> None:
        """The target holds the source, on stable storage, when this returns."""
        transfer, journal = self._transfer, self._journal
        if self._surveys and journal.before:
            journal.save(list(transfer.forget_surveyed()))
        journal.begin(keep=self._resumes or self._surveys, compare=transfer.purpose.compare)
        self._run("copying", self._works(), transfer.copy)
        self._run("copying", self._tail(), transfer.zero_tail)
        # It holds other things now.
        self._target_map = None
        self._look("flushing")
        self._checkpoint()

    def verify(self) -> None:
        """Read again what was copied, and copy once more what is not right; raises VolumeError when it is still not."""
        if self._options.verify == "none":
            self._journal.finish()
            return
        bad = self._differing(lambda _index: True)
        if bad:
            # What was done is done wrongly: after a crash, too, it is to be done again.
            for index in bad:
                self._journal.forget(index)
            self._run("repairing", self._works(set(bad)), lambda work: self._transfer.copy_anyway(work, compare=False))
            self._checkpoint()
            self.tally.add(repaired_bytes=sum(self._journal.pair.chunk_length(index) for index in bad))
            again = self._differing(set(bad).__contains__)
            for index in again:
                self._journal.forget(index)
            if again:
                raise self._wrong(again)
        self._run("verifying", self._tail(), self._transfer.verify_tail)
        self._journal.finish()

    def _differing(self, wanted: t.Callable[[int], bool]) -> list[int]:
        full = self._options.verify == "full"
        self._transfer.bad_chunks.clear()
        self._target.drop_caches()
        if full:
            self._source.drop_caches()
        verify = self._transfer.verify_full if full else self._transfer.verify_written
        # Each chunk by itself: what is wrong is to be located.
        works = (part for work in self._works() for part in _single(work) if wanted(part.first))
        self._run("verifying", works, verify)
        return sorted(self._transfer.bad_chunks)

    def _wrong(self, chunks: t.Sequence[int]) -> VolumeError:
        places = [index * CHUNK_BYTES for index in chunks]
        named = ", ".join(map(str, places[:_NAMED_PLACES])) + (f" and {len(places) - _NAMED_PLACES} more" if places[_NAMED_PLACES:] else "")
        return VolumeError(
            f"{self._target.name} does not hold what was written to it, also after it was written twice: {len(places)} chunks"
            f" of {CHUNK_BYTES >> 20} MiB differ, at the offsets {named}; something else writes to it or to the source, or its storage is"
            " broken",
            error_id="verification_failed",
            volume=self._target.name,
            offsets=places[:_NAMED_PLACES],
            chunks=len(places),
        )

    # --- how ---

    def _works(self, only: t.Container[int] | None = None) -> t.Iterator[Work]:
        size = self._source.facts.size_bytes
        target = self._target_map.extents() if self._target_map else self._target.extents(0, size)
        for work in cut(self._source_map.extents(), target, size, only_blank_runs=self._surveys or self._known):
            if only is None:
                yield work
            else:
                yield from (part for part in _single(work) if part.first in only)

    def _tail(self) -> t.Iterator[Piece]:
        """What the target has behind the source's end, from its next whole block on."""
        block, end = self._target.facts.logical_block_bytes, self._target.facts.size_bytes
        start = -(-self._source.facts.size_bytes // block) * block
        if start < end:
            for extent in self._target_map.extents(start) if self._target_map else self._target.extents(start, end - start):
                yield Piece(extent.offset, extent.length, ZERO, extent.kind)

    @functools.cached_property
    def _source_map(self) -> ExtentMap:
        return ExtentMap(self._source.extents(), self._source.facts.size_bytes)

    def _run(self, phase: str, works: t.Iterable[t.Any], do: t.Callable[[t.Any], None]) -> None:
        self._phase = phase
        self._look(phase)
        self.crew.run(works, do, self._look_inside)

    def _look_inside(self) -> None:
        self._look(self._phase)
        if self._phase == "copying" and time.monotonic() - self._saved_at > CHECKPOINT_EVERY_S:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """What is noted is on stable storage first; only then the journal says so."""
        notes = self._journal.take_notes()
        self._target.flush()
        self._journal.save(notes)
        self._saved_at = time.monotonic()


def _single(work: Work) -> t.Iterator[Work]:
    """A run as its chunks."""
    for index in range(work.first, work.first + work.count):
        start, end = index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES
        pieces = tuple(
            Piece(max(piece.offset, start), min(piece.end, end) - max(piece.offset, start), piece.source_kind, piece.target_kind)
            for piece in work.pieces
            if piece.offset < end and piece.end > start
        )
        yield Work(index, 1, pieces)


__all__ = ("Look", "Passes")
