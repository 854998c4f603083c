# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What libvirt's numbers about a migration mean: progress while it runs, statistics when it is over. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass

# Our key, libvirt's key. libvirt counts in bytes and milliseconds; the dirty rate is in pages per second.
_COMPLETED = (
    ("total_time_ms", "time_elapsed"),
    ("downtime_ms", "downtime"),
    ("setup_ms", "setup_time"),
    ("data_total_bytes", "data_total"),
    ("data_processed_bytes", "data_processed"),
    ("memory_total_bytes", "memory_total"),
    ("memory_processed_bytes", "memory_processed"),
    ("memory_bandwidth_bytes_per_s", "memory_bps"),
    ("iterations", "memory_iteration"),
    ("throttle_percent", "auto_converge_throttle"),
)


@dataclass(frozen=True)
class Progress:
    """One look at a running migration. ``percent`` never falls; ``remaining_bytes`` does rise again when the guest writes."""

    phase: str
    elapsed_s: float
    percent: int = 0
    total_bytes: int = 0
    processed_bytes: int = 0
    remaining_bytes: int = 0
    lowest_remaining_bytes: int | None = None
    iteration: int = 0
    bandwidth_bytes_per_s: int = 0
    dirty_bytes_per_s: int = 0
    throttle_percent: int = 0
    # How long the guest would stand still if the rest were sent now, and how long it may. None: not known, the hypervisor's own.
    expected_downtime_ms: int | None = None
    downtime_limit_ms: int | None = None
    # Whether going through the memory once more brings the rest down. None: too early to tell.
    converges: bool | None = None
    seconds_left: float | None = None

    def to_dict(self) -> dict[str, t.Any]:
        return asdict(self)


def progress(phase: str, elapsed_s: float, stats: t.Mapping[str, t.Any], percent_so_far: int = 0) -> Progress:
    """``stats`` is libvirt's jobStats; it may be empty while the job is about to begin."""
    total = int(stats.get("data_total", 0))
    remaining = int(stats.get("data_remaining", 0))
    bandwidth = int(stats.get("memory_bps", 0))
    # A guest that stands still dirties nothing, whatever libvirt last measured.
    dirty = 0 if phase == "suspended" else int(stats.get("memory_dirty_rate", 0)) * int(stats.get("memory_page_size", 0))
    # All of it is done only when libvirt says so.
    percent = min(99, 100 * (total - remaining) // total) if total else 0
    return Progress(
        phase=phase,
        elapsed_s=round(elapsed_s, 1),
        percent=max(percent, percent_so_far),
        total_bytes=total,
        processed_bytes=int(stats.get("data_processed", 0)),
        remaining_bytes=remaining,
        iteration=int(stats.get("memory_iteration", 0)),
        bandwidth_bytes_per_s=bandwidth,
        dirty_bytes_per_s=dirty,
        throttle_percent=int(stats.get("auto_converge_throttle", 0)),
        # Before the first time through is over, QEMU gives the limit in its place.
        expected_downtime_ms=int(stats["downtime"]) if "downtime" in stats and int(stats.get("memory_iteration", 0)) > 1 else None,
        # The guest writes while its memory is copied: only what is faster than that makes the rest smaller.
        seconds_left=round(remaining / (bandwidth - dirty), 1) if bandwidth > dirty else None,
    )


def completed(stats: t.Mapping[str, t.Any]) -> dict[str, int | None]:
    """libvirt's statistics of a finished job; a number that it did not give is None."""
    return {ours: int(stats[theirs]) if theirs in stats else None for ours, theirs in _COMPLETED}


__all__ = ("Progress", "completed", "progress")
