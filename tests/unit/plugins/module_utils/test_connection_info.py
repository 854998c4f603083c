# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import (
    Chap,
    IscsiPath,
    parse,
    parse_portal,
    redact,
    secrets_of,
)
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from hypothesis import given
from hypothesis import strategies as st

IQN = "iqn.2026-11.org.example:host-a"
CHAP = {"auth_method": "CHAP", "auth_username": "user", "auth_password": "very-secret-1"}


def info(**data):
    return {
        "driver_volume_type": "iscsi",
        "data": {"target_portal": "192.0.2.10:3260", "target_iqn": IQN, "target_lun": 1, **data},
    }


def problems_of(connection_info):
    with pytest.raises(InputError) as error:
        parse("vol", connection_info)
    return error.value.details["problems"]


@pytest.mark.parametrize(
    ("portal", "expected"),
    [
        ("192.0.2.10:3260", ("192.0.2.10", 3260)),
        ("192.0.2.10", ("192.0.2.10", 3260)),
        ("192.0.2.10:", ("192.0.2.10", 3260)),
        ("[2001:DB8::0010]:860", ("2001:db8::10", 860)),
        ("[2001:db8:0:0::10]", ("2001:db8::10", 3260)),
        ("2001:db8::10", ("2001:db8::10", 3260)),
        (" storage-1.example.org:3260 ", ("storage-1.example.org", 3260)),
    ],
)
def test_portal(portal, expected):
    assert parse_portal(portal) == expected


@pytest.mark.parametrize(
    "portal",
    [
        "",
        ":3260",
        "[2001:db8::10",
        "[2001:db8::10]3260",
        "192.0.2.10:0",
        "192.0.2.10:65536",
        "192.0.2.10:²",
        "192.0.2.300",
        "1.2.3.4.5",
        "host name",
        "-x",
        "[nonsense:]",
    ],
)
def test_portal_that_cannot_be_used(portal):
    with pytest.raises(ValueError, match="portal"):
        parse_portal(portal)


@given(st.text())
def test_any_text_is_a_portal_or_a_value_error(text):
    try:
        address, port = parse_portal(text)
    except ValueError:
        return
    assert address
    assert 0 < port < 65536


def test_one_path():
    connection = parse("vol", info())
    assert connection.paths == (IscsiPath("192.0.2.10", 3260, IQN, 1),)
    assert connection.chap is None
    assert connection.libvirt.initiator_iqn is None


def test_lists_count_and_equal_paths_once():
    connection = parse(
        "vol",
        info(
            target_portals=["192.0.2.10:3260", "[2001:db8::a]:3260", "192.0.2.10"],
            target_iqns=[IQN] * 3,
            target_luns=[7, "7", 7],
        ),
    )
    assert [path.portal for path in connection.paths] == ["192.0.2.10:3260", "[2001:db8::a]:3260"]
    assert {path.lun for path in connection.paths} == {7}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (IscsiPath("192.0.2.10", 3260, IQN, 255), f"ip-192.0.2.10:3260-iscsi-{IQN}-lun-255"),
        (IscsiPath("192.0.2.10", 3260, IQN, 256), f"ip-192.0.2.10:3260-iscsi-{IQN}-lun-0x0100000000000000"),
        # Seen on a real host: tgtd's LUN 271 in flat addressing, over IPv6.
        (IscsiPath("fd00:78:2::1", 3260, IQN, 16655), f"ip-fd00:78:2::1:3260-iscsi-{IQN}-lun-0x410f000000000000"),
        (IscsiPath("192.0.2.10", 860, IQN, 0x12345), f"ip-192.0.2.10:860-iscsi-{IQN}-lun-0x2345000100000000"),
    ],
)
def test_by_path_name(path, name):
    assert path.by_path == f"/dev/disk/by-path/{name}"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"target_lun": None}, "target_lun is missing"),
        ({"target_lun": -1}, "no LUN number"),
        ({"target_lun": True}, "no LUN number"),
        ({"target_lun": "²"}, "no LUN number"),
        ({"target_lun": 2**32}, "no LUN number"),
        ({"target_lun": 1.0}, "no LUN number"),
        ({"target_iqn": "host-a"}, "no iSCSI name"),
        ({"target_iqn": f"{IQN} x"}, "no iSCSI name"),
        ({"target_portal": "192.0.2.10:x"}, "no usable port"),
        ({"target_portals": ["192.0.2.10"], "target_iqns": [IQN, IQN], "target_luns": [1]}, "differ in length"),
        ({"target_portals": ["192.0.2.10", None], "target_iqns": [IQN, IQN], "target_luns": [1, 2]}, "target_portals has an empty entry"),
        ({"target_luns": "12", "target_portals": ["192.0.2.10"] * 2, "target_iqns": [IQN] * 2}, "target_luns is no list"),
        ({"auth_method": "CHAP", "auth_username": "user"}, "auth_password is missing"),
        ({"auth_method": "Kerberos"}, "only CHAP"),
        ({"auth_method": "CHAP", "auth_username": "user", "auth_password": "line\nbreak"}, "line break"),
        ({"auth_username_in": "array", "auth_password_in": "other"}, "only with auth_method CHAP"),
        ({**CHAP, "auth_username_in": "array"}, "one of them is missing"),
        ({**CHAP, "auth_username_in": "array", "auth_password_in": "very-secret-1"}, "the same as auth_password"),
        ({**CHAP, "auth_username_in": "array", "auth_password_in": "x\ny"}, "line break"),
    ],
)
def test_what_cannot_be_used_is_named(data, word):
    problems = problems_of(info(**data))
    assert any(word in problem for problem in problems)
    assert all(problem.startswith("volume vol: ") for problem in problems)


def test_all_problems_at_once():
    broken = info(target_portal="x y", auth_method="CHAP")
    broken["driver_volume_type"] = "rbd"
    broken["libvirt"] = {"secret_uuid": "a", "secret_usage": "b", "password": "c"}
    assert len(problems_of(broken)) == 5


def test_no_data():
    assert problems_of({"driver_volume_type": "iscsi"}) == ["volume vol: connection info has no mapping 'data'"]


def test_chap_never_shows_its_password():
    connection = parse("vol", info(**CHAP, auth_username_in="array", auth_password_in="very-secret-2"))
    assert connection.chap == Chap("user", "very-secret-1", "array", "very-secret-2")
    assert connection.chap.mutual
    assert not parse("vol", info(**CHAP)).chap.mutual
    assert "very-secret" not in repr(connection)


def test_libvirt_reference():
    connection = parse("vol", {**info(), "libvirt": {"secret_usage": "chap-a", "initiator_iqn": "iqn.2026-11.org.example:guest"}})
    assert connection.libvirt.secret_usage == "chap-a"
    assert connection.libvirt.initiator_iqn == "iqn.2026-11.org.example:guest"


def test_secrets_are_found_and_redacted_at_any_depth():
    value = {
        "volumes": [
            {"connection_info": info(auth_password="first-secret", discovery_auth_password="second-secret")},
            info(auth_password=12345678, auth_password_in="third-secret"),
        ]
    }
    assert secrets_of(value) == {"first-secret", "second-secret", "12345678", "third-secret"}
    shown = redact(value)
    assert secrets_of(shown) == set()
    assert "secret" not in str(shown)
    assert shown["volumes"][1]["data"]["target_lun"] == 1
    assert value["volumes"][1]["data"]["auth_password"] == 12345678, "the original stays as it is"
