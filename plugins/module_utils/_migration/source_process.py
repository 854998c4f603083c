# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The emulator of a domain on this host as the kernel has it: its end is known at once, and is final.

libvirt ends the source's emulator when the guest has arrived, and looks for its end every 200 ms only. All that time a guest that waits
for the proof that the source has it no more stands still. The kernel tells the end of a process to whoever holds a descriptor of it, and
by then the process has closed all of its files.
"""

from __future__ import annotations

import os
import select
from pathlib import Path

# Where libvirt's daemon of the system keeps the numbers of its emulators.
PID_FILES = Path("/run/libvirt/qemu")


class SourceProcess:
    """A descriptor of one process, which stays its own when the number is given to another."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def find(cls, name: str, uuid: str) -> SourceProcess | None:
        """The emulator of an active domain; None where it cannot be had: an old kernel, another user's libvirt, another emulator."""
        if not hasattr(os, "pidfd_open"):
            return None
        try:
            pid = int((PID_FILES / f"{name}.pid").read_text(encoding="ascii"))
            process = cls(os.pidfd_open(pid))
        except (OSError, ValueError):
            return None
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            words = []
        # A number goes to another process only when its own has ended, so one that still runs is the one whose words were read.
        if uuid.encode("ascii") in words and not process.has_ended(0):
            return process
        process.close()
        return None

    def has_ended(self, timeout_s: float | None) -> bool:
        """Wait for its end; without a limit when C(timeout_s) is None."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))

    def close(self) -> None:
        os.close(self._descriptor)


__all__ = ("SourceProcess",)
