# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import fingerprint, probe, sampling, sysfs
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.pool import THREADS, run_bounded
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmark"))
from synthetic_sysfs import SyntheticSysfs

BLOCK = fingerprint.BLOCK_BYTES


@given(st.integers(0, 1 << 50))
def test_offsets_lie_inside_and_are_blocks(size_bytes):
    where = fingerprint.offsets(size_bytes)
    assert list(where) == sorted(set(where))
    assert all(offset % BLOCK == 0 and offset + BLOCK <= size_bytes for offset in where)
    assert len(where) == min(fingerprint.SAMPLES, size_bytes // BLOCK)


@pytest.mark.parametrize("size_bytes", [64 << 20, 10 << 30, 1 << 40])
def test_offsets_cover_the_start_and_the_whole(size_bytes):
    where = fingerprint.offsets(size_bytes)
    assert where[0] == 0
    assert sum(offset < 1 << 20 for offset in where) >= 10, "file systems keep their tables there"
    assert max(after - before for before, after in zip(where, where[1:])) <= size_bytes // 16


def test_combined_readings():
    assert fingerprint.combine({0: None, 4096: "a"}, {0: "b", 4096: "a"}) == {"0": [None, "b"], "4096": ["a", "a"]}


def test_pool_gives_every_answer():
    deadline = time.monotonic() + 10
    assert run_bounded(list(range(3 * THREADS)), lambda item: item * 2, deadline=deadline, late=-1) == {
        item: item * 2 for item in range(3 * THREADS)
    }
    assert run_bounded([], str, deadline=deadline, late="") == {}


def test_pool_does_not_wait_for_ever():
    deadline = time.monotonic() + 0.2
    answers = run_bounded([0, 5], lambda item: time.sleep(item) or "done", deadline=deadline, late="late")
    assert answers == {0: "done", 5: "late"}


@pytest.fixture
def host(tmp_path):
    """Three LUNs whose device nodes are plain files: two of 1 MiB, one of 64 KiB that is all zero."""
    tree = SyntheticSysfs(tmp_path)
    tree.add_session(1, "iqn.2026-11.org.example:a")
    for number, (node, size) in enumerate((("sda", 1 << 20), ("sdb", 1 << 20), ("sdc", 1 << 16))):
        tree.add_lun(node, 1, number, wwid=f"{number:032x}", size_bytes=size)
    for node, byte in (("sda", b"a"), ("sdb", b"b")):
        tree.write(f"dev/{node}", byte * (1 << 20))
    tree.write("dev/sdc", bytes(1 << 16))
    return tree


def take(tree, *, pause=lambda seconds: None, sessions=None, sizes=(1 << 20,)):
    luns = {lun.node: lun for lun in sysfs.gather(str(tree.root)).luns}
    return sampling.take(sizes, luns, [], {}, root=str(tree.root), read_by_session=lambda *args: sessions or {}, pause=pause)


def test_every_visible_lun_is_read_at_the_same_places(host):
    samples = take(host)
    assert samples.problems == {}
    where = {str(offset) for offset in fingerprint.offsets(1 << 20)}
    assert all(set(each) == where for each in samples.fingerprints.values())
    digest = hashlib.sha256(b"a" * BLOCK).hexdigest()
    assert samples.fingerprints["sda"]["0"] == [digest, digest]
    assert samples.fingerprints["sda"]["0"] != samples.fingerprints["sdb"]["0"]
    assert samples.fingerprints["sdc"]["0"] == [None, None]
    assert samples.fingerprints["sdc"][str(1 << 16)] == [fingerprint.PAST_END, fingerprint.PAST_END]


def test_second_reading_shows_what_a_guest_writes(host):
    paused = []

    def write(seconds):
        paused.append(seconds)
        host.write("dev/sda", b"A" * BLOCK + b"a" * ((1 << 20) - BLOCK))

    samples = take(host, pause=write)
    first, second = samples.fingerprints["sda"]["0"]
    assert first != second
    assert samples.fingerprints["sda"]["4096"][0] == samples.fingerprints["sda"]["4096"][1]
    assert paused == [fingerprint.PAUSE_S], "one pause for all volumes"


def test_nothing_asked_nothing_read(host):
    assert take(host, sizes=()) == sampling.Samples({}, {})


def test_device_that_cannot_be_read(host):
    (host.root / "dev/sda").unlink()
    host.write("dev/sdb", b"b" * BLOCK)
    samples = take(host)
    assert "sda cannot be sampled: No such file or directory" in samples.problems["sda"]
    assert "ends before offset" in samples.problems["sdb"]
    assert list(samples.fingerprints) == ["sdc"]


def test_path_that_is_down_is_not_read(host):
    (host.root / "sys/class/block/sda/device/state").write_text("transport-offline\n")
    assert take(host).problems == {"sda": "sda cannot be sampled: none of its paths is usable"}


def test_multipath_map_is_read_instead_of_a_path(host):
    host.add_dm("dm-0", "mpath-3" + "0" * 32, "m", ["sda"])
    host.write("dev/dm-0", b"m" * (1 << 20))
    assert take(host).fingerprints["sda"]["0"][0] == hashlib.sha256(b"m" * BLOCK).hexdigest()


def test_problem_of_a_session(host):
    assert take(host, sessions={"vol": probe.Answer(problem="gone")}).problems == {"vol": "gone"}
