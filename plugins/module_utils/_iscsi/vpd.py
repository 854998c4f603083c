# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What SCSI devices say of themselves: raw INQUIRY data, VPD pages and capacity, read without trust.

The same functions read what the kernel keeps in sysfs and what a target answers to a session of our own, so that the
results of both can be compared.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

# Code sets and designator types of SPC-5, "Device Identification VPD page".
_T10_VENDOR_ID, _EUI_64, _NAA, _SCSI_NAME = 1, 2, 3, 8
_PAGE_HEADER_BYTES = 4
_DESIGNATOR_HEADER_BYTES = 4


@dataclass(frozen=True)
class Inquiry:
    """Standard INQUIRY data. ``is_disk`` is false where the target has no such LUN, too."""

    vendor: str
    model: str
    is_disk: bool


@dataclass(frozen=True)
class Capacity:
    """Answer to READ CAPACITY(16). ``is_thin``: blocks may be without space; ``reads_zeros``: such blocks read as zeros."""

    size_bytes: int
    logical_block_bytes: int
    physical_block_bytes: int
    is_thin: bool = False
    reads_zeros: bool = False


def wwid_from_page83(page: bytes) -> str | None:
    """The name of the LUN in the form of the kernel's C(device/wwid), or None when the page has none.

    Of several designators the one wins that the kernel prefers, for the same reason: longer names clash less.
    """
    best_priority = 0
    best: str | None = None
    for kind, value in _lun_designators(page):
        priority = _priority(kind, value)
        # The kernel lets a later one of equal rank win; so both readings of one page agree.
        if priority >= max(best_priority, 1):
            best_priority, best = priority, _designator_text(kind, value)
    return best


def _lun_designators(page: bytes) -> t.Iterator[tuple[int, bytes]]:
    page = page[: _PAGE_HEADER_BYTES + int.from_bytes(page[2:4], "big")]
    position = _PAGE_HEADER_BYTES
    while position + _DESIGNATOR_HEADER_BYTES <= len(page):
        length = page[position + 3]
        value = page[position + _DESIGNATOR_HEADER_BYTES : position + _DESIGNATOR_HEADER_BYTES + length]
        names_the_lun = not page[position + 1] & 0x30  # Others name the target or its port.
        if names_the_lun and length and len(value) == length:
            yield page[position + 1] & 0x0F, value
        position += _DESIGNATOR_HEADER_BYTES + length


def _priority(kind: int, value: bytes) -> int:
    """0 for a designator that is not usable, else higher for a better one."""
    if kind == _SCSI_NAME:
        return 9
    if kind == _NAA and len(value) in (8, 16):
        return {6: 8, 5: 5, 2: 4, 3: 1}.get(value[0] >> 4, 0)
    if kind == _EUI_64:
        return {16: 7, 12: 6, 8: 3}.get(len(value), 0)
    return 1 if kind == _T10_VENDOR_ID else 0


def _designator_text(kind: int, value: bytes) -> str:
    if kind == _NAA:
        return f"naa.{value.hex()}"
    if kind == _EUI_64:
        return f"eui.{value.hex()}"
    if kind == _T10_VENDOR_ID:
        return f"t10.{_text(value)}"
    return _text(value)


def unit_serial_from_page80(page: bytes) -> str | None:
    """The unit serial number, or None when the page has none."""
    length = int.from_bytes(page[2:4], "big")
    return _text(page[_PAGE_HEADER_BYTES : _PAGE_HEADER_BYTES + length]) or None


def parse_inquiry(data: bytes) -> Inquiry:
    """Read standard INQUIRY data; short data give empty texts."""
    # Qualifier 3 or 1 in the upper bits: no device is, or can be, behind this LUN. Type 0 is a disk.
    return Inquiry(vendor=_text(data[8:16]), model=_text(data[16:32]), is_disk=data[:1] == b"\0")


def parse_capacity16(data: bytes) -> Capacity | None:
    """Read the answer to READ CAPACITY(16), or None when it makes no sense."""
    logical = int.from_bytes(data[8:12], "big")
    if len(data) < 15 or not logical:
        return None
    return Capacity(
        size_bytes=(int.from_bytes(data[:8], "big") + 1) * logical,
        logical_block_bytes=logical,
        physical_block_bytes=logical << (data[13] & 0x0F),
        is_thin=bool(data[14] & 0x80),
        reads_zeros=bool(data[14] & 0x40),
    )


def _text(value: bytes) -> str:
    """Fixed-width text of a device: padding cut, anything that is no plain ASCII escaped."""
    return value.strip(b" \0").decode("ascii", "backslashreplace").replace("\0", " ")


__all__ = (
    "Capacity",
    "Inquiry",
    "parse_capacity16",
    "parse_inquiry",
    "unit_serial_from_page80",
    "wwid_from_page83",
)
