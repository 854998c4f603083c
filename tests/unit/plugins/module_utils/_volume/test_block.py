# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import fcntl
import os
import random
import struct
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._volume import block, fallocate, path_use
from ansible_collections.lunshift.migration.plugins.module_utils._volume.block import open_block
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import aligned_buffer
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import (
    DATA,
    UNKNOWN,
    ZERO,
    Extent,
    VolumeError,
    VolumeIOError,
)
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How
from ansible_collections.lunshift.migration.plugins.module_utils._volume.opening import (
    Request,
    close_volume,
    open_volume,
    parse_volume,
)

READ, WRITE = How(), How(writable=True)
ODD = 1000001
PAGE = 4096
LAST_PAGE = ODD - ODD % PAGE


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_use, "_SHORT_WAIT_S", 0)
    monkeypatch.setattr(block.mmap, "PAGESIZE", PAGE)


def volume_file(tmp_path: Path, size: int = ODD, name: str = "volume") -> Path:
    path = tmp_path / name
    path.write_bytes(random.Random(size).randbytes(size))
    return path


def filled(data: bytes) -> memoryview:
    view = aligned_buffer(len(data))
    view[:] = data
    return view


def parse(data: t.Any) -> Request:
    return parse_volume("source: ", {"driver_volume_type": "local", "data": data})


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "source: connection info has no mapping 'data'"),
        ({}, "source: device_path is missing"),
        ({"device_path": ""}, "source: device_path is missing"),
        ({"device_path": 7}, "source: device_path 7 is no text"),
        ({"device_path": "vg/lv"}, "source: device_path 'vg/lv' is no absolute path"),
        ({"device_path": "/dev/x\0"}, "source: device_path '/dev/x\\x00' is no absolute path"),
    ],
)
def test_what_is_wrong_with_connection_info_is_said(data: t.Any, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(data)
    assert caught.value.details["problems"] == [problem]


def test_what_cinder_adds_is_no_problem(tmp_path: Path) -> None:
    path = volume_file(tmp_path)
    data = {"device_path": str(path), "encrypted": False, "qos_specs": None, "access_mode": "rw"}
    handle = open_volume({"driver_volume_type": "local", "data": data}, READ)
    assert handle.readall() == path.read_bytes()
    close_volume(handle)


@pytest.mark.parametrize("size", [1, 511, 512, PAGE, PAGE + 512, ODD, 1 << 20])
def test_a_file_is_read_and_written_whatever_its_size(tmp_path: Path, size: int) -> None:
    path = volume_file(tmp_path, size)
    backend = open_block(str(path), WRITE)
    read = aligned_buffer(size)
    backend.read_into(read, 0)
    assert read == path.read_bytes()
    wanted = random.Random(0).randbytes(size)
    step = 64 << 10
    for start in range(0, size, step):
        backend.write_from(filled(wanted[start : start + step]), start)
    backend.drop_caches()
    backend.read_into(read, 0)
    assert read == wanted
    backend.close()
    assert path.read_bytes() == wanted
    assert backend.facts.size_bytes == size
    assert (backend.facts.logical_block_bytes, backend.facts.name) == (512, str(path))


class Spy:
    """Notes what os.preadv and os.pwritev are asked for, and moves at most ``limit`` bytes at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int = 1 << 30) -> None:
        self.calls: list[tuple[int, int, bool]] = []
        self.limit = limit
        for name in ("preadv", "pwritev"):
            monkeypatch.setattr(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, real: t.Callable[[int, list[memoryview], int], int]) -> t.Callable[[int, list[memoryview], int], int]:
        def called(descriptor: int, views: list[memoryview], offset: int) -> int:
            is_direct = bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT)
            self.calls.append((offset, len(views[0]), is_direct))
            return real(descriptor, [views[0][: self.limit]], offset)

        return called


def has_direct(backend: block.BlockBackend) -> bool:
    return backend._direct is not None


def test_the_page_that_a_file_of_odd_size_ends_in_is_always_buffered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_block(str(volume_file(tmp_path)), WRITE)
    direct = has_direct(backend)
    spy = Spy(monkeypatch)
    backend.write_from(filled(bytes(ODD)), 0)
    assert spy.calls == ([(0, LAST_PAGE, True), (LAST_PAGE, ODD - LAST_PAGE, False)] if direct else [(0, ODD, False)])
    spy.calls.clear()
    # Whole blocks, but of that page.
    backend.write_from(filled(bytes(512)), LAST_PAGE)
    assert spy.calls == [(LAST_PAGE, 512, False)]
    spy.calls.clear()
    backend.write_from(filled(bytes(PAGE)), LAST_PAGE - PAGE)
    assert spy.calls == [(LAST_PAGE - PAGE, PAGE, direct)]
    backend.close()


def test_a_file_of_whole_blocks_is_used_past_the_cache_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_block(str(volume_file(tmp_path, 3 * 512)), READ)
    direct = has_direct(backend)
    spy = Spy(monkeypatch)
    backend.read_into(aligned_buffer(3 * 512), 0)
    assert spy.calls == [(0, 3 * 512, direct)]
    backend.close()


def test_short_transfers_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = volume_file(tmp_path)
    backend = open_block(str(path), WRITE)
    wanted = random.Random(1).randbytes(ODD)
    Spy(monkeypatch, limit=3 * PAGE)
    backend.write_from(filled(wanted), 0)
    read = aligned_buffer(ODD)
    backend.read_into(read, 0)
    backend.close()
    assert read == wanted == path.read_bytes()


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    path = volume_file(tmp_path)
    backend = open_block(str(path), READ)
    os.truncate(path, 8 * PAGE)
    with pytest.raises(VolumeIOError, match=f"cannot read {PAGE} bytes at offset {8 * PAGE} of {path}: the volume ends there"):
        backend.read_into(aligned_buffer(2 * PAGE), 7 * PAGE)
    backend.close()


@pytest.mark.parametrize(("action", "call"), [("write", "pwritev"), ("read", "preadv")])
def test_what_the_kernel_says_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, call: str) -> None:
    backend = open_block(str(volume_file(tmp_path)), WRITE)

    def fail(*_arguments: t.Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(VolumeIOError, match=f"cannot {action} 512 bytes at offset 1024 of .*: No space left on device") as caught:
        (backend.read_into if action == "read" else backend.write_from)(aligned_buffer(512), 1024)
    assert caught.value.details["offset"] == 1024
    backend.close()


def test_a_failed_flush_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_block(str(volume_file(tmp_path)), WRITE)

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    for use in (backend.flush, backend.drop_caches):
        with pytest.raises(VolumeIOError, match=r"cannot flush .*: Input/output error"):
            use()
    backend.close()


def test_without_o_direct_the_page_cache_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = volume_file(tmp_path)
    real = os.open

    def without(name: str, flags: int, *rest: t.Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(name, flags, *rest)

    monkeypatch.setattr(os, "open", without)
    backend = open_block(str(path), WRITE)
    monkeypatch.undo()
    assert not has_direct(backend)
    backend.write_from(filled(b"x" * ODD), 0)
    backend.drop_caches()
    backend.close()
    assert path.read_bytes() == b"x" * ODD


def test_a_file_on_a_disk_with_large_sectors_still_has_small_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = volume_file(tmp_path, 4 * PAGE)
    real = os.preadv

    def only_whole_pages(descriptor: int, views: list[memoryview], offset: int) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT and (offset | len(views[0])) % PAGE:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(descriptor, views, offset)

    monkeypatch.setattr(os, "preadv", only_whole_pages)
    backend = open_block(str(path), WRITE)
    assert backend.facts.logical_block_bytes == 512
    direct = has_direct(backend)
    spy = Spy(monkeypatch)
    read = aligned_buffer(2 * PAGE + 512)
    backend.read_into(read, 0)
    assert read == path.read_bytes()[: len(read)]
    assert spy.calls == ([(0, 2 * PAGE, True), (2 * PAGE, 512, False)] if direct else [(0, len(read), False)])
    backend.write_from(filled(b"y" * 512), 512)
    backend.flush()
    assert spy.calls[-1] == (512, 512, False)
    backend.close()
    assert path.read_bytes()[512:1024] == b"y" * 512


def test_zeroed_ranges_give_their_space_back(tmp_path: Path) -> None:
    path = volume_file(tmp_path, 4 << 20)
    before = path.read_bytes()
    backend = open_block(str(path), WRITE)
    assert backend.facts.can_unmap
    backend.flush()
    allocated = path.stat().st_blocks
    backend.zero(1 << 20, 2 << 20)
    backend.flush()
    assert path.stat().st_blocks * 512 <= allocated * 512 - (2 << 20)
    backend.close()
    assert path.read_bytes() == before[: 1 << 20] + bytes(2 << 20) + before[3 << 20 :]


def test_a_whole_file_of_odd_size_is_zeroed_to_nothing(tmp_path: Path) -> None:
    path = volume_file(tmp_path)
    backend = open_block(str(path), WRITE)
    backend.zero(0, ODD)
    backend.flush()
    backend.close()
    assert path.read_bytes() == bytes(ODD)
    assert path.stat().st_blocks == 0


class Fallocate:
    """Stands for fallocate(2) where the storage refuses some of its modes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: t.Collection[int] = (), number: int = errno.EOPNOTSUPP) -> None:
        self.calls: list[tuple[int, int, int]] = []
        self.refused = refused
        self.number = number
        self.real = fallocate._fallocate
        monkeypatch.setattr(fallocate, "_fallocate", self)

    def __call__(self, descriptor: int, mode: int, offset: int, length: int) -> None:
        self.calls.append((mode, offset, length))
        if mode in self.refused:
            raise OSError(self.number, os.strerror(self.number))
        self.real(descriptor, mode, offset, length)


