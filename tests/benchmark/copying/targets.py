# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the copy has to reach, and whether it does. Pure: numbers in, verdicts out."""

from __future__ import annotations

import random
import statistics
import typing as t
from dataclasses import dataclass, field

from intervals import median_interval

from copying import plan
from copying.plan import Cell, Content

MIN_ROUNDS = 5

# Seconds of ours to those of the best peer that keeps thin what is thin: the median of the paired ratios, and the end of its interval.
WALL_RATIO, WALL_RATIO_HIGH = 1.0, 1.1
# An empty volume whose source tells extents, onto a target that can unmap; otherwise the ratio counts.
EMPTY_S, EMPTY_RATIO = 0.5, 1.05
# CPU of all processes, ours to that of the best peer.
CPU_RATIO = 1.0
# A verified copy to qemu-img's convert and compare.
VERIFIED_RATIO = 0.7
# Cinder's loop takes so many times as long as ours.
CINDER_TIMES = {plan.RANDOM: 3.0, plan.SPARSE: 5.0}
MEMORY_MIB, MEMORY_TWO_RBD_MIB = 256.0, 384.0
# How far the time may be from linear when the size is four times as much, and grow when only holes come in addition.
LINEAR_RATIO, HOLES_RATIO = 1.1, 1.1
# Space that the target takes to what the source takes, beside what a backend allocates in addition for anything.
THIN_RATIO, THIN_MIB = 1.05, 64.0
# These tell where a volume holds data.
WITH_EXTENTS = (plan.ISCSI, plan.RBD)


@dataclass(frozen=True)
class Sample:
    """One run. ``compare_s`` is what qemu-img compare took after it, where that was measured."""

    wall_s: float
    cpu_s: float
    rss_mib: float
    compare_s: float | None = None


@dataclass(frozen=True)
class Looked:
    """What was found on the target after a tool's first run, by other tools."""

    identical: bool
    allocated_mib: float


@dataclass(frozen=True)
class Check:
    """One number beside its limit; ``high_limit`` is that of its interval's end, where that counts too."""

    name: str
    value: float
    limit: float
    low: float
    high: float
    high_limit: float | None = None

    @property
    def passed(self) -> bool:
        return self.value <= self.limit and (self.high_limit is None or self.high <= self.high_limit)


@dataclass
class Verdict:
    """``problems`` are what no number can tell: wrong copies, rounds that are missing."""

    cell: Cell
    rounds: int
    seconds: float = 0.0
    best_peer: str = ""
    ratio: Check | None = None
    checks: list[Check] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.problems and all(check.passed for check in self.checks)


Round = t.Mapping[str, Sample]


def judge(cell: Cell, standard_mib: int, rounds: t.Sequence[Round], looked: t.Mapping[str, Looked]) -> Verdict:
    return _Judge(cell, rounds, looked).verdict(standard_mib)


