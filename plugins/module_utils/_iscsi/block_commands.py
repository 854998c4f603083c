# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""SCSI block commands as bytes, and what their answers say (SBC-4, SPC-5). Pure; answers are read without trust."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

# An answer of this many bytes tells of 4095 ranges. A target may walk through the rest of the volume for each answer, so few are better.
LBA_STATUS_BYTES = 65528
MODE_BYTES = 192

MAPPED, DEALLOCATED, ANCHORED, WRITTEN = 0, 1, 2, 3
CACHING_PAGE = 0x08

_PAGE_HEADER_BYTES = 4


@dataclass(frozen=True)
class Limits:
    """VPD page B0, "Block Limits", in logical blocks. 0: none was told; a granularity is at least 1."""

    transfer: int = 0
    unmap: int = 0
    write_same: int = 0
    unmap_granularity: int = 1
    unmap_alignment: int = 0


@dataclass(frozen=True)
class Provisioning:
    """VPD page B2, "Logical Block Provisioning": which commands can take blocks' space away."""

    by_unmap: bool = False
    by_write_same: bool = False


@dataclass(frozen=True)
class LbaStatus:
    """A range of logical blocks with one provisioning status."""

    lba: int
    count: int
    status: int


def test_unit_ready() -> bytes:
    return bytes(6)


def read16(lba: int, count: int) -> bytes:
    return _long(0x88, 0, lba, count)


def write16(lba: int, count: int) -> bytes:
    return _long(0x8A, 0, lba, count)


def write_same16(lba: int, count: int, *, unmap: bool) -> bytes:
    """One block of data follows. With ``unmap`` the blocks may lose their space, if they read as that block then."""
    return _long(0x93, 0x08 if unmap else 0, lba, count)


def synchronize_cache16() -> bytes:
    """The whole volume."""
    return _long(0x91, 0, 0, 0)


def synchronize_cache10() -> bytes:
    return bytes([0x35]) + bytes(9)


def unmap() -> bytes:
    """The data of ``unmap_data`` follow."""
    return bytes([0x42]) + bytes(6) + (24).to_bytes(2, "big") + bytes(1)


def unmap_data(lba: int, count: int) -> bytes:
    """A list of one range."""
    return bytes([0, 22, 0, 16]) + bytes(4) + lba.to_bytes(8, "big") + count.to_bytes(4, "big") + bytes(4)


def get_lba_status(lba: int) -> bytes:
    return bytes([0x9E, 0x12]) + lba.to_bytes(8, "big") + LBA_STATUS_BYTES.to_bytes(4, "big") + bytes(2)


def mode_sense6(page: int) -> bytes:
    return bytes([0x1A, 0, page, 0, MODE_BYTES, 0])


def _long(operation: int, flags: int, lba: int, count: int) -> bytes:
    return bytes([operation, flags]) + lba.to_bytes(8, "big") + count.to_bytes(4, "big") + bytes(2)


def parse_limits(page: bytes) -> Limits:
    data = _page(page, 64)
    has_alignment = data[32] & 0x80
    return Limits(
        transfer=_number(data, 8, 4),
        unmap=_number(data, 20, 4),
        write_same=_number(data, 36, 8),
        unmap_granularity=max(1, _number(data, 28, 4)),
        unmap_alignment=_number(data, 32, 4) & 0x7FFFFFFF if has_alignment else 0,
    )


def parse_provisioning(page: bytes) -> Provisioning:
    data = _page(page, 8)
    return Provisioning(by_unmap=bool(data[5] & 0x80), by_write_same=bool(data[5] & 0x40))


def _page(page: bytes, length: int) -> bytes:
    """As much of a page as it says to have; what is missing is 0."""
    return page[: _PAGE_HEADER_BYTES + _number(page, 2, 2)].ljust(length, b"\0")


def parse_lba_status(answer: bytes) -> t.Iterator[LbaStatus]:
    """The ranges of an answer to GET LBA STATUS, as they stand there. A target may announce more than fitted in."""
    end = min(len(answer), 4 + _number(answer, 0, 4))
    for start in range(8, end - 15, 16):
        yield LbaStatus(_number(answer, start, 8), _number(answer, start + 8, 4), answer[start + 12] & 0x0F)


def is_write_protected(mode: bytes) -> bool:
    """From the header of an answer to MODE SENSE(6)."""
    return bool(mode[2] & 0x80)


def has_write_cache(mode: bytes) -> bool:
    """From an answer with the caching page. A page that is not there tells of no cache."""
    page = mode[4 + mode[3] :]
    return len(page) > 2 and page[0] & 0x3F == CACHING_PAGE and bool(page[2] & 0x04)


def _number(data: bytes, start: int, length: int) -> int:
    return int.from_bytes(data[start : start + length], "big")


__all__ = (
    "ANCHORED",
    "CACHING_PAGE",
    "DEALLOCATED",
    "LBA_STATUS_BYTES",
    "MAPPED",
    "MODE_BYTES",
    "WRITTEN",
    "LbaStatus",
    "Limits",
    "Provisioning",
    "get_lba_status",
    "has_write_cache",
    "is_write_protected",
    "mode_sense6",
    "parse_lba_status",
    "parse_limits",
    "parse_provisioning",
    "read16",
    "synchronize_cache10",
    "synchronize_cache16",
    "test_unit_ready",
    "unmap",
    "unmap_data",
    "write16",
    "write_same16",
)
