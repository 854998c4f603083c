# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a copy that is disturbed leaves, and what the next one makes of it. Afterwards cmp finds no difference."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from clusters import Cluster
from loop_devices import LoopDevices, run
from places import Place, Places, differences
from targets import Target

MIB = 1 << 20
SIZE = 32 * MIB
PROGRAM = Path(__file__).resolve().parent / "copy_process.py"
KILLS = [("file", "iscsi_thin"), ("iscsi_thick", "ceph2"), ("ceph1", "loop"), ("loop", "file")]
SECRET = "Planted-Secret-4711"


@pytest.fixture
def places(tmp_path: Path, loop_devices: LoopDevices, iscsi_target: Target, ceph1: Cluster, ceph2: Cluster) -> Places:
    return Places(tmp_path, loop_devices, iscsi_target, {"ceph1": ceph1, "ceph2": ceph2})


class Copy:
    """One copy, as often as it is started."""

    def __init__(self, directory: Path, source: Place, target: Place, *, operation_id: str = "fault", journal: Path | None = None) -> None:
        self.directory = directory
        self.source, self.target = source.info(), target.info()
        self.operation_id, self.journal = operation_id, str(journal) if journal else None

    def start(self, *before: str, **options: t.Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*before, sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdin
        json.dump(
            {
                "source": self.source,
                "target": self.target,
                "directory": str(self.directory),
                "operation_id": self.operation_id,
                "journal": self.journal,
                "options": options,
            },
            process.stdin,
        )
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, **options: t.Any) -> dict[str, t.Any]:
        return self.end(self.start(**options))

    def end(self, process: subprocess.Popen[str]) -> dict[str, t.Any]:
        output, errors = process.communicate(timeout=120)
        assert output, errors
        return t.cast("dict[str, t.Any]", json.loads(output))

    def progress(self) -> dict[str, t.Any]:
        try:
            return t.cast(
                "dict[str, t.Any]", json.loads((self.directory / "run" / "jobs" / self.operation_id / "progress.json").read_text())
            )
        except (FileNotFoundError, ValueError):
            return {}

    def wait_for(self, process: subprocess.Popen[str], done_bytes: int) -> None:
        until = time.monotonic() + 60
        while self.progress().get("written_bytes", 0) < done_bytes:
            assert process.poll() is None and time.monotonic() < until, process.communicate()
            time.sleep(0.02)


def content() -> bytes:
    """Data with holes in it."""
    data = bytearray(random.Random(3).randbytes(SIZE))
    data[7 * MIB : 12 * MIB] = bytes(5 * MIB)
    return bytes(data)


@pytest.mark.parametrize(("source_kind", "target_kind"), KILLS)
def test_a_copy_that_is_killed_five_times_goes_on(places: Places, source_kind: str, target_kind: str) -> None:
    """SIGKILL at random moments, twenty in all four cases; each run goes on from where the one before was."""
    chance = random.Random(f"{source_kind}-{target_kind}")
    source, target = places.make(source_kind, content(), SIZE), places.make(target_kind, b"", SIZE)
    copy = Copy(places.directory, source, target)
    for _kill in range(5):
        process = copy.start(bandwidth_mib=16)
        copy.wait_for(process, 1)
        time.sleep(chance.uniform(0, 0.25))
        process.kill()
        process.communicate()
    result = copy.run()
    assert result.get("resumed") is True, result
    assert result["counts"]["skipped_bytes"] + result["counts"]["unchanged_bytes"] > 5 * MIB
    assert differences(target.content(), places.file(content(), SIZE)) == ""
    assert differences(source.content(), places.file(content(), SIZE)) == ""


def test_a_source_that_changed_in_between_is_copied_as_it_is_now(places: Places) -> None:
    source, target = places.make("file", content(), SIZE), places.make("iscsi_thin", b"", SIZE)
    copy = Copy(places.directory, source, target)
    process = copy.start(bandwidth_mib=16)
    copy.wait_for(process, 12 * MIB)
    process.kill()
    process.communicate()
    changed = bytearray(content())
    changed[MIB : MIB + 512] = b"n" * 512
    source.content().write_bytes(changed)
    result = copy.run()
    assert result["resumed"] and differences(target.content(), places.file(bytes(changed), SIZE)) == ""


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_target_server_that_dies_ends_the_copy_and_its_return_lets_it_go_on(places: Places, iscsi_target: Target, side: str) -> None:
    kinds = {"source": ("iscsi_thin", "file"), "target": ("file", "iscsi_thin")}[side]
    source, target = places.make(kinds[0], content(), SIZE), places.make(kinds[1], b"", SIZE)
    copy = Copy(places.directory, source, target)
    process = copy.start(bandwidth_mib=16)
    copy.wait_for(process, 4 * MIB)
    iscsi_target.kill()
    failed = copy.end(process)
    assert failed["error_id"] in ("volume_io_error", "session_lost") and iscsi_target.iqn in failed["msg"], failed
    iscsi_target.start_again()
    result = copy.run()
    assert result["resumed"], result
    assert differences(target.content(), places.file(content(), SIZE)) == ""