PUNCH, ZERO_RANGE = fallocate._MODES


def test_large_ranges_are_zeroed_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "volume"
    path.touch()
    os.truncate(path, 200 << 20)
    backend = open_block(str(path), WRITE)
    spy = Fallocate(monkeypatch)
    backend.zero(512, (130 << 20) - 512)
    backend.close()
    assert spy.calls == [
        (PUNCH, 512, 64 << 20),
        (PUNCH, (64 << 20) + 512, 64 << 20),
        (PUNCH, (128 << 20) + 512, (2 << 20) - 512),
    ]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV, errno.EREMOTEIO])
def test_what_the_storage_refused_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = volume_file(tmp_path, 5 << 20)
    before = path.read_bytes()
    backend = open_block(str(path), WRITE)
    spy = Fallocate(monkeypatch, refused=(PUNCH, ZERO_RANGE), number=number)
    backend.zero(1 << 20, (1 << 20) + 512)
    backend.zero(4 << 20, 1 << 20)
    backend.flush()
    backend.close()
    assert [call[0] for call in spy.calls] == [PUNCH, ZERO_RANGE]
    assert path.read_bytes() == before[: 1 << 20] + bytes((1 << 20) + 512) + before[(2 << 20) + 512 : 4 << 20] + bytes(1 << 20)


