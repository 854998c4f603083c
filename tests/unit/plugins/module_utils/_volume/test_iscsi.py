# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.block_commands import (
    LbaStatus,
    Limits,
    Provisioning,
    has_write_cache,
    is_write_protected,
    parse_lba_status,
    parse_limits,
    parse_provisioning,
    read16,
    unmap,
    unmap_data,
    write_same16,
)
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._volume import iscsi_kernel, iscsi_user
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How
from ansible_collections.lunshift.migration.plugins.module_utils._volume.opening import Request, parse_volume
from ansible_collections.lunshift.migration.plugins.module_utils._volume.scsi_identity import name_behind_iscsi

DATA = {"target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2026-11.org.example:Target", "target_lun": 1}


def parsed(data: t.Any = ..., **more: t.Any) -> t.Any:
    return parse_volume("source: ", {"driver_volume_type": "iscsi", "data": DATA if data is ... else data, **more}).parsed


@pytest.mark.parametrize(("given", "initiator"), [({}, "kernel"), ({"initiator": None}, "kernel"), ({"initiator": "libiscsi"}, "libiscsi")])
def test_initiator(given: dict[str, t.Any], initiator: str) -> None:
    assert parsed(**given).initiator == initiator


def test_every_problem_at_once() -> None:
    with pytest.raises(InputError) as error:
        parsed({"target_portal": "nowhere:x", "target_iqn": "no-name", "target_lun": "first", "auth_method": "none"}, initiator="other")
    problems = error.value.details["problems"]
    assert len(problems) == 3
    assert all(problem.startswith("source: ") for problem in problems)
    assert problems[0] == "source: initiator is 'other'; it must be kernel or libiscsi"
    with pytest.raises(InputError, match=r"source: initiator is .*; source: connection info has no mapping 'data'"):
        parsed(None, initiator="other")


def test_a_lun_that_the_library_would_cut_off() -> None:
    far = {**DATA, "target_lun": 0x10001}
    assert parsed(far).connection.paths[0].lun == 0x10001
    with pytest.raises(InputError, match="source: target_lun is 65537; libiscsi cannot address a LUN above 65535"):
        parsed(far, initiator="libiscsi")


def test_no_secret_in_a_representation() -> None:
    secret = "a-secret-of-12"
    request = parsed({**DATA, "auth_method": "CHAP", "auth_username": "user", "auth_password": secret})
    assert request.connection.chap.password == secret
    assert secret not in repr(request)


def test_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iscsi_user, "open_user", lambda connection, how: ("user", connection, how))
    monkeypatch.setattr(iscsi_kernel, "open_kernel", lambda connection, info, how: ("kernel", connection, how))
    for initiator, expected in (("kernel", "kernel"), ("libiscsi", "user")):
        request: Request = parse_volume("", {"driver_volume_type": "iscsi", "data": DATA, "initiator": initiator})
        assert request.kind.open(request.parsed, How()) == (expected, request.parsed.connection, How())  # type: ignore[comparison-overlap]


# Names


def seen(wwid: str | None, serial: str | None) -> Identity:
    return Identity(wwid, serial, "LAB", "VOLUME", 1 << 20, 512, 512)


@pytest.mark.parametrize(
    ("wwid", "serial", "lun", "name"),
    [
        ("naa.600140512345678900000000000000AB", "1", 1, "wwid:3600140512345678900000000000000ab"),
        ("t10.LAB  VOLUME", None, 1, "wwid:t10.LAB VOLUME"),
        (None, "SN-1", 1, "serial:LAB:VOLUME:SN-1"),
        (None, "beaf11", 1, "iscsi:iqn.2026-11.org.example:target/1"),
        ("naa.60000000000000000e00000000010001", None, 1, "iscsi:iqn.2026-11.org.example:target/1/naa.60000000000000000e00000000010001"),
        (None, None, 271, "iscsi:iqn.2026-11.org.example:target/16655"),
        (None, None, 16655, "iscsi:iqn.2026-11.org.example:target/16655"),
    ],
)
def test_names(wwid: str | None, serial: str | None, lun: int, name: str) -> None:
    assert name_behind_iscsi(parsed({**DATA, "target_lun": lun}).connection, seen(wwid, serial)) == name


# Commands and answers


def test_commands() -> None:
    assert read16(0x123456789A, 8).hex() == "880000000012" + "3456789a" + "00000008" + "0000"
    assert write_same16(1, 2, unmap=True).hex() == "9308" + "0000000000000001" + "00000002" + "0000"
    assert unmap().hex() == "42000000000000001800"
    assert unmap_data(1, 2).hex() == "0016001000000000" + "0000000000000001" + "00000002" + "00000000"


def test_limits() -> None:
    page = bytearray(64)
    page[1:4] = bytes([0xB0, 0, 60])
    assert parse_limits(bytes(page)) == Limits()
    page[8:12], page[20:24], page[28:32], page[36:44] = (
        (number).to_bytes(length, "big") for number, length in ((1, 4), (2, 4), (3, 4), (4, 8))
    )
    page[32:36] = (5).to_bytes(4, "big")
    assert parse_limits(bytes(page)) == Limits(1, 2, 4, 3, 0)
    page[32] = 0x80
    assert parse_limits(bytes(page)) == Limits(1, 2, 4, 3, 5)
    # An older unit has a shorter page; what follows it in the buffer is not of the page.
    page[3] = 12
    assert parse_limits(bytes(page)) == Limits(transfer=1)
    assert parse_limits(b"") == Limits()


def test_provisioning() -> None:
    assert parse_provisioning(bytes([0, 0xB2, 0, 4, 0, 0xE4, 2, 0])) == Provisioning(True, True)
    assert parse_provisioning(bytes([0, 0xB2, 0, 4, 0, 0x40, 2, 0])) == Provisioning(False, True)
    assert parse_provisioning(b"") == Provisioning()


def test_lba_status() -> None:
    one = (5).to_bytes(8, "big") + (6).to_bytes(4, "big") + bytes([0xF1, 0, 0, 0])
    assert list(parse_lba_status((20).to_bytes(4, "big") + bytes(4) + one)) == [LbaStatus(5, 6, 1)]
    assert list(parse_lba_status((4000).to_bytes(4, "big") + bytes(4) + one)) == [LbaStatus(5, 6, 1)]
    assert list(parse_lba_status((19).to_bytes(4, "big") + bytes(4) + one)) == []
    assert list(parse_lba_status(b"")) == []


def test_modes() -> None:
    assert is_write_protected(bytes([0, 0, 0x90, 0]))
    assert not is_write_protected(bytes([0, 0, 0x10, 0]))
    assert has_write_cache(bytes([0, 0, 0, 0, 0x88, 18, 4]))
    assert has_write_cache(bytes([0, 0, 0, 8, *bytes(8), 8, 18, 4]))
    assert not has_write_cache(bytes([0, 0, 0, 0, 8, 18, 0]))
    assert not has_write_cache(bytes([0, 0, 0, 0, 0x0A, 18, 4]))
    assert not has_write_cache(bytes(4))
