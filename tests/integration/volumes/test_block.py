# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Block devices and raw files as volumes: what is in them, and who is refused, as other tools see it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._volume import block
from ansible_collections.lunshift.migration.plugins.module_utils._volume.block import BlockBackend, open_block
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import aligned_buffer
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import (
    DATA,
    UNKNOWN,
    ZERO,
    Extent,
    VolumeError,
    VolumeHandle,
    VolumeIOError,
)
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How
from ansible_collections.lunshift.migration.plugins.module_utils._volume.opening import open_volume
from loop_devices import LoopDevice, LoopDevices, run

READ, WRITE = How(timeout_s=5), How(writable=True, timeout_s=5)
MIB = 1 << 20
ODD = 1000001
SECTORS = [512, 4096]


def filled(data: bytes) -> memoryview:
    view = aligned_buffer(len(data))
    view[:] = data
    return view


def write_all(backend: BlockBackend, content: bytes, request: int) -> None:
    """In pieces, by four threads, in no order."""
    starts = list(range(0, len(content), request))
    random.Random(0).shuffle(starts)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda start: backend.write_from(filled(content[start : start + request]), start), starts))


def reference(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "reference"
    path.write_bytes(content)
    return path


def open_local(node: str | Path, how: How) -> VolumeHandle:
    return open_volume({"driver_volume_type": "local", "data": {"device_path": str(node)}}, how)


@pytest.mark.parametrize("sector", SECTORS)
def test_what_is_written_through_the_handle_is_on_the_device(loop_devices: LoopDevices, tmp_path: Path, sector: int) -> None:
    device = loop_devices.make(8 * MIB, sector_bytes=sector)
    content = random.Random(1).randbytes(8 * MIB)
    backend = open_block(device.node, WRITE)
    assert backend.users() == []
    facts = [backend.facts.size_bytes, backend.facts.logical_block_bytes, backend.facts.physical_block_bytes]
    assert facts == [int(line) for line in run("blockdev", "--getsize64", "--getss", "--getpbsz", device.node).split()]
    write_all(backend, content, 64 << 10)
    backend.flush()
    backend.close()
    # The file behind it at once; the device past any cache of ours.
    run("cmp", device.file, reference(tmp_path, content))
    run("blockdev", "--flushbufs", device.node)
    run("cmp", device.node, tmp_path / "reference")


@pytest.mark.parametrize("sector", SECTORS)
def test_it_is_a_file_at_any_offset(loop_devices: LoopDevices, tmp_path: Path, sector: int) -> None:
    device = loop_devices.make(2 * MIB, sector_bytes=sector)
    expected = bytearray(device.file.read_bytes())
    with open_local(device.node, WRITE) as handle:
        for offset, length in ((0, 1), (511, 3), (4095, 4098), (1 * MIB - 7, 100000), (2 * MIB - 1, 1)):
            data = random.Random(offset).randbytes(length)
            handle.seek(offset)
            done = 0
            while done < length:
                done += handle.write(data[done:])
            expected[offset : offset + length] = data
        handle.seek(0)
        assert handle.readall() == expected
    run("cmp", device.file, reference(tmp_path, expected))


@pytest.mark.parametrize("sector", SECTORS)
def test_zeroed_ranges_read_as_zeros_and_give_their_space_back(loop_devices: LoopDevices, tmp_path: Path, sector: int) -> None:
    device = loop_devices.make(8 * MIB, sector_bytes=sector)
    expected = bytearray(device.file.read_bytes())
    assert device.allocated_bytes >= 8 * MIB
    # The page cache of the device has it, too, and must not give it out again.
    run("dd", f"if={device.node}", "of=/dev/null", "bs=1M", "status=none")
    backend = open_block(device.node, WRITE)
    assert backend.facts.can_unmap
    for start, length in ((MIB, 4 * MIB), (7 * MIB, sector), (8 * MIB - sector, sector)):
        backend.zero(start, length)
        expected[start : start + length] = bytes(length)
    backend.flush()
    read = aligned_buffer(8 * MIB)
    backend.read_into(read, 0)
    backend.close()
    assert read == expected
    run("cmp", device.node, reference(tmp_path, bytes(expected)))
    run("cmp", device.file, tmp_path / "reference")
    assert 4 * MIB - 65536 <= device.allocated_bytes <= 4 * MIB + 65536


def test_without_unmap_zeros_are_written(loop_devices: LoopDevices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = loop_devices.make(4 * MIB)
    expected = device.file.read_bytes()
    backend = open_block(device.node, WRITE)
    monkeypatch.setattr(backend._zeroing, "_modes", ())
    backend.zero(MIB, 2 * MIB + 512)
    backend.close()
    expected = expected[:MIB] + bytes(2 * MIB + 512) + expected[3 * MIB + 512 :]
    run("cmp", device.file, reference(tmp_path, expected))


def test_the_end_of_a_device_is_an_error(loop_devices: LoopDevices) -> None:
    device = loop_devices.make(MIB)
    backend = open_block(device.node, WRITE)
    with pytest.raises(VolumeIOError, match=f"cannot read 512 bytes at offset {MIB} of {device.node}: the volume ends there"):
        backend.read_into(aligned_buffer(1024), MIB - 512)
    with pytest.raises(VolumeIOError, match=f"cannot write 512 bytes at offset {MIB} of {device.node}: No space left on device"):
        backend.write_from(aligned_buffer(1024), MIB - 512)
    with pytest.raises(VolumeIOError):
        backend.zero(MIB, 512)
    backend.close()


def test_a_device_that_its_sectors_do_not_fill_is_refused(loop_devices: LoopDevices) -> None:
    device = loop_devices.make(MIB + 512, sector_bytes=4096)
    with pytest.raises(VolumeError, match="its last 512 bytes cannot be reached in blocks of 4096"):
        open_block(device.node, READ)


def test_a_device_for_reading_only(loop_devices: LoopDevices) -> None:
    device = loop_devices.make(MIB, "--read-only")
    with open_local(device.node, READ) as handle:
        assert handle.readall() == device.file.read_bytes()
    with pytest.raises(VolumeError, match="the device is read-only"):
        open_block(device.node, WRITE)


# --- raw files ---


@pytest.mark.parametrize("size", [ODD, MIB, MIB + 512, 100])
def test_a_raw_file_of_any_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "volume"
    path.write_bytes(bytes(size))
    content = random.Random(size).randbytes(size)
    backend = open_block(str(path), WRITE)
    for _round in range(10):
        # Small requests, so that the last ones share a page; the loser of a race would leave zeros or the round before.
        backend.zero(0, size)
        write_all(backend, content, 512)
        backend.drop_caches()
        read = aligned_buffer(size)
        backend.read_into(read, 0)
        assert read == content
    backend.close()
    run("cmp", path, reference(tmp_path, content))
    with open_local(path, READ) as handle:
        assert handle.readall() == content


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_raw_file_on_large_sectors(loop_devices: LoopDevices, tmp_path: Path, kind: str) -> None:
    place = loop_devices.mount(loop_devices.make(512 * MIB, sector_bytes=4096, random=False).node, kind)
    path = place / "volume"
    size = 2 * MIB + 3 * 512
    path.write_bytes(bytes(size))
    content = random.Random(4).randbytes(size)
    backend = open_block(str(path), WRITE)
    assert (backend.facts.logical_block_bytes, backend.facts.size_bytes) == (512, size)
    assert backend._direct is not None
    write_all(backend, content, 64 << 10)
    # A block of a guest, in the middle of a sector.
    content = content[:1536] + b"g" * 512 + content[2048:]
    backend.write_from(filled(content[1536:2048]), 1536)
    backend.drop_caches()
    read = aligned_buffer(size)
    backend.read_into(read, 0)
    identity = backend.facts.identity
    backend.close()
    assert read == content
    run("cmp", path, reference(tmp_path, content))
    assert identity.startswith("file:")


def test_a_zeroed_file_is_as_thin_as_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.write_bytes(random.Random(5).randbytes(ODD))
    run("sync", path)
    assert int(run("du", "--block-size=1", path).split()[0]) >= ODD
    backend = open_block(str(path), WRITE)
    backend.zero(0, ODD)
    backend.close()
    run("sync", path)
    assert run("du", "--block-size=1", path).split()[0] == "0"
    run("cmp", path, reference(tmp_path, bytes(ODD)))


def test_holes_are_where_qemu_sees_them(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.touch()
    os.truncate(path, 64 * MIB)
    run("fallocate", "--offset", str(20 * MIB), "--length", str(4 * MIB), path)
    for start in (0, 8, 9, 63):
        run("dd", "if=/dev/urandom", f"of={path}", "bs=1M", "count=1", f"seek={start}", "conv=notrunc", "status=none")
    seen = json.loads(run("qemu-img", "map", "--output=json", "-f", "raw", path))
    with open_local(path, READ) as handle:
        found = list(handle.extents())
    assert found == [Extent(piece["start"], piece["length"], ZERO if piece["zero"] else DATA) for piece in _joined(seen)]
    assert sum(extent.length for extent in found if extent.kind == DATA) == 4 * MIB


def _joined(pieces: list[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    result: list[dict[str, t.Any]] = []
    for piece in pieces:
        if result and result[-1]["zero"] == piece["zero"]:
            result[-1]["length"] += piece["length"]
        else:
            result.append(piece)
    return result


def test_a_device_tells_nothing_of_its_holes(loop_devices: LoopDevices) -> None:
    device = loop_devices.make(MIB, random=False)
    with open_local(device.node, READ) as handle:
        assert list(handle.extents()) == [Extent(0, MIB, UNKNOWN)]


def cached_bytes(path: Path) -> int:
    return int(run("fincore", "--bytes", "--noheadings", "--output", "RES", path))


@pytest.mark.parametrize("has_direct", [True, False])
def test_dropped_caches_are_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_direct: bool) -> None:
    path = tmp_path / "volume"
    path.write_bytes(bytes(ODD))
    if not has_direct:
        monkeypatch.setattr(block, "_open_direct", lambda _descriptor, *, writable: None)
    backend = open_block(str(path), WRITE)
    backend.drop_caches()
    write_all(backend, random.Random(6).randbytes(ODD), 64 << 10)
    assert cached_bytes(path) in (range(1, 65536) if has_direct else range(ODD, 2 * ODD))
    backend.drop_caches()
    assert cached_bytes(path) == 0
    backend.close()


def test_a_full_file_system_is_an_error(loop_devices: LoopDevices) -> None:
    path = loop_devices.mount(loop_devices.make(16 * MIB, random=False).node) / "volume"
    path.touch()
    os.truncate(path, 64 * MIB)
    backend = open_block(str(path), WRITE)
    with pytest.raises(VolumeIOError, match=rf"cannot write \d+ bytes at offset \d+ of {path}: No space left on device"):
        write_all(backend, b"x" * (64 * MIB), 4 * MIB)
    backend.close()


# --- who is refused ---


def refused(node: str | Path, how: How = READ) -> str:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(VolumeError) as caught:
        open_block(str(node), how)
    assert caught.value.error_id == "volume_in_use"
    assert set(os.listdir("/proc/self/fd")) == before
    return str(caught.value)


@contextlib.contextmanager
def opened_by_another(node: str | Path, flags: str) -> t.Iterator[int]:
    """A process of its own that has it open; gives its number."""
    program = f"import os, sys; os.open(sys.argv[1], {flags}); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program, str(node)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        yield process.pid
        process.communicate()


@pytest.mark.parametrize("how", [READ, WRITE])
def test_a_mounted_device_is_refused(loop_devices: LoopDevices, how: How) -> None:
    device = loop_devices.make(16 * MIB, random=False)
    place = loop_devices.mount(device.node)
    assert f"{device.node} is in use: {device.name} is mounted on {place}; end that use first" in refused(device.node, how)


def test_a_mount_that_is_not_seen_here_is_refused(loop_devices: LoopDevices, tmp_path: Path) -> None:
    device = loop_devices.make(16 * MIB, random=False)
    run("mkfs.ext4", "-q", device.node)
    hidden = f"mount {device.node} {tmp_path} && echo && cat"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", hidden]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        assert f"{device.name} is held exclusively" in refused(device.node)
        process.communicate()


def test_a_disk_is_refused_for_its_partition_and_a_partition_for_its_disk(loop_devices: LoopDevices) -> None:
    device = loop_devices.make(32 * MIB, "--partscan", random=False)
    one, other = loop_devices.add_partition(device, 1, 1, 15), loop_devices.add_partition(device, 2, 16, 15)
    place = loop_devices.mount(one)
    assert f"{os.path.basename(one)} is mounted on {place}" in refused(device.node)
    with open_local(other, WRITE) as handle:
        assert handle.facts.identity.endswith("-part2")
        assert f"{device.name}" in refused(device.node)
    with opened_by_another(device.node, "os.O_WRONLY") as pid:
        assert f"{device.name} is open in process {pid} (python" in refused(other)


def test_swap_is_refused(loop_devices: LoopDevices) -> None:
    device = loop_devices.make(8 * MIB, random=False)
    loop_devices.swap(device.node)
    assert f"{device.name} is swap space" in refused(device.node)


def test_a_swap_file_is_refused(loop_devices: LoopDevices, tmp_path: Path) -> None:
    path = tmp_path / "swap"
    path.write_bytes(bytes(8 * MIB))
    path.chmod(0o600)
    loop_devices.swap(path)
    assert "swap is swap space" in refused(path)


@pytest.mark.parametrize("how", [READ, WRITE])
def test_a_device_with_another_writer_is_refused(loop_devices: LoopDevices, how: How) -> None:
    device = loop_devices.make(MIB)
    with opened_by_another(device.node, "os.O_RDWR | os.O_DIRECT") as pid:
        assert f"{device.name} is open in process {pid} (python" in refused(device.node, how)
    with opened_by_another(device.node, "os.O_RDONLY | os.O_EXCL") as pid:
        assert f"{device.name} is open in process {pid} (python" in refused(device.node, how)
    with opened_by_another(device.node, "os.O_RDONLY"):
        backend = open_block(device.node, how)
        assert backend.users() == []
    with opened_by_another(device.node, "os.O_RDWR") as pid:
        assert backend.users() == [f"{device.name} is open in process {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"]
    backend.close()
    open_block(device.node, WRITE).close()


@pytest.mark.parametrize("how", [READ, WRITE])
def test_two_handles_on_one_device_exclude_each_other(loop_devices: LoopDevices, how: How) -> None:
    device = loop_devices.make(MIB)
    with open_local(device.node, how):
        assert "is it the source and the target?" in refused(device.node, READ)
        assert "is it the source and the target?" in refused(device.node, WRITE)
    open_block(device.node, WRITE).close()


def test_a_file_behind_a_loop_device_is_refused_and_is_the_same_volume(loop_devices: LoopDevices, tmp_path: Path) -> None:
    device = loop_devices.make(MIB)
    assert f"{device.file.name} is behind {device.name}" in refused(device.file)
    read_only = loop_devices.make(MIB, "--read-only")
    assert f"{read_only.file.name} is behind {read_only.name}" in refused(read_only.file, WRITE)
    (tmp_path / "link").symlink_to(read_only.node)
    shifted = loop_devices.attach(read_only.file, "--read-only", "--offset", "4096")

    def identity(node: str | Path) -> str:
        with open_local(node, READ) as handle:
            return handle.facts.identity

    assert identity(read_only.node) == identity(read_only.file) == identity(tmp_path / "link")
    assert identity(shifted.node) == f"{identity(read_only.file)}+4096+0"
    assert identity(device.node) != identity(read_only.node)


def test_qemu_and_a_handle_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    path.write_bytes(bytes(MIB))
    qemu = ["qemu-io", "-f", "raw", str(path), "-c", "write 0 512"]
    for how in (READ, WRITE):
        with open_local(path, how):
            done = subprocess.run(qemu, capture_output=True, text=True, check=False)
            assert done.returncode and "lock" in done.stdout + done.stderr
    assert path.read_bytes() == bytes(MIB)
    # A guest that only reads has no writer's mark; its lock is in the way of writing.
    with subprocess.Popen(["qemu-io", "-r", "-f", "raw", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"read 0 512\n")
        process.stdin.flush()
        assert process.stdout.readline()
        assert f"volume is open in process {process.pid} (qemu-io)" in refused(path, WRITE)
        with open_local(path, READ) as handle:
            assert handle.users() == []
        process.communicate(b"quit\n")


def test_the_kernel_knows_a_writer_that_no_process_shows(tmp_path: Path) -> None:
    """Mapped, and its descriptor closed."""
    path = tmp_path / "volume"
    path.write_bytes(bytes(MIB))
    program = (
        "import ctypes, os, sys; descriptor = os.open(sys.argv[1], os.O_RDWR); libc = ctypes.CDLL(None);"
        " libc.mmap(None, ctypes.c_size_t(4096), 3, 1, descriptor, ctypes.c_long(0)); os.close(descriptor);"
        " print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline()
        assert "it is open for writing in another container or in the kernel" in refused(path)
        process.communicate()
    open_block(str(path), WRITE).close()


def test_a_swapped_device_is_another_volume(loop_devices: LoopDevices) -> None:
    """A device without any name of its own: what counts is this very appearance of it."""
    one: LoopDevice = loop_devices.make(MIB)
    one.file.unlink()
    with open_local(one.node, READ) as handle:
        identity = handle.facts.identity
    assert identity.startswith(f"boot:{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{one.name}:")
    with open_local(one.node, READ) as handle:
        assert handle.facts.identity == identity