def test_the_second_way_is_taken_where_the_first_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Fallocate(monkeypatch, refused=(PUNCH,))
    backend = open_block(str(volume_file(tmp_path)), WRITE)
    assert not backend.facts.can_unmap
    # Asked where nothing is.
    assert spy.calls == [(PUNCH, LAST_PAGE + PAGE, PAGE)]
    backend.close()


def test_storage_that_fails_to_zero_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_block(str(volume_file(tmp_path)), WRITE)
    Fallocate(monkeypatch, refused=(PUNCH,), number=errno.EIO)
    with pytest.raises(VolumeIOError, match=r"cannot zero 512 bytes at offset 0 of .*: Input/output error"):
        backend.zero(0, 512)
    backend.close()


def test_a_file_opened_for_reading_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Fallocate(monkeypatch)
    backend = open_block(str(volume_file(tmp_path)), READ)
    assert not spy.calls
    with pytest.raises(VolumeIOError, match="Bad file descriptor"):
        backend.write_from(aligned_buffer(512), 0)
    backend.close()


def sparse_file(tmp_path: Path) -> Path:
    path = tmp_path / "sparse"
    with path.open("wb") as stream:
        for start in (1 << 20, 3 << 20):
            stream.seek(start)
            stream.write(b"d" * 65536)
        stream.truncate((4 << 20) + 1)
    return path


