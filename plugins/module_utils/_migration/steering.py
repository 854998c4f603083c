# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What is done about a running migration after one look at it. Pure; C(job.py) looks, and carries it out.

The hypervisor goes through the guest's memory again and again. Each time through (an iteration) sends what the guest has
changed during the one before. The migration converges when the iterations begin with less and less; how much remains in between says
little, because within each iteration it falls to nearly nothing. So an iteration is judged by the most that remained in it, and the
downtime limit goes up one step after each iteration that brought no less: that takes as long as it takes to know, however large
the guest and however fast the network. (Fixed times per GiB make a large guest wait for minutes in vain.)
"""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.lunshift.migration.plugins.module_utils._migration.controls import Controls
from ansible_collections.lunshift.migration.plugins.module_utils._migration.statistics import Progress

MIB = 1 << 20
# libvirt has no limit for reaching the destination, and one that hangs takes it for ever. Slow hosts take half a minute.
BEGIN_LIMIT_S = 120.0
# Sampled twice a second, an iteration's peak is seen somewhat too low; what is not clearly less is no less.
CLEARLY_LESS = 0.9
# Data that did not move for so long does not move: nothing but aborting helps then, and a guest that stands still waits no longer.
STILL_S = 10.0
# libvirt may refuse to suspend, or to start post-copy, at one moment. After so many times it will not.
REFUSALS = 5


@dataclass(frozen=True)
class SetDowntime:
    milliseconds: int


@dataclass(frozen=True)
class SetBandwidth:
    """0 is no limit."""

    mib: int


@dataclass(frozen=True)
class Suspend:
    why: str


@dataclass(frozen=True)
class StartPostcopy:
    why: str


@dataclass(frozen=True)
class Abort:
    error_id: str
    why: str


Action = t.Union[SetDowntime, SetBandwidth, Suspend, StartPostcopy, Abort]


@dataclass(frozen=True)
class Applied:
    """What libvirt has taken so far. Whatever it refused is wanted again at the next look."""

    bandwidth_mib: int = 0
    downtime_ms: int = 0
    suspended_at_s: float | None = None
    postcopy: bool = False
    refusals: int = 0


@dataclass(frozen=True)
class History:
    """What is remembered from one look to the next."""

    iteration: int = 0
    peak_bytes: int = 0
    lowest_bytes: int | None = None
    lowest_peak_bytes: int | None = None
    processed_bytes: int = 0
    throttle_percent: int = 0
    applied: Applied = Applied()
    moved_at_s: float = 0.0
    progressed_at_s: float = 0.0
    converges: bool | None = None
    step: int = 0

    def after(self, elapsed_s: float, seen: Progress, applied: Applied) -> History:
        """With one more look. ``seen`` may be an old one, when libvirt did not answer: then nothing but time has gone by."""
        now = self
        if not seen.total_bytes:
            return now
        if seen.processed_bytes != now.processed_bytes:
            now = replace(now, processed_bytes=seen.processed_bytes, moved_at_s=elapsed_s)
        if seen.iteration != now.iteration:
            now = now._with_iteration(elapsed_s, seen)
        now = replace(now, peak_bytes=max(now.peak_bytes, seen.remaining_bytes))
        if now.lowest_bytes is None or seen.remaining_bytes < now.lowest_bytes:
            now = replace(now, lowest_bytes=seen.remaining_bytes, progressed_at_s=elapsed_s)
        # Something was done about it: it gets the whole time to work.
        if seen.throttle_percent != now.throttle_percent or applied != now.applied:
            now = replace(now, throttle_percent=seen.throttle_percent, applied=applied, progressed_at_s=elapsed_s)
        return now

    def _with_iteration(self, elapsed_s: float, seen: Progress) -> History:
        """A new iteration has begun, so the one before can be judged. The first sends everything, and says nothing."""
        begun = replace(self, iteration=seen.iteration, peak_bytes=0)
        if self.iteration < 2:
            return begun
        if self.lowest_peak_bytes is None:
            return replace(begun, lowest_peak_bytes=self.peak_bytes, progressed_at_s=elapsed_s)
        if self.peak_bytes <= self.lowest_peak_bytes * CLEARLY_LESS:
            return replace(begun, lowest_peak_bytes=self.peak_bytes, progressed_at_s=elapsed_s, converges=True)
        return replace(begun, lowest_peak_bytes=min(self.lowest_peak_bytes, self.peak_bytes), converges=False, step=self.step + 1)

    def moves(self, elapsed_s: float) -> bool:
        return elapsed_s - self.moved_at_s <= STILL_S


def downtime_limit_ms(controls: Controls, step: int) -> int:
    """From start to maximum, each step by the same factor: the first are small, where they hurt the guest least."""
    if not controls.downtime_start_ms:
        return controls.downtime_ms
    done = min(step, controls.downtime_steps) / controls.downtime_steps
    return round(controls.downtime_start_ms * math.pow(controls.downtime_ms / controls.downtime_start_ms, done))


def decide(
    elapsed_s: float, seen: Progress, history: History, controls: Controls, *, lease_lapsed: bool, postcopy_allowed: bool
) -> tuple[Action, ...]:
    """In post-copy there is nothing left to decide: the guest runs on the destination, and its memory must follow."""
    if history.applied.postcopy:
        return ()
    ending = (
        _without_controller(controls, lease_lapsed)
        or _not_begun(elapsed_s, seen, controls)
        or _standing_still(elapsed_s, seen, history, controls)
        or _overdue(elapsed_s, seen, history, controls, postcopy_allowed)
    )
    if isinstance(ending, Abort) or not seen.total_bytes:
        return (ending,) if ending else ()
    actions: list[Action] = [ending] if ending else []
    if controls.bandwidth_mib != history.applied.bandwidth_mib:
        actions.append(SetBandwidth(controls.bandwidth_mib))
    limit_ms = downtime_limit_ms(controls, history.step)
    if limit_ms and limit_ms != history.applied.downtime_ms:
        actions.append(SetDowntime(limit_ms))
    return tuple(actions)


def _without_controller(controls: Controls, lease_lapsed: bool) -> Abort | None:
    if lease_lapsed and controls.abort_without_controller:
        return Abort("lease_lapsed", "The controller was lost (nothing renewed the lease), so the migration was aborted")
    return None


def _not_begun(elapsed_s: float, seen: Progress, controls: Controls) -> Abort | None:
    limit_s = min(BEGIN_LIMIT_S, controls.progress_timeout_s or BEGIN_LIMIT_S)
    if seen.total_bytes or elapsed_s <= limit_s:
        return None
    return Abort(
        "not_begun",
        f"Nothing was moved for {limit_s:g} s, so the migration was aborted. Look at libvirt on the destination: it may hang",
    )


def _standing_still(elapsed_s: float, seen: Progress, history: History, controls: Controls) -> Abort | None:
    """The guest was suspended so that the migration ends; not for longer than that helps."""
    suspended_at_s = history.applied.suspended_at_s
    if suspended_at_s is None:
        return None
    paused_s = elapsed_s - suspended_at_s
    if paused_s > STILL_S and not history.moves(elapsed_s):
        return Abort(
            "no_progress", f"The guest was suspended, but no data moved for {STILL_S:g} s, so the migration was aborted. {_stalled()}"
        )
    if 0 < controls.progress_timeout_s < paused_s:
        return Abort(
            "timeout",
            f"The guest had been suspended for progress_timeout ({controls.progress_timeout_s:g} s) with {_mib(seen.remaining_bytes)} left,"
            " so the migration was aborted. Give it more bandwidth",
        )
    return None


def _overdue(elapsed_s: float, seen: Progress, history: History, controls: Controls, postcopy_allowed: bool) -> Action | None:
    """The time is over, or time goes by without progress."""
    if history.applied.suspended_at_s is not None:
        return None
    waited_s = elapsed_s - history.progressed_at_s
    if 0 < controls.progress_timeout_s < waited_s:
        error_id, why = "no_progress", f"The migration made no progress for progress_timeout ({controls.progress_timeout_s:g} s)"
    elif 0 < controls.timeout_s < elapsed_s:
        error_id, why = "timeout", f"The migration took longer than timeout ({controls.timeout_s:g} s)"
    else:
        return None
    why = f"{why} at {seen.percent} %, iteration {seen.iteration}, with {_mib(seen.remaining_bytes)} left"
    if not history.moves(elapsed_s):
        since = elapsed_s - history.moved_at_s
        return Abort(error_id, f"{why}, and was aborted, since no data had moved for {since:.0f} s. {_stalled()}")
    return _end_it(error_id, why, seen, history, controls, postcopy_allowed)


def _end_it(error_id: str, why: str, seen: Progress, history: History, controls: Controls, postcopy_allowed: bool) -> Action | None:
    """What the operator chose for that, when it can help."""
    if controls.timeout_action == "abort":
        return Abort(error_id, f"{why}, and was aborted. {_remedy(seen, controls)}")
    if history.applied.refusals >= REFUSALS:
        return Abort(error_id, f"{why}, and was aborted, because libvirt refused timeout_action {controls.timeout_action} {REFUSALS} times")
    if controls.timeout_action == "postcopy":
        if not postcopy_allowed:
            return Abort(
                error_id, f"{why}, and was aborted: post-copy has to be allowed when a migration starts, and this one was started without"
            )
        # Whatever was not sent once by then the guest would have to wait for, page by page.
        return StartPostcopy(f"{why}, so post-copy was started") if seen.iteration > 1 else None
    pause_s = seen.remaining_bytes / seen.bandwidth_bytes_per_s if seen.bandwidth_bytes_per_s else 0.0
    if 0 < controls.progress_timeout_s < pause_s:
        return Abort(
            error_id,
            f"{why}, and was aborted: suspended, the guest would stand still for about {pause_s:.0f} s, longer than progress_timeout"
            f" ({controls.progress_timeout_s:g} s). Give it more bandwidth",
        )
    return Suspend(f"{why}, so the guest was suspended to end it, for about {pause_s:.0f} s")


def _remedy(seen: Progress, controls: Controls) -> str:
    """What would have helped, in numbers where there are some."""
    if seen.expected_downtime_ms is None:
        return "Give it more time, or more bandwidth"
    allowed = f"downtime_ms allows {controls.downtime_ms} ms" if controls.downtime_ms else "the hypervisor's default allows 300 ms"
    return (
        f"The guest changes {_mib(seen.dirty_bytes_per_s)}/s, the network takes {_mib(seen.bandwidth_bytes_per_s)}/s, and the rest would"
        f" stop the guest for {seen.expected_downtime_ms} ms while {allowed}. Give it more bandwidth, a longer downtime, auto_converge,"
        " or another timeout_action"
    )


def _stalled() -> str:
    return "Check the network and the firewall between the hosts for the data's ports (49152 to 49215, unless migrate_uri says others)"


def _mib(count: int) -> str:
    return f"{count / MIB:.1f} MiB"


__all__ = (
    "Abort",
    "Action",
    "Applied",
    "History",
    "SetBandwidth",
    "SetDowntime",
    "StartPostcopy",
    "Suspend",
    "decide",
    "downtime_limit_ms",
)
