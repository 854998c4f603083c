# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""RBD images on two real clusters; what was written is compared by rbd export and cmp, what it takes by rbd du."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._volume import rbd
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import aligned_buffer
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import DATA, ZERO, VolumeError, VolumeHandle, VolumeIOError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How
from ansible_collections.lunshift.migration.plugins.module_utils._volume.opening import close_volume, open_volume, parse_volume
from clusters import POOL, Cluster

MIB = 1 << 20
OBJECT = 4 * MIB
SIZE = 32 * MIB
ODD_SIZE = 5 * OBJECT + 1536
NO_MAP = ("--image-feature", "layering,exclusive-lock")
NO_LOCK = ("--image-feature", "layering")
# Data in whole objects, in a part of one, and nowhere else.
SPARSE = {0: OBJECT, 2 * OBJECT + 65536: 131072, 5 * OBJECT: 2 * OBJECT - 4096}
_numbers = itertools.count()


@pytest.fixture
def image() -> str:
    return f"img{next(_numbers)}"


@pytest.fixture(autouse=True)
def etc_ceph_stays() -> t.Iterator[None]:
    before = [(path, path.stat().st_mtime_ns) for path in sorted(Path("/etc/ceph").rglob("*"))]
    yield
    assert [(path, path.stat().st_mtime_ns) for path in sorted(Path("/etc/ceph").rglob("*"))] == before


def opened(info: t.Mapping[str, t.Any], *, writable: bool = False, timeout_s: int = 10) -> VolumeHandle:
    return open_volume(info, How(writable=writable, timeout_s=timeout_s))


def make_file(path: Path, size: int, data: t.Mapping[int, int] | None = None) -> Path:
    """A sparse file with random bytes in some ranges, or in all of it."""
    chance = random.Random(str(path))
    with open(path, "wb") as stream:
        stream.truncate(size)
        for offset, length in (data if data is not None else {0: size}).items():
            stream.seek(offset)
            stream.write(chance.randbytes(length))
    return path


def put(handle: VolumeHandle, path: Path, threads: int = 8) -> None:
    """A file onto the volume, by several threads at once."""
    size, step = handle.facts.size_bytes, handle.facts.request_bytes

    def one(offset: int) -> None:
        view = aligned_buffer(min(step, size - offset))
        with open(path, "rb") as stream:
            stream.seek(offset)
            assert stream.readinto(view) == len(view)
        handle.write_from(view, offset)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(0, size, step)))


def same(path: Path, other: Path) -> bool:
    return subprocess.run(["cmp", path, other], check=False).returncode == 0


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


# --- reading and writing ---


@pytest.mark.parametrize("size", [SIZE, ODD_SIZE])
def test_what_is_written_is_what_rbd_exports_and_what_is_read(ceph1: Cluster, image: str, tmp_path: Path, size: int) -> None:
    source = make_file(tmp_path / "source", size)
    ceph1.create(image, size)
    with opened(ceph1.info(image), writable=True) as handle:
        assert handle.facts.size_bytes == size and handle.facts.request_bytes == OBJECT
        put(handle, source)
    assert same(source, ceph1.export(image, tmp_path / "exported"))
    with opened(ceph1.info(image)) as handle, open(tmp_path / "read", "wb") as target:
        shutil.copyfileobj(handle, target, MIB)
    assert same(source, tmp_path / "read")


def test_only_the_end_of_a_volume_is_the_end(ceph1: Cluster, image: str) -> None:
    ceph1.create(image, MIB)
    with opened(ceph1.info(image), writable=True) as handle:
        for action in (handle.read_into, handle.write_from):
            with pytest.raises(VolumeIOError, match="at offset 1047552 of rbd"):
                action(aligned_buffer(4096), MIB - 1024)