def test_holes_are_zeros(tmp_path: Path) -> None:
    backend = open_block(str(sparse_file(tmp_path)), READ)
    assert list(backend.extents(0, (4 << 20) + 1)) == [
        Extent(0, 1 << 20, ZERO),
        Extent(1 << 20, 65536, DATA),
        Extent((1 << 20) + 65536, (2 << 20) - 65536, ZERO),
        Extent(3 << 20, 65536, DATA),
        Extent((3 << 20) + 65536, (1 << 20) - 65535, ZERO),
    ]
    assert list(backend.extents((1 << 20) - 512, 1024)) == [Extent((1 << 20) - 512, 512, ZERO), Extent(1 << 20, 512, DATA)]
    assert list(backend.extents(512, 512)) == [Extent(512, 512, ZERO)]
    backend.close()


def test_what_was_cut_off_a_file_is_no_hole(tmp_path: Path) -> None:
    path = sparse_file(tmp_path)
    backend = open_block(str(path), WRITE)
    extents = backend.extents(0, backend.facts.size_bytes)
    assert next(extents) == Extent(0, 1 << 20, ZERO)
    os.truncate(path, 2 << 20)
    with pytest.raises(VolumeIOError, match=r"cannot look for data in .* become shorter since it was opened, and ends at 2097152"):
        list(extents)
    with pytest.raises(VolumeIOError, match=f"cannot flush .* of {path}: it has become shorter"):
        backend.flush()
    backend.close()


def test_reserved_space_that_was_never_written_is_zeros(tmp_path: Path) -> None:
    path = tmp_path / "reserved"
    with path.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, 1 << 20)
    backend = open_block(str(path), READ)
    kinds = {extent.kind for extent in backend.extents(0, 1 << 20)}
    read = aligned_buffer(1 << 20)
    backend.read_into(read, 0)
    backend.close()
    # tmpfs says data; what matters is that nothing else is said to be zero.
    assert kinds in ({ZERO}, {DATA}) and read == bytes(1 << 20)


def test_a_block_that_holds_any_data_is_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_block(str(volume_file(tmp_path, 4096)), READ)
    answers = {(0, os.SEEK_DATA): 700, (512, os.SEEK_HOLE): 1100, (1536, os.SEEK_DATA): 4096}
    monkeypatch.setattr(os, "lseek", lambda _descriptor, offset, whence: answers[offset, whence])
    assert list(backend.extents(0, 4096)) == [Extent(0, 512, ZERO), Extent(512, 1024, DATA), Extent(1536, 2560, ZERO)]
    backend.close()


def test_where_holes_are_not_told_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = open_block(str(sparse_file(tmp_path)), READ)

    def fail(*_arguments: t.Any) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "lseek", fail)
    assert list(backend.extents(0, 1 << 20)) == [Extent(0, 1 << 20, UNKNOWN)]
    backend.close()


# --- what is refused ---


def test_what_is_no_volume_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    for path, text in (
        (tmp_path / "missing", "cannot be opened: No such file or directory"),
        (tmp_path, "is neither a block device nor a file"),
        (tmp_path / "fifo", "is neither a block device nor a file"),
        (Path("/dev/null"), "is neither a block device nor a file"),
        (tmp_path / "empty", "the file is empty; give it its size first"),
    ):
        with pytest.raises(VolumeError, match=text) as caught:
            open_block(str(path), READ)
        assert caught.value.error_id == "volume_unusable"
        assert caught.value.details["volume"] == str(path)


def refused(path: Path, how: How = READ) -> str:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(VolumeError) as caught:
        open_block(str(path), how)
    assert set(os.listdir("/proc/self/fd")) == before
    assert caught.value.error_id == "volume_in_use"
    return str(caught.value)


