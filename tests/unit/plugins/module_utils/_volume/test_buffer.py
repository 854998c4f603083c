# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import (
    ALIGNMENT_BYTES,
    address_of,
    aligned_buffer,
    is_equal,
    is_zero,
    runs_of_zeros,
)


def test_a_buffer_begins_at_a_page_and_is_zero() -> None:
    view = aligned_buffer(5000)
    assert len(view) == 5000 and address_of(view) % ALIGNMENT_BYTES == 0 and is_zero(view)


@pytest.mark.parametrize("length", [1, 2, 511, 65536])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_byte_is_enough_not_to_be_zero_and_not_to_be_equal(length: int, place: str) -> None:
    one, other = aligned_buffer(length), aligned_buffer(length)
    assert is_zero(one) and is_equal(one, other)
    one[{"first": 0, "middle": length // 2, "last": length - 1}[place]] = 1
    assert not is_zero(one) and not is_equal(one, other)


def test_views_of_different_length_are_not_equal_and_nothing_is_zero() -> None:
    view = aligned_buffer(100)
    assert not is_equal(view, view[:99])
    assert is_zero(view[:0]) and is_equal(view[:0], view[1:1])


def test_runs_cover_the_view_and_neighbours_are_put_together() -> None:
    view = aligned_buffer(1000)
    view[250] = view[399] = view[999] = 1
    assert list(runs_of_zeros(view, 100)) == [(0, 200, True), (200, 200, False), (400, 500, True), (900, 100, False)]
    assert list(runs_of_zeros(view[:95], 100)) == [(0, 95, True)]
    assert list(runs_of_zeros(view[:0], 100)) == []
