# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The host as attach and detach see it: files, commands, time and SCSI answers.

One object, so that tests put a tree of their own and a fake target in its place.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._command import CommandResult, has_command, run_command
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import sg_inquiry
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 0.25
_BLKFLSBUF = 0x1261


class Host:
    """Access to this machine. Paths are given as on the machine and found below ``root``."""

    def __init__(self, root: str = "") -> None:
        self.root = root

    def at(self, path: str) -> str:
        return self.root + path

    def read(self, path: str) -> str | None:
        """The stripped text of a small file, or None when it cannot be read."""
        try:
            with open(self.at(path), encoding="utf-8", errors="replace") as stream:
                return stream.read().strip()
        except OSError:
            return None

    def read_bytes(self, path: str) -> bytes | None:
        try:
            with open(self.at(path), "rb") as stream:
                return stream.read()
        except OSError:
            return None

    def write(self, path: str, text: str) -> None:
        """One write(2) to a kernel attribute."""
        descriptor = os.open(self.at(path), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def names(self, path: str) -> list[str]:
        """The sorted names in a directory; empty when there is none."""
        try:
            return sorted(os.listdir(self.at(path)))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.at(path))

    def resolve(self, path: str) -> str:
        """Where a path leads, as on the machine."""
        return os.path.realpath(self.at(path))[len(os.path.realpath(self.root)) if self.root else 0 :]

    def run(self, argv: t.Sequence[str], timeout_s: float) -> CommandResult:
        return run_command(argv, timeout_s)

    def has_command(self, name: str) -> bool:
        return has_command(name)

    def clock_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def ask_unit(self, node: str) -> Identity:
        return sg_inquiry.ask(self.at(node))

    def node_number(self, node: str) -> str | None:
        """C(major:minor) of a block device node, None when there is none."""
        try:
            number = os.stat(self.at(node)).st_rdev
        except OSError:
            return None
        return f"{os.major(number)}:{os.minor(number)}"

    def read_first_block(self, node: str) -> None:
        """OSError when the device cannot be read. O_DIRECT: nothing may stay in the page cache while another host writes."""
        descriptor = os.open(self.at(node), os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            with mmap.mmap(-1, mmap.PAGESIZE) as buffer:
                if os.preadv(descriptor, [buffer], 0) == 0:
                    raise OSError(f"{node} has no data")
        finally:
            os.close(descriptor)

    def flush(self, node: str) -> None:
        """fsync, and drop the kernel's copies. Exclusive: a mount in any namespace or a device above makes this fail."""
        descriptor = os.open(self.at(node), os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            fcntl.ioctl(descriptor, _BLKFLSBUF, 0)
        finally:
            os.close(descriptor)

    def wait_for(self, condition: t.Callable[[], bool], timeout_s: float) -> bool:
        """Ask until the condition holds; False when it did not in time."""
        deadline_s = self.clock_s() + timeout_s
        pause_s = _FIRST_PAUSE_S
        while not condition():
            if self.clock_s() >= deadline_s:
                return False
            self.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
        return True


__all__ = ("Host",)
