# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt import connection
from ansible_collections.lunshift.migration.plugins.modules import migration_host_info, migration_path_info
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import DESTINATION, SOURCE, FakeLibvirt, LibvirtError, domain_xml

Answer = dict[str, t.Any]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeLibvirt:
    fake = FakeLibvirt()
    monkeypatch.setattr(connection, "load_api", lambda: fake)
    return fake


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> t.Callable[..., Answer]:
    def call(module: t.Any, **arguments: t.Any) -> Answer:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        return json.loads(capfd.readouterr().out)

    return call


def test_host_returns_what_is_documented(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    handle = api.hosts[SOURCE]
    handle.getDomainCapabilities = lambda *arguments: "<x/>"  # type: ignore[attr-defined]
    answer = run(migration_host_info, domain_xml=domain_xml())
    documented = yaml.safe_load(migration_host_info.RETURN)
    assert set(answer) - {"invocation"} == {*documented, "changed"}
    assert answer["changed"] is False
    for name in ("host", "fit"):
        assert set(answer[name]) == set(documented[name]["contains"])
    assert run(migration_host_info)["fit"] is None


def test_path_returns_what_is_documented(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    answer = run(migration_path_info, name="web1", destination_uri=DESTINATION, data_host="192.0.2.1", port_timeout=0)
    documented = yaml.safe_load(migration_path_info.RETURN)
    assert set(answer) - {"invocation"} == {*documented, "changed"}
    assert answer["changed"] is False
    for name in ("control", "data"):
        assert set(answer[name]) == set(documented[name]["contains"])
    assert (answer["control"]["reached"], answer["control"]["domain"]["exists"]) == (True, False)
    assert answer["dirty_rate"] is None


def test_path_to_a_daemon_that_refuses(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    api.unreachable.add(DESTINATION)
    control = run(migration_path_info, name="web1", destination_uri=DESTINATION)["control"]
    assert (control["reached"], control["hangs"]) == (False, False)
    assert "unable to connect" in control["problem"]


def test_path_measures_the_guest(api: FakeLibvirt, run: t.Callable[..., Answer]) -> None:
    def refuse(_seconds: int, _flags: int) -> None:
        raise LibvirtError("not supported", 3)

    api.domain.startDirtyRateCalc = refuse  # type: ignore[attr-defined]
    assert "not supported" in run(migration_path_info, name="web1", destination_uri=DESTINATION, dirty_rate_s=1)["dirty_rate"]["problem"]
    api.domain.current_state = [5, 1]
    assert run(migration_path_info, name="web1", destination_uri=DESTINATION, dirty_rate_s=1)["dirty_rate"] is None
