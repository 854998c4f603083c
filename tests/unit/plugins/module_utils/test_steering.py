# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole migrations in simulated time, steered by the pure decision."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._migration.controls import Controls
from ansible_collections.lunshift.migration.plugins.module_utils._migration.statistics import progress
from ansible_collections.lunshift.migration.plugins.module_utils._migration.steering import (
    Abort,
    Applied,
    History,
    SetBandwidth,
    SetDowntime,
    StartPostcopy,
    Suspend,
    decide,
    downtime_limit_ms,
)

MIB = 1 << 20
LOOK_S = 0.5
TICK_S = 0.05


@dataclass
class Simulation:
    """A guest and a hypervisor that behave as QEMU's do: memory is gone through again and again, each time for what was changed."""

    controls: Controls
    total_mib: float = 1024
    # MiB/s that the network takes, and that the guest changes, over time.
    network: t.Callable[[float], float] = lambda now: 100
    dirty: t.Callable[[float], float] = lambda now: 10
    # The guest changes no more than this, again and again.
    working_set_mib: float = 512
    lease_lapses_at_s: float = float("inf")
    postcopy_allowed: bool = False
    hand_over: dict[float, Controls] = field(default_factory=dict)
    actions: list[tuple[float, t.Any]] = field(default_factory=list)

    def run(self, limit_s: float = 4000) -> str:
        """moved, aborted, postcopy, or endless."""
        self.now, self.remaining, self.changed, self.processed, self.iteration = 0.0, self.total_mib, 0.0, 0.0, 1
        self.applied = Applied(bandwidth_mib=self.controls.bandwidth_mib)
        self.history = History(applied=self.applied)
        next_look = 0.1
        while self.now < limit_s:
            self.now += TICK_S
            if self._tick():
                self.ended_s = self.now
                return "moved"
            if self.now >= next_look:
                next_look = self.now + LOOK_S
                end = self._look()
                if end:
                    return end
        return "endless"

    def _tick(self) -> bool:
        """What the hypervisor does; true when it has switched over."""
        self.speed = min(self.network(self.now), self.applied.bandwidth_mib or 1e9)
        self.changes = 0 if self.applied.suspended_at_s is not None else self.dirty(self.now)
        sent = min(self.remaining, self.speed * TICK_S)
        self.remaining, self.processed = self.remaining - sent, self.processed + sent
        self.changed = min(self.working_set_mib, self.changed + self.changes * TICK_S)
        within_limit_mib = self.speed * (self.applied.downtime_ms or 300) / 1000
        if not self.speed or self.remaining > within_limit_mib:
            return False
        # What remains was changed again, as a part of the same working set.
        pending = min(self.remaining + self.changed, max(self.remaining, self.working_set_mib))
        if pending <= within_limit_mib:
            return True
        self.remaining, self.changed, self.iteration = pending, 0.0, self.iteration + 1
        return False

    def _look(self) -> str:
        stats = {
            "data_total": self.total_mib * MIB,
            "data_remaining": int(self.remaining * MIB),
            "data_processed": int(self.processed * MIB),
            "memory_iteration": self.iteration,
            "memory_bps": int(self.speed * MIB),
            "memory_dirty_rate": int(self.changes * MIB / 4096),
            "memory_page_size": 4096,
            "downtime": 1234,
        }
        seen = progress("migrating" if self.applied.suspended_at_s is None else "suspended", self.now, stats)
        for at_s in [at_s for at_s in self.hand_over if at_s < self.now]:
            self.controls = self.hand_over.pop(at_s)
        self.history = self.history.after(self.now, seen, self.applied)
        lapsed = self.now > self.lease_lapses_at_s
        for action in decide(self.now, seen, self.history, self.controls, lease_lapsed=lapsed, postcopy_allowed=self.postcopy_allowed):
            self.actions.append((self.now, action))
            if isinstance(action, Abort):
                return "aborted"
            if isinstance(action, StartPostcopy):
                return "postcopy"
            if isinstance(action, SetDowntime):
                self.applied = replace(self.applied, downtime_ms=action.milliseconds)
            elif isinstance(action, SetBandwidth):
                self.applied = replace(self.applied, bandwidth_mib=action.mib)
            elif isinstance(action, Suspend):
                self.applied = replace(self.applied, suspended_at_s=self.now)
        return ""

    def limits(self) -> list[int]:
        return [action.milliseconds for _at, action in self.actions if isinstance(action, SetDowntime)]

    @property
    def last(self) -> t.Any:
        return self.actions[-1][1]