@pytest.mark.parametrize("options", [(), NO_MAP, NO_LOCK], ids=["all", "no-map", "no-lock"])
def test_zeroed_ranges_read_as_zeros_and_give_their_space_back(
    ceph1: Cluster, image: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    model = make_file(tmp_path / "model", ODD_SIZE)
    ceph1.load(image, model, *options)
    ranges = {512: 1024, OBJECT - 4096: 2 * OBJECT + 8192, 4 * OBJECT + 1024: ODD_SIZE - 4 * OBJECT - 1024}
    with opened(ceph1.info(image), writable=True) as handle, open(model, "r+b") as stream:
        for offset, length in ranges.items():
            handle.zero(offset, length)
            stream.seek(offset)
            stream.write(bytes(length))
    assert same(model, ceph1.export(image, tmp_path / "exported"))
    with opened(ceph1.info(image), writable=True) as handle:
        handle.zero(0, ODD_SIZE)
    assert not any(ceph1.export(image, tmp_path / "exported").read_bytes())
    # The last object is never a whole one.
    assert ceph1.used_bytes(image) <= ODD_SIZE % OBJECT


def test_without_write_zeroes_zeros_are_written(ceph1: Cluster, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbd.librbd.library(), "rbd_write_zeroes", None)
    ceph1.load(image, make_file(tmp_path / "source", ODD_SIZE))
    with opened(ceph1.info(image), writable=True) as handle:
        assert not handle.facts.can_unmap
        handle.zero(0, ODD_SIZE)
    assert not any(ceph1.export(image, tmp_path / "exported").read_bytes())


# --- extents ---


def check_extents(handle: VolumeHandle, path: Path, *ranges: tuple[int, int]) -> int:
    """What is told to be zero is zero, whole and in order; gives how much that is."""
    content, zeros = path.read_bytes(), 0
    for offset, length in ranges or ((0, len(content)),):
        position = offset
        for extent in handle.extents(offset, length):
            assert extent.offset == position and extent.kind in (DATA, ZERO)
            if extent.kind == ZERO:
                zeros += extent.length
                assert not any(content[extent.offset : extent.end]), extent
            position = extent.end
        assert position == offset + length
    return zeros


@pytest.mark.parametrize("options", [(), NO_MAP], ids=["fast-diff", "no-map"])
@pytest.mark.parametrize("objects", [16384, 3])
def test_what_was_never_written_is_told_to_be_zero(
    ceph1: Cluster, image: str, tmp_path: Path, options: tuple[str, ...], objects: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rbd, "_EXTENT_OBJECTS", objects)
    source = make_file(tmp_path / "source", SIZE + 1536, SPARSE)
    ceph1.load(image, source, *options)
    with opened(ceph1.info(image)) as handle:
        assert check_extents(handle, source) >= SIZE + 1536 - 4 * OBJECT - 65536
        check_extents(handle, source, (512, SIZE), (OBJECT + 512, OBJECT), (2 * OBJECT + 4096, 512), (SIZE, 1536))


def test_a_target_that_was_changed_tells_its_new_extents(ceph1: Cluster, image: str, tmp_path: Path) -> None:
    source = make_file(tmp_path / "source", SIZE)
    ceph1.create(image, SIZE)
    with opened(ceph1.info(image), writable=True) as handle:
        assert [extent.kind for extent in handle.extents()] == [ZERO]
        put(handle, source)
        assert [extent.kind for extent in handle.extents()] == [DATA]
        handle.zero(OBJECT, 2 * OBJECT)
        assert [(extent.offset, extent.length) for extent in handle.extents() if extent.kind == ZERO] == [(OBJECT, 2 * OBJECT)]
        assert handle.users() == []


@pytest.mark.parametrize("options", [(), NO_MAP], ids=["fast-diff", "no-map"])
def test_a_clone_shows_its_parents_data_where_it_has_none(ceph1: Cluster, image: str, tmp_path: Path, options: tuple[str, ...]) -> None:
    parent = ceph1.load(f"{image}-parent", make_file(tmp_path / "parent", SIZE, SPARSE), *options)
    ceph1.rbd("snap", "create", f"{POOL}/{parent}@base")
    ceph1.rbd("clone", "--rbd-default-clone-format", "2", f"{POOL}/{parent}@base", f"{POOL}/{image}", *options)
    model = tmp_path / "model"
    shutil.copy(tmp_path / "parent", model)
    exported = ceph1.export(image, tmp_path / "exported")
    with opened(ceph1.info(image)) as handle:
        assert check_extents(handle, exported) > 0
    with opened(ceph1.info(image), writable=True) as handle, open(model, "r+b") as stream:
        # Over the parent's data, whole objects and parts of them, and a write beside it.
        for offset, length in ((1024, 4096), (5 * OBJECT, OBJECT), (6 * OBJECT + 512, 1024)):
            handle.zero(offset, length)
            stream.seek(offset)
            stream.write(bytes(length))
        view = aligned_buffer(8192)
        view[:] = b"x" * 8192
        handle.write_from(view, 3 * OBJECT)
        stream.seek(3 * OBJECT)
        stream.write(view)
        stream.flush()
        assert check_extents(handle, model) > 0
    assert same(model, ceph1.export(image, tmp_path / "exported"))
    with opened(ceph1.info(image)) as handle:
        assert check_extents(handle, model) > 0
    assert same(tmp_path / "parent", ceph1.export(parent, tmp_path / "exported-parent"))


@pytest.mark.parametrize("options", [(), NO_MAP], ids=["fast-diff", "no-map"])
def test_what_was_removed_after_a_snapshot_is_not_lost_in_it(ceph1: Cluster, image: str, tmp_path: Path, options: tuple[str, ...]) -> None:
    source = make_file(tmp_path / "source", SIZE, SPARSE)
    ceph1.load(image, source, *options)
    ceph1.rbd("snap", "create", f"{POOL}/{image}@before")
    with opened(ceph1.info(image), writable=True) as handle, opened(ceph1.info(image, ceph={"snapshot": "before"})) as snapshot:
        handle.zero(0, SIZE)
        view = aligned_buffer(OBJECT)
        view[:] = b"x" * OBJECT
        handle.write_from(view, 7 * OBJECT)
        (tmp_path / "other").write_bytes(bytes(7 * OBJECT) + view)
        assert snapshot.facts.immutable and not handle.facts.immutable
        assert snapshot.facts.identity.startswith(f"{handle.facts.identity}@")
        assert snapshot.users() == []
        assert check_extents(snapshot, source) > 0
        assert check_extents(handle, tmp_path / "other") > 0
        with open(tmp_path / "read", "wb") as target:
            shutil.copyfileobj(snapshot, target, MIB)
    assert same(source, tmp_path / "read")
    with pytest.raises(VolumeError, match="a snapshot cannot be written"):
        opened(ceph1.info(f"{image}@before"), writable=True)


# --- clusters and clients ---


def test_two_clusters_at_once(ceph1: Cluster, ceph2: Cluster, image: str, tmp_path: Path) -> None:
    source = make_file(tmp_path / "source", SIZE)
    ceph1.load(image, source)
    ceph2.create(image, SIZE)
    before = threads()
    with opened(ceph1.info(image)) as one, opened(ceph2.info(image), writable=True) as other:
        assert one.facts.identity != other.facts.identity

        def move(offset: int) -> None:
            view = aligned_buffer(OBJECT)
            one.read_into(view, offset)
            other.write_from(view, offset)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(move, range(0, SIZE, OBJECT)))
    assert threads() == before
    assert same(source, ceph2.export(image, tmp_path / "exported"))


