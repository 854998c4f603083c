# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""A volume that this host sees by a path: a block device, or a raw file.

Past the page cache (O_DIRECT) where the file system lets it. What does not fit O_DIRECT's blocks, the end of a file of odd size,
goes through a second, buffered descriptor, which the kernel keeps in step.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import mmap
import os
import stat
import sys
import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._volume import path_identity, path_use
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import aligned_buffer
from ansible_collections.lunshift.migration.plugins.module_utils._volume.fallocate import Zeroing
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import (
    DATA,
    UNKNOWN,
    ZERO,
    Backend,
    Extent,
    Facts,
    VolumeError,
    VolumeIOError,
)
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How, Kind

_BLKROGET = 0x125E
_BLKSSZGET = 0x1268
_BLKPBSZGET = 0x127B
_FILE_BLOCK_BYTES = 512  # What a guest sees, whatever the file system works in.
_FILE_PHYSICAL_BYTES = 4096
_DIRECT_BLOCKS_BYTES = (512, 4096)
_DEVICE_REQUEST = (1 << 20, 8)
_FILE_REQUEST = (4 << 20, 8)
_ZEROS_BYTES = 1 << 20


@dataclass(frozen=True)
class _Local:
    device_path: str


def _parse(where: str, connection_info: t.Mapping[str, t.Any]) -> _Local:
    """Read connection info of the kind C(local); raises InputError that names every problem."""
    data = connection_info.get("data")
    if not isinstance(data, t.Mapping):
        raise InputError([f"{where}connection info has no mapping 'data'"])
    path = data.get("device_path")
    if path is None or path == "":
        raise InputError([f"{where}device_path is missing"])
    if not isinstance(path, str):
        raise InputError([f"{where}device_path {path!r} is no text"])
    if not path.startswith("/") or "\0" in path:
        raise InputError([f"{where}device_path {path!r} is no absolute path"])
    return _Local(path)


def _open(connection: _Local, how: How) -> BlockBackend:
    return open_block(connection.device_path, how)


def open_block(path: str, how: How, *, identity: str | None = None, name: str | None = None) -> BlockBackend:
    """Open a block device or a raw file, and refuse it while anybody else uses it.

    ``identity``: of one who knows better than the path can tell; ``name``: what people know the volume by.
    """
    host = Host()
    name = name or path
    try:
        status = os.stat(path)
        if stat.S_ISBLK(status.st_mode):
            return _open_device(host, path, how, identity, name)
        if stat.S_ISREG(status.st_mode):
            return _open_file(host, path, how, identity, name)
    except OSError as exc:
        raise VolumeError(f"{name} cannot be opened: {exc.strerror}", error_id="volume_unusable", volume=name) from exc
    raise VolumeError(f"{name} is neither a block device nor a file", error_id="volume_unusable", volume=name)


def _open_device(host: Host, path: str, how: How, identity: str | None, name: str) -> BlockBackend:
    device = path_identity.device_at(host, path)
    descriptor = path_use.open_device(host, path, device, name, writable=how.writable, timeout_s=how.timeout_s)
    with _closed_on_error(descriptor):
        block = _ioctl_number(descriptor, _BLKSSZGET)
        facts = Facts(
            name=name,
            identity=identity or path_identity.of_device(host, device),
            size_bytes=os.lseek(descriptor, 0, os.SEEK_END),
            logical_block_bytes=block,
            physical_block_bytes=max(block, _ioctl_number(descriptor, _BLKPBSZGET)),
            request_bytes=_DEVICE_REQUEST[0],
            requests=_DEVICE_REQUEST[1],
            can_unmap=path_use.can_unmap(host, device),
        )
        if how.writable and _ioctl_number(descriptor, _BLKROGET):
            # Linux lets it be opened all the same.
            raise _unusable(name, "the device is read-only")
        rest = facts.size_bytes % block
        if rest or not facts.size_bytes:
            cause = f"its last {rest} bytes cannot be reached in blocks of {block}" if rest else "it has no size"
            raise _unusable(name, cause)
        return BlockBackend(facts, direct=Direct(descriptor, block), users=lambda: path_use.users_of_device(host, device))


