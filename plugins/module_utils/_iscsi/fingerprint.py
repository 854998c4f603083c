# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Samples of a volume's content, for volumes whose ids prove nothing.

A sample is read past all caches, twice with a pause, so that a comparison can leave out what a running guest changes.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import types
import typing as t

SAMPLES = 64
BLOCK_BYTES = 4096
PAUSE_S = 1.0

# Stands for the hash of a block that a volume is too small to have; no block of another volume is equal to it.
PAST_END = "past_end"

# Reads BLOCK_BYTES at an offset.
Reader = t.Callable[[int], bytes]
# Offset -> hash of the block; None where all bytes are zero.
Sample = dict[int, t.Optional[str]]
# Offset (as text, for JSON) -> hashes of the first and the second reading.
Fingerprint = dict[str, list[t.Optional[str]]]

_ZEROS = bytes(BLOCK_BYTES)


def offsets(size_bytes: int) -> tuple[int, ...]:
    """Where to read; depends on the size alone, so that both hosts read the same blocks.

    Half of them lie evenly over the volume. The other half lie ever more densely towards its start, where partition
    tables and file systems are: a fresh 1 TiB volume may hold data in its first GiB only.
    """
    blocks = size_bytes // BLOCK_BYTES
    if blocks <= SAMPLES:
        return tuple(block * BLOCK_BYTES for block in range(blocks))
    half = SAMPLES // 2
    chosen = {blocks * index // half for index in range(half)}
    chosen |= {round(blocks ** (index / half)) - 1 for index in range(half)}
    # Rounding makes both halves meet near the start; the blocks that follow fill the number up.
    following = iter(range(blocks))
    while len(chosen) < SAMPLES:
        chosen.add(next(following))
    return tuple(block * BLOCK_BYTES for block in sorted(chosen))


def read_sample(read: Reader, where: t.Iterable[int], size_bytes: int) -> Sample:
    """One reading of the blocks at ``where``, which may have been chosen for a larger volume."""
    return {offset: _digest(read(offset)) if offset + BLOCK_BYTES <= size_bytes else PAST_END for offset in where}


def _digest(block: bytes) -> str | None:
    return None if block == _ZEROS else hashlib.sha256(block).hexdigest()


def combine(first: Sample, second: Sample) -> Fingerprint:
    """Both readings of one volume."""
    return {str(offset): [first[offset], second[offset]] for offset in first}


class DirectReader:
    """Reads a block device with O_DIRECT, so that another host's writes are seen; a context manager."""

    def __init__(self, device: str) -> None:
        self._device = device
        # O_DIRECT wants aligned memory, and an anonymous map is aligned to a page.
        self._buffer = mmap.mmap(-1, BLOCK_BYTES)
        self._descriptor = -1

    def __enter__(self) -> DirectReader:
        self._descriptor = os.open(self._device, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        os.close(self._descriptor)
        self._buffer.close()

    def __call__(self, offset: int) -> bytes:
        if os.preadv(self._descriptor, [self._buffer], offset) != BLOCK_BYTES:
            raise OSError(f"{self._device} ends before offset {offset + BLOCK_BYTES}")
        return self._buffer[:]


__all__ = (
    "BLOCK_BYTES",
    "PAST_END",
    "PAUSE_S",
    "SAMPLES",
    "DirectReader",
    "Fingerprint",
    "Reader",
    "Sample",
    "combine",
    "offsets",
    "read_sample",
)