def test_the_identity_is_the_images_own(ceph1: Cluster, image: str) -> None:
    identities = set()
    for _time in range(2):
        ceph1.create(image, MIB)
        for ceph in (None, {"conf_path": ceph1.conf}):
            with opened(ceph1.info(image, ceph=ceph)) as handle:
                identities.add(handle.facts.identity)
        ceph1.rbd("rm", f"{POOL}/{image}")
    assert len(identities) == 2


def test_monitors_and_key_may_come_from_files(ceph1: Cluster, image: str) -> None:
    ceph1.create(image, MIB)
    keyring = str(Path(ceph1.conf).parent / "client.lab.keyring")
    info = ceph1.info(image, ceph={"conf_path": ceph1.conf}, hosts=[], ports=[], keyring=None)
    opened(info).close()
    opened(ceph1.info(image, ceph={"keyring_path": keyring}, keyring=None)).close()
    opened(ceph1.info(image, ports=["3300"])).close()
    with pytest.raises(VolumeError, match="keyring_path /nowhere/keyring cannot be read: No such file"):
        opened(ceph1.info(image, ceph={"keyring_path": "/nowhere/keyring"}, keyring=None))
    with pytest.raises(VolumeError, match=r"no key of client\.lab in /etc/ceph/ceph.client.lab.keyring"):
        opened(ceph1.info(image, keyring=None))


