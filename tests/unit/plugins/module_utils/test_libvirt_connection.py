# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib
import threading
import time

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import (
    LibvirtError,
    bounded,
    load_api,
    open_connection,
)
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import SOURCE, FakeLibvirt
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import LibvirtError as RawError


@pytest.fixture
def api() -> FakeLibvirt:
    return FakeLibvirt()


def test_a_daemon_that_hangs_is_given_up_in_time(api: FakeLibvirt) -> None:
    api.open = lambda uri: threading.Event().wait(3600)
    began = time.monotonic()
    with pytest.raises(MigrationError, match=r"libvirt at qemu:///system .* did not answer within 0\.05 s") as caught:
        open_connection(SOURCE, 0.05, api=api)
    assert caught.value.error_id == "libvirt_unreachable"
    assert time.monotonic() - began < 2


def test_a_call_that_hangs_is_given_up_in_time(api: FakeLibvirt) -> None:
    connection = open_connection(SOURCE, 0.05, api=api)
    with pytest.raises(MigrationError) as caught:
        connection.call(threading.Event().wait, 3600)
    assert caught.value.error_id == "libvirt_unreachable"


def test_a_refused_connection_says_where_and_what_to_check(api: FakeLibvirt) -> None:
    api.unreachable = {SOURCE}
    with pytest.raises(MigrationError, match=r"libvirt at qemu:///system .* cannot be reached: .* Check that its daemon runs") as caught:
        open_connection(SOURCE, 1, api=api, watch=True)
    assert caught.value.error_id == "libvirt_unreachable"


def test_libvirts_errors_keep_their_code(api: FakeLibvirt) -> None:
    connection = open_connection(SOURCE, 1, api=api, watch=True)

    def refuse() -> None:
        raise RawError("Secret not found", 66, 20)

    with pytest.raises(LibvirtError) as caught:
        connection.call(refuse)
    assert caught.value.error_id == "libvirt_error"
    assert caught.value.details == {"libvirt": {"message": "Secret not found", "code": 66, "domain": 20}}


def test_a_domain_that_is_not_there_is_none(api: FakeLibvirt) -> None:
    connection = open_connection(SOURCE, 1, api=api)
    assert connection.find("other", None) is None
    assert connection.find(None, "11111111-2222-4333-8444-555555555555") is api.domain
    assert connection.find("web1", None) is api.domain


def test_another_error_of_a_lookup_is_no_absence(api: FakeLibvirt) -> None:
    connection = open_connection(SOURCE, 1, api=api)

    def fail(_name: str) -> None:
        raise RawError("client socket is closed", 1)

    connection.handle.lookupByName = fail
    with pytest.raises(LibvirtError, match="client socket is closed"):
        connection.find("web1", None)


def test_closing_never_hangs_nor_fails(api: FakeLibvirt, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = open_connection(SOURCE, 1, api=api)
    monkeypatch.setattr(f"{bounded.__module__}.CLOSE_TIMEOUT_S", 0.05)
    connection.handle.close = lambda: threading.Event().wait(3600)
    connection.close()


def test_a_missing_binding_names_interpreter_and_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_name: str) -> None:
        raise ImportError("No module named 'libvirt'")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(MigrationError, match=r"cannot import libvirt .* python3-libvirt") as caught:
        load_api()
    assert caught.value.error_id == "missing_library"


def test_bounded_hands_other_errors_on() -> None:
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 // 0, 1, "x")
