# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Memory that any backend can read into and write from: page-aligned, as O_DIRECT wants it."""

from __future__ import annotations

import ctypes
import mmap
import typing as t

ALIGNMENT_BYTES = mmap.PAGESIZE

_LIBC = ctypes.CDLL(None)
_LIBC.memcmp.restype = ctypes.c_int
_LIBC.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def aligned_buffer(length: int) -> memoryview:
    """Zeroed memory that begins at a page. It goes with the last view of it."""
    return memoryview(mmap.mmap(-1, length))


def address_of(view: memoryview) -> int:
    """Where a writable view begins in memory; valid as long as the view is."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def is_equal(one: memoryview, other: memoryview) -> bool:
    """Whether two writable views hold the same bytes. memoryview's own comparison is a hundred times slower."""
    length = len(one)
    return length == len(other) and (not length or _LIBC.memcmp(address_of(one), address_of(other), length) == 0)


def is_zero(view: memoryview) -> bool:
    """Whether a writable view holds nothing but zeros: its first byte is, and each byte equals the next one."""
    length = len(view)
    if not length:
        return True
    start = address_of(view)
    return view[0] == 0 and (length == 1 or _LIBC.memcmp(start, start + 1, length - 1) == 0)


def runs_of_zeros(view: memoryview, granularity_bytes: int) -> t.Iterator[tuple[int, int, bool]]:
    """The view as (start, length, is zero), neighbours of one kind put together."""
    begin, zero = 0, False
    for start in range(0, len(view), granularity_bytes):
        this = is_zero(view[start : start + granularity_bytes])
        if start and this != zero:
            yield begin, start - begin, zero
            begin = start
        zero = this
    if len(view):
        yield begin, len(view) - begin, zero


__all__ = ("ALIGNMENT_BYTES", "address_of", "aligned_buffer", "is_equal", "is_zero", "runs_of_zeros")
