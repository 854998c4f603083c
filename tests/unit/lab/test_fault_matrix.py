# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of faults: whole, and read right. What its rows do is tried by the scenario "faults"."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest

FAULTS = Path(__file__).resolve().parents[3] / "extensions" / "molecule" / "faults"
sys.path.insert(0, str(FAULTS))

import rows  # noqa: E402

EVERYWHERE = {
    "block_job",
    "chap_wrong",
    "controller_killed_at_gate",
    "controller_killed_attaching",
    "controller_killed_finishing",
    "controller_killed_migrating",
    "data_blocked",
    "destination_libvirtd_hung",
    "destination_libvirtd_killed",
    "destination_qemu_killed",
    "destination_refuses",
    "finish_reply_lost",
    "graphics_address",
    "link_down",
    "link_down_3s",
    "lun_absent",
    "lun_lost",
    "name_taken",
    "other_size",
    "portal_down",
    "same_uuid_active",
    "same_uuid_shut_off",
    "source_libvirtd_killed",
    "storage_down_12s",
    "swapped_disks",
    "wrong_volume",
}


def _table(tmp_path: Path, text: str) -> list[rows.Row]:
    path = tmp_path / "matrix.yaml"
    path.write_text(text, encoding="utf-8")
    return rows.load(path)


def test_every_fault_is_in_the_matrix_for_each_initiator() -> None:
    table = rows.load(FAULTS / "matrix.yaml")
    assert {row.id for row in table if row.kind == "libiscsi"} >= EVERYWHERE
    assert {row.id for row in table if row.kind == "kernel"} >= EVERYWHERE
    assert "secret_missing" in {row.id for row in table if row.kind == "libiscsi"}


def test_the_core_has_both_initiators() -> None:
    kinds = [row.kind for row in rows.select(rows.load(FAULTS / "matrix.yaml"), "core")]
    assert kinds.count("libiscsi") >= 8
    assert kinds.count("kernel") >= 3


def test_what_differs_for_one_initiator_stands_under_its_name(tmp_path: Path) -> None:
    libiscsi, kernel = _table(tmp_path, "[{id: a, fault: f, when: before, says: one, core: [libiscsi], kernel: {says: two}}]")
    assert (libiscsi.kind, libiscsi.says, libiscsi.core) == ("libiscsi", "one", True)
    assert (kernel.kind, kernel.says, kernel.core) == ("kernel", "two", False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[{id: a, fault: f, when: before}]", "nothing would prove that the fault struck"),
        ("[{id: a, fault: f, when: before, says: x, sauce: running}]", "sauce means nothing"),
        ("[{id: a, fault: f, when: before, says: x, kinds: [nvme]}]", "nvme is no kind"),
        ("[{id: a, fault: f, when: before, says: x}, {id: a, fault: g, when: before, says: x}]", "twice in the table"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(rows.TableError, match=words):
        _table(tmp_path, text)


def test_rows_are_chosen_by_id_kind_or_both(tmp_path: Path) -> None:
    table = _table(tmp_path, "[{id: a, fault: f, when: before, says: x, core: [kernel]}, {id: b, fault: f, when: before, says: x}]")
    chosen: dict[str, list[str]] = {
        wanted: [row.title for row in rows.select(table, wanted)] for wanted in ("all", "core", "b", "kernel", "b/kernel a/kernel")
    }
    assert chosen == {
        "all": ["a/libiscsi", "a/kernel", "b/libiscsi", "b/kernel"],
        "core": ["a/kernel"],
        "b": ["b/libiscsi", "b/kernel"],
        "kernel": ["a/kernel", "b/kernel"],
        "b/kernel a/kernel": ["b/kernel", "a/kernel"],
    }
    with pytest.raises(rows.TableError, match="there is no row c"):
        rows.select(table, "c")


def test_words_of_the_run_are_filled_in_everywhere(tmp_path: Path) -> None:
    (row, _kernel) = _table(
        tmp_path, "[{id: a, fault: f, when: before, says: on $source, do: [x $source], vars: {v: {$source: [$source]}}}]"
    )
    filled = rows.filled_in(row, {"source": "hosta"})
    assert (filled.says, filled.do, filled.vars) == ("on hosta", ("x hosta",), {"v": {"hosta": ["hosta"]}})


@pytest.mark.parametrize(
    ("volumes", "lost"),
    [
        ({"vol1": {"last": 12, "missing": 0}, "vol3": {"last": 10, "missing": 0}}, 0),
        ({"vol1": {"last": 7, "missing": 0}, "vol3": {"last": 10, "missing": 2}}, 5),
    ],
)
def test_writes_are_lost_at_the_end_and_in_between(volumes: dict[str, t.Any], lost: int) -> None:
    assert rows.lost_writes({"last_acknowledged": 10, "volumes": volumes}) == lost


def test_the_table_of_results_has_one_line_per_row(tmp_path: Path) -> None:
    (row, _kernel) = _table(tmp_path, "[{id: a, fault: 'a|b', when: Move | Migrate, says: x}]")
    text = rows.markdown([rows.Result(row, outcome="stayed", lost_writes=0, decided_s=1.25, problems=["two\nlines"])])
    assert text.splitlines()[2] == "| a/b | libiscsi | Move / Migrate | stayed |  |  | 0 | nothing | 1.2 s | not run | two lines |"
