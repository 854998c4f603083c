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
from ansible_collections.lunshift.migration.plugins.module_utils import _leased_job
from ansible_collections.lunshift.migration.plugins.modules import job_lease

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., dict[str, t.Any]]:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(_leased_job, "JOBS", tmp_path / "run" / "jobs")

    def call(*, check_mode: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
        with patch_module_args({**arguments, "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            job_lease.main()
        return json.loads(capfd.readouterr().out)

    return call


def test_no_job(run: t.Callable[..., dict[str, t.Any]]) -> None:
    answer = run(operation_id="web1")
    assert set(answer) - {"invocation"} == {*yaml.safe_load(job_lease.RETURN), "changed"}
    assert (answer["running"], answer["progress"], answer["changed"]) == (False, {}, False)


@pytest.mark.parametrize(("options", "renewed"), [({}, True), ({"renew": False}, False), ({"check_mode": True}, False)])
def test_the_lease_is_renewed_when_asked(run: t.Callable[..., dict[str, t.Any]], options: dict[str, t.Any], renewed: bool) -> None:
    with _leased_job.JobDirectory("web1") as directory:
        directory.write_progress({"percent": 7})
        os.utime(directory.lease_path, (1, 1))
        answer = run(operation_id="web1", **options)
        assert (answer["running"], answer["progress"]) == (True, {"percent": 7})
        assert (directory.lease_path.stat().st_mtime > 1) is renewed
