# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import struct
import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.opening import parse_volume
from ansible_collections.lunshift.migration.plugins.module_utils._volume.rbd_connection import RbdConnection, parse

KEY = base64.b64encode(struct.pack("<HIIH", 1, 1700000000, 0, 16) + b"0123456789abcdef").decode()
KEYRING = f"[client.lab]\n\tkey = {KEY}\n"
DATA = {
    "name": "volumes/img",
    "hosts": ["192.0.2.1", "fd00::1", "[fd00::2]", "mon.example.org"],
    "ports": ["6789", 6789, "3300", "6789"],
    "cluster_name": "ceph",
    "auth_enabled": True,
    "auth_username": "lab",
    "keyring": KEYRING,
    "secret_type": "ceph",
    "secret_uuid": None,
    "volume_id": "4a4f",
}


def info(ceph: t.Any = None, **data: t.Any) -> dict[str, t.Any]:
    found = {"driver_volume_type": "rbd", "data": {name: value for name, value in {**DATA, **data}.items() if value != "absent"}}
    return {**found, "ceph": ceph} if ceph is not None else found


def problems(value: t.Mapping[str, t.Any]) -> list[str]:
    with pytest.raises(InputError) as caught:
        parse("source: ", value)
    assert KEY not in f"{caught.value!r} {caught.value.details!r}"
    found: list[str] = caught.value.details["problems"]
    assert all(problem.startswith("source: ") for problem in found)
    return [problem[len("source: ") :] for problem in found]


def test_cinders_form_is_read() -> None:
    connection = parse("", info())
    assert (connection.pool, connection.namespace, connection.image, connection.snapshot) == ("volumes", "", "img", None)
    assert [str(monitor) for monitor in connection.monitors] == [
        "192.0.2.1:6789",
        "[fd00::1]:6789",
        "[fd00::2]:3300",
        "mon.example.org:6789",
    ]
    assert (connection.user, connection.key, connection.has_cephx, connection.cluster_name) == ("lab", KEY, True, "ceph")
    assert isinstance(parse_volume("", info()).parsed, RbdConnection)


def test_the_key_shows_nowhere() -> None:
    connection = parse("", info())
    assert KEY not in f"{connection!r} {connection} {connection.spec}"


@pytest.mark.parametrize(
    ("name", "ceph", "spec"),
    [
        ("p/i", None, "p/i"),
        ("p/n/i", None, "p/n/i"),
        ("p/i@s", None, "p/i@s"),
        ("p/n/i@s", {"snapshot": "s"}, "p/n/i@s"),
        ("p/i", {"snapshot": "s"}, "p/i@s"),
    ],
)
def test_an_image_may_be_in_a_namespace_and_at_a_snapshot(name: str, ceph: t.Any, spec: str) -> None:
    assert parse("", info(ceph, name=name)).spec == spec


def test_what_is_left_out_is_as_ceph_has_it() -> None:
    connection = parse("", info({"conf_path": "/etc/ceph/x.conf"}, hosts="absent", ports="absent", keyring="absent", auth_username=None))
    assert (connection.monitors, connection.user, connection.key) == ((), "admin", None)
    assert [str(monitor) for monitor in parse("", info(ports="absent")).monitors][:2] == ["192.0.2.1", "[fd00::1]"]


def test_without_cephx_no_key_is_used() -> None:
    connection = parse("", info(auth_enabled=False))
    assert not connection.has_cephx and connection.key is None


@pytest.mark.parametrize("name", ["img", "p/", "/i", "p//i", "a/b/c/d", "p/i@", "", None])
def test_a_name_without_pool_and_image_is_refused(name: t.Any) -> None:
    assert problems(info(name=name)) == [f"name is {name!r}; it must be POOL/IMAGE or POOL/NAMESPACE/IMAGE, with @SNAPSHOT or without"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (info(hosts="absent", ports="absent"), "hosts is missing"),
        (info(hosts="192.0.2.1"), "hosts is no list"),
        (info(hosts=["192.0.2.1"]), "hosts and ports differ in length"),
        (info(hosts=["192.0.2.300"], ports=["6789"]), "host '192.0.2.300' is no address"),
        (info(hosts=["a,b"], ports=["6789"]), "host 'a,b' is no address"),
        (info(hosts=["192.0.2.1"], ports=["x"]), "port 'x' of 192.0.2.1 is no port number"),
        (info(auth_username="client.lab"), "without 'client.'"),
        (info(auth_username="a b"), "characters that Ceph does not allow"),
        (info(auth_username="nova"), "no key of client.nova; it must be the text of a keyring file; keys in it: client.lab"),
        (info(keyring=KEY), "no key of client.lab; it must be the text of a keyring file; keys in it: none"),
        (info(keyring=f"[client.lab]\nkey = {KEY[:-4]}\n"), "a key of client.lab that is none"),
        (info(keyring="[client.lab]\nkey = ???\n"), "a key of client.lab that is none"),
        (info({"keyring_path": "/k"}), "both keyring and ceph.keyring_path"),
        (info({"keyring_path": "k"}, keyring=None), "ceph.keyring_path 'k' is no absolute path"),
        (info({"snap": "s"}), "'ceph' has unknown keys: snap; there are: conf_path, keyring_path, snapshot"),
        (info("x"), "'ceph' beside 'data' is no mapping"),
        (info({"snapshot": "a"}, name="p/i@b"), "name has the snapshot b, and ceph.snapshot is a"),
        ({"driver_volume_type": "rbd"}, "connection info has no mapping 'data'"),
    ],
)
def test_each_problem_is_named(value: t.Mapping[str, t.Any], words: str) -> None:
    assert any(words in problem for problem in problems(value))


def test_all_problems_come_at_once() -> None:
    found = problems(info({"x": 1}, name="img", hosts=["???"], ports=["1"], auth_username="a b", keyring="nothing"))
    assert len(found) == 5
