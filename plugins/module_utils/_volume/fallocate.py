# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Zeros without writing them: fallocate(2), which os.posix_fallocate() gives no access to."""

from __future__ import annotations

import ctypes
import errno
import os

_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_ZERO_RANGE = 0x10
# This one gives the space back. On a block device it fails where the device cannot; the next one makes the kernel write the zeros then.
_PUNCH = _PUNCH_HOLE | _KEEP_SIZE
_MODES = (_PUNCH, _ZERO_RANGE | _KEEP_SIZE)
# How a file system or a device says that it cannot zero in the way it was asked to.
_REFUSED = (errno.EOPNOTSUPP, errno.ENODEV, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.EREMOTEIO)
# One call may take long where zeros have to be written, and nothing can stop it.
_STEP_BYTES = 64 << 20
_FILE_BLOCK_BYTES = 4096

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate64.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def _fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    while _LIBC.fallocate64(descriptor, mode, offset, length):
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


class Zeroing:
    """What the storage behind a descriptor can do, found out by asking once. Threads may share it.

    ``file_bytes``: the size of a file; the block that it ends in can go as a whole, for behind the end there is nothing.
    """

    def __init__(self, descriptor: int, *, file_bytes: int | None = None) -> None:
        self._descriptor = descriptor
        self._file_bytes = file_bytes
        self._behind = -(-(file_bytes or 0) // _FILE_BLOCK_BYTES) * _FILE_BLOCK_BYTES
        self._modes: tuple[int, ...] = _MODES

    def can_unmap(self) -> bool:
        """Whether a file's space can be given back; asked behind its end, where there is none."""
        return self._does(_PUNCH, self._behind, _FILE_BLOCK_BYTES)

    def zero(self, offset: int, length: int) -> int:
        """Zero as much as can be zeroed in this way, from the start on; returns the length. OSError when that fails."""
        done = 0
        while done < length and self._modes:
            mode = self._modes[0]
            step = min(length - done, _STEP_BYTES)
            is_end = mode == _PUNCH and offset + done + step == self._file_bytes
            if self._does(mode, offset + done, self._behind - offset - done if is_end else step):
                done += step
        return done

    def _does(self, mode: int, offset: int, length: int) -> bool:
        try:
            _fallocate(self._descriptor, mode, offset, length)
        except OSError as exc:
            if exc.errno not in _REFUSED:
                raise
            self._modes = tuple(other for other in self._modes if other != mode)
            return False
        return True


__all__ = ("Zeroing",)
