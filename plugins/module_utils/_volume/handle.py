# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""An open volume: the contract that every backend keeps, and the file that people see.

A backend has positional operations that many threads may call at once. What it is asked for is aligned: an offset is a multiple
of its logical block, and so is a length, unless it reaches the end of a volume of odd size; the memory begins at a page.
``VolumeHandle`` puts the semantics of a file around it (a correct C(io.RawIOBase)), for any offset, length and memory.
"""

from __future__ import annotations

import abc
import io
import os
import threading
import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import aligned_buffer

# What an extent holds: data, surely nothing but zeros, or not known without reading.
DATA = "data"
ZERO = "zero"
UNKNOWN = "unknown"

# The largest piece that the file semantics move at once.
_BOUNCE_BYTES = 1 << 20


class VolumeError(MigrationError):
    """A volume cannot be opened, or not be used as it was asked for."""


class VolumeIOError(MigrationError):
    """One operation on an open volume failed; nothing is known about the range afterwards."""

    def __init__(self, action: str, volume: str, offset: int, length: int, cause: str) -> None:
        super().__init__(
            f"cannot {action} {length} bytes at offset {offset} of {volume}: {cause}",
            error_id="volume_io_error",
            volume=volume,
            offset=offset,
            length=length,
        )


@dataclass(frozen=True)
class Extent:
    """A range of one kind: C(data), C(zero) or C(unknown)."""

    offset: int
    length: int
    kind: str

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True)
class Facts:
    """What is known of an open volume.

    ``name`` is for people. ``identity`` is the same text whenever and wherever this volume is opened, and no other volume's.
    ``request_bytes`` is the request that suits the backend, ``requests`` how many of them it does at once.
    ``immutable``: the content cannot change, for it is a snapshot. ``can_unmap``: zeroed ranges give their space back.
    """

    name: str
    identity: str
    size_bytes: int
    logical_block_bytes: int
    physical_block_bytes: int
    request_bytes: int
    requests: int
    immutable: bool = False
    can_unmap: bool = False


class Backend(abc.ABC):
    """One kind of volume, open. Every method but close() may be called by several threads at once."""

    facts: Facts

    @abc.abstractmethod
    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill all of ``view``; anything less is a VolumeIOError."""

    @abc.abstractmethod
    def write_from(self, view: memoryview, offset: int) -> None:
        """Write all of ``view``; anything less is a VolumeIOError."""

    @abc.abstractmethod
    def zero(self, offset: int, length: int) -> None:
        """The range reads as zeros afterwards, whatever it held; without its space where the backend can give it back."""

    def extents(self, offset: int, length: int) -> t.Iterator[Extent]:
        """The range, whole and in order. C(zero) only where reading is sure to give zeros."""
        yield Extent(offset, length, UNKNOWN)

    @abc.abstractmethod
    def flush(self) -> None:
        """What was written is on stable storage when this returns."""

    @abc.abstractmethod
    def drop_caches(self) -> None:
        """What is read from now on comes from the storage, not from memory of this host."""

    @abc.abstractmethod
    def users(self) -> list[str] | None:
        """Who else has the volume open, one sentence each; None where the backend cannot know."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give back all that opening took, after errors too. Called once."""