def test_a_guest_that_converges_is_left_alone() -> None:
    calm = Simulation(Controls(downtime_start_ms=100, downtime_ms=500, timeout_s=3600, progress_timeout_s=300))
    assert calm.run() == "moved"
    assert calm.limits() == [100]


def test_a_guest_that_needs_a_longer_limit_gets_it_in_steps() -> None:
    # It changes 40 MiB again and again: 400 ms at 100 MiB/s.
    busy = Simulation(
        Controls(downtime_start_ms=100, downtime_ms=600, timeout_s=3600, progress_timeout_s=60), dirty=lambda now: 1000, working_set_mib=40
    )
    assert busy.run() == "moved"
    assert busy.limits() == [100, 143, 205, 293, 419]
    assert busy.ended_s < 60


def test_a_guest_that_never_converges_is_aborted_with_what_would_help() -> None:
    wild = Simulation(Controls(downtime_start_ms=100, downtime_ms=500, timeout_s=100), dirty=lambda now: 120)
    assert wild.run() == "aborted"
    assert wild.limits() == [100, 138, 190, 263, 362, 500]
    assert wild.history.converges is False
    assert wild.last.error_id == "timeout"
    assert "The guest changes 120.0 MiB/s, the network takes 100.0 MiB/s, and the rest would stop the guest for 1234 ms" in wild.last.why
    assert "downtime_ms allows 500 ms" in wild.last.why


def test_without_a_timeout_it_ends_by_the_progress_timeout() -> None:
    wild = Simulation(Controls(downtime_ms=300, progress_timeout_s=60), dirty=lambda now: 120, working_set_mib=200)
    assert wild.run() == "aborted"
    assert wild.last.error_id == "no_progress"


def test_without_any_limit_nothing_ends_it() -> None:
    assert Simulation(Controls(), dirty=lambda now: 120).run(1000) == "endless"


def test_a_burst_is_survived() -> None:
    """Changing loads: what does not converge for a minute may do so afterwards."""
    oscillating = Simulation(
        Controls(downtime_ms=300, timeout_s=600, progress_timeout_s=120), dirty=lambda now: 150 if now % 100 < 70 else 10
    )
    assert oscillating.run() == "moved"


def test_a_slow_but_steady_first_pass_is_progress() -> None:
    large = Simulation(Controls(downtime_ms=300, progress_timeout_s=30), total_mib=20_000)
    assert large.run() == "moved"
    assert large.ended_s > 200


def test_a_channel_that_stalls_is_aborted_whatever_the_action() -> None:
    for action in ("abort", "force", "postcopy"):
        stalled = Simulation(
            Controls(progress_timeout_s=30, timeout_action=action), network=lambda now: 100 if now < 5 else 0, postcopy_allowed=True
        )
        assert stalled.run() == "aborted"
        at_s, last = stalled.actions[-1]
        assert last.error_id == "no_progress"
        assert "no data had moved" in last.why
        assert "firewall" in last.why
        assert 34 < at_s < 38


def test_a_channel_that_comes_back_is_no_stall() -> None:
    blinking = Simulation(Controls(progress_timeout_s=30), network=lambda now: 0 if 5 < now < 30 else 100)
    assert blinking.run() == "moved"


def test_what_never_begins_is_aborted() -> None:
    nothing = progress("migrating", 121, {})
    for limit_s, elapsed_s in ((0, 121), (300, 121), (20, 21)):
        (action,) = decide(elapsed_s, nothing, History(), Controls(progress_timeout_s=limit_s), lease_lapsed=False, postcopy_allowed=False)
        assert isinstance(action, Abort)
        assert action.error_id == "not_begun"
    assert decide(119, nothing, History(), Controls(), lease_lapsed=False, postcopy_allowed=False) == ()