def _open_file(host: Host, path: str, how: How, identity: str | None, name: str) -> BlockBackend:
    buffered = path_use.open_file(host, path, name, writable=how.writable)
    with _closed_on_error(buffered):
        size_bytes = os.fstat(buffered).st_size
        if not size_bytes:
            raise _unusable(name, "the file is empty; give it its size first (truncate -s)")
        facts = Facts(
            name=name,
            identity=identity or path_identity.of_file(host, buffered),
            size_bytes=size_bytes,
            logical_block_bytes=_FILE_BLOCK_BYTES,
            physical_block_bytes=_FILE_PHYSICAL_BYTES,
            request_bytes=_FILE_REQUEST[0],
            requests=_FILE_REQUEST[1],
            can_unmap=how.writable and Zeroing(buffered, file_bytes=size_bytes).can_unmap(),
        )
        return BlockBackend(
            facts,
            direct=_open_direct(buffered, writable=how.writable),
            buffered=buffered,
            users=lambda: path_use.users_of_file(host, path, buffered, writable=how.writable),
        )


@contextlib.contextmanager
def _closed_on_error(descriptor: int) -> t.Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(descriptor)
        raise


def _unusable(name: str, cause: str) -> VolumeError:
    return VolumeError(f"{name} cannot be used: {cause}", error_id="volume_unusable", volume=name)


def _ioctl_number(descriptor: int, request: int) -> int:
    return int.from_bytes(fcntl.ioctl(descriptor, request, bytes(4)), sys.byteorder)


@dataclass(frozen=True)
class Direct:
    """A descriptor with O_DIRECT, and what offsets and lengths must be multiples of."""

    descriptor: int
    block_bytes: int


def _open_direct(descriptor: int, *, writable: bool) -> Direct | None:
    """None where the file system has no O_DIRECT. Its block is found by reading; a write would leave something behind."""
    flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_DIRECT | os.O_CLOEXEC
    direct = None
    try:
        direct = os.open(f"/proc/self/fd/{descriptor}", flags)
        with _closed_on_error(direct):
            for block in _DIRECT_BLOCKS_BYTES:
                if _can_read(direct, block):
                    return Direct(direct, block)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
    if direct is not None:
        os.close(direct)
    return None


def _can_read(descriptor: int, length: int) -> bool:
    try:
        os.preadv(descriptor, [aligned_buffer(length)], 0)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        return False
    return True


@functools.lru_cache(maxsize=1)
def _zeros() -> memoryview:
    return aligned_buffer(_ZEROS_BYTES)


