# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""The digest of a chunk: SHA-256 over the SHA-256 of each of its blocks of 64 KiB.

Blocks of zeros are not hashed, for theirs is known. So a volume that is mostly empty takes no longer than what it holds.
"""

from __future__ import annotations

import hashlib

from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import is_zero

_BLOCK_BYTES = 64 << 10
_ZEROS = bytes(_BLOCK_BYTES)
_ZERO_BLOCK = hashlib.sha256(_ZEROS).digest()


class ChunkDigest:
    """A chunk that is added piece by piece."""

    def __init__(self) -> None:
        self._blocks = hashlib.sha256()
        # What was added of a block that is not whole yet.
        self._block = hashlib.sha256()
        self._filled = 0

    def add(self, view: memoryview) -> None:
        """What comes next; the memory has to be writable, as that of buffer.aligned_buffer() is."""
        start = 0
        while start < len(view):
            part = view[start : start + _BLOCK_BYTES - self._filled]
            if len(part) == _BLOCK_BYTES:
                self._blocks.update(_ZERO_BLOCK if is_zero(part) else hashlib.sha256(part).digest())
            else:
                self._add_part(part)
            start += len(part)

    def add_zeros(self, length: int) -> None:
        while length:
            if self._filled or length < _BLOCK_BYTES:
                added = min(_BLOCK_BYTES - self._filled, length)
                self._add_part(memoryview(_ZEROS)[:added])
            else:
                added = length - length % _BLOCK_BYTES
                self._blocks.update(_ZERO_BLOCK * (added // _BLOCK_BYTES))
            length -= added

    def digest(self) -> bytes:
        """Of all that was added; nothing can be added any more."""
        if self._filled:
            self._blocks.update(self._block.digest())
        return self._blocks.digest()

    def _add_part(self, part: memoryview) -> None:
        self._block.update(part)
        self._filled += len(part)
        if self._filled == _BLOCK_BYTES:
            self._blocks.update(self._block.digest())
            self._block, self._filled = hashlib.sha256(), 0


def digest_of(view: memoryview) -> bytes:
    """Of a whole chunk in writable memory."""
    chunk = ChunkDigest()
    chunk.add(view)
    return chunk.digest()


def digest_of_zeros(length: int) -> bytes:
    chunk = ChunkDigest()
    chunk.add_zeros(length)
    return chunk.digest()


__all__ = ("ChunkDigest", "digest_of", "digest_of_zeros")
