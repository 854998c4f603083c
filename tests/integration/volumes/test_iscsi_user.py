# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""User-space iSCSI against a tgtd of the test's own; what was written is compared by cmp and du with the file behind the LUN."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._volume import iscsi_sessions
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import aligned_buffer, is_zero
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import (
    DATA,
    UNKNOWN,
    ZERO,
    VolumeError,
    VolumeHandle,
    VolumeIOError,
)
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How
from ansible_collections.lunshift.migration.plugins.module_utils._volume.opening import close_volume, open_volume
from targets import Target

MIB = 1 << 20
SIZE = 16 * MIB
NOBODY = 65534


def make_file(path: Path, size: int = SIZE, *, filled: bool = False) -> Path:
    """An empty sparse file, or one of random bytes."""
    subprocess.run(["truncate", "-s", str(size), path], check=True)
    if filled:
        subprocess.run(["dd", "if=/dev/urandom", f"of={path}", "bs=1M", f"count={size // MIB}", "conv=notrunc", "status=none"], check=True)
    return path


def opened(target: Target, lun: int, *, writable: bool = True, timeout_s: int = 30, **more: t.Any) -> VolumeHandle:
    return open_volume(target.info(lun, **more), How(writable=writable, timeout_s=timeout_s))


def copy_in(handle: VolumeHandle, source: Path) -> None:
    """The file onto the volume, in requests of eight threads at once."""
    step = handle.facts.request_bytes

    def one(offset: int) -> None:
        with open(source, "rb") as stream:
            stream.seek(offset)
            content = stream.read(step)
        view = aligned_buffer(len(content))
        view[:] = content
        handle.write_from(view, offset)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(0, source.stat().st_size, step)))
    handle.flush()


def is_equal(one: Path, other: Path, offset: int = 0, length: int | None = None) -> bool:
    limit = [] if length is None else ["-n", str(length)]
    skip = f"{offset}:{0 if str(other) == '/dev/zero' else offset}"
    return subprocess.run(["cmp", "-s", "-i", skip, *limit, one, other], check=False).returncode == 0


def allocated_kib(path: Path) -> int:
    return int(subprocess.run(["du", "-k", path], check=True, capture_output=True, text=True).stdout.split()[0])


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("block", [512, 4096])
def test_what_is_written_is_behind_the_lun(iscsi_target: Target, tmp_path: Path, block: int, thin: bool) -> None:
    source, behind = make_file(tmp_path / "source", filled=True), make_file(tmp_path / "behind")
    handle = opened(iscsi_target, iscsi_target.add(behind, block=block, thin=thin))
    assert (handle.facts.size_bytes, handle.facts.logical_block_bytes, handle.facts.can_unmap) == (SIZE, block, thin)
    copy_in(handle, source)
    assert is_equal(source, behind)
    handle.seek(12345)
    handle.write(b"across blocks" * 500)
    assert not is_equal(source, behind)
    with open(source, "r+b") as stream:
        stream.seek(12345)
        stream.write(b"across blocks" * 500)
    close_volume(handle)
    assert is_equal(source, behind)
    assert iscsi_target.sessions() == 0


def test_it_is_a_file(iscsi_target: Target, tmp_path: Path) -> None:
    behind = make_file(tmp_path / "behind", filled=True)
    handle = opened(iscsi_target, iscsi_target.add(behind), writable=False)
    with open(tmp_path / "read", "wb") as stream, io.BufferedReader(handle, 3 * MIB) as reader:
        shutil.copyfileobj(reader, stream)
    assert is_equal(tmp_path / "read", behind)
    with open(tmp_path / "read", "rb") as stream:
        assert len(stream.read()) == SIZE
    with pytest.raises(ValueError, match="closed"):
        handle.read(1)


