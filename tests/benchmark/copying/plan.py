# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is measured: cells, each with the runs of one round, and the order in which they come. Pure.

A cell is a pair of backends with one kind of content, or one pair at growing sizes.
"""

from __future__ import annotations

import fnmatch
import typing as t
from dataclasses import dataclass

# A loop device with direct I/O; a LUN of tgt in user space; an image of a Ceph cluster.
BLOCK, ISCSI, RBD = "block", "iscsi", "rbd"
ENDS = (BLOCK, ISCSI, RBD)
# LUNs behind the kernel's initiator of a User-Mode Linux host, where the tools run too. It is slow, so they are small.
KERNEL = "kernel"
KERNEL_PART = 4
# Whose volumes are the lab's.
IN_LAB = (RBD, KERNEL)
RANDOM, SPARSE, EMPTY, GROWTH = "random", "sparse", "empty", "growth"
FILLS = (RANDOM, SPARSE, EMPTY)

OURS, OURS_VERIFIED = "ours", "ours_verified"
QEMU_IMG, NBDCOPY, DD_1M, DD_4M, RBD_IMPORT, RBD_EXPORT, CINDER = (
    "qemu-img",
    "nbdcopy",
    "dd_1m",
    "dd_4m",
    "rbd_import",
    "rbd_export",
    "cinder",
)
# Who may be the best one. Cinder's loop has a target of its own.
PEERS = (QEMU_IMG, NBDCOPY, DD_1M, DD_4M, RBD_IMPORT, RBD_EXPORT)

STANDARD_MIB = 4096
# What grows is a quarter and four times that; these pairs need the least space.
GROWTH_PAIRS = ((BLOCK, RBD), (ISCSI, BLOCK))
# Of a sparse volume so much is data.
SPARSE_PART = 4
# Who is so much slower than the best in each of the first rounds will not become the best one, and is not measured any more.
_RETIRE_ROUNDS, _RETIRE_RATIO = 2, 1.5


@dataclass(frozen=True)
class Content:
    """What a source holds: ``data_mib`` of random data in ``size_mib``."""

    fill: str
    size_mib: int
    data_mib: int

    @property
    def name(self) -> str:
        return f"{self.fill}-{self.data_mib}-of-{self.size_mib}"


@dataclass(frozen=True)
class Run:
    """One copy by one tool."""

    tool: str
    content: Content

    @property
    def key(self) -> str:
        return f"{self.tool} {self.content.name}"


@dataclass(frozen=True)
class Cell:
    """What is compared with each other; ``kind`` is a fill, or growth."""

    source: str
    target: str
    kind: str
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        return f"{self.source}-{self.target}-{self.kind}"

    @property
    def contents(self) -> tuple[Content, ...]:
        return tuple(dict.fromkeys(run.content for run in self.runs))


def content(fill: str, size_mib: int) -> Content:
    return Content(fill, size_mib, {RANDOM: size_mib, SPARSE: size_mib // SPARSE_PART, EMPTY: 0}[fill])


def all_cells(standard_mib: int, *, cinder: bool) -> list[Cell]:
    pairs = [(source, target) for source in ENDS for target in ENDS]
    cells = [_cell(source, target, content(fill, standard_mib), cinder=cinder) for fill in FILLS for source, target in pairs]
    cells += [_cell(KERNEL, KERNEL, content(fill, standard_mib // KERNEL_PART), cinder=cinder) for fill in FILLS]
    return cells + [_growth(source, target, standard_mib) for source, target in GROWTH_PAIRS]


def _cell(source: str, target: str, what: Content, *, cinder: bool) -> Cell:
    tools = [OURS, QEMU_IMG]
    # The host with a kernel of its own has no nbdcopy.
    if source != KERNEL:
        tools.append(NBDCOPY)
    if what.fill != EMPTY:
        tools.append(OURS_VERIFIED)
    # It writes every zero.
    if source == target and source in (BLOCK, KERNEL) and what.fill == RANDOM:
        tools += [DD_1M, DD_4M]
    if (source, target) == (BLOCK, RBD):
        tools.append(RBD_IMPORT)
    if (source, target) == (RBD, BLOCK):
        tools.append(RBD_EXPORT)
    # Its loop runs over a handle at one end at least; two paths it gives to dd.
    if cinder and what.fill != EMPTY and RBD in (source, target) and ISCSI not in (source, target):
        tools.append(CINDER)
    return Cell(source, target, what.fill, tuple(Run(tool, what) for tool in tools))


def _growth(source: str, target: str, standard_mib: int) -> Cell:
    small, standard, large = growth_contents(standard_mib)
    runs = [Run(tool, size) for size in (small, large) for tool in (OURS, QEMU_IMG)]
    runs.append(Run(OURS, standard))
    runs += [Run(OURS, holes) for holes in holes_contents(standard_mib)]
    return Cell(source, target, GROWTH, tuple(runs))


def growth_contents(standard_mib: int) -> tuple[Content, Content, Content]:
    """All random: a quarter of the standard size, it, and four times it."""
    sizes = (standard_mib // 4, standard_mib, standard_mib * 4)
    small, standard, large = (content(RANDOM, size) for size in sizes)
    return small, standard, large


def holes_contents(standard_mib: int) -> tuple[Content, Content]:
    """The same amount of data, with few holes and with many."""
    few = content(SPARSE, standard_mib)
    return few, Content(SPARSE, standard_mib * 4, few.data_mib)


def select(cells: t.Sequence[Cell], patterns: t.Sequence[str]) -> list[Cell]:
    """Those whose names match one of the patterns; raises ValueError for a pattern that no name matches."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(cell.name, pattern) for cell in cells):
            raise ValueError(f"no cell is called {pattern}; they are: {' '.join(cell.name for cell in cells)}")
    return [cell for cell in cells if not patterns or any(fnmatch.fnmatchcase(cell.name, pattern) for pattern in patterns)]