def test_a_file_that_is_open_for_writing_is_refused_for_reading_too(tmp_path: Path) -> None:
    path = volume_file(tmp_path)
    with path.open("r+b"):
        for how in (READ, WRITE):
            assert f"volume is open for writing in process {os.getpid()} (" in refused(path, how)
    with path.open("rb"):
        open_block(str(path), WRITE).close()


def test_a_writer_that_ends_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_use, "_SHORT_WAIT_S", 30)
    path = volume_file(tmp_path)
    writer = path.open("r+b")
    monkeypatch.setattr(path_use.Host, "sleep", lambda _host, _seconds: writer.close())
    open_block(str(path), READ).close()


def test_two_handles_may_read_and_one_may_write(tmp_path: Path) -> None:
    path = volume_file(tmp_path)
    one, other = open_block(str(path), READ), open_block(str(path), READ)
    assert "has locked it" in refused(path, WRITE)
    one.close()
    other.close()
    writer = open_block(str(path), WRITE)
    for how in (READ, WRITE):
        assert f"is open for writing in process {os.getpid()}" in refused(path, how)
    writer.close()
    open_block(str(path), WRITE).close()


def test_a_lock_of_qemus_kind_is_in_the_way_of_writing(tmp_path: Path) -> None:
    path = volume_file(tmp_path)
    with path.open("rb") as stream:
        fcntl.fcntl(stream, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 201, 1, 0))
        assert "has locked it" in refused(path, WRITE)
        open_block(str(path), READ).close()


def test_a_file_system_without_locks_and_leases_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = volume_file(tmp_path)

    def fail(*_arguments: t.Any) -> int:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "fcntl", fail)
    with path.open("r+b"):
        # By looking at the processes.
        assert f"volume is open for writing in process {os.getpid()}" in refused(path)
    open_block(str(path), WRITE).close()


def test_a_writer_that_is_not_seen_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = volume_file(tmp_path)
    with path.open("r+b"):
        monkeypatch.setattr(path_use, "_processes_with", lambda *_arguments, **_options: iter(()))
        assert "it is open for writing in another container or in the kernel" in refused(path)


@pytest.mark.parametrize("how", [READ, WRITE])
def test_who_else_writes_is_told_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: How) -> None:
    monkeypatch.setattr(path_use, "_sees_all_processes", lambda _host: True)
    monkeypatch.setattr(path_use, "_LOCAL_FILE_SYSTEMS", [path_use.mount_of(path_use.Host(), str(tmp_path)).kind])
    path = volume_file(tmp_path)
    backend = open_block(str(path), how)
    assert backend.users() == []
    # A process of its own, for this one is known.
    program = "import sys; stream = open(sys.argv[1], 'r+b'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout and writer.stdout.readline()
        (user,) = backend.users() or []
        assert f"volume is open for writing in process {writer.pid} (" in user
        writer.communicate()
    assert backend.users() == []
    backend.close()


def test_nothing_is_known_of_writers_on_a_file_system_of_several_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_use, "_LOCAL_FILE_SYSTEMS", ())
    backend = open_block(str(volume_file(tmp_path)), READ)
    assert backend.users() is None
    backend.close()


def test_the_identity_is_not_the_path(tmp_path: Path) -> None:
    path = volume_file(tmp_path)
    other = volume_file(tmp_path, name="other")
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "hard").hardlink_to(path) if hasattr(path, "hardlink_to") else os.link(path, tmp_path / "hard")

    def identity(name: Path) -> str:
        backend = open_block(str(name), READ)
        backend.close()
        return backend.facts.identity

    assert identity(path) == identity(tmp_path / "link") == identity(tmp_path / "hard")
    assert identity(path) != identity(other)


def test_the_caller_may_know_identity_and_name_better(tmp_path: Path) -> None:
    backend = open_block(str(volume_file(tmp_path)), READ, identity="wwid:36001", name="volume v1")
    assert (backend.facts.identity, backend.facts.name) == ("wwid:36001", "volume v1")
    backend.close()


def test_closing_gives_back_every_descriptor(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    backend = open_block(str(volume_file(tmp_path)), WRITE)
    assert set(os.listdir("/proc/self/fd")) != before
    backend.close()
    assert set(os.listdir("/proc/self/fd")) == before
