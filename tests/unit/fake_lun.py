# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libiscsi with one LUN in memory behind it, which refuses and limits what a test says."""

from __future__ import annotations

import ctypes
import threading
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.libiscsi_binding import Data, Task

GOOD, CHECK, BUSY = 0, 2, 8
TIMED_OUT = 0x0F000002
REFUSED = b"SENSE KEY:ILLEGAL_REQUEST(5) ASCQ:INVALID_OPERATION_CODE(0x2000)"
ATTENTION = b"SENSE KEY:UNIT_ATTENTION(6) ASCQ:REPORTED_LUNS_DATA_HAS_CHANGED(0x3f0e)"

READ, WRITE, WRITE_SAME, UNMAP = 0x88, 0x8A, 0x93, 0x42
SYNC16, SYNC10, INQUIRY, MODE_SENSE, SERVICE_IN, READY = 0x91, 0x35, 0x12, 0x1A, 0x9E, 0
Answer = tuple[int, bytes]


class FakeLun:
    """``mapped`` is which blocks have space; a LUN that is not thin tells nothing of it."""

    def __init__(self, blocks: int = 4096, block: int = 512, *, thin: bool = True, zeroes: bool = True) -> None:
        self.block, self.blocks = block, blocks
        self.content = bytearray(b"x" * (blocks * block))
        self.mapped = [True] * blocks
        self.thin, self.zeroes = thin, zeroes
        self.wwid = "600140512345678900000000000000ab"
        self.serial = "12345"
        self.is_disk = True
        self.protected = False
        self.write_cache = False
        self.has_mode_pages = True
        self.provisioning = 0xC0
        self.limits: dict[int, bytes] = {}
        self.refused: set[int | tuple[int, int]] = set()
        self.statuses: t.Callable[[int], list[tuple[int, int, int]]] = self.true_statuses
        self.commands: list[tuple[int, int, int, int]] = []
        self.attentions = self.busy = self.missing = self.pings = 0

    def limit(self, start: int, length: int, value: int) -> None:
        """A field of VPD page B0."""
        self.limits[start] = value.to_bytes(length, "big")

    def answer(self, request: bytes, data: bytes) -> Answer:
        operation, flags = request[0], request[1]
        if operation in (READ, WRITE, WRITE_SAME, UNMAP, SYNC16, SYNC10) or request[:2] == bytes([SERVICE_IN, 0x12]):
            lba, count = int.from_bytes(request[2:10], "big"), int.from_bytes(request[10:14], "big")
            if operation == UNMAP:
                lba, count = int.from_bytes(data[8:16], "big"), int.from_bytes(data[16:20], "big")
            self.commands.append((operation, flags, lba, count))
            if operation in self.refused or (operation, flags) in self.refused:
                return CHECK, REFUSED
            return self.on_blocks(operation, flags, lba, count, data)
        if operation == READY:
            self.pings += 1
            return (CHECK, REFUSED) if READY in self.refused else (GOOD, b"")
        if operation == INQUIRY:
            return GOOD, self.page(request[2]) if flags else bytes([0 if self.is_disk else 0x7F]) + bytes(7) + b"LAB     VOLUME          "
        if operation == MODE_SENSE:
            page = bytes([0x88, 2, 4 if self.write_cache else 0, 0]) if request[2] == 8 else b""
            return (GOOD, bytes([0, 0, 0x80 if self.protected else 0, 0]) + page) if self.has_mode_pages else (CHECK, REFUSED)
        thin = (0x80 if self.thin else 0) | (0x40 if self.zeroes else 0)
        return GOOD, (self.blocks - 1).to_bytes(8, "big", signed=self.blocks == 0) + self.block.to_bytes(4, "big") + bytes([0, 0, thin])

    def on_blocks(self, operation: int, flags: int, lba: int, count: int, data: bytes) -> Answer:
        if operation == SERVICE_IN:
            ranges = b"".join(
                start.to_bytes(8, "big") + length.to_bytes(4, "big") + bytes([status, 0, 0, 0])
                for start, length, status in self.statuses(lba)
            )
            return GOOD, (4 + len(ranges)).to_bytes(4, "big") + bytes(4) + ranges
        assert lba + count <= self.blocks
        limit = int.from_bytes(self.limits.get({WRITE_SAME: 36, UNMAP: 20}.get(operation, 8), b""), "big")
        if limit and count > limit:
            # A unit whose granule is longer than it can unmap at once can unmap nothing.
            assert (operation, flags) == (WRITE_SAME, 8)
            assert count <= int.from_bytes(self.limits[28], "big")
            return CHECK, REFUSED
        start, end = lba * self.block, (lba + count) * self.block
        if operation == READ:
            return GOOD, bytes(self.content[start:end])
        if operation in (WRITE, WRITE_SAME):
            assert count
            self.content[start:end] = data if operation == WRITE else data * count
            self.mapped[lba : lba + count] = [not flags & 8] * count
        if operation == UNMAP:
            self.mapped[lba : lba + count] = [False] * count
        return GOOD, b""

    def page(self, number: int) -> bytes:
        if number == 0x83:
            name = bytes.fromhex(self.wwid)
            return bytes([0, 0x83, 0, 4 + len(name), 1, 3, 0, len(name)]) + name
        if number == 0xB0:
            page = bytearray(64)
            page[1], page[3] = 0xB0, 60
            for start, value in self.limits.items():
                page[start : start + len(value)] = value
            return bytes(page)
        if number == 0xB2:
            return bytes([0, 0xB2, 0, 4, 0, self.provisioning, 2, 0])
        return bytes([0, 0x80, 0, len(self.serial)]) + self.serial.encode()

    def true_statuses(self, lba: int) -> list[tuple[int, int, int]]:
        found = []
        while lba < self.blocks and len(found) < 3:
            end = lba
            while end < self.blocks and self.mapped[end] == self.mapped[lba]:
                end += 1
            found.append((lba, end - lba, 0 if self.mapped[lba] else 1))
            lba = end
        return found

    def done(self, operation: int) -> list[tuple[int, int, int]]:
        """(flags, first block, blocks) of every command of a kind."""
        return [command[1:] for command in self.commands if command[0] == operation]


