# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole job, on raw files: what it refuses, says, leaves, and how it is ended."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils import _leased_job
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._volume import copy as copy_module
from ansible_collections.lunshift.migration.plugins.module_utils._volume import passes as passes_module
from ansible_collections.lunshift.migration.plugins.module_utils._volume.block import BlockBackend
from ansible_collections.lunshift.migration.plugins.module_utils._volume.copy import Request, VolumeCopy
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import Facts, VolumeIOError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.objections import Options, objections
from ansible_collections.lunshift.migration.plugins.module_utils._volume.supervisor import Controls

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[None]:
    monkeypatch.setattr(_leased_job, "JOBS", tmp_path / "run" / "jobs")
    monkeypatch.setattr(_leased_job, "RESULTS", tmp_path / "run" / "results")
    monkeypatch.setattr(copy_module, "JOURNALS", tmp_path / "journals")
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def info(path: Path) -> dict[str, t.Any]:
    return {"driver_volume_type": "local", "data": {"device_path": str(path)}}


class Bench:
    """Two raw files and the job between them."""

    def __init__(self, root: Path, size: int = 20 * MIB) -> None:
        self.root = root
        self.source = root / "source.raw"
        self.target = root / "target.raw"
        self.source.write_bytes(random.Random(1).randbytes(size // 2))
        os.truncate(self.source, size)
        self.target.touch()
        os.truncate(self.target, size)
        self.warnings: list[str] = []

    def job(self, *, journal: Path | None = None, controls: Controls = Controls(), **options: t.Any) -> VolumeCopy:  # noqa: B008
        request = Request(
            info(self.source),
            info(self.target),
            Options(**{"source_quiesced": True, **options}),
            controls,
            "job1",
            str(journal) if journal else None,
        )
        return VolumeCopy(request, self.warnings.append, lock_directory=str(self.root / "locks"))

    def is_identical(self) -> bool:
        return self.source.read_bytes() == self.target.read_bytes()

    def traces(self) -> list[str]:
        found = [self.root / "run" / "jobs", self.root / "journals"]
        return sorted(path.name for directory in found if directory.exists() for path in directory.iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_result_says_what_was_done(bench: Bench) -> None:
    result = bench.job().copy(check_mode=False)
    assert bench.is_identical()
    assert result["changed"] and not result["resumed"] and result["verified"] == "written"
    assert result["counts"]["written_bytes"] == 10 * MIB and result["counts"]["verified_bytes"] == 20 * MIB
    assert result["source"]["name"] == str(bench.source) and result["target"]["size_bytes"] == 20 * MIB
    assert len(result["digest"]) == 64
    assert Path(result["journal"]).exists() and bench.traces() == [Path(result["journal"]).name]
    assert json.loads(json.dumps(result)) == result


def test_a_second_run_says_that_nothing_changed(bench: Bench) -> None:
    first = bench.job().copy(check_mode=False)
    second = bench.job().copy(check_mode=False)
    assert not second["changed"] and second["actions"] == [] and second["digest"] == first["digest"]
    assert second["counts"]["written_bytes"] == second["counts"]["zeroed_bytes"] == 0


def test_check_mode_tells_what_a_run_would_do_and_does_nothing(bench: Bench) -> None:
    plan = bench.job().copy(check_mode=True)
    assert plan["changed"] and plan["to_copy_bytes"] == 10 * MIB and plan["estimated_s"] >= 0
    assert plan["target_data_bytes"] == 0 and not any("lost" in action for action in plan["actions"])
    assert bench.traces() == [] and not any(bench.target.read_bytes())
    bench.job().copy(check_mode=False)
    plan = bench.job().copy(check_mode=True)
    assert not plan["changed"] and plan["to_copy_bytes"] == 0 and plan["actions"] == []


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_target_that_is_not_empty_is_refused_in_both_modes(bench: Bench, check_mode: bool) -> None:
    bench.target.write_bytes(b"x" + bytes(20 * MIB - 1))
    with pytest.raises(MigrationError) as caught:
        bench.job().copy(check_mode=check_mode)
    assert caught.value.error_id == "target_not_empty"
    bench.job(overwrite=True).copy(check_mode=check_mode)
    assert bench.is_identical() is not check_mode


def test_check_mode_tells_what_would_be_lost(bench: Bench) -> None:
    with bench.target.open("r+b") as file:
        file.seek(8 * MIB)
        file.write(b"x" * MIB)
    plan = bench.job(overwrite=True).copy(check_mode=True)
    assert plan["target_data_bytes"] == MIB and f"{MIB} bytes may hold data now that would be lost" in plan["actions"][0]


@pytest.mark.parametrize(("side", "method"), [("source", "read_into"), ("target", "write_from")])
def test_a_failure_is_told_with_its_side(bench: Bench, monkeypatch: pytest.MonkeyPatch, side: str, method: str) -> None:
    def fail(backend: BlockBackend, view: memoryview, offset: int) -> None:
        raise VolumeIOError("use", backend.facts.name, offset, len(view), "it is broken")

    monkeypatch.setattr(BlockBackend, method, fail)
    with pytest.raises(VolumeIOError, match=f"^{side}: cannot use .* of {getattr(bench, side)}: it is broken$") as caught:
        bench.job().copy(check_mode=False)
    assert caught.value.details["side"] == side and caught.value.details["volume"] == str(getattr(bench, side))


def test_the_first_failure_is_told_and_not_that_of_closing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(backend: BlockBackend, *place: t.Any) -> None:
        raise VolumeIOError("use", backend.facts.name, 4096, 512, "it is broken" if place else "it is gone")

    monkeypatch.setattr(BlockBackend, "write_from", fail)
    monkeypatch.setattr(BlockBackend, "flush", fail)
    with pytest.raises(VolumeIOError, match="it is broken"):
        bench.job().copy(check_mode=False)
    assert [text.endswith(f"of {bench.target}: it is gone") for text in bench.warnings] == [True]


def test_every_problem_of_both_connection_infos_is_told_at_once(bench: Bench) -> None:
    job = bench.job(verify="twice", bandwidth_mib=-1)
    job.request = replace(job.request, source={"driver_volume_type": "tape"}, target={"driver_volume_type": "local", "data": {}})
    with pytest.raises(MigrationError) as caught:
        job.copy(check_mode=False)
    problems = caught.value.details["problems"]
    assert [problem.split(" ")[0] for problem in problems] == ["verify", "bandwidth_mib", "source:", "target:"]


def test_both_volumes_that_cannot_be_opened_are_told_at_once(bench: Bench) -> None:
    bench.source.unlink()
    bench.target.unlink()
    with pytest.raises(MigrationError) as caught:
        bench.job().copy(check_mode=False)
    assert len(caught.value.details["problems"]) == 2
    assert str(bench.source) in str(caught.value) and str(bench.target) in str(caught.value)


def test_a_smaller_target_is_refused_and_left_alone(bench: Bench) -> None:
    os.truncate(bench.target, 19 * MIB)
    with pytest.raises(MigrationError, match=f"1048576 less than {bench.source}") as caught:
        bench.job().copy(check_mode=False)
    assert caught.value.details["reasons"] == ["target_too_small"]


def test_a_volume_is_not_copied_onto_itself(bench: Bench) -> None:
    bench.target.unlink()
    os.link(bench.source, bench.target)
    for check_mode in (True, False):
        with pytest.raises(MigrationError) as caught:
            bench.job().copy(check_mode=check_mode)
        assert caught.value.error_id in ("copy_refused", "volume_in_use")


def test_a_journal_of_other_volumes_is_refused(bench: Bench) -> None:
    journal = bench.root / "my.journal"
    bench.job(journal=journal).copy(check_mode=False)
    other = Bench(bench.root)
    other.target = bench.root / "other.raw"
    other.target.touch()
    os.truncate(other.target, 20 * MIB)
    with pytest.raises(MigrationError) as caught:
        other.job(journal=journal).copy(check_mode=False)
    assert caught.value.error_id == "journal_mismatch" and not any(other.target.read_bytes())


def facts(identity: str, **more: t.Any) -> Facts:
    return Facts(**{"name": identity, "identity": identity, "size_bytes": 4096, "logical_block_bytes": 512, "physical_block_bytes": 512,
                    "request_bytes": 512, "requests": 1, **more})  # fmt: skip


@pytest.mark.parametrize(
    ("source", "target", "source_users", "target_users", "reasons"),
    [
        (facts("a"), facts("b"), [], [], []),
        (facts("a"), facts("a"), [], [], ["same_volume"]),
        (facts("a"), facts("b", size_bytes=4095), [], [], ["target_too_small"]),
        (facts("a"), facts("b", logical_block_bytes=4096), [], [], ["sector_size"]),
        (facts("a"), facts("b"), ["mounted"], [], ["source_in_use"]),
        (facts("a"), facts("b"), None, [], ["source_use_unknown"]),
        (facts("a", immutable=True), facts("b"), None, [], []),
        (facts("a"), facts("b"), [], None, []),
        (facts("a"), facts("b"), [], ["open"], ["target_in_use"]),
        (facts("a"), facts("a", size_bytes=1), ["x"], ["y"], ["same_volume", "target_too_small", "source_in_use", "target_in_use"]),
    ],
)
def test_what_stands_against_a_copy(source: Facts, target: Facts, source_users: t.Any, target_users: t.Any, reasons: list[str]) -> None:
    assert [found.reason for found in objections(source, target, source_users, target_users, Options())] == reasons


def test_the_operator_s_word_counts_only_for_what_nobody_can_know() -> None:
    options = Options(source_quiesced=True, allow_sector_size_change=True)
    assert objections(facts("a"), facts("b", logical_block_bytes=4096), None, [], options) == []
    assert [found.reason for found in objections(facts("a"), facts("b"), ["mounted"], [], options)] == ["source_in_use"]


class Running:
    """A copy in a thread of its own, slow enough to be looked at."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch, controls: Controls) -> None:
        monkeypatch.setattr(signal, "signal", lambda *_arguments: None)
        monkeypatch.setattr(passes_module, "CHECKPOINT_EVERY_S", 0.2)
        self.error: MigrationError | None = None
        self.result: dict[str, t.Any] | None = None
        self._job = bench.job(controls=controls, bandwidth_mib=controls.bandwidth_mib)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._job.copy(check_mode=False)
        except MigrationError as exc:
            self.error = exc

    def wait_for(self, phase: str) -> dict[str, t.Any]:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            progress = _leased_job.read_progress("job1")
            if progress and progress["phase"] == phase and progress.get("done_bytes"):
                return progress
            time.sleep(0.02)
        raise AssertionError(f"it did not come to {phase}")

    def end(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_it_says_how_far_it_is_and_follows_another_limit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(bench, monkeypatch, Controls(bandwidth_mib=4))
    progress = running.wait_for("copying")
    assert progress["total_bytes"] == 20 * MIB, "what is copied, and what is verified"
    assert 0 < progress["percent"] < 100
    assert progress["bandwidth_limit_bytes_per_s"] == 4 * MIB
    started = time.monotonic()
    assert _leased_job.write_controls("job1", Controls(bandwidth_mib=0).to_dict())
    running.end()
    assert time.monotonic() - started < 3 and bench.is_identical()


def test_it_is_aborted_by_another_task_and_goes_on_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(bench, monkeypatch, Controls(bandwidth_mib=4))
    running.wait_for("copying")
    assert bench.job().abort(check_mode=True)["changed"] and _leased_job.is_running("job1")
    assert bench.job().abort(check_mode=False) == {"changed": True, "actions": ["aborted copy job1"]}
    running.end()
    assert running.error and running.error.error_id == "aborted" and "goes on where it was" in str(running.error)
    assert not bench.is_identical()
    assert bench.job().abort(check_mode=False) == {"changed": False, "actions": []}
    result = bench.job().copy(check_mode=False)
    assert result["resumed"] and bench.is_identical()


@pytest.mark.parametrize("abort", [True, False])
def test_a_lost_controller_ends_it_only_when_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch, abort: bool) -> None:
    running = Running(bench, monkeypatch, Controls(bandwidth_mib=8, lease_s=0.3, abort_without_controller=abort))
    running.end()
    assert (running.error.error_id if running.error else None) == ("lease_lapsed" if abort else None)
    assert bench.is_identical() is not abort


def test_two_copies_onto_one_target_are_not_made(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    running = Running(bench, monkeypatch, Controls(bandwidth_mib=4))
    running.wait_for("copying")
    other = bench.job()
    other.request = replace(other.request, operation_id="job2")
    with pytest.raises(MigrationError) as caught:
        other.copy(check_mode=False)
    assert caught.value.error_id in ("volume_in_use", "locked")
    bench.job().abort(check_mode=False)
    running.end()
