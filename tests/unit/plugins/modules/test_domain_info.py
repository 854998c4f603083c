# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import threading
import typing as t

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt import connection
from ansible_collections.lunshift.migration.plugins.module_utils._migration import switchover
from ansible_collections.lunshift.migration.plugins.modules import domain_info
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import SOURCE, FakeLibvirt

if t.TYPE_CHECKING:
    from pathlib import Path

Answer = dict[str, t.Any]
UUID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLibvirt:
    fake = FakeLibvirt()
    monkeypatch.setattr(switchover, "NOTES", tmp_path / "switchovers")
    monkeypatch.setattr(connection, "load_api", lambda: fake)
    return fake


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> t.Callable[..., Answer]:
    def call(**arguments: t.Any) -> Answer:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            domain_info.main()
        return json.loads(capfd.readouterr().out)

    return call


def test_every_documented_value_is_returned_and_no_other(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    answer = run(name="web1")
    documented = yaml.safe_load(domain_info.RETURN)
    assert set(answer) - {"invocation"} == {*documented, "changed"}
    assert answer["changed"] is False
    for name in ("state", "job", "host"):
        assert set(answer[name]) == set(documented[name]["contains"])


def test_a_domain_that_is_not_there_is_an_answer(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    answer = run(uuid="99999999-2222-4333-8444-555555555555")
    assert (answer["exists"], answer["changed"]) == (False, False)
    assert "failed" not in answer


def test_what_a_migration_left_pending_is_told_even_when_the_domain_has_gone(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    assert run(name="web1")["switchover"] is None
    switchover.write_note(switchover.Note(UUID, "web1", "guarded", True, False, "qemu+tcp://hostb/system"))
    documented = yaml.safe_load(domain_info.RETURN)["switchover"]["contains"]
    assert set(run(name="web1")["switchover"]) == set(documented)
    api.hosts[SOURCE].domains = []
    for arguments in ({"name": "web1"}, {"uuid": UUID}):
        answer = run(**arguments)
        assert (answer["exists"], answer["switchover"]) == (False, {"mode": "guarded", "resume": True, "uuid": UUID, "suspect": False})
    assert run(name="web2")["switchover"] is None


def test_a_note_that_cannot_be_read_is_not_taken_for_none(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    switchover.NOTES.mkdir()
    (switchover.NOTES / f"{UUID}.json").write_text("{}")
    assert run(name="web1")["error_id"] == "switchover_note"


def test_files_that_this_host_lacks(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    assert run(name="web1", wanted_files=["/", "/no/such/file"])["missing_files"] == ["/no/such/file"]


def test_a_hung_daemon_ends_within_the_timeout(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    api.open = lambda uri: threading.Event().wait(3600)
    answer = run(name="web1", timeout=1)
    assert (answer["failed"], answer["error_id"]) == (True, "libvirt_unreachable")


def test_a_daemon_that_hangs_while_it_is_read(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    api.hosts[SOURCE].getCapabilities = lambda: threading.Event().wait(3600)
    assert run(name="web1", timeout=1)["error_id"] == "libvirt_unreachable"


@pytest.mark.parametrize("arguments", [{}, {"name": "web1", "uuid": "x"}])
def test_name_or_uuid(api: FakeLibvirt, run: t.Callable[..., Answer], arguments: Answer) -> None:
    assert run(**arguments)["failed"] is True


def test_no_secret_in_any_output(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    assert "topsecret" not in json.dumps(run(name="web1"))