class BlockBackend(Backend):
    """An open block device or raw file. ``buffered`` is there for files alone."""

    def __init__(
        self, facts: Facts, *, direct: Direct | None, users: t.Callable[[], list[str] | None], buffered: int | None = None
    ) -> None:
        self.facts = facts
        self._direct = direct
        self._buffered = buffered
        self._users = users
        self._descriptors = [descriptor for descriptor in (buffered, direct.descriptor if direct else None) if descriptor is not None]
        # For what needs no memory: one of them is as good as the other.
        self._any = self._descriptors[0]
        self._zeroing = Zeroing(self._any, file_bytes=None if buffered is None else facts.size_bytes)

    def read_into(self, view: memoryview, offset: int) -> None:
        for descriptor, piece, start in self._pieces(view, offset):
            self._move("read", os.preadv, descriptor, piece, start)

    def write_from(self, view: memoryview, offset: int) -> None:
        for descriptor, piece, start in self._pieces(view, offset):
            self._move("write", os.pwritev, descriptor, piece, start)

    def _pieces(self, view: memoryview, offset: int) -> t.Iterator[tuple[int, memoryview, int]]:
        """What can go past the page cache, and what cannot.

        The page that a file of odd size ends in is always used through the page cache: while a part of it is written there, another
        part that went past it would be lost.
        """
        split = 0
        if self._direct and offset % self._direct.block_bytes == 0:
            end = min(offset + len(view), self._end_of_direct(self._direct))
            split = max(0, end - end % self._direct.block_bytes - offset)
            if split:
                yield self._direct.descriptor, view[:split], offset
        if split < len(view):
            yield self._any, view[split:], offset + split

    def _end_of_direct(self, direct: Direct) -> int:
        size = self.facts.size_bytes
        return size - size % mmap.PAGESIZE if size % direct.block_bytes else size

    def _move(
        self, action: str, call: t.Callable[[int, list[memoryview], int], int], descriptor: int, view: memoryview, offset: int
    ) -> None:
        done = 0
        while done < len(view):
            with self._reporting(action, offset + done, len(view) - done):
                moved = call(descriptor, [view[done:]], offset + done)
            if not moved:
                raise VolumeIOError(action, self.facts.name, offset + done, len(view) - done, "the volume ends there")
            done += moved

    def zero(self, offset: int, length: int) -> None:
        with self._reporting("zero", offset, length):
            done = self._zeroing.zero(offset, length)
        zeros = _zeros()
        for start in range(offset + done, offset + length, len(zeros)):
            self.write_from(zeros[: offset + length - start], start)

    def extents(self, offset: int, length: int) -> t.Iterator[Extent]:
        """Holes of a file, and what was reserved but never written. A block device tells nothing."""
        position, end = offset, offset + length
        while position < end:
            data = self._seek(position, os.SEEK_DATA)
            if data is None:
                yield Extent(position, end - position, UNKNOWN)
                return
            if data > position:
                yield Extent(position, min(data, end) - position, ZERO)
            if data >= end:
                return
            hole = max(self._seek(data, os.SEEK_HOLE) or end, data + 1)
            position = min(-(-hole // _FILE_BLOCK_BYTES) * _FILE_BLOCK_BYTES, end)
            yield Extent(data, position - data, DATA)

    def _seek(self, offset: int, whence: int) -> int | None:
        """Where data or a hole begins; None when that is not told."""
        if self._buffered is None:
            return None
        with self._reporting("look for data in", offset, self.facts.size_bytes - offset):
            try:
                found = os.lseek(self._buffered, offset, whence)
            except OSError as exc:
                if exc.errno == errno.ENXIO:
                    # Nothing but a hole from there on, unless the file has become shorter.
                    self._require_end("look for data in", offset)
                    return self.facts.size_bytes
                if exc.errno in (errno.EINVAL, errno.EOPNOTSUPP):
                    return None
                raise
        # A block that holds any data is no hole.
        return max(offset, found - found % _FILE_BLOCK_BYTES) if whence == os.SEEK_DATA else found

    def flush(self) -> None:
        with self._reporting("flush", 0, self.facts.size_bytes):
            os.fsync(self._any)
            self._require_end("flush", 0)

    def _require_end(self, action: str, offset: int) -> None:
        """What was cut off while the volume was open is no longer there, whatever was written to it before."""
        size_bytes = os.lseek(self._any, 0, os.SEEK_END)
        if size_bytes < self.facts.size_bytes:
            cause = f"it has become shorter since it was opened, and ends at {size_bytes}"
            raise VolumeIOError(action, self.facts.name, offset, self.facts.size_bytes - offset, cause)

    def drop_caches(self) -> None:
        # Only what is on the storage can be forgotten.
        self.flush()
        with self._reporting("forget", 0, self.facts.size_bytes):
            os.posix_fadvise(self._any, 0, 0, os.POSIX_FADV_DONTNEED)

    def users(self) -> list[str] | None:
        return self._users()

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for descriptor in self._descriptors:
                stack.callback(os.close, descriptor)

    @contextlib.contextmanager
    def _reporting(self, action: str, offset: int, length: int) -> t.Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise VolumeIOError(action, self.facts.name, offset, length, exc.strerror or str(exc)) from exc


LOCAL = Kind(_parse, _open)

__all__ = ("LOCAL", "BlockBackend", "Direct", "open_block")
