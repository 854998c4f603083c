# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Medians and how sure they are, for benchmarks that compare things measured side by side."""

from __future__ import annotations

import random
import statistics
import typing as t

RESAMPLES = 10_000
_Interval = tuple[float, float]


def median_interval(values: t.Sequence[float], chance: random.Random) -> _Interval:
    """95 % bootstrap interval of the median."""
    return _middle(_median_of_resample(values, chance) for _number in range(RESAMPLES))


def ratio_interval(ours: t.Sequence[float], theirs: t.Sequence[float], chance: random.Random) -> _Interval:
    """95 % bootstrap interval of the ratio of two medians that were not measured in pairs."""
    return _middle(_median_of_resample(ours, chance) / _median_of_resample(theirs, chance) for _number in range(RESAMPLES))


def _median_of_resample(values: t.Sequence[float], chance: random.Random) -> float:
    return statistics.median(chance.choices(values, k=len(values)))


def _middle(found: t.Iterable[float]) -> _Interval:
    """Where the middle 95 % of them are."""
    values = sorted(found)
    return values[int(len(values) * 0.025)], values[int(len(values) * 0.975)]
