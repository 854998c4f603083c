# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""volume_info and volume_migration_record as Ansible runs them, on raw files."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lunshift.migration.plugins.module_utils import _leased_job
from ansible_collections.lunshift.migration.plugins.module_utils._volume import migration_record
from ansible_collections.lunshift.migration.plugins.modules import volume_info, volume_migration_record

SECRET = "correct-horse-battery"
ISCSI = {
    "driver_volume_type": "iscsi",
    "data": {
        "target_portal": "192.0.2.1:3260",
        "target_iqn": "iqn.2026-11.org.example:a",
        "target_lun": 1,
        "auth_method": "CHAP",
        "auth_username": "u",
        "auth_password": SECRET,
    },
}
Run = t.Callable[..., dict[str, t.Any]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(migration_record, "RECORDS", tmp_path / "volumes")
    monkeypatch.setattr(_leased_job, "JOBS", tmp_path / "jobs")
    monkeypatch.setattr(_leased_job, "RESULTS", tmp_path / "results")

    def call(module: t.Any, *, check_mode: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        with patch_module_args({**arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            module.main()
        return json.loads(capfd.readouterr().out)

    return call


def documented(module: t.Any) -> set[str]:
    returns = yaml.safe_load(module.RETURN)
    return {name for name, details in returns.items() if details["returned"] == "success"}


def test_a_volume_tells_what_it_is(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "volume.raw"
    path.write_bytes(bytes(1 << 20))
    info = {"driver_volume_type": "local", "data": {"device_path": str(path), "auth_password": SECRET}}
    answer = run(volume_info, connection_info=info)
    assert set(answer) - {"invocation", "changed"} == documented(volume_info) and not answer["changed"]
    assert (answer["facts"]["name"], answer["facts"]["size_bytes"], answer["users"]) == (str(path), 1 << 20, [])
    assert set(answer["facts"]) == set(yaml.safe_load(volume_info.RETURN)["facts"]["contains"])
    assert answer["connection_info"]["data"] == {"device_path": str(path)} and SECRET not in json.dumps(answer)


def test_a_volume_that_is_not_there_is_a_failure(run: Run, tmp_path: Path) -> None:
    answer = run(volume_info, connection_info={"driver_volume_type": "local", "data": {"device_path": str(tmp_path / "none")}})
    assert answer["failed"] and answer["error_id"] == "volume_unusable"


def test_a_note_holds_no_secret(run: Run, tmp_path: Path) -> None:
    begun = run(volume_migration_record, operation_id="m1", source=ISCSI, source_identity="lun-1")
    assert begun["changed"] and set(begun) - {"invocation", "changed", "diff"} == documented(volume_migration_record)
    assert set(begun["record"]) == set(yaml.safe_load(volume_migration_record.RETURN)["record"]["contains"])
    noted = run(volume_migration_record, operation_id="m1", target=ISCSI, target_origin="unknown")
    again = run(volume_migration_record, operation_id="m1")
    assert noted["changed"] and not again["changed"] and again["record"]["target"]["data"]["target_lun"] == 1
    assert again["unfinished"]
    for text in (json.dumps([begun, noted, again]), (tmp_path / "volumes" / "m1.json").read_text(encoding="utf-8")):
        assert SECRET not in text


def test_the_note_goes_with_results_that_nobody_read(run: Run, tmp_path: Path) -> None:
    run(volume_migration_record, operation_id="m1", source=ISCSI, source_identity="lun-1")
    (tmp_path / "results").mkdir()
    left = _leased_job.result_path("m1", "a" * 32)
    left.write_text("{}", encoding="ascii")
    assert run(volume_migration_record, operation_id="m1", state="absent", check_mode=True)["changed"] and left.exists()
    gone = run(volume_migration_record, operation_id="m1", state="absent")
    assert gone["changed"] and gone["record"] is None and not left.exists()
    assert not run(volume_migration_record, operation_id="m1", state="absent")["changed"]


def test_a_refusal_names_its_reasons(run: Run) -> None:
    run(volume_migration_record, operation_id="m1", source=ISCSI, source_identity="lun-1")
    answer = run(volume_migration_record, operation_id="m1", phase="committing")
    assert answer["failed"] and answer["error_id"] == "volume_migration_unfinished" and answer["problems"]