class _Judge:
    """One cell. ``rounds`` have the samples by the runs' keys."""

    def __init__(self, cell: Cell, rounds: t.Sequence[Round], looked: t.Mapping[str, Looked]) -> None:
        self._cell = cell
        self._rounds = rounds
        self._looked = looked
        # Drawn anew for each cell, so that its numbers do not depend on which cells are judged before.
        self._chance = random.Random(cell.name)

    def verdict(self, standard_mib: int) -> Verdict:
        cell, rounds = self._cell, self._rounds
        verdict = Verdict(cell, len(rounds))
        if len(rounds) < MIN_ROUNDS:
            verdict.problems.append(f"{len(rounds)} of {MIN_ROUNDS} rounds")
        verdict.problems += [f"{key} made a wrong copy" for key, found in sorted(self._looked.items()) if not found.identical]
        if not rounds:
            return verdict
        if cell.kind == plan.GROWTH:
            self._judge_growth(verdict, standard_mib)
        else:
            self._judge_copy(verdict, cell.contents[0])
        limit = MEMORY_TWO_RBD_MIB if cell.source == cell.target == plan.RBD else MEMORY_MIB
        most = max(sample.rss_mib for one in rounds for key, sample in one.items() if key.split()[0] in (plan.OURS, plan.OURS_VERIFIED))
        verdict.checks.append(Check("memory MiB", most, limit, most, most))
        return verdict

    def _judge_copy(self, verdict: Verdict, what: Content) -> None:
        cell = self._cell
        ours = plan.Run(plan.OURS, what).key
        verdict.seconds = self._median(ours)
        best = self._best_peer(what)
        verdict.best_peer = best.split()[0]
        at_once = what.fill == plan.EMPTY and cell.source in WITH_EXTENTS
        limit = EMPTY_RATIO if what.fill == plan.EMPTY else WALL_RATIO
        high_limit = None if what.fill == plan.EMPTY else WALL_RATIO_HIGH
        verdict.ratio = self._ratio("time to best peer", ours, best, limit, high_limit=high_limit)
        if at_once:
            walls = [one[ours].wall_s for one in self._rounds]
            verdict.checks.append(Check("seconds", verdict.seconds, EMPTY_S, min(walls), max(walls)))
        else:
            verdict.checks.append(verdict.ratio)
        if what.fill != plan.EMPTY:
            verdict.checks.append(self._ratio("CPU to best peer", ours, best, CPU_RATIO, number=_cpu))
            verified = plan.Run(plan.OURS_VERIFIED, what).key
            peer = plan.Run(plan.QEMU_IMG, what).key
            verdict.checks.append(self._ratio("verified to convert + compare", verified, peer, VERIFIED_RATIO, of_peer=_with_compare))
            cinder = plan.Run(plan.CINDER, what).key
            if any(run.key == cinder for run in cell.runs):
                verdict.checks.append(self._ratio("time to Cinder's loop", ours, cinder, 1 / CINDER_TIMES[what.fill]))
        self._judge_thinness(verdict, ours, what)

    def _judge_growth(self, verdict: Verdict, standard_mib: int) -> None:
        small, standard, large = (plan.Run(plan.OURS, what).key for what in plan.growth_contents(standard_mib))
        few, many = (plan.Run(plan.OURS, what).key for what in plan.holes_contents(standard_mib))
        verdict.seconds = self._median(large)
        verdict.best_peer = plan.QEMU_IMG
        for what in plan.growth_contents(standard_mib)[::2]:
            ours, peer = plan.Run(plan.OURS, what).key, plan.Run(plan.QEMU_IMG, what).key
            name = f"time to best peer, {what.size_mib} MiB"
            verdict.ratio = self._ratio(name, ours, peer, WALL_RATIO, high_limit=WALL_RATIO_HIGH)
            verdict.checks.append(verdict.ratio)
        verdict.checks.append(self._ratio("four times a quarter", standard, small, 4 * LINEAR_RATIO))
        verdict.checks.append(self._ratio("four times the size", large, standard, 4 * LINEAR_RATIO))
        verdict.checks.append(self._ratio("four times the size in holes", many, few, HOLES_RATIO))

    def _judge_thinness(self, verdict: Verdict, key: str, what: Content) -> None:
        if key in self._looked:
            space = self._looked[key].allocated_mib
            verdict.checks.append(Check("space MiB", space, _thin_mib(what), space, space))

    def _best_peer(self, what: Content) -> str:
        """The fastest of those that took no space for what is empty."""
        keys = [plan.Run(tool, what).key for tool in plan.PEERS]
        thin = [key for key in keys if key in self._looked and self._looked[key].allocated_mib <= _thin_mib(what)]
        # Whoever is left out in later rounds was much slower in the first ones, which alone are compared.
        return min(
            (key for key in thin if any(key in one for one in self._rounds)),
            key=lambda key: statistics.median(
                one[key].wall_s / one[plan.Run(plan.OURS, what).key].wall_s for one in self._rounds if key in one
            ),
        )

    def _median(self, key: str) -> float:
        return statistics.median(one[key].wall_s for one in self._rounds)

    def _ratio(
        self,
        name: str,
        ours: str,
        peer: str,
        limit: float,
        *,
        high_limit: float | None = None,
        number: t.Callable[[Sample], float] | None = None,
        of_peer: t.Callable[[Sample], float] | None = None,
    ) -> Check:
        number = number or _wall
        of_peer = of_peer or number
        ratios = [number(one[ours]) / max(of_peer(one[peer]), 0.001) for one in self._rounds if ours in one and peer in one]
        low, high = median_interval(ratios, self._chance)
        return Check(name, statistics.median(ratios), limit, low, high, high_limit)


def _thin_mib(what: Content) -> float:
    return what.data_mib * THIN_RATIO + THIN_MIB


def _wall(sample: Sample) -> float:
    return sample.wall_s


def _cpu(sample: Sample) -> float:
    return sample.cpu_s


def _with_compare(sample: Sample) -> float:
    return sample.wall_s + (sample.compare_s or 0.0)