def test_an_image_in_a_namespace(ceph1: Cluster, image: str) -> None:
    ceph1.rbd("namespace", "create", f"{POOL}/{image}-ns")
    ceph1.rbd("create", f"{POOL}/{image}-ns/one", "--size", "1M")
    with opened(ceph1.info(f"{image}-ns/one"), writable=True) as handle:
        assert f":{image}-ns/" in handle.facts.identity


def test_what_is_missing_is_named_with_what_there_is(ceph1: Cluster, image: str) -> None:
    ceph1.create(image, MIB)
    ceph1.rbd("snap", "create", f"{POOL}/{image}@here")
    before = threads()
    for info, words in (
        (ceph1.info(image, name=f"nopool/{image}"), f"there is no pool nopool; there are: .*{POOL}"),
        (ceph1.info(f"{image}-not"), f"no such image in {POOL}; there are: .*img"),
        (ceph1.info(f"{image}@not"), "has no such snapshot; it has: here"),
    ):
        with pytest.raises(VolumeError, match=words) as caught:
            opened(info)
        assert caught.value.error_id == "volume_not_found"
    assert threads() == before


def test_a_client_without_the_right_says_so(ceph1: Cluster) -> None:
    ceph1.ceph("osd", "pool", "create", "private", "8")
    ceph1.rbd("create", "private/one", "--size", "1M")
    with pytest.raises(VolumeError, match=r"not permit it to this client.*capabilities"):
        opened(ceph1.info("any", name="private/one"))


def test_monitors_that_do_not_answer_are_named_in_time(ceph1: Cluster) -> None:
    before, started = threads(), time.monotonic()
    with pytest.raises(VolumeError, match=r"none of its monitors answers within 2 s: 10\..*:6799, 127.0.0.1:6799") as caught:
        opened(ceph1.info("any", hosts=[ceph1.info("any")["data"]["hosts"][0], "127.0.0.1"], ports=["6799", "6799"]), timeout_s=2)
    assert time.monotonic() - started < 10
    assert caught.value.error_id == "ceph_unreachable"
    assert threads() == before


# --- who else is there ---


@pytest.mark.parametrize("options", [(), NO_LOCK], ids=["lock", "no-lock"])
def test_a_target_that_somebody_has_open_is_refused_at_once(ceph1: Cluster, image: str, options: tuple[str, ...]) -> None:
    ceph1.create(image, MIB, *options)
    with ceph1.watching(image):
        started = time.monotonic()
        with pytest.raises(VolumeError, match=r"in use: client\.\d+ at .* has it open") as caught:
            opened(ceph1.info(image), writable=True)
        assert time.monotonic() - started < 5
        assert caught.value.error_id == "volume_in_use"
        with opened(ceph1.info(image)) as handle:
            assert len(handle.users() or []) == 1
    opened(ceph1.info(image), writable=True).close()


def test_two_targets_are_never_open_at_once(ceph1: Cluster, image: str) -> None:
    ceph1.create(image, MIB)
    with opened(ceph1.info(image), writable=True) as first:
        with pytest.raises(VolumeError, match="in use"):
            opened(ceph1.info(image), writable=True)
        # The first one still has its lock.
        assert "auto" in ceph1.rbd("lock", "ls", f"{POOL}/{image}")
        first.write_from(aligned_buffer(4096), 0)
    assert ceph1.rbd("lock", "ls", f"{POOL}/{image}") == ""
    assert "watcher" not in ceph1.rbd("status", f"{POOL}/{image}")


def test_of_many_at_once_one_at_most_gets_it(ceph1: Cluster, image: str) -> None:
    ceph1.create(image, MIB)
    barrier = threading.Barrier(4)

    def one(_number: int) -> VolumeHandle | None:
        barrier.wait()
        try:
            return opened(ceph1.info(image), writable=True)
        except VolumeError as exc:
            assert exc.error_id == "volume_in_use"
            return None

    with ThreadPoolExecutor(4) as pool:
        got = [handle for handle in pool.map(one, range(4)) if handle]
    assert len(got) <= 1
    for handle in got:
        close_volume(handle)
    opened(ceph1.info(image), writable=True).close()


