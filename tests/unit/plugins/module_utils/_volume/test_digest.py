# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The digest of a chunk is what anybody can compute by hand, however the chunk came in pieces."""

from __future__ import annotations

import hashlib
import random

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._volume import digest
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import aligned_buffer
from ansible_collections.lunshift.migration.plugins.module_utils._volume.digest import ChunkDigest, digest_of, digest_of_zeros

BLOCK = 64 << 10


def by_hand(content: bytes) -> bytes:
    blocks = [content[start : start + BLOCK] for start in range(0, len(content), BLOCK)]
    return hashlib.sha256(b"".join(hashlib.sha256(block).digest() for block in blocks)).digest()


def in_memory(content: bytes) -> memoryview:
    view = aligned_buffer(max(len(content), 1))[: len(content)]
    view[:] = content
    return view


def content_of(blocks: str, more: int) -> bytes:
    """d: data, z: zeros, e: zeros but for the last byte."""
    made = {"d": b"\x01\x00data" + bytes(range(256)) * 256, "z": bytes(BLOCK), "e": bytes(BLOCK - 1) + b"\x01"}
    return b"".join(made[kind][:BLOCK] for kind in blocks) + b"\x07" * more


@pytest.mark.parametrize(
    "content", [content_of("d", 0), content_of("zzz", 0), content_of("dzezd", 512), content_of("", 1), content_of("z", 4095), b""]
)
def test_a_chunk_in_one_piece(content: bytes) -> None:
    assert digest_of(in_memory(content)) == by_hand(content)


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_any_length_make_the_same(seed: int) -> None:
    chance = random.Random(seed)
    content = content_of("".join(chance.choices("dze", k=6)), chance.choice([0, 512, 40000]))
    view, chunk, start = in_memory(content), ChunkDigest(), 0
    while start < len(view):
        length = min(chance.choice([512, 4096, 30000, BLOCK, 3 * BLOCK, 5 * BLOCK + 512]), len(view) - start)
        if any(content[start : start + length]):
            chunk.add(view[start : start + length])
        else:
            chunk.add_zeros(length)
        start += length
    assert chunk.digest() == by_hand(content)


@pytest.mark.parametrize("length", [0, 1, 512, BLOCK - 1, BLOCK, BLOCK + 1, 64 * BLOCK, 64 * BLOCK - 512])
def test_zeros_need_no_memory(length: int) -> None:
    assert digest_of_zeros(length) == by_hand(bytes(length)) == digest_of(in_memory(bytes(length)))


def test_blocks_of_zeros_are_not_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def sha256(data: bytes | memoryview = b"") -> hashlib._Hash:
        hashed.append(len(data))
        return hashlib.sha256(data)

    monkeypatch.setattr(digest, "hashlib", type("Counting", (), {"sha256": staticmethod(sha256)}))
    digest_of(in_memory(content_of("zdzzdz", 0)))
    assert [length for length in hashed if length] == [BLOCK, BLOCK]
