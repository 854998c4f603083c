# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A volume in memory that is as strict as the contract lets a backend be."""

from __future__ import annotations

import threading
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import ALIGNMENT_BYTES, address_of
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import (
    DATA,
    UNKNOWN,
    ZERO,
    Backend,
    Extent,
    Facts,
    VolumeIOError,
)


class MemoryBackend(Backend):
    """``content`` is all it holds, ``calls`` what was asked of it, ``fail_at`` an offset that cannot be used."""

    def __init__(self, content: bytes, *, block: int = 512, thin: bool = False, **facts: t.Any) -> None:
        self.content = bytearray(content)
        self.block = block
        self.thin = thin
        self.calls: list[tuple[str, int, int]] = []
        self.fail: dict[str, int] = {}
        self.found_users: list[str] | None = []
        self.flushed = self.closed = 0
        self._lock = threading.Lock()
        values: dict[str, t.Any] = {
            "name": "memory",
            "identity": f"memory:{id(self)}",
            "size_bytes": len(content),
            "logical_block_bytes": block,
            "physical_block_bytes": block,
            "request_bytes": 1 << 20,
            "requests": 4,
            "can_unmap": thin,
        }
        self.facts = Facts(**{**values, **facts})

    def read_into(self, view: memoryview, offset: int) -> None:
        self._called("read", offset, len(view), view)
        view[:] = self.content[offset : offset + len(view)]

    def write_from(self, view: memoryview, offset: int) -> None:
        self._called("write", offset, len(view), view)
        self.content[offset : offset + len(view)] = view

    def zero(self, offset: int, length: int) -> None:
        self._called("zero", offset, length, None)
        self.content[offset : offset + length] = bytes(length)

    def extents(self, offset: int, length: int) -> t.Iterator[Extent]:
        if not self.thin:
            yield Extent(offset, length, UNKNOWN)
            return
        step = 65536
        for start in range(offset, offset + length, step):
            piece = self.content[start : min(start + step, offset + length)]
            yield Extent(start, len(piece), DATA if piece != bytes(len(piece)) else ZERO)

    def flush(self) -> None:
        self.flushed += 1

    def drop_caches(self) -> None:
        self.calls.append(("drop_caches", 0, 0))

    def users(self) -> list[str] | None:
        return self.found_users

    def close(self) -> None:
        self.closed += 1

    def done(self, action: str) -> list[tuple[int, int]]:
        return sorted((offset, length) for called, offset, length in self.calls if called == action)

    def _called(self, action: str, offset: int, length: int, view: memoryview | None) -> None:
        with self._lock:
            self.calls.append((action, offset, length))
        size = self.facts.size_bytes
        assert offset >= 0 and length > 0 and offset + length <= size, f"{action} outside of the volume: {offset}+{length}"
        assert offset % self.block == 0, f"{action} at {offset} is not aligned"
        assert length % self.block == 0 or offset + length == size, f"{action} of {length} at {offset} is not aligned"
        assert view is None or address_of(view) % min(ALIGNMENT_BYTES, self.block) == 0, "memory is not aligned"
        if offset <= self.fail.get(action, -1) < offset + length:
            raise VolumeIOError(action, self.facts.name, offset, length, "it is made to fail")