def test_an_operators_lock_is_respected(ceph1: Cluster, image: str) -> None:
    ceph1.create(image, MIB)
    ceph1.rbd("lock", "add", f"{POOL}/{image}", "maintenance")
    with pytest.raises(VolumeError, match="holds its lock 'maintenance'"):
        opened(ceph1.info(image), writable=True)
    assert "maintenance" in ceph1.rbd("lock", "ls", f"{POOL}/{image}")


CHILD = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.lunshift.migration.plugins.module_utils._volume import opening
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import aligned_buffer
info = json.load(sys.stdin)
try:
    handle = opening.open_volume(info, opening.How(writable=True, timeout_s=10))
    handle.write_from(aligned_buffer(4096), 0)
    print("open", handle, handle.facts, flush=True)
    if "plant" in sys.argv:
        open(os.devnull, "w").write(info["data"]["keyring"])
    if "stay" in sys.argv:
        time.sleep(600)
    handle.close()
except Exception as exc:
    print(repr(exc), exc, getattr(exc, "details", None))
"""


def child(info: t.Mapping[str, t.Any], *words: str, before: t.Sequence[str] = ()) -> subprocess.Popen[str]:
    """A process that opens a volume as a target."""
    root = str(Path(rbd.__file__).parents[6]) if "ansible_collections" in rbd.__file__ else next(p for p in sys.path if "collections" in p)
    argv = [*before, sys.executable, "-c", CHILD, root, *words]
    started = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert started.stdin
    started.stdin.write(json.dumps(info))
    started.stdin.close()
    return started


def test_a_copy_that_was_killed_can_be_started_again(ceph1: Cluster, image: str) -> None:
    ceph1.create(image, MIB)
    killed = child(ceph1.info(image), "stay")
    assert killed.stdout and killed.stdout.readline().startswith("open")
    killed.kill()
    killed.wait()
    killed.stdout.close()
    assert "watcher=" in ceph1.rbd("status", f"{POOL}/{image}")
    # What deployments of old have, which cannot take a lock over.
    weak = Path(ceph1.conf).parent / "client.weak.keyring"
    ceph1.ceph("auth", "get-or-create", "client.weak", "mon", "allow r", "osd", f"allow rwx pool={POOL}", "-o", str(weak))
    with pytest.raises(VolumeError, match="needs the capability mon 'profile rbd'"):
        opened(ceph1.info(image, auth_username="weak", keyring=weak.read_text()), writable=True)
    with opened(ceph1.info(image), writable=True) as handle:
        handle.write_from(aligned_buffer(4096), 0)


# --- images that are no targets ---


def test_a_journaled_image_is_no_target(ceph1: Cluster, image: str) -> None:
    ceph1.create(image, MIB, "--image-feature", "exclusive-lock,journaling")
    with pytest.raises(VolumeError, match="it is journaled"):
        opened(ceph1.info(image), writable=True)
    opened(ceph1.info(image)).close()


def test_a_mirrored_image_is_no_target(ceph1: Cluster, image: str) -> None:
    ceph1.rbd("mirror", "pool", "enable", POOL, "image")
    ceph1.create(image, MIB)
    ceph1.rbd("mirror", "image", "enable", f"{POOL}/{image}", "snapshot")
    with pytest.raises(VolumeError, match="it is mirrored to another cluster"):
        opened(ceph1.info(image), writable=True)
    ceph1.rbd("mirror", "image", "demote", f"{POOL}/{image}")
    with pytest.raises(VolumeError, match="not the primary one"):
        opened(ceph1.info(image), writable=True)


def test_an_image_that_is_being_migrated_is_no_target(ceph1: Cluster, image: str) -> None:
    ceph1.create(image, MIB)
    ceph1.rbd("migration", "prepare", f"{POOL}/{image}", f"{POOL}/{image}-new")
    with pytest.raises(VolumeError, match="it is being migrated"):
        opened(ceph1.info(f"{image}-new"), writable=True)
    ceph1.rbd("migration", "abort", f"{POOL}/{image}-new")


# --- secrets ---


def traced(ceph: Cluster, info: t.Mapping[str, t.Any], trace: Path, *words: str) -> str:
    """What a process that opens a volume told the kernel, and printed."""
    strace = ["strace", "-f", "-qq", "-s", "65536", "-o", str(trace), "-e", "trace=%file,write,writev,pwrite64,sendto,sendmsg,prctl"]
    process = child(info, *words, before=strace)
    assert process.stdout
    printed = process.stdout.read()
    process.wait()
    return printed + trace.read_text(errors="replace")


def test_the_key_is_nowhere_and_no_file_is_made(ceph1: Cluster, ceph2: Cluster, image: str, tmp_path: Path) -> None:
    ceph1.create(image, MIB)
    info = ceph1.info(image)
    seen = traced(ceph1, info, tmp_path / "trace")
    assert "open <" in seen and ceph1.key() not in seen
    lines = [line for line in seen.splitlines() if "/etc/ceph" in line or "O_CREAT" in line]
    assert lines == []
    # What the trace would show, if there were anything.
    assert ceph1.key() in traced(ceph1, info, tmp_path / "trace", "plant")
    wrong = ceph1.info(image, keyring=ceph2.info(image)["data"]["keyring"])
    refused = traced(ceph1, wrong, tmp_path / "trace")
    assert "ceph_authentication" not in refused and "authentication failed" in refused and ceph2.key() not in refused


def test_a_wrong_key_is_an_error_of_authentication(ceph1: Cluster, ceph2: Cluster, image: str) -> None:
    info = ceph1.info(image, keyring=ceph2.info(image)["data"]["keyring"])
    with pytest.raises(VolumeError, match=r"authentication failed: .* does not know client.lab by the keyring given") as caught:
        opened(info)
    assert caught.value.error_id == "ceph_authentication"
    request = parse_volume("", info)
    assert ceph2.key() not in f"{request!r} {request.parsed!r} {caught.value!r} {caught.value.details!r}"


# --- failures ---


def test_an_osd_that_is_gone_is_an_error_in_time_and_a_copy_goes_on_after_it(
    ceph2: Cluster, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rbd, "OP_TIMEOUT_S", 4)
    monkeypatch.setattr(rbd, "_CLOSING_TIMEOUT_S", 1)
    source = make_file(tmp_path / "source", SIZE)
    ceph2.create(image, SIZE)
    before = threads()
    handle = opened(ceph2.info(image), writable=True)
    handle.write_from(aligned_buffer(OBJECT), 0)
    ceph2.lab.run("ceph", "osd", "down", "ceph2")
    started = time.monotonic()
    with pytest.raises(VolumeIOError, match=r"cannot write 4194304 bytes at offset \d+ of rbd .*no answer in time; an OSD is down"):
        put(handle, source)
    assert time.monotonic() - started < 15
    with pytest.raises(VolumeIOError, match="no answer in time"):
        handle.read_into(aligned_buffer(OBJECT), 0)
    started = time.monotonic()
    with contextlib.suppress(VolumeError):
        handle.close()
    assert time.monotonic() - started < 20
    assert threads() == before
    ceph2.lab.run("ceph", "osd", "up", "ceph2")
    with opened(ceph2.info(image), writable=True) as again:
        put(again, source)
    assert same(source, ceph2.export(image, tmp_path / "exported"))


def test_a_short_interruption_is_only_a_wait(ceph2: Cluster, image: str, tmp_path: Path) -> None:
    source = make_file(tmp_path / "source", SIZE)
    ceph2.create(image, SIZE)
    with opened(ceph2.info(image), writable=True) as handle:
        put(handle, source)
        ceph2.lab.run("ceph", "osd", "down", "ceph2")
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(put, handle, source)
            ceph2.lab.run("ceph", "osd", "up", "ceph2")
            writing.result(timeout=60)
    assert same(source, ceph2.export(image, tmp_path / "exported"))


def test_a_forked_process_opens_its_own(ceph1: Cluster, image: str) -> None:
    ceph1.create(image, MIB)
    with opened(ceph1.info(image)):
        pid = os.fork()
        if not pid:
            try:
                with opened(ceph1.info(image)) as handle:
                    os._exit(0 if handle.read(512) == bytes(512) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
