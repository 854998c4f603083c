# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import os
import random
import shutil

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._volume import opening
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import (
    DATA,
    UNKNOWN,
    ZERO,
    Extent,
    VolumeHandle,
    VolumeIOError,
)
from ansible_collections.lunshift.migration.tests.unit.fake_volume import MemoryBackend

CONTENT = bytes(random.Random(1).randbytes(3 * 4096 + 512))


def handle(backend: MemoryBackend, writable: bool = True) -> VolumeHandle:
    return VolumeHandle(backend, writable=writable)


def test_it_is_read_like_a_file() -> None:
    volume = handle(MemoryBackend(CONTENT))
    assert volume.read(100) == CONTENT[:100]
    assert volume.tell() == 100
    assert volume.seek(-50, os.SEEK_CUR) == 50
    assert volume.read(1000) == CONTENT[50:1050]
    assert volume.seek(-10, os.SEEK_END) == len(CONTENT) - 10
    assert volume.readall() == CONTENT[-10:]
    assert volume.read(1) == b""
    volume.seek(0)
    assert volume.read() == CONTENT


def test_a_buffered_reader_and_copyfileobj_work_on_it() -> None:
    assert io.BufferedReader(handle(MemoryBackend(CONTENT), writable=False), 1000).read() == CONTENT
    target = MemoryBackend(bytes(len(CONTENT)))
    shutil.copyfileobj(handle(MemoryBackend(CONTENT), writable=False), handle(target), 999)
    assert target.content == CONTENT


def test_a_buffered_writer_writes_what_was_given_to_it() -> None:
    backend = MemoryBackend(CONTENT)
    with io.BufferedWriter(handle(backend), 700) as writer:
        writer.seek(333)
        writer.write(b"x" * 2000)
    assert backend.content == CONTENT[:333] + b"x" * 2000 + CONTENT[2333:]
    assert backend.flushed and backend.closed == 1


@pytest.mark.parametrize(("offset", "length"), [(0, 512), (1, 1), (511, 2), (513, 4096), (len(CONTENT) - 3, 3)])
def test_a_write_leaves_what_is_around_it(offset: int, length: int) -> None:
    backend = MemoryBackend(CONTENT)
    volume = handle(backend)
    volume.seek(offset)
    assert volume.write(b"y" * length) == length
    assert backend.content == CONTENT[:offset] + b"y" * length + CONTENT[offset + length :]


def test_whole_blocks_are_written_without_being_read() -> None:
    backend = MemoryBackend(CONTENT)
    volume = handle(backend)
    volume.seek(1024)
    volume.write(b"z" * 1024)
    assert backend.done("read") == []


def test_a_volume_of_odd_size_ends_where_it_ends() -> None:
    content = CONTENT[:1000]
    backend = MemoryBackend(content)
    volume = handle(backend)
    assert volume.readall() == content
    volume.seek(999)
    assert volume.write(b"ab") == 1
    assert backend.content == content[:-1] + b"a"
    with pytest.raises(VolumeIOError, match="at offset 1000 of memory: the volume ends there"):
        volume.write(b"b")


def test_what_was_opened_for_reading_cannot_be_changed() -> None:
    backend = MemoryBackend(CONTENT)
    volume = handle(backend, writable=False)
    assert volume.readable() and volume.seekable() and not volume.writable()
    for change in (lambda: volume.write(b"a"), lambda: volume.zero(0, 512), lambda: volume.write_from(memoryview(bytearray(512)), 0)):
        with pytest.raises(io.UnsupportedOperation):
            change()
    assert backend.content == CONTENT and not backend.calls


def test_a_closed_handle_refuses_and_is_closed_once() -> None:
    backend = MemoryBackend(CONTENT)
    volume = handle(backend)
    opening.close_volume(volume)
    opening.close_volume(volume)
    assert backend.closed == 1 and backend.flushed == 1
    for use in (volume.tell, lambda: volume.seek(0), lambda: volume.read(1), lambda: volume.write(b"")):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_the_backend_is_closed_also_when_the_flush_fails() -> None:
    class Failing(MemoryBackend):
        def flush(self) -> None:
            raise VolumeIOError("flush", "memory", 0, 0, "no")

    backend = Failing(CONTENT)
    with pytest.raises(VolumeIOError):
        opening.close_volume(handle(backend))
    assert backend.closed == 1


def test_positions_before_the_start_and_unknown_ways_are_refused() -> None:
    volume = handle(MemoryBackend(CONTENT))
    with pytest.raises(ValueError, match="before the start"):
        volume.seek(-1)
    with pytest.raises(ValueError, match="whence"):
        volume.seek(0, 7)


def test_extents_are_whole_and_in_order_whatever_a_backend_says() -> None:
    class Told(MemoryBackend):
        def extents(self, offset: int, length: int):  # type: ignore[no-untyped-def]
            yield from (Extent(0, 1024, DATA), Extent(512, 1024, DATA), Extent(2048, 512, ZERO), Extent(2560, 99999, ZERO))

    found = list(handle(Told(CONTENT)).extents(512, 4096))
    assert found == [Extent(512, 1024, DATA), Extent(1536, 512, UNKNOWN), Extent(2048, 2560, ZERO)]


def test_extents_of_a_backend_without_any_are_unknown() -> None:
    assert list(handle(MemoryBackend(CONTENT)).extents()) == [Extent(0, len(CONTENT), UNKNOWN)]
