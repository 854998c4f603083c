# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import DATA, UNKNOWN, ZERO, Extent
from ansible_collections.lunshift.migration.plugins.module_utils._volume.journal import CHUNK_BYTES
from ansible_collections.lunshift.migration.plugins.module_utils._volume.pieces import (
    GRANULE_BYTES,
    ZERO_RUN_CHUNKS,
    Piece,
    coarse,
    cut,
)

G = GRANULE_BYTES
C = CHUNK_BYTES


def test_only_whole_granules_count_as_zero() -> None:
    extents = [Extent(0, G - 1, DATA), Extent(G - 1, 2 * G, ZERO), Extent(3 * G - 1, G, DATA), Extent(4 * G - 1, 100 * G, ZERO)]
    assert list(coarse(extents, 10 * G + 5)) == [
        Extent(0, G, UNKNOWN),
        Extent(G, G, ZERO),
        Extent(2 * G, 2 * G, UNKNOWN),
        Extent(4 * G, 6 * G + 5, ZERO),
    ]


def test_a_hole_smaller_than_a_granule_is_none() -> None:
    assert list(coarse([Extent(5, G, ZERO)], 4 * G)) == [Extent(0, 4 * G, UNKNOWN)]


def test_a_chunk_is_cut_where_either_side_changes() -> None:
    source = [Extent(0, G, DATA), Extent(G, C, ZERO), Extent(C + G, G, DATA)]
    target = [Extent(0, 2 * G, ZERO), Extent(2 * G, C, UNKNOWN)]
    first, second = cut(source, target, C + 2 * G, only_blank_runs=False)
    assert (first.first, first.count, first.length) == (0, 1, C)
    assert first.pieces == (Piece(0, G, UNKNOWN, ZERO), Piece(G, G, ZERO, ZERO), Piece(2 * G, C - 2 * G, ZERO, UNKNOWN))
    assert (second.first, second.length) == (1, 2 * G)
    assert [piece.source_kind for piece in second.pieces] == [ZERO, UNKNOWN]


def test_chunks_without_data_are_put_together_but_not_too_many() -> None:
    size = (ZERO_RUN_CHUNKS + 9) * C
    source = [Extent(0, C, DATA), Extent(C, size - C, ZERO)]
    works = list(cut(source, [Extent(0, size, UNKNOWN)], size, only_blank_runs=False))
    assert [(work.first, work.count) for work in works] == [(0, 1), (1, ZERO_RUN_CHUNKS), (ZERO_RUN_CHUNKS + 1, 8)]
    assert works[1].pieces == (Piece(C, ZERO_RUN_CHUNKS * C, ZERO, UNKNOWN),)


def test_chunks_that_have_to_be_looked_at_stay_alone() -> None:
    target = [Extent(0, 3 * C, UNKNOWN), Extent(3 * C, 2 * C, ZERO), Extent(5 * C, C, DATA)]
    works = list(cut([Extent(0, 6 * C, ZERO)], target, 6 * C, only_blank_runs=True))
    assert [(work.first, work.count) for work in works] == [(0, 1), (1, 1), (2, 1), (3, 2), (5, 1)]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_the_extents_are_the_volume_is_covered_once_and_no_data_is_called_zero(seed: int) -> None:
    chance = random.Random(seed)
    size = chance.randrange(1, 40) * G * chance.choice((1, 30)) + chance.choice((0, 1, 512, 4097))
    sides = []
    for _side in range(2):
        extents, position = [], 0
        while position < size:
            length = min(size - position, chance.choice((512, G, 3 * G, C, 5 * C)) + chance.choice((0, 512)))
            extents.append(Extent(position, length, chance.choice((DATA, ZERO, UNKNOWN))))
            position += length
        sides.append(extents)
    position = 0
    for work in cut(sides[0], sides[1], size, only_blank_runs=chance.random() < 0.5):
        assert work.first == position // C
        for piece in work.pieces:
            assert piece.offset == position and piece.length > 0
            for extents, kind in ((sides[0], piece.source_kind), (sides[1], piece.target_kind)):
                inside = {extent.kind for extent in extents if extent.offset < piece.end and extent.end > piece.offset}
                assert kind != ZERO or inside == {ZERO}
            position = piece.end
        assert work.first + work.count == -(-position // C)
    assert position == size