Walls = t.Mapping[str, float]


def runs_of_round(cell: Cell, number: int, before: t.Sequence[Walls]) -> list[Run]:
    """In an order that begins elsewhere in each round. ``before``: the seconds of the earlier rounds by the runs' keys."""
    going = [run for run in cell.runs if not _retired(cell, run, before)]
    turn = number % len(going)
    return going[turn:] + going[:turn]


def _retired(cell: Cell, run: Run, before: t.Sequence[Walls]) -> bool:
    rounds = [walls for walls in before if run.key in walls]
    if run.tool not in PEERS or len(rounds) < _RETIRE_ROUNDS:
        return False
    rivals = [other.key for other in cell.runs if other.tool in PEERS and other.content == run.content]
    return all(walls[run.key] > _RETIRE_RATIO * min(walls[key] for key in rivals if key in walls) for walls in rounds)


def stages(cells: t.Sequence[Cell]) -> list[list[Cell]]:
    """Cells whose volumes are there at the same time."""
    found: dict[str, list[Cell]] = {"": [], KERNEL: [], GROWTH: []}
    for cell in cells:
        found[next((name for name in (cell.source, cell.kind) if name in found), "")].append(cell)
    return [stage for stage in found.values() if stage]


def needed_mib(cells: t.Sequence[Cell]) -> tuple[int, int]:
    """The most that one stage takes at a time: in files of the benchmark's own, and in the lab."""
    needs = [(_files_mib(stage), _lab_mib(stage)) for stage in stages(cells)]
    return max(files for files, _lab in needs), max(lab for _files, lab in needs)


def _files_mib(stage: t.Sequence[Cell]) -> int:
    cells = [cell for cell in stage if cell.source != KERNEL]
    sources = {what for cell in cells for what in cell.contents}
    largest = max((what.data_mib for what in sources), default=0)
    # Only one target is there at a time; it may be filled by a tool that keeps nothing thin.
    return sum(what.data_mib for what in sources) + max([largest, *(what.size_mib for cell in cells for what in cell.contents)])


def _lab_mib(stage: t.Sequence[Cell]) -> int:
    sources = {what for cell in stage if cell.source in IN_LAB for what in cell.contents}
    targets = [what.size_mib for cell in stage if cell.target in IN_LAB for what in cell.contents]
    return sum(what.data_mib for what in sources) + max(targets, default=0)
