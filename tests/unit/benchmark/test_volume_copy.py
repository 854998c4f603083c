# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the volume copy benchmark plans, judges, keeps and shows; nothing is copied."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from copying import plan, show
from copying.place import write_content
from copying.plan import Cell, Run, content
from copying.results import Results, ResultsError
from copying.targets import Check, Looked, Sample, Verdict, judge
from intervals import median_interval, ratio_interval

STANDARD_MIB = 4096


def _cell(name: str, *, cinder: bool = True) -> Cell:
    (cell,) = plan.select(plan.all_cells(STANDARD_MIB, cinder=cinder), [name])
    return cell


def _key(tool: str, fill: str) -> str:
    return Run(tool, content(fill, STANDARD_MIB)).key


def _sample(wall_s: float, cpu_s: float = 1.0, rss_mib: float = 100.0, compare_s: float | None = None) -> Sample:
    return Sample(wall_s, cpu_s, rss_mib, compare_s)


# --- intervals ---


def test_an_interval_holds_the_median_and_is_narrow_when_all_agree() -> None:
    chance = random.Random(1)
    low, high = median_interval([1.0, 1.1, 0.9, 1.0, 5.0], chance)
    assert low == 0.9 and high == 5.0
    assert median_interval([2.0] * 5, chance) == (2.0, 2.0)
    assert ratio_interval([2.0] * 5, [4.0] * 7, chance) == (0.5, 0.5)


# --- the plan ---


def test_every_ordered_pair_has_every_fill_and_the_kernel_s_initiator_too_and_two_pairs_grow() -> None:
    cells = plan.all_cells(STANDARD_MIB, cinder=False)
    names = {cell.name for cell in cells}
    assert len(names) == len(cells) == 3 * 3 * 3 + 3 + 2
    assert {"rbd-iscsi-sparse", "block-block-empty", "block-rbd-growth", "iscsi-block-growth"} <= names


@pytest.mark.parametrize(
    ("cell", "tools"),
    [
        ("block-block-random", {"ours", "ours_verified", "qemu-img", "nbdcopy", "dd_1m", "dd_4m"}),
        ("block-block-sparse", {"ours", "ours_verified", "qemu-img", "nbdcopy"}),
        ("block-rbd-sparse", {"ours", "ours_verified", "qemu-img", "nbdcopy", "rbd_import", "cinder"}),
        ("rbd-block-empty", {"ours", "qemu-img", "nbdcopy", "rbd_export"}),
        ("rbd-rbd-random", {"ours", "ours_verified", "qemu-img", "nbdcopy", "cinder"}),
        ("iscsi-rbd-random", {"ours", "ours_verified", "qemu-img", "nbdcopy"}),
    ],
)
def test_a_pair_is_copied_by_all_tools_that_can(cell: str, tools: set[str]) -> None:
    assert {run.tool for run in _cell(cell).runs} == tools


def test_without_its_environment_nothing_is_asked_of_cinder() -> None:
    assert not [run for cell in plan.all_cells(STANDARD_MIB, cinder=False) for run in cell.runs if run.tool == plan.CINDER]


def test_growth_is_a_quarter_to_four_times_and_the_same_data_with_more_holes() -> None:
    sizes = {(what.fill, what.size_mib, what.data_mib) for what in _cell("block-rbd-growth").contents}
    assert sizes == {
        ("random", 1024, 1024),
        ("random", 4096, 4096),
        ("random", 16384, 16384),
        ("sparse", 4096, 1024),
        ("sparse", 16384, 1024),
    }


def test_cells_are_chosen_by_pattern_and_a_pattern_without_any_is_refused() -> None:
    cells = plan.all_cells(STANDARD_MIB, cinder=False)
    assert [cell.name for cell in plan.select(cells, ["rbd-*-empty"])] == ["rbd-block-empty", "rbd-iscsi-empty", "rbd-rbd-empty"]
    assert plan.select(cells, []) == cells
    with pytest.raises(ValueError, match="no cell is called rbd-tape-empty"):
        plan.select(cells, ["rbd-rbd-empty", "rbd-tape-empty"])


