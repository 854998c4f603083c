# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.vpd import (
    Capacity,
    Inquiry,
    parse_capacity16,
    parse_inquiry,
    unit_serial_from_page80,
    wwid_from_page83,
)
from hypothesis import given
from hypothesis import strategies as st

NAA_3 = b"\x01\x03\x00\x08" + bytes.fromhex("300000020000010f")
NAA_5 = b"\x01\x03\x00\x08" + bytes.fromhex("5000c500a1b2c3d4")
NAA_6 = b"\x01\x03\x00\x10" + bytes.fromhex("60000000000000004c554e5300000001")
EUI_8 = b"\x01\x02\x00\x08" + bytes.fromhex("0011223344556677")
EUI_16 = b"\x01\x02\x00\x10" + bytes.fromhex("00112233445566778899aabbccddeeff")
T10 = b"\x02\x01\x00\x24" + b"IET     00010001".ljust(36, b"\0")
NAME = b"\x03\x08\x00\x14" + b"iqn.2026-11.org:vol1"
PORT = b"\x01\x13\x00\x08" + bytes.fromhex("6000000000000000")


def page(*designators):
    body = b"".join(designators)
    return b"\x00\x83" + len(body).to_bytes(2, "big") + body


@pytest.mark.parametrize(
    ("designators", "wwid"),
    [
        # What tgtd sends; the kernel showed this very name in device/wwid.
        ([T10, NAA_3, NAA_6], "naa.60000000000000004c554e5300000001"),
        ([NAA_6, T10], "naa.60000000000000004c554e5300000001"),
        ([NAA_5, EUI_8], "naa.5000c500a1b2c3d4"),
        ([EUI_16, NAA_5], "eui.00112233445566778899aabbccddeeff"),
        ([EUI_8, T10], "eui.0011223344556677"),
        ([NAME, NAA_6], "iqn.2026-11.org:vol1"),
        # Equal rank: the later one wins, as in the kernel.
        ([T10, NAA_3], "naa.300000020000010f"),
        ([NAA_3, T10], "t10.IET     00010001"),
        ([PORT], None),
        ([PORT, T10], "t10.IET     00010001"),
        ([b"\x01\x03\x00\x04abcd"], None),
        ([b"\x01\x00\x00\x04abcd"], None),
        ([b"\x01\x03\x00\x00"], None),
        ([], None),
    ],
)
def test_wwid(designators, wwid):
    assert wwid_from_page83(page(*designators)) == wwid


def test_designator_that_runs_over_the_end_is_ignored():
    assert wwid_from_page83(page(T10, NAME)[:-1]) == "t10.IET     00010001", "half a name is another name"
    whole = page(T10, NAA_6)
    assert wwid_from_page83(whole[:-1]) == "t10.IET     00010001"
    assert wwid_from_page83(whole + b"\x01\x03\x00\x08" + bytes(8)) == wwid_from_page83(whole)


@given(st.binary(max_size=300))
def test_nonsense_never_fails(data):
    wwid_from_page83(data)
    unit_serial_from_page80(data)
    parse_inquiry(data)
    parse_capacity16(data)


@pytest.mark.parametrize(
    ("data", "serial"),
    [
        (b"\x00\x80\x00\x24" + b"unit-serial-1".rjust(36), "unit-serial-1"),
        (b"\x00\x80\x00\x08" + b"abc\0\0\0\0\0" + b"behind", "abc"),
        (b"\x00\x80\x00\x04" + b"a\xffb ", "a\\xffb"),
        (b"\x00\x80\x00\x04    ", None),
        (b"\x00\x80\x00\x00", None),
        (b"", None),
    ],
)
def test_unit_serial(data, serial):
    assert unit_serial_from_page80(data) == serial


def test_inquiry():
    data = b"\x00\x00\x05\x02\x00\x00\x00\x00" + b"LUNSHIFT" + b"VOLUME".ljust(16) + b"0001"
    assert parse_inquiry(data) == Inquiry("LUNSHIFT", "VOLUME", is_disk=True)
    assert not parse_inquiry(b"\x7f" + data[1:]).is_disk, "no LUN of this number"
    assert not parse_inquiry(b"\x0c" + data[1:]).is_disk, "a controller"
    assert not parse_inquiry(b"").is_disk


def test_capacity():
    data = (131071).to_bytes(8, "big") + (512).to_bytes(4, "big") + bytes([0, 3]) + bytes(18)
    assert parse_capacity16(data) == Capacity(67108864, 512, 4096)
    assert parse_capacity16(bytes(32)) is None
    assert parse_capacity16(data[:13]) is None