class FakeLibrary:
    """Sessions are numbers; what is sent to a lost one fails the test."""

    def __init__(self, lun: FakeLun, number: int = 1) -> None:
        self.lun, self.number = lun, number
        self.open: set[int] = set()
        self.lost: set[int] = set()
        self.logins = self.most = 0
        self.max_sessions = 99
        self.lose_at: int | None = None
        self.lose_by = (READ, WRITE)
        self.hook: t.Callable[[int], None] = lambda operation: None
        self._errors: dict[int, bytes] = {}
        self._tasks: dict[int, tuple[Task, list[t.Any]]] = {}
        self._under_way = 0
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> t.Any:
        if name.startswith("iscsi_set_"):
            return lambda *arguments: 0
        raise AttributeError(name)

    def iscsi_create_context(self, name: bytes) -> int:
        with self._lock:
            self.logins += 1
            return self.logins

    def iscsi_full_connect_sync(self, context: int, portal: bytes, lun: int) -> int:
        with self._lock:
            if len(self.open) >= self.max_sessions:
                self._errors[context] = b"Failed to log in to target. Status: Too many connections(518)"
                return -1
            self.open.add(context)
            return 0

    def iscsi_get_error(self, context: int) -> bytes:
        return self._errors.get(context, b"")

    def iscsi_logout_sync(self, context: int) -> int:
        assert context not in self.lost
        self.open.remove(context)
        return 0

    def iscsi_destroy_context(self, context: int) -> None:
        assert context not in self.open

    def iscsi_disconnect(self, context: int) -> None:
        self.open.remove(context)

    def scsi_create_task(self, length: int, request: bytes, direction: int, data_bytes: int) -> int:
        task = Task(status=-7, request_bytes=length, direction=direction, data_bytes=data_bytes)
        with self._lock:
            self._tasks[ctypes.addressof(task)] = (task, [request, None])
        return ctypes.addressof(task)

    def scsi_task_add_data_in_buffer(self, task: int, length: int, address: int) -> None:
        self._tasks[task][1][1] = address

    def iscsi_scsi_command_sync(self, context: int, lun: int, address: int, data: t.Any) -> int:
        assert context in self.open
        assert context not in self.lost
        assert lun == self.number
        task, (request, buffer) = self._tasks[address]
        with self._lock:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        self.hook(request[0])
        with self._lock:
            self._under_way -= 1
            task.status = self._carry_out(context, task, request, buffer, data)
        return address

    def _carry_out(self, context: int, task: Task, request: bytes, buffer: int | None, data: t.Any) -> int:
        if self.lose_at is not None and request[0] in self.lose_by:
            self.lose_at -= 1
            if self.lose_at < 0:
                self.lost.add(context)
                self._errors[context] = b"command timed out"
                return TIMED_OUT
        for name, status, error in (("attentions", CHECK, ATTENTION), ("busy", BUSY, b"")):
            if getattr(self.lun, name) and request[0] != INQUIRY:
                setattr(self.lun, name, getattr(self.lun, name) - 1)
                self._errors[context] = error
                return status
        sent = b""
        if data is not None:
            given: Data = data._obj
            assert given.size == task.data_bytes
            sent = ctypes.string_at(given.data, given.size)
        status, answer = self.lun.answer(request, sent)
        if status != GOOD:
            self._errors[context] = answer
        elif buffer is not None:
            answer = answer[: len(answer) - self.lun.missing] if request[0] == READ else answer
            ctypes.memmove(buffer, answer, min(len(answer), task.data_bytes))
            task.residual_kind, task.residual_bytes = int(len(answer) < task.data_bytes), max(0, task.data_bytes - len(answer))
        return status

    def scsi_free_scsi_task(self, address: int) -> None:
        del self._tasks[address]
