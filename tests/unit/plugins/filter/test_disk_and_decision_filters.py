# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters around domain XML, identity and outcome as a playbook calls them: with tagged strings and lazy dictionaries.

One run of ansible-playbook templates everything below; the tests look at what it wrote.
"""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lunshift.migration.plugins.filter import (
    disk_sources_diff,
    identity_verdict,
    migration_outcome,
    rewrite_disk_sources,
)

RECORDED = (Path(__file__).parents[2] / "data" / "domain_libvirt_9_0_inactive.xml").read_text()
IDENTITY = {
    "wwid": "naa.{{ '6001405aaaa' }}",
    "unit_serial": "LAB0001",
    "vendor": "LUNSHIFT",
    "model": "LABVOL",
    "size_bytes": 67108864,
    "logical_block_bytes": 512,
    "physical_block_bytes": 4096,
}
VARIABLES: dict[str, t.Any] = {
    "xml": "{{ lookup('ansible.builtin.file', xml_path) }}",
    "portal": "[fd00:78::2]:3260",
    "device_path": {
        "1c2d3e4f-0000-4000-8000-000000000002": "/dev/{{ 'sdy' }}",
        "58a84f6d-3f0c-4e19-a0af-eb657b790657": {
            "driver_volume_type": "iscsi",
            "data": {
                "target_portal": "{{ portal }}",
                "target_iqn": "iqn.2026-11.lab.lunshift:hostb",
                "target_lun": 101,
                "auth_method": "CHAP",
                "auth_username": "user-b",
                "auth_password": "planted-chap",
            },
            "libvirt": {"secret_usage": "chap-b"},
        },
    },
    "overrides": {"sdb": "/dev/{{ 'sdx' }}"},
    "listen": {"vnc": "{{ '10.78.0' ~ '.12' }}", "spice": None},
    "here": {"v1": IDENTITY, "v2": None},
    "there": {"v1": IDENTITY, "v2": None},
    "luns": [{**IDENTITY, "paths": [{"iqn": "iqn.2026-11.a:a", "lun": 1, "node": "sda"}], "multipath": None}],
    "running": {"exists": True, "name": "web1", "uuid": "u", "state": {"state": "running", "reason": "booted"}, "job": {"active": False}},
    "absent": {"exists": False},
    "no_answer": {"unreachable": True, "msg": "no route to host"},
}
REWRITE = "xml | lunshift.migration.rewrite_disk_sources(device_path, graphics_listen_addrs=listen, overrides=overrides)"
EXPRESSIONS = {
    "rewritten": REWRITE,
    "unmapped": "xml | lunshift.migration.rewrite_disk_sources({})",
    "not_text": "42 | lunshift.migration.rewrite_disk_sources({})",
    "diff": f"xml | lunshift.migration.disk_sources_diff({REWRITE}, 'hosta', after_header='hostb')",
    "no_diff": "xml | lunshift.migration.disk_sources_diff(xml)",
    "verdict": "here | lunshift.migration.identity_verdict(there, source_luns=luns, destination_luns=luns)",
    "accepted": "here | lunshift.migration.identity_verdict(there, accepted=['v2'])",
    "stayed": "running | lunshift.migration.migration_outcome(absent)",
    "unknown": "running | lunshift.migration.migration_outcome(no_answer)",
}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, t.Any]:
    """What each expression gave: its value under C(value), or what Ansible said under C(msg)."""
    folder = tmp_path_factory.mktemp("play")
    (folder / "domain.xml").write_text(RECORDED)
    tasks: list[dict[str, t.Any]] = [
        {"name": name, "ansible.builtin.set_fact": {"value": "{{ " + expression + " }}"}, "register": f"seen_{name}", "ignore_errors": True}
        for name, expression in EXPRESSIONS.items()
    ]
    everything = "{{ {" + ", ".join(f"'{name}': seen_{name}" for name in EXPRESSIONS) + "} | to_json }}"
    tasks.append({"name": "Write", "ansible.builtin.copy": {"content": everything, "dest": str(folder / "seen.json"), "mode": "0600"}})
    variables = {**VARIABLES, "xml_path": str(folder / "domain.xml"), "ansible_python_interpreter": sys.executable}
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": tasks}]
    (folder / "play.yml").write_text(json.dumps(play))
    command = [sys.executable, "-m", "ansible", "playbook", str(folder / "play.yml"), "-i", "localhost,"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return t.cast("dict[str, t.Any]", json.loads((folder / "seen.json").read_text()))


def value(seen: dict[str, t.Any], name: str) -> t.Any:
    return seen[name]["ansible_facts"]["value"]


def test_rewriting_in_a_play(seen: dict[str, t.Any]) -> None:
    result = value(seen, "rewritten")
    for part in ('<host name="fd00:78::2" port="3260"/>', '<source dev="/dev/sdy"/>', '<source dev="/dev/sdx">', 'listen="10.78.0.12"'):
        assert part in result
    assert "planted-chap" not in result


def test_error_has_its_id_and_names_every_disk(seen: dict[str, t.Any]) -> None:
    message = seen["unmapped"]["msg"]
    assert "unmapped_disks" in message
    assert all(f"disk {target} " in message for target in ("sdb", "vdb", "vdc"))


def test_input_of_another_type(seen: dict[str, t.Any]) -> None:
    assert "the input has to be a str" in seen["not_text"]["msg"]


def test_diff_in_a_play(seen: dict[str, t.Any]) -> None:
    result = value(seen, "diff")
    assert result.startswith("--- hosta\n+++ hostb\n")
    assert '+      <source dev="/dev/sdy"/>' in result
    assert "plantvnc" not in result
    assert value(seen, "no_diff") == ""


def test_verdict_in_a_play(seen: dict[str, t.Any]) -> None:
    result = value(seen, "verdict")
    assert {name: volume["verdict"] for name, volume in result["volumes"].items()} == {"v1": "proven", "v2": "unproven"}
    assert result["error_id"] == "identity_unproven"
    assert value(seen, "accepted")["volumes"]["v2"]["verdict"] == "accepted"


def test_outcome_in_a_play(seen: dict[str, t.Any]) -> None:
    assert value(seen, "stayed")["outcome"] == "stayed"
    assert value(seen, "stayed")["permits"]["undo_destination"] is True
    assert value(seen, "unknown")["outcome"] == "unknown"


# --- what needs no play


def test_result_is_plain_text() -> None:
    function = rewrite_disk_sources.FilterModule().filters()["rewrite_disk_sources"]
    device_map = {"1c2d3e4f-0000-4000-8000-000000000002": "/dev/sdy", "58a84f6d-3f0c-4e19-a0af-eb657b790657": "/dev/sdz"}
    result = function(RECORDED, device_map, overrides={"sdb": "/dev/sdx"})
    assert result.__class__ is str, "no subclass of Ansible's or lxml's"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((RECORDED, [1]), "map has to be a dict"),
        ((RECORDED, {}, "vnc"), "graphics_listen_addrs has to be a dict"),
        ((RECORDED, {}, {}, ["vdb"]), "overrides has to be a dict"),
        (("<domain", {}), "invalid_xml"),
    ],
)
def test_rewriting_tells_wrong_types(arguments: tuple[t.Any, ...], told: str) -> None:
    with pytest.raises(AnsibleFilterError, match=told):
        rewrite_disk_sources.FilterModule().filters()["rewrite_disk_sources"](*arguments)


@pytest.mark.parametrize("arguments", [("x", {}), ({}, []), ({}, {}, "v1")])
def test_verdict_tells_wrong_types(arguments: tuple[t.Any, ...]) -> None:
    with pytest.raises(AnsibleFilterError, match="invalid_input"):
        identity_verdict.FilterModule().filters()["identity_verdict"](*arguments)


def test_outcome_of_hosts_that_said_nothing() -> None:
    assert migration_outcome.FilterModule().filters()["migration_outcome"](None, None)["outcome"] == "unknown"


def test_diff_of_broken_xml() -> None:
    with pytest.raises(AnsibleFilterError, match="invalid_xml"):
        disk_sources_diff.FilterModule().filters()["disk_sources_diff"]("<a/>", RECORDED)