def test_force_ends_what_does_not_converge() -> None:
    wild = Simulation(Controls(timeout_s=60, timeout_action="force", progress_timeout_s=300), dirty=lambda now: 120)
    assert wild.run() == "moved"
    assert [type(action) for _at, action in wild.actions] == [Suspend]
    assert wild.ended_s < 70


def test_force_does_not_stop_a_guest_for_longer_than_the_progress_timeout() -> None:
    slow = Simulation(Controls(bandwidth_mib=2, timeout_s=60, timeout_action="force", progress_timeout_s=100))
    assert slow.run() == "aborted"
    assert "would stand still for about" in slow.last.why


@pytest.mark.parametrize(("speed_after", "error_id"), [(0.0, "no_progress"), (1.0, "timeout")])
def test_a_guest_that_stands_still_in_vain_is_freed(speed_after: float, error_id: str) -> None:
    broken = Simulation(
        Controls(timeout_s=60, timeout_action="force", progress_timeout_s=40),
        dirty=lambda now: 120,
        network=lambda now: 100 if now < 61 else speed_after,
    )
    assert broken.run() == "aborted"
    at_s, last = broken.actions[-1]
    assert last.error_id == error_id
    assert at_s < 110
    assert isinstance(broken.actions[0][1], Suspend)


def test_postcopy_waits_for_the_end_of_the_first_pass() -> None:
    large = Simulation(
        Controls(timeout_s=20, timeout_action="postcopy"),
        total_mib=5000,
        dirty=lambda now: 120,
        working_set_mib=4000,
        postcopy_allowed=True,
    )
    assert large.run() == "postcopy"
    assert large.actions[-1][0] > 49


def test_postcopy_that_was_not_allowed_at_the_start() -> None:
    taken_over = Simulation(Controls(timeout_s=60, timeout_action="postcopy"), dirty=lambda now: 120)
    assert taken_over.run() == "aborted"
    assert "started without" in taken_over.last.why


def test_nothing_is_decided_in_postcopy() -> None:
    history = History(applied=Applied(postcopy=True))
    seen = progress("postcopy", 9999, {"data_total": 5})
    controls = Controls(timeout_s=1, progress_timeout_s=1)
    assert decide(9999, seen, history, controls, lease_lapsed=True, postcopy_allowed=True) == ()


def test_a_lost_controller() -> None:
    lost = Simulation(Controls(), dirty=lambda now: 120, lease_lapses_at_s=10)
    assert lost.run() == "aborted"
    assert lost.last.error_id == "lease_lapsed"
    assert Simulation(Controls(abort_without_controller=False), lease_lapses_at_s=2).run() == "moved"


def test_more_bandwidth_in_the_middle_ends_it() -> None:
    narrow = Controls(bandwidth_mib=50, timeout_s=600)
    helped = Simulation(narrow, dirty=lambda now: 60, hand_over={60.0: replace(narrow, bandwidth_mib=0)})
    assert helped.run() == "moved"
    assert helped.actions[0][1] == SetBandwidth(0)
    assert helped.ended_s < 100
    assert Simulation(narrow, dirty=lambda now: 60).run() == "aborted"


def test_the_steps_of_the_limit() -> None:
    ramp = Controls(downtime_start_ms=100, downtime_ms=1600, downtime_steps=4)
    assert [downtime_limit_ms(ramp, step) for step in range(6)] == [100, 200, 400, 800, 1600, 1600]
    assert downtime_limit_ms(Controls(downtime_ms=300), 7) == 300
    assert downtime_limit_ms(Controls(), 7) == 0


def test_an_old_look_is_no_progress() -> None:
    seen = progress("migrating", 1, {"data_total": 100, "data_remaining": 50, "data_processed": 50, "memory_iteration": 1})
    once = History().after(1, seen, Applied())
    assert once.after(50, seen, Applied()) == once
    assert once.moves(10)
    assert not once.moves(12)