def test_an_osd_that_dies_and_comes_back_loses_nothing(places: Places, ceph2: Cluster) -> None:
    source, target = places.make("file", content(), SIZE), places.make("ceph2", b"", SIZE)
    copy = Copy(places.directory, source, target)
    process = copy.start(bandwidth_mib=16)
    copy.wait_for(process, 4 * MIB)
    ceph2.lab.run("ceph", "osd", "down", "ceph2")
    time.sleep(2)
    ceph2.lab.run("ceph", "osd", "up", "ceph2")
    result = copy.end(process)
    if "error_id" in result:
        result = copy.run()
    assert differences(target.content(), places.file(content(), SIZE)) == "", result


def test_a_target_without_space_ends_the_copy_and_more_space_lets_it_go_on(places: Places, loop_devices: LoopDevices) -> None:
    """A file on a small file system: there is no room for what it promises."""
    full = loop_devices.mount(loop_devices.make(64 * MIB, random=False).node)
    path, ballast = full / "target.raw", full / "ballast"
    run("truncate", "-s", str(SIZE), path)
    run("fallocate", "-l", str(40 * MIB), ballast)
    source = places.make("file", content(), SIZE)
    target = places.adopt(path)
    copy = Copy(places.directory, source, target)
    failed = copy.run()
    assert failed["error_id"] == "volume_io_error" and "No space left" in failed["msg"] and str(path) in failed["msg"], failed
    ballast.unlink()
    result = copy.run()
    assert result["resumed"], result
    assert differences(path, places.file(content(), SIZE)) == ""


@pytest.mark.parametrize("damage", ["header", "page"])
def test_a_damaged_journal_is_told_and_costs_no_data(places: Places, damage: str) -> None:
    source, target = places.make("file", content(), SIZE), places.make("file", b"", SIZE)
    copy = Copy(places.directory, source, target, journal=places.directory / "journal")
    process = copy.start(bandwidth_mib=16)
    copy.wait_for(process, 8 * MIB)
    process.kill()
    process.communicate()
    raw = bytearray((places.directory / "journal").read_bytes())
    raw[{"header": 10, "page": 4100}[damage]] ^= 0xFF
    (places.directory / "journal").write_bytes(raw)
    result = copy.run()
    if damage == "header":
        assert result["error_id"] == "journal_damaged", result
        (places.directory / "journal").unlink()
        result = copy.run(overwrite=True)
    assert differences(target.content(), places.file(content(), SIZE)) == "", result


def test_a_journal_of_another_volume_is_refused(places: Places) -> None:
    source, target, other = (places.make("file", fill, SIZE) for fill in (content(), b"", b""))
    journal = places.directory / "journal"
    assert Copy(places.directory, source, target, journal=journal).run()["changed"]
    refused = Copy(places.directory, source, other, journal=journal).run()
    assert refused["error_id"] == "journal_mismatch", refused
    assert differences(other.content(), places.file(b"", SIZE)) == ""


@pytest.mark.parametrize("kind", ["file", "loop", "iscsi_thin", "ceph1"])
def test_two_copies_onto_one_target_are_never_made_at_once(places: Places, kind: str) -> None:
    first, second, target = places.make("file", content(), SIZE), places.make("file", b"x" * SIZE, SIZE), places.make(kind, b"", SIZE)
    copy = Copy(places.directory, first, target)
    # Longer than a device that is in use is waited for.
    process = copy.start(bandwidth_mib=3)
    copy.wait_for(process, MIB)
    refused = Copy(places.directory, second, target, operation_id="other").run(overwrite=True)
    assert refused["error_id"] in ("volume_in_use", "locked", "copy_refused"), refused
    assert "error_id" not in copy.end(process)
    assert differences(target.content(), places.file(content(), SIZE)) == ""


def test_passwords_are_seen_by_nobody(places: Places, iscsi_target: Target, ceph1: Cluster) -> None:
    """Every program that is started, every file that is written and everything that is said, with secrets that are looked for."""
    iscsi_target.account("user", SECRET)
    source, target = places.make("iscsi_thin", content(), SIZE), places.make("ceph1", b"", SIZE)
    copy = Copy(places.directory, source, target)
    copy.source["data"].update(auth_method="CHAP", auth_username="user", auth_password=SECRET)
    trace = places.directory / "trace"
    calls = "execve,openat,write,pwrite64,writev"
    process = copy.start("strace", "-f", "-s", "4000", "-e", f"trace={calls}", "-e", "write=none", "-o", str(trace))
    output, errors = process.communicate(timeout=120)
    assert differences(target.content(), places.file(content(), SIZE)) == ""
    seen = trace.read_text(errors="replace") + output + errors
    # The trace sees what it has to see.
    assert "execve(" in seen and ".journal" in seen
    for secret in (SECRET, ceph1.key()):
        assert secret not in seen
        for path in places.directory.rglob("*"):
            if path.is_file() and path.suffix not in (".raw",) and path != trace:
                assert secret.encode() not in path.read_bytes(), path