@pytest.mark.parametrize("block", [512, 4096])
def test_zeroing_gives_space_back(iscsi_target: Target, tmp_path: Path, block: int) -> None:
    behind, before = make_file(tmp_path / "behind", filled=True), tmp_path / "before"
    shutil.copyfile(behind, before)
    handle = opened(iscsi_target, iscsi_target.add(behind, block=block, thin=True))
    handle.zero(MIB, 4 * MIB)
    handle.zero(9 * MIB + block, 3 * block)
    handle.flush()
    assert is_equal(behind, Path("/dev/zero"), MIB, 4 * MIB)
    assert is_equal(behind, Path("/dev/zero"), 9 * MIB + block, 3 * block)
    for start, end in ((0, MIB), (5 * MIB, 9 * MIB + block), (9 * MIB + 4 * block, SIZE)):
        assert is_equal(behind, before, start, end - start)
    assert allocated_kib(behind) <= (SIZE - 4 * MIB) // 1024
    handle.zero(0, SIZE)
    handle.flush()
    assert allocated_kib(behind) == 0
    assert is_equal(behind, Path("/dev/zero"), 0, SIZE)
    close_volume(handle)


@pytest.mark.parametrize("block", [512, 4096])
def test_zeroing_a_thick_volume_writes(iscsi_target: Target, tmp_path: Path, block: int) -> None:
    behind, before = make_file(tmp_path / "behind", filled=True), tmp_path / "before"
    shutil.copyfile(behind, before)
    handle = opened(iscsi_target, iscsi_target.add(behind, block=block))
    handle.zero(MIB + block, 4 * MIB)
    close_volume(handle)
    assert is_equal(behind, Path("/dev/zero"), MIB + block, 4 * MIB)
    assert is_equal(behind, before, 0, MIB + block)
    assert is_equal(behind, before, 5 * MIB + block, SIZE - 5 * MIB - block)
    assert allocated_kib(behind) >= SIZE // 1024


def test_extents_are_those_of_the_file(iscsi_target: Target, tmp_path: Path) -> None:
    behind = make_file(tmp_path / "behind", 256 * MIB)
    # More pieces than one answer of the target holds.
    with open(behind, "r+b") as stream:
        for offset in range(0, 256 * MIB, 32 << 10):
            os.pwrite(stream.fileno(), b"x" * 8192, offset + 4096)
    handle = opened(iscsi_target, iscsi_target.add(behind, thin=True), writable=False)
    told = [(extent.offset, extent.length, extent.kind) for extent in handle.extents()]
    assert told == holes(behind)
    assert len(told) > 8192
    some = [(extent.offset, extent.length, extent.kind) for extent in handle.extents(8192, 8192)]
    assert some == [(8192, 4096, DATA), (12288, 4096, ZERO)]
    close_volume(handle)


def holes(path: Path) -> list[tuple[int, int, str]]:
    """The file as the kernel tells it."""
    found, position, size = [], 0, path.stat().st_size
    with open(path, "rb") as stream:
        while position < size:
            try:
                start = os.lseek(stream.fileno(), position, os.SEEK_DATA)
            except OSError:
                start = size
            if start > position:
                found.append((position, start - position, ZERO))
            if start < size:
                position = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
                found.append((start, position - start, DATA))
            else:
                position = size
    return found


def test_extents_of_a_thick_volume_are_unknown(iscsi_target: Target, tmp_path: Path) -> None:
    handle = opened(iscsi_target, iscsi_target.add(make_file(tmp_path / "behind")), writable=False)
    assert [(extent.offset, extent.length, extent.kind) for extent in handle.extents()] == [(0, SIZE, UNKNOWN)]
    close_volume(handle)


def test_beyond_two_tebibytes(iscsi_target: Target, tmp_path: Path) -> None:
    behind = make_file(tmp_path / "behind", 5 << 40)
    handle = opened(iscsi_target, iscsi_target.add(behind, thin=True))
    view = aligned_buffer(MIB)
    view[:] = os.urandom(MIB)
    offset = (3 << 40) + 7 * MIB
    handle.write_from(view, offset)
    handle.flush()
    with open(behind, "rb") as stream:
        assert os.pread(stream.fileno(), MIB, offset) == view
    again = aligned_buffer(MIB)
    handle.read_into(again, offset)
    assert again == view
    kinds = {kind: sum(extent.length for extent in handle.extents() if extent.kind == kind) for kind in (DATA, ZERO, UNKNOWN)}
    # tgt tells a hole's length in 32 bits of blocks.
    assert kinds[DATA] == MIB
    assert kinds[UNKNOWN] <= 2 << 30
    handle.zero(0, 5 << 40)
    handle.flush()
    assert allocated_kib(behind) == 0
    close_volume(handle)


