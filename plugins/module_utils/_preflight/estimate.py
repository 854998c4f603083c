# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""How long a pre-copy migration would take, and whether it would come to an end. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

_MIB = 1024**2
# After so many rounds a pre-copy that has not ended yet makes no progress worth waiting for.
_MAX_ROUNDS = 100


@dataclass(frozen=True)
class Estimate:
    """``converges`` is None, and ``duration_s`` too, when a number that they follow from is not known."""

    memory_bytes: int
    dirty_bytes_per_s: int | None
    bandwidth_bytes_per_s: int | None
    converges: bool | None = None
    duration_s: float | None = None
    rounds: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate(memory_bytes: int, dirty_bytes_per_s: int | None, bandwidth_bytes_per_s: int | None, downtime_ms: int) -> Estimate:
    """Pre-copy sends the memory, then what was written meanwhile, until the rest fits into the permitted downtime.

    Each round is shorter than the one before by the ratio of dirty rate to bandwidth, so it ends when that is below one.
    It is an upper bound: pages of zeros and pages that are written again and again cost less.
    """
    known = Estimate(memory_bytes, dirty_bytes_per_s, bandwidth_bytes_per_s)
    if dirty_bytes_per_s is None or not bandwidth_bytes_per_s:
        return known
    ratio = dirty_bytes_per_s / bandwidth_bytes_per_s
    enough_bytes = bandwidth_bytes_per_s * downtime_ms / 1000
    remaining_bytes, duration_s = float(memory_bytes), 0.0
    for round_number in range(1, _MAX_ROUNDS + 1):
        round_s = remaining_bytes / bandwidth_bytes_per_s
        duration_s += round_s
        if remaining_bytes <= enough_bytes:
            return Estimate(memory_bytes, dirty_bytes_per_s, bandwidth_bytes_per_s, True, round(duration_s, 1), round_number)
        # No more than the whole memory can be dirty.
        remaining_bytes = min(remaining_bytes * ratio, float(memory_bytes))
    return Estimate(memory_bytes, dirty_bytes_per_s, bandwidth_bytes_per_s, False)


def in_words(found: Estimate) -> str:
    """What is known, for people."""
    parts = [f"{found.memory_bytes / _MIB:.0f} MiB of memory"]
    if found.dirty_bytes_per_s is not None:
        parts.append(f"{found.dirty_bytes_per_s / _MIB:.0f} MiB/s written by the guest")
    if found.bandwidth_bytes_per_s:
        parts.append(f"at most {found.bandwidth_bytes_per_s / _MIB:.0f} MiB/s of bandwidth")
    if found.duration_s is not None:
        parts.append(f"about {found.duration_s:.1f} s in {found.rounds} rounds")
    return ", ".join(parts)


__all__ = ("Estimate", "estimate", "in_words")