def test_the_order_begins_elsewhere_in_each_round() -> None:
    cell = _cell("iscsi-rbd-random")
    orders = [[run.tool for run in plan.runs_of_round(cell, number, [])] for number in range(4)]
    assert len({order[0] for order in orders}) == 4
    assert all(sorted(order) == sorted(orders[0]) for order in orders)


def test_a_peer_that_is_far_behind_in_two_rounds_is_measured_no_more() -> None:
    cell = _cell("block-rbd-random")
    walls = {
        _key("ours", "random"): 9.0,
        _key("qemu-img", "random"): 2.0,
        _key("nbdcopy", "random"): 3.1,
        _key("rbd_import", "random"): 2.9,
    }
    walls |= {_key("cinder", "random"): 40.0, _key("ours_verified", "random"): 12.0}
    once = [run.tool for run in plan.runs_of_round(cell, 1, [walls])]
    assert "nbdcopy" in once
    twice = [run.tool for run in plan.runs_of_round(cell, 2, [walls, walls])]
    assert "nbdcopy" not in twice and {"qemu-img", "rbd_import", "cinder", "ours", "ours_verified"} == set(twice)
    # It stays out, although later rounds do not have it.
    without = {key: wall for key, wall in walls.items() if not key.startswith("nbdcopy")}
    assert "nbdcopy" not in [run.tool for run in plan.runs_of_round(cell, 3, [walls, walls, without])]


def test_one_good_round_keeps_a_peer() -> None:
    cell = _cell("iscsi-iscsi-sparse")
    slow = {_key("ours", "sparse"): 1.0, _key("qemu-img", "sparse"): 1.0, _key("nbdcopy", "sparse"): 4.0}
    good = {**slow, _key("nbdcopy", "sparse"): 1.2}
    assert "nbdcopy" in [run.tool for run in plan.runs_of_round(cell, 2, [slow, good])]


def test_space_is_asked_for_the_larger_stage() -> None:
    cells = plan.all_cells(STANDARD_MIB, cinder=False)
    files, cluster = plan.needed_mib(cells)
    # 1, 4 and 16 GiB of random data, twice 1 GiB of sparse data, and one target; a target alone in the cluster.
    assert files == (1 + 4 + 16 + 1 + 1 + 16) * 1024 and cluster == 16 * 1024
    assert plan.needed_mib(plan.select(cells, ["rbd-rbd-sparse"])) == (5 * 1024, 5 * 1024)
    assert plan.needed_mib(plan.select(cells, ["kernel-kernel-*"])) == (0, 1024 + 256 + 1024)