class VolumeHandle(io.RawIOBase):
    """An open volume with file semantics, and with positional operations that many threads may use at once.

    The position, and what depends on it, is for one thread at a time, like that of any file.
    """

    def __init__(self, backend: Backend, *, writable: bool) -> None:
        super().__init__()
        self._backend = backend
        self._writable = writable
        self._position = 0
        self._is_open = True
        # A write that covers a part of a block reads the rest of it first.
        self._partial = threading.Lock()

    @property
    def facts(self) -> Facts:
        return self._backend.facts

    @property
    def name(self) -> str:
        return self.facts.name

    # --- positional, parallel ---

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` (aligned, see above) from ``offset``, or raise VolumeIOError."""
        self._backend.read_into(view, offset)

    def write_from(self, view: memoryview, offset: int) -> None:
        """Write ``view`` (aligned, see above) at ``offset``, or raise VolumeIOError."""
        self._require_writable()
        self._backend.write_from(view, offset)

    def zero(self, offset: int, length: int) -> None:
        """Make a range (aligned, see above) read as zeros, thin where the backend can."""
        self._require_writable()
        self._backend.zero(offset, length)

    def extents(self, offset: int = 0, length: int | None = None) -> t.Iterator[Extent]:
        """The range as extents, whole and in order, neighbours of one kind put together."""
        end = self.facts.size_bytes if length is None else offset + length
        return _joined(self._backend.extents(offset, end - offset), offset, end)

    def drop_caches(self) -> None:
        self._backend.drop_caches()

    def users(self) -> list[str] | None:
        """Who else has the volume open; None where that cannot be known from here."""
        return self._backend.users()

    # --- a file ---

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return self._writable

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        self._require_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._require_open()
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.facts.size_bytes}.get(whence)
        if start is None:
            raise ValueError(f"whence {whence} is none of 0, 1 and 2")
        if start + offset < 0:
            raise ValueError(f"position {start + offset} is before the start")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: t.Any) -> int:
        self._require_open()
        with memoryview(buffer).cast("B") as view:
            length = max(0, min(len(view), _BOUNCE_BYTES, self.facts.size_bytes - self._position))
            if length:
                around, skip = self._read_around(self._position, length)
                view[:length] = around[skip : skip + length]
        self._position += length
        return length

    def write(self, data: t.Any) -> int:
        self._require_writable()
        with memoryview(data).cast("B") as view:
            length = min(len(view), _BOUNCE_BYTES)
            room = self.facts.size_bytes - self._position
            if length and room <= 0:
                raise VolumeIOError("write", self.name, self._position, length, "the volume ends there")
            length = min(length, room)
            if length:
                with self._partial:
                    around, skip = self._read_around(self._position, length, for_writing=True)
                    around[skip : skip + length] = view[:length]
                    self._backend.write_from(around, self._position - skip)
        self._position += length
        return length

    def flush(self) -> None:
        """What was written is on stable storage when this returns. io closes by it, so a closed handle is left alone."""
        if self._writable and self._is_open:
            self._backend.flush()

    def close(self) -> None:
        """Give back all that opening took. The first error of flushing and closing is raised, after both were tried."""
        if not self._is_open:
            return
        try:
            super().close()
        finally:
            self._is_open = False
            self._backend.close()

    def _read_around(self, offset: int, length: int, *, for_writing: bool = False) -> tuple[memoryview, int]:
        """The whole blocks around a range, and where the range begins in them. For writing, only what stays is read."""
        block = self.facts.logical_block_bytes
        start = offset - offset % block
        end = min(-(-(offset + length) // block) * block, self.facts.size_bytes)
        around = aligned_buffer(end - start)
        is_whole = start == offset and end == offset + length
        if not (for_writing and is_whole):
            self._backend.read_into(around, start)
        return around, offset - start

    def _require_open(self) -> None:
        if not self._is_open:
            raise ValueError(f"{self.name} is closed")

    def _require_writable(self) -> None:
        self._require_open()
        if not self._writable:
            raise io.UnsupportedOperation(f"{self.name} was opened for reading")


def _joined(found: t.Iterable[Extent], offset: int, end: int) -> t.Iterator[Extent]:
    """Neighbours of one kind as one extent."""
    current = Extent(offset, 0, UNKNOWN)
    for extent in _complete(found, offset, end):
        if extent.kind == current.kind:
            current = Extent(current.offset, current.length + extent.length, extent.kind)
        else:
            if current.length:
                yield current
            current = extent
    if current.length:
        yield current


def _complete(found: t.Iterable[Extent], offset: int, end: int) -> t.Iterator[Extent]:
    """Exactly the range: what a backend tells twice or too far is clipped, what it leaves out is unknown."""
    position = offset
    for extent in found:
        start, stop = max(extent.offset, position), min(extent.end, end)
        if stop <= start:
            continue
        if start > position:
            yield Extent(position, start - position, UNKNOWN)
        yield Extent(start, stop - start, extent.kind)
        position = stop
    if position < end:
        yield Extent(position, end - position, UNKNOWN)


__all__ = ("DATA", "UNKNOWN", "ZERO", "Backend", "Extent", "Facts", "VolumeError", "VolumeHandle", "VolumeIOError")
