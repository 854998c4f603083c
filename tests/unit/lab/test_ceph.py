# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lab's Ceph clusters are told, and what happens to them when a lab goes up and down; no daemon is started."""

from __future__ import annotations

import base64
import configparser
import struct
import typing as t
from pathlib import Path

import pytest
from lunshift_lab import ceph, faults, guest_kit, hosts, instance, network, storage
from lunshift_lab.context import Lab, LabError


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(lab_id=7, state_dir=tmp_path / "lab-7", cache_dir=tmp_path / "cache")


def settings(lab: Lab, cluster: str, store: str = ceph.MEMORY) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(ceph._conf(lab, cluster, "some-fsid", store))
    return parsed


def write_conf(lab: Lab, cluster: str, store: str) -> Path:
    directory = ceph._directory(lab, cluster)
    directory.mkdir(parents=True)
    (directory / "ceph.conf").write_text(ceph._conf(lab, cluster, "some-fsid", store))
    ceph._write_keyrings(directory)
    return directory


def test_clusters_have_the_labs_address_and_ports_of_their_own(lab: Lab) -> None:
    one, other = (settings(lab, cluster)["global"] for cluster in ceph.CLUSTERS)
    assert one["mon host"] == "[v2:10.78.7.1:3300/0,v1:10.78.7.1:6789/0]"
    assert other["mon host"] == "[v2:10.78.7.1:3301/0,v1:10.78.7.1:6790/0]"
    assert int(one["ms bind port max"]) < int(other["ms bind port min"])


def test_nothing_is_outside_of_the_labs_directory(lab: Lab) -> None:
    conf = settings(lab, "ceph1")
    paths = [value for section in conf.values() for value in section.values() if "/" in value and not value.startswith("[v2:")]
    assert paths and all(path.startswith(f"{lab.state_dir}/ceph/ceph1") for path in paths)


def test_each_client_has_its_own_key_in_ceph_s_form(lab: Lab) -> None:
    directory = write_conf(lab, "ceph1", ceph.MEMORY)
    parsed = configparser.ConfigParser()
    parsed.read(directory / "all.keyring")
    keys = {parsed[entity]["key"] for entity in ("mon.", "client.admin", "client.lab", "osd.0")}
    assert len(keys) == 4
    for key in keys:
        raw = base64.b64decode(key)
        assert struct.unpack("<HIIH", raw[:12])[::3] == (1, 16) and len(raw) == 28
    assert parsed["client.lab"]["caps osd"] == '"profile rbd pool=volumes"'
    assert {path.stat().st_mode & 0o077 for path in directory.glob("*.keyring")} == {0}


def test_connection_info_is_cinder_s_form(lab: Lab) -> None:
    write_conf(lab, "ceph2", ceph.MEMORY)
    info = ceph.connection_info(lab, "ceph2", "img")
    data = info["data"]
    assert info["driver_volume_type"] == "rbd" and data["name"] == "volumes/img"
    assert (data["hosts"], data["ports"], data["auth_username"]) == (["10.78.7.1"], ["6790"], "lab")
    assert data["keyring"].startswith("[client.lab]\n\tkey = ")
    with pytest.raises(LabError, match="ceph1 of lab 7 is not up"):
        ceph.connection_info(lab, "ceph1", "img")


def test_an_osd_that_would_lose_its_data_is_not_killed(lab: Lab) -> None:
    write_conf(lab, "ceph1", ceph.MEMORY)
    with pytest.raises(LabError, match="--in-file ceph1"):
        ceph.osd_down(lab, "ceph1")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every part of a lab says what it was asked, and does nothing."""
    calls: list[str] = []

    def note(owner: t.Any, name: str, called_as: str) -> None:
        monkeypatch.setattr(owner, name, lambda *_given, **_named: calls.append(called_as))

    note(instance, "require_packages", "packages")
    note(guest_kit, "ensure", "guest kit")
    note(network, "ensure_bridge", "bridge")
    note(network, "remove_bridge", "no bridge")
    note(faults, "remove_rules", "no faults")
    for owner, what in ((storage, "storage"), (ceph, "ceph"), *((kind, name) for name, kind in hosts.KINDS.items())):
        note(owner, "up", f"{what} up")
        note(owner, "down", f"{what} down")
    return calls


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["namespace"], ["packages", "guest kit", "bridge", "storage up", "namespace up"]),
        (["ceph"], ["packages", "bridge", "ceph up"]),
        (["ceph", "uml"], ["packages", "guest kit", "bridge", "storage up", "uml up", "ceph up"]),
    ],
)
def test_only_what_was_asked_for_comes_up(lab: Lab, called: list[str], kinds: list[str], expected: list[str]) -> None:
    instance.up(lab, kinds)
    assert called == expected


def test_down_ends_ceph_before_its_address_goes(lab: Lab, called: list[str]) -> None:
    lab.state_dir.mkdir()
    instance.down(lab)
    assert called == ["namespace down", "uml down", "ceph down", "storage down", "no faults", "no bridge"]
    assert not lab.state_dir.exists()