def test_what_needs_another_place_is_a_stage_of_its_own() -> None:
    found = plan.stages(plan.select(plan.all_cells(STANDARD_MIB, cinder=False), ["kernel-*", "rbd-rbd-*", "*-growth"]))
    assert [{cell.name.rpartition("-")[0] for cell in stage} for stage in found] == [
        {"rbd-rbd"},
        {"kernel-kernel"},
        {"block-rbd", "iscsi-block"},
    ]
    assert {what.size_mib for cell in found[1] for what in cell.contents} == {STANDARD_MIB // 4}


def test_a_source_holds_as_much_data_as_it_should_in_many_pieces(tmp_path: Path) -> None:
    path = tmp_path / "source.raw"
    write_content(path, plan.Content("sparse", 64, 16))
    whole = path.read_bytes()
    granules = [any(whole[start : start + 65536]) for start in range(0, len(whole), 65536)]
    # Pieces begin anywhere in a granule.
    assert len(whole) == 64 << 20 and 256 <= sum(granules) <= 290
    assert sum(one != other for one, other in zip(granules, granules[1:])) >= 6
    write_content(path, plan.Content("empty", 1, 0))
    assert path.read_bytes() == bytes(1 << 20)


# --- verdicts ---


def _rounds(fill: str, count: int = 5, **walls: float) -> list[dict[str, Sample]]:
    names = {"qemu": "qemu-img", "verified": "ours_verified"}
    one = {_key(names.get(tool, tool), fill): _sample(wall, compare_s=wall if tool == "qemu" else None) for tool, wall in walls.items()}
    return [dict(one) for _number in range(count)]


def _looked(fill: str, *tools: str) -> dict[str, Looked]:
    return {_key(tool, fill): Looked(True, content(fill, STANDARD_MIB).data_mib) for tool in tools}


def _misses(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if not check.passed] + verdict.problems


def test_a_cell_at_all_targets() -> None:
    rounds = _rounds("random", ours=9.0, verified=12.0, qemu=10.0, nbdcopy=20.0)
    verdict = judge(_cell("iscsi-rbd-random"), STANDARD_MIB, rounds, _looked("random", "ours", "qemu-img", "nbdcopy"))
    assert verdict.passed and verdict.best_peer == "qemu-img" and verdict.ratio is not None and verdict.ratio.value == 0.9


def test_every_target_is_missed_by_its_own_name() -> None:
    rounds = _rounds("random", ours=10.5, verified=15.0, qemu=10.0, nbdcopy=20.0, cinder=30.0)
    slow = [{key: replace(sample, cpu_s=2.0, rss_mib=300.0) if "ours" in key else sample for key, sample in one.items()} for one in rounds]
    looked = {**_looked("random", "qemu-img", "nbdcopy"), _key("ours", "random"): Looked(True, STANDARD_MIB * 2)}
    assert _misses(judge(_cell("rbd-block-random"), STANDARD_MIB, slow, looked)) == [
        "time to best peer",
        "CPU to best peer",
        "verified to convert + compare",
        "time to Cinder's loop",
        "space MiB",
        "memory MiB",
    ]


def test_a_good_median_with_a_wide_interval_is_not_enough() -> None:
    rounds = _rounds("random", ours=9.0, verified=12.0, qemu=10.0, nbdcopy=20.0)
    for number in (0, 1):
        rounds[number][_key("ours", "random")] = _sample(12.0)
    verdict = judge(_cell("iscsi-rbd-random"), STANDARD_MIB, rounds, _looked("random", "ours", "qemu-img", "nbdcopy"))
    assert verdict.ratio is not None and verdict.ratio.value == 0.9 and _misses(verdict) == ["time to best peer"]


def test_who_does_not_keep_thin_is_not_the_best_peer() -> None:
    rounds = _rounds("sparse", ours=4.0, verified=5.0, qemu=4.0, nbdcopy=2.0)
    looked = {**_looked("sparse", "ours", "qemu-img"), _key("nbdcopy", "sparse"): Looked(True, STANDARD_MIB)}
    assert judge(_cell("iscsi-rbd-sparse"), STANDARD_MIB, rounds, looked).best_peer == "qemu-img"


@pytest.mark.parametrize(("cell", "ours", "passes"), [("rbd-iscsi-empty", 0.4, True), ("rbd-iscsi-empty", 0.6, False)])
def test_where_extents_tell_it_an_empty_volume_takes_no_time(cell: str, ours: float, passes: bool) -> None:
    rounds = _rounds("empty", ours=ours, qemu=0.1, nbdcopy=0.2)
    assert judge(_cell(cell), STANDARD_MIB, rounds, _looked("empty", "ours", "qemu-img", "nbdcopy")).passed is passes


@pytest.mark.parametrize(("ours", "passes"), [(2.1, True), (2.2, False)])
def test_where_nothing_tells_it_an_empty_volume_takes_as_long_as_with_others(ours: float, passes: bool) -> None:
    rounds = _rounds("empty", ours=ours, qemu=2.0, nbdcopy=3.0)
    assert judge(_cell("block-iscsi-empty"), STANDARD_MIB, rounds, _looked("empty", "ours", "qemu-img", "nbdcopy")).passed is passes


def test_few_rounds_and_wrong_copies_miss_whatever_the_numbers_are() -> None:
    rounds = _rounds("empty", 4, ours=0.1, qemu=2.0, nbdcopy=3.0)
    looked = {**_looked("empty", "ours", "nbdcopy"), _key("qemu-img", "empty"): Looked(False, 0.0)}
    verdict = judge(_cell("rbd-rbd-empty"), STANDARD_MIB, rounds, looked)
    assert not verdict.passed and verdict.problems == ["4 of 5 rounds", "qemu-img empty-0-of-4096 made a wrong copy"]
    nothing = judge(_cell("rbd-rbd-empty"), STANDARD_MIB, [], {})
    assert not nothing.passed and nothing.ratio is None


def _growth(large: float, many_holes: float) -> Verdict:
    cell = _cell("block-rbd-growth")
    small, standard, big = plan.growth_contents(STANDARD_MIB)
    few, many = plan.holes_contents(STANDARD_MIB)
    walls = {small: 1.0, standard: 4.0, big: large, few: 1.0, many: many_holes}
    one = {run.key: _sample(walls[run.content] * (1.0 if run.tool == plan.OURS else 1.2)) for run in cell.runs}
    return judge(cell, STANDARD_MIB, [one] * 5, {})


def test_time_grows_with_data_and_not_with_holes() -> None:
    assert _growth(16.0, 1.0).passed
    assert _misses(_growth(20.0, 1.0)) == ["four times the size"]
    assert _misses(_growth(16.0, 1.5)) == ["four times the size in holes"]


# --- results ---


def test_results_are_extended_by_a_later_run(tmp_path: Path) -> None:
    path, about = tmp_path / "new" / "results.json", {"size_mib": 64, "code": "abc"}
    first = Results(path, about)
    first.add_look("a", "ours", Looked(True, 3.0))
    first.add_round("a", {"ours": _sample(1.5, compare_s=2.0)}, {"ours": {"engine_s": 1.0}})
    later = Results(path, about)
    assert later.rounds("a") == [{"ours": _sample(1.5, compare_s=2.0)}] and later.looked("a") == {"ours": Looked(True, 3.0)}
    later.add_round("a", {"ours": _sample(2.5)}, {})
    assert len(Results(path, about).rounds("a")) == 2 and not later.rounds("b") and not later.looked("b")
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]


