# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import typing as t

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lunshift.migration.plugins.modules import iscsi_volume
from ansible_collections.lunshift.migration.tests.unit.fake_host import Bench, identity, volume


def run_module(capsys: pytest.CaptureFixture[str], **args: t.Any) -> dict[str, t.Any]:
    """The module as Ansible runs it: arguments in, JSON out."""
    with patch_module_args(args), pytest.raises(SystemExit):
        iscsi_volume.main()
    result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture
def bench(tmp_path: t.Any, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench(tmp_path)
    bench.host.add_target((1, identity(1)), (2, identity(2)), password="planted-secret")
    monkeypatch.setattr(iscsi_volume, "Host", lambda: bench.host)
    monkeypatch.setattr(
        iscsi_volume, "Call", lambda **kwargs: bench.call(kwargs["check_mode"], kwargs["operation_id"], kwargs["timeout_s"])
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return bench


def wanted() -> list[dict[str, t.Any]]:
    volumes = [volume("vol1", 1, password="planted-secret"), volume("vol2", 2, password="planted-secret")]
    return [{key: value for key, value in one.items() if value is not None} for one in volumes]


def test_attached_and_detached(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    result = run_module(capsys, volumes=wanted(), operation_id="op1", _ansible_diff=True)
    assert result["changed"]
    assert bench.host.disks() == ["sda", "sdb"]
    assert result["diff"]["after"] == {"vol1": "attached", "vol2": "attached"}
    assert not run_module(capsys, volumes=wanted(), operation_id="op1")["changed"]
    assert run_module(capsys, state="detached", volumes=wanted())["changed"]
    assert bench.host.clean()
    assert not run_module(capsys, state="detached", volumes=wanted())["changed"]


def test_restored(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    run_module(capsys, volumes=wanted(), operation_id="op1")
    assert run_module(capsys, state="restored", operation_id="op1", _ansible_check_mode=True)["changed"]
    assert bench.host.disks() == ["sda", "sdb"]
    assert run_module(capsys, state="restored", operation_id="op1")["changed"]
    assert bench.host.clean()
    assert not run_module(capsys, state="restored", operation_id="op1")["changed"]


def test_every_key_of_the_result_is_documented(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    returned = yaml.safe_load(iscsi_volume.RETURN)
    result = run_module(capsys, volumes=wanted(), _ansible_check_mode=True)
    assert set(result) - {"changed", "diff", "invocation", "warnings"} == {
        key for key in returned if "success" in returned[key]["returned"]
    }
    result = run_module(capsys, volumes=wanted())
    described = returned["volumes"]["contains"]
    assert all(set(one) == set(described) for one in result["volumes"].values())
    assert set(result["volumes"]["vol1"]["identity"]) == set(described["identity"]["contains"])
    failure = run_module(capsys, volumes=[{**wanted()[0], "expected_identity": identity(9).to_dict()}])
    assert failure["error_id"] == "identity_mismatch"
    assert set(failure["table"][0]) == set(returned["table"]["contains"])
    assert set(failure) - {"changed", "msg", "failed", "invocation", "warnings", "exception"} <= set(returned)


def test_no_secret_leaves_the_module(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    everything = [run_module(capsys, volumes=wanted(), operation_id="op1"), run_module(capsys, state="detached", volumes=wanted())]
    bench.host.targets[next(iter(bench.host.targets))].password = "other-password"
    everything.append(run_module(capsys, volumes=wanted()))
    assert everything[-1]["error_id"] == "attach_failed"
    assert "planted-secret" not in json.dumps([everything, bench.host.commands])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"state": "restored"}, "operation_id"),
        ({"volumes": [{"serial": "vol1", "connection_info": {}}]}, "driver_volume_type"),
        ({"volumes": wanted(), "operation_id": "../etc"}, "operation_id"),
        ({"volumes": wanted(), "timeout": 0}, "timeout"),
    ],
)
def test_input_that_cannot_be_used(bench: Bench, capsys: pytest.CaptureFixture[str], args: dict[str, t.Any], message: str) -> None:
    result = run_module(capsys, **args)
    assert result["failed"]
    assert message in result["msg"]
    assert bench.host.steps == []


def test_only_root_may(bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = run_module(capsys, volumes=wanted())
    assert (result["error_id"], result["msg"]) == ("not_root", "only root can attach and detach volumes; set become: true")


def test_documented_options_are_the_real_ones() -> None:
    options = yaml.safe_load(iscsi_volume.DOCUMENTATION)["options"]
    spec = iscsi_volume.argument_spec()
    assert set(options) == set(spec)
    assert set(options["volumes"]["suboptions"]) == set(spec["volumes"]["options"])