def test_eight_requests_are_under_way_at_once(iscsi_target: Target, tmp_path: Path) -> None:
    handle = opened(iscsi_target, iscsi_target.add(make_file(tmp_path / "behind", filled=True)), writable=False)
    begun, done = threading.Semaphore(0), []

    def read(offset: int) -> None:
        begun.release()
        handle.read_into(aligned_buffer(MIB), offset)
        done.append(offset)

    # Two rounds: in the second one all eight sessions are there, and the target answers none of them until all have asked.
    for paused in (False, True):
        done.clear()
        if paused:
            iscsi_target.pause()
        threads = [threading.Thread(target=read, args=(number * MIB,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for _thread in threads:
            assert begun.acquire(timeout=5)
        if paused:
            started = time.monotonic()
            time.sleep(0.5)
            # Python itself was not held up by any of them.
            assert time.monotonic() - started < 2
            assert done == []
            iscsi_target.go_on()
        for thread in threads:
            thread.join(10)
        assert len(done) == 8
    assert iscsi_target.sessions() == 8
    close_volume(handle)
    assert iscsi_target.sessions() == 0


@pytest.mark.parametrize("end", ["kill", "pause"])
def test_a_target_that_goes_away(iscsi_target: Target, tmp_path: Path, end: str) -> None:
    handle = opened(iscsi_target, iscsi_target.add(make_file(tmp_path / "behind", filled=True)), timeout_s=2)
    errors: list[BaseException] = []

    def use(number: int) -> None:
        view = aligned_buffer(MIB)
        try:
            while True:
                (handle.read_into if number % 2 else handle.write_from)(view, number * MIB)
        except VolumeIOError as exc:
            errors.append(exc)

    threads = [threading.Thread(target=use, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    started = time.monotonic()
    getattr(iscsi_target, end)()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 8
    assert all(" of LUN 1 of iqn.2026-11.org.example:target at portal 127.0.0.1:" in str(error) for error in errors)
    with pytest.raises(VolumeIOError):
        handle.read_into(aligned_buffer(MIB), 0)
    # Closing flushes, which fails, and gives everything back all the same.
    with pytest.raises(VolumeIOError, match="cannot flush"):
        close_volume(handle)
    assert time.monotonic() - started < 10
    close_volume(handle)


def test_a_change_on_the_target(iscsi_target: Target, tmp_path: Path) -> None:
    """The target tells of a change; what matters is whether the volume is still the same."""
    lun = iscsi_target.add(make_file(tmp_path / "behind"), scsi_sn="one")
    handle = opened(iscsi_target, lun)
    view = aligned_buffer(MIB)
    view[:] = b"x" * MIB
    iscsi_target.add(make_file(tmp_path / "other"))
    handle.write_from(view, 0)
    handle.flush()
    assert allocated_kib(tmp_path / "behind") == 1024
    iscsi_target.set(lun, scsi_sn="two")
    iscsi_target.add(make_file(tmp_path / "third"))
    with pytest.raises(VolumeIOError, match=r"no longer what was opened: unit_serial is 'two', it was 'one'"):
        handle.write_from(view, MIB)
    with pytest.raises(VolumeIOError):
        close_volume(handle)
    assert allocated_kib(tmp_path / "behind") == 1024


def test_another_volume_under_the_same_number(iscsi_target: Target, tmp_path: Path) -> None:
    """tgt tells nobody of that; at the latest it is seen before anything is called done."""
    lun = iscsi_target.add(make_file(tmp_path / "one"))
    handle = opened(iscsi_target, lun)
    handle.write(b"to the one")
    iscsi_target.replace(lun, make_file(tmp_path / "two", 2 * SIZE))
    with pytest.raises(VolumeIOError, match=r"cannot flush .* no longer what was opened: size_bytes is 33554432, it was 16777216"):
        close_volume(handle)


def test_chap(iscsi_target: Target, tmp_path: Path) -> None:
    lun = iscsi_target.add(make_file(tmp_path / "behind"))
    iscsi_target.account("copier", "right-password-1")
    chap = {"auth_method": "CHAP", "auth_username": "copier", "auth_password": "right-password-1"}
    close_volume(opened(iscsi_target, lun, data=chap))
    for wrong in ({}, {**chap, "auth_password": "wrong-password-1"}):
        with pytest.raises(MigrationError, match="cannot log in") as error:
            opened(iscsi_target, lun, data=wrong)
        assert error.value.error_id == "login_failed"
        assert "wrong-password-1" not in str(error.value)
    iscsi_target.account("array", "its-own-password", outgoing=True)
    mutual = {**chap, "auth_username_in": "array", "auth_password_in": "its-own-password"}
    close_volume(opened(iscsi_target, lun, data=mutual))
    with pytest.raises(MigrationError, match="cannot log in"):
        opened(iscsi_target, lun, data={**mutual, "auth_password_in": "an-impostor's-pw"})


def test_write_protected(iscsi_target: Target, tmp_path: Path) -> None:
    lun = iscsi_target.add(make_file(tmp_path / "behind", filled=True), readonly=1)
    with pytest.raises(VolumeError, match=r"LUN 1 of .* is write-protected"):
        opened(iscsi_target, lun)
    handle = opened(iscsi_target, lun, writable=False)
    view = aligned_buffer(MIB)
    handle.read_into(view, 0)
    assert not is_zero(view)
    close_volume(handle)


@pytest.mark.parametrize("lun", [0, 9])
def test_no_volume_there(iscsi_target: Target, lun: int) -> None:
    with pytest.raises(VolumeError, match=f"has no disk at LUN {lun} "):
        opened(iscsi_target, lun)
    assert iscsi_target.sessions() == 0


def test_identity(iscsi_target: Target, tmp_path: Path) -> None:
    named = iscsi_target.add(make_file(tmp_path / "named"), scsi_id="naa.600140512345678900000000000000ab", scsi_sn="12345")
    plain = iscsi_target.add(make_file(tmp_path / "plain"))
    identities = []
    for lun in (named, named, plain, plain):
        handle = opened(iscsi_target, lun, writable=False)
        identities.append(handle.facts.identity)
        close_volume(handle)
    assert identities[0] == identities[1]
    assert identities[2] == identities[3]
    # What tgt makes up names no volume, for every tgtd makes up the same.
    assert identities[2].startswith("iscsi:iqn.2026-11.org.example:target/2/")
    assert identities[0] != identities[2]


def test_without_any_rights(iscsi_target: Target, tmp_path: Path) -> None:
    behind = make_file(tmp_path / "behind")
    lun = iscsi_target.add(behind)
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            handle = opened(iscsi_target, lun)
            handle.write(b"written by nobody")
            close_volume(handle)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    with open(behind, "rb") as stream:
        assert stream.read(17) == b"written by nobody"


def test_sessions_without_work_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target asks whether an initiator is still there, and ends the session of one that does not answer."""
    monkeypatch.setattr(iscsi_sessions, "_PING_S", 0.5)
    target = Target(tmp_path)
    target.options = ",nop_interval=1,nop_count=4"
    try:
        target.start()
        handle = opened(target, target.add(make_file(tmp_path / "behind", filled=True)), writable=False)
        # tgtd answers what follows such a question a second late, so there are few sessions here.
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda number: handle.read_into(aligned_buffer(MIB), number % 16 * MIB), range(64)))
        sessions = target.sessions()
        time.sleep(9)
        assert target.sessions() == sessions
        handle.read_into(aligned_buffer(MIB), 0)
        close_volume(handle)
    finally:
        target.stop()


def test_signals_do_not_break_a_session(iscsi_target: Target, tmp_path: Path) -> None:
    """A program that uses a handle may have timers; no request is lost by one."""
    handle = opened(iscsi_target, iscsi_target.add(make_file(tmp_path / "behind", filled=True)), writable=False)
    before = signal.signal(signal.SIGALRM, lambda _number, _frame: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        view = aligned_buffer(MIB)
        for number in range(200):
            handle.read_into(view, number % 16 * MIB)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    close_volume(handle)