def test_results_of_something_else_are_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Results(path, {"size_mib": 64, "code": "abc"}).add_round("a", {}, {})
    with pytest.raises(ResultsError, match="another code and size_mib; remove it"):
        Results(path, {"size_mib": 128, "code": "def"})


@pytest.mark.parametrize("text", ["{", "[]", '{"about": {}}'])
def test_a_file_that_is_no_results_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ResultsError, match="is no file of results"):
        Results(path, {})
    assert path.read_text() == text


def test_the_file_can_be_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Results(path, {"size_mib": 64}).add_round("a", {"ours": _sample(1.5)}, {"ours": {"engine_s": 1.0}})
    (one,) = json.loads(path.read_text())["rounds"]
    assert one["runs"]["ours"]["wall_s"] == 1.5 and one["more"]["ours"]["engine_s"] == 1.0


# --- what people see ---


def _verdict(best_peer: str = "qemu-img", value: float = 0.8) -> Verdict:
    check = Check("time to best peer", value, 1.0, value - 0.1, value + 0.1, 1.1)
    return Verdict(_cell("rbd-rbd-random"), 5, 2.0, best_peer, check, [check])


def test_the_last_line_counts() -> None:
    assert show.last_line([_verdict(), _verdict(value=1.2)]) == "cells: 2, at or below target: 1"


def test_the_table_says_what_misses() -> None:
    _head, _rule, good, bad = show.table([_verdict(), _verdict(value=1.2)]).splitlines()
    assert good == "| rbd-rbd-random | 5 | 2.00 | qemu-img | 0.80 | 0.70 to 0.90 | at target |  |"
    assert bad.endswith("| misses | time to best peer 1.20 (1.10 to 1.30), limit 1.00 (interval up to 1.10) |")


def test_the_picture_is_xml_whatever_names_hold_and_how_far_off_numbers_are() -> None:
    root = ET.fromstring(show.picture([_verdict('<a> & "b"'), _verdict(value=100.0), _verdict(value=0.0)], "1 < 2 & 3"))
    words = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "1 < 2 & 3" in words and any('<a> & "b"' in word for word in words)
    width = float((root.get("viewBox") or "").split()[2])
    assert all(0 <= float(circle.get("cx") or -1) <= width for circle in root.iter("{http://www.w3.org/2000/svg}circle"))
    # A verdict without any round has no number to show.
    assert "circle" not in show.picture([Verdict(_cell("rbd-rbd-random"), 0)], "nothing")
