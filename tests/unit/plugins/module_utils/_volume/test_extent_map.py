# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The map says what the extents said, and with too many of them never more."""

from __future__ import annotations

import random

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._volume.extent_map import ExtentMap
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import DATA, UNKNOWN, ZERO, Extent
from ansible_collections.lunshift.migration.plugins.module_utils._volume.pieces import coarse

G = 65536


def extents_of(kinds: str) -> list[Extent]:
    """One granule for each letter: d or z."""
    return [Extent(number * G, G, ZERO if kind == "z" else DATA) for number, kind in enumerate(kinds)]


def zero_granules(extents: list[Extent]) -> set[int]:
    return {number for extent in extents if extent.kind == ZERO for number in range(extent.offset // G, -(-extent.end // G))}


def test_ranges_that_touch_are_one() -> None:
    found = ExtentMap(extents_of("dzzzdz"), 6 * G)
    assert list(found.extents()) == [
        Extent(0, G, UNKNOWN),
        Extent(G, 3 * G, ZERO),
        Extent(4 * G, G, UNKNOWN),
        Extent(5 * G, G, ZERO),
    ]
    assert (found.zero_bytes, found.data_bytes) == (4 * G, 2 * G)


@pytest.mark.parametrize("start", [0, G, 2 * G, 4 * G, 5 * G + 512, 6 * G])
def test_it_can_be_asked_from_anywhere(start: int) -> None:
    found = list(ExtentMap(extents_of("dzzzdz"), 6 * G).extents(start))
    assert sum(extent.length for extent in found) == 6 * G - start
    assert not found or found[0].offset == start
    assert sum(extent.length for extent in found if extent.kind == ZERO) == sum(
        max(0, min(end, 6 * G) - max(begin, start)) for begin, end in ((G, 4 * G), (5 * G, 6 * G))
    )


@pytest.mark.parametrize("seed", range(10))
def test_with_room_for_all_it_is_what_the_extents_were(seed: int) -> None:
    kinds = "".join(random.Random(seed).choices("dz", k=200))
    size = 200 * G - 512
    found = list(ExtentMap(extents_of(kinds), size).extents())
    assert zero_granules(found) == zero_granules(list(coarse(extents_of(kinds), size)))
    assert sum(extent.length for extent in found) == size


@pytest.mark.parametrize("seed", range(10))
def test_of_too_many_the_short_ones_are_dropped_and_nothing_is_called_zero_that_is_not(seed: int) -> None:
    chance = random.Random(seed)
    kinds = "".join("d" * chance.randint(1, 3) + "z" * chance.choice([1, 1, 1, 2, 3, 40]) for _number in range(100))
    found = list(ExtentMap(extents_of(kinds), len(kinds) * G, most_ranges=20).extents())
    zeros = [extent for extent in found if extent.kind == ZERO]
    assert len(zeros) <= 20 and zero_granules(found) <= zero_granules(extents_of(kinds))
    # The long ones are what counts.
    assert kinds.count("z" * 40) == sum(extent.length >= 40 * G for extent in zeros)
