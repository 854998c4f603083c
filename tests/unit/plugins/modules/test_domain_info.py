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
from ansible_collections.lunshift.migration.plugins.modules import domain_info
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import SOURCE, FakeLibvirt

Answer = dict[str, t.Any]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeLibvirt:
    fake = FakeLibvirt()
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
