# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What a logical unit itself says: INQUIRY and READ CAPACITY sent through SG_IO.

The kernel's copies in sysfs date from the scan. When an array gives a LUN number to
another volume, only the unit's own answer shows it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.vpd import (
    parse_capacity16,
    parse_inquiry,
    unit_serial_from_page80,
    wwid_from_page83,
)

_SG_IO = 0x2285
_FROM_DEVICE = -3
_SENSE_BYTES = 64
_COMMAND_TIMEOUT_MS = 10_000
_CHECK_CONDITION = 2
_SENSE_ILLEGAL_REQUEST = 5
_SENSE_UNIT_ATTENTION = 6
# A new session reports power-on, reset and changed-data conditions one after the other.
_TRIES = 6
_INQUIRY = 0x12
_SERVICE_ACTION_IN_16 = 0x9E
_READ_CAPACITY_16 = 0x10


class NoDiskError(OSError):
    """The target answers, and has no disk at this number (any more)."""


class _Request(ctypes.Structure):
    """C(struct sg_io_hdr) of the kernel."""

    _fields_ = (
        ("interface_id", ctypes.c_int),
        ("dxfer_direction", ctypes.c_int),
        ("cmd_len", ctypes.c_ubyte),
        ("mx_sb_len", ctypes.c_ubyte),
        ("iovec_count", ctypes.c_ushort),
        ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p),
        ("cmdp", ctypes.c_void_p),
        ("sbp", ctypes.c_void_p),
        ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("pack_id", ctypes.c_int),
        ("usr_ptr", ctypes.c_void_p),
        ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte),
        ("msg_status", ctypes.c_ubyte),
        ("sb_len_wr", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort),
        ("driver_status", ctypes.c_ushort),
        ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint),
        ("info", ctypes.c_uint),
    )


def ask(node: str) -> Identity:
    """Ask the unit behind a block device node. OSError when it does not answer, or is no disk (any more)."""
    descriptor = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        inquiry = parse_inquiry(_command(descriptor, bytes([_INQUIRY, 0, 0, 0, 96, 0]), 96) or b"")
        if not inquiry.is_disk:
            raise NoDiskError(f"{node} has no disk behind it any more")
        capacity = parse_capacity16(
            _command(descriptor, bytes([_SERVICE_ACTION_IN_16, _READ_CAPACITY_16, *[0] * 8, 0, 0, 0, 32, 0, 0]), 32) or b""
        )
        if capacity is None:
            raise OSError(f"{node} does not tell its size")
        page80, page83 = _page(descriptor, 0x80), _page(descriptor, 0x83)
    finally:
        os.close(descriptor)
    return Identity(
        wwid=wwid_from_page83(page83) if page83 else None,
        unit_serial=unit_serial_from_page80(page80) if page80 else None,
        vendor=inquiry.vendor,
        model=inquiry.model,
        size_bytes=capacity.size_bytes,
        logical_block_bytes=capacity.logical_block_bytes,
        physical_block_bytes=capacity.physical_block_bytes,
    )


def _page(descriptor: int, page: int) -> bytes | None:
    # 0x03FC: two length bytes, and a multiple of 4 as some arrays want it.
    answer = _command(descriptor, bytes([_INQUIRY, 1, page, 0x03, 0xFC, 0]), 0x03FC)
    if answer is None or answer[1] != page:
        return None
    return answer[: 4 + int.from_bytes(answer[2:4], "big")]


def _command(descriptor: int, command: bytes, answer_bytes: int) -> bytes | None:
    """Send one command; None when the unit does not know it."""
    for _try in range(_TRIES):
        answer = ctypes.create_string_buffer(answer_bytes)
        sense = ctypes.create_string_buffer(_SENSE_BYTES)
        block = ctypes.create_string_buffer(command, len(command))
        request = _Request(
            interface_id=ord("S"),
            dxfer_direction=_FROM_DEVICE,
            cmd_len=len(command),
            mx_sb_len=_SENSE_BYTES,
            dxfer_len=answer_bytes,
            dxferp=ctypes.addressof(answer),
            cmdp=ctypes.addressof(block),
            sbp=ctypes.addressof(sense),
            timeout=_COMMAND_TIMEOUT_MS,
        )
        fcntl.ioctl(descriptor, _SG_IO, request)
        if request.status == 0 and request.host_status == 0:
            return answer.raw
        key = _sense_key(sense.raw) if request.status == _CHECK_CONDITION else 0
        if key == _SENSE_ILLEGAL_REQUEST:
            return None
        if key != _SENSE_UNIT_ATTENTION:
            break
    raise OSError(f"SCSI command 0x{command[0]:02x} failed: status {request.status}, host status {request.host_status}, sense key {key}")


def _sense_key(sense: bytes) -> int:
    """Of fixed (0x70, 0x71) and descriptor (0x72, 0x73) sense data."""
    return sense[1] & 0x0F if sense[0] & 0x7F in (0x72, 0x73) else sense[2] & 0x0F


__all__ = ("NoDiskError", "ask")
