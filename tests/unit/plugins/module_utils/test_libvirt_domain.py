# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection, open_connection
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.domain import (
    describe,
    graphics_listen_addresses,
    other_users,
    read_job,
)
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.postcopy import postcopy_problem
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import SOURCE, SOURCE_PATH, FakeLibvirt, LibvirtError, domain_xml

if t.TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def api() -> FakeLibvirt:
    return FakeLibvirt()


@pytest.fixture
def connection(api: FakeLibvirt) -> Connection:
    return open_connection(SOURCE, 1, api=api)


def test_what_domain_info_tells(connection: Connection) -> None:
    told = describe(connection, "web1", None)
    assert told["exists"] is True
    assert told["state"] == {"state": "running", "reason": "booted", "code": 1, "reason_code": 1}
    assert told["job"]["active"] is False
    assert told["blockers"] == []
    assert told["graphics_listen_addrs"] == {"vnc": "192.0.2.11"}
    assert told["host"] == {"hostname": "hosta", "uuid": "0000-a", "libvirt_version": "9.0.0", "hypervisor_version": "7.2.22"}
    assert [(disk["target"], disk["serial"], disk["source"]) for disk in told["disks"]] == [("vda", "s-1", SOURCE_PATH)]


def test_no_secret_leaves_the_host(connection: Connection) -> None:
    assert "topsecret" not in str(describe(connection, "web1", None))


def test_the_stored_definition_is_told_beside_the_live_one(api: FakeLibvirt, connection: Connection) -> None:
    api.domain.inactive_xml = domain_xml(source="/dev/next-boot")
    told = describe(connection, "web1", None)
    assert "/dev/next-boot" in told["inactive_xml"]
    assert "/dev/next-boot" not in told["xml"]
    api.domain.persistent = False
    assert describe(connection, "web1", None)["inactive_xml"] is None


def test_a_domain_that_is_not_there(connection: Connection) -> None:
    told = describe(connection, "other", None)
    assert (told["exists"], told["name"], told["state"]) == (False, "other", None)


def test_a_domain_that_goes_away_while_it_is_read(api: FakeLibvirt, connection: Connection) -> None:
    def gone(_flags: int) -> t.NoReturn:
        raise LibvirtError("Domain not found", api.VIR_ERR_NO_DOMAIN)

    api.domain.XMLDesc = gone
    assert describe(connection, "web1", None)["exists"] is False


def test_blockers_of_all_kinds_come_together(api: FakeLibvirt, connection: Connection) -> None:
    api.domain.block_jobs = {"vda"}
    api.domain.snapshots = 1
    api.domain.job = {"type": 2, "operation": 5}
    api.domain.xml = domain_xml(devices="<disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='vdb'/></disk>")
    found = describe(connection, "web1", None)["blockers"]
    assert {"job_running", "snapshots", "block_job"} < {blocker["id"] for blocker in found}
    assert any("vdb" in blocker["message"] for blocker in found)


def test_calls_that_a_driver_lacks_find_nothing(api: FakeLibvirt, connection: Connection) -> None:
    def unsupported() -> t.NoReturn:
        raise LibvirtError("this function is not supported by the connection driver", api.VIR_ERR_NO_SUPPORT)

    api.domain.listAllCheckpoints = api.domain.hasManagedSaveImage = api.domain.jobStats = unsupported
    api.hosts[SOURCE].listAllSecrets = unsupported
    told = describe(connection, "web1", None)
    assert told["blockers"] == []
    assert told["job"]["active"] is False
    assert told["secrets"] is None


def test_disks_with_io_errors_are_told_and_a_caution(api: FakeLibvirt, connection: Connection) -> None:
    assert describe(connection, "web1", None)["disk_errors"] == {}
    api.domain.disk_errors = {"vdb": 2, "vda": 1, "vdc": 0, "vdd": 7}
    told = describe(connection, "web1", None)
    assert told["disk_errors"] == {"vda": "unspecified", "vdb": "no space", "vdd": "error 7"}
    assert [caution["message"].split()[1] for caution in told["cautions"] if caution["id"] == "disk_error"] == ["vda", "vdb", "vdd"]


def test_disk_errors_are_not_asked_while_a_job_runs(api: FakeLibvirt, connection: Connection) -> None:
    api.domain.disk_errors = {"vda": 1}
    api.domain.job = {"type": 2, "operation": 5}
    assert describe(connection, "web1", None)["disk_errors"] == {}


@pytest.mark.parametrize("code", [3, 55])
def test_a_domain_without_an_answer_about_its_disks(api: FakeLibvirt, connection: Connection, code: int) -> None:
    def refused() -> t.NoReturn:
        raise LibvirtError("domain is not running", code)

    api.domain.diskErrors = refused
    assert describe(connection, "web1", None)["disk_errors"] == {}


def test_the_names_of_the_secrets_are_told(connection: Connection) -> None:
    named = [{"uuid": "22222222-2222-4333-8444-555555555555", "usage_type": "iscsi", "usage": "chap-a"}]
    assert describe(connection, "web1", None)["secrets"] == named
    assert describe(connection, "other", None)["secrets"] == named


def test_files_that_the_destination_has_to_have(api: FakeLibvirt, connection: Connection) -> None:
    cdrom = "<disk type='file' device='cdrom'><source file='{}'{}/><target dev='{}'/></disk>"
    layer = "<disk type='block'><source dev='/dev/sdx'/><backingStore type='file'><source file='/base.img'/></backingStore></disk>"
    api.domain.xml = domain_xml(devices=cdrom.format("/a.iso", "", "sda") + cdrom.format("/b.iso", " startupPolicy='optional'", "sdb"))
    api.domain.inactive_xml = domain_xml(devices=cdrom.format("/next.iso", " startupPolicy='mandatory'", "sda") + layer)
    assert describe(connection, "web1", None)["image_files"] == ["/a.iso", "/base.img", "/next.iso"]


def test_a_job_that_cannot_be_read_counts_as_one(api: FakeLibvirt, connection: Connection) -> None:
    def beginning() -> t.NoReturn:
        raise LibvirtError("migration was active, but no RAM info was set", 1)

    api.domain.jobStats = beginning
    job = read_job(connection, api.domain)
    assert (job["active"], job["operation"]) == (True, "unknown")


def test_listen_addresses_that_are_none() -> None:
    devices = "<graphics type='spice'><listen type='socket' socket='/x'/></graphics><graphics type='sdl'/>"
    assert graphics_listen_addresses(domain_xml(devices=devices)) == {"vnc": "192.0.2.11", "spice": None}


def test_other_domains_that_use_a_volume(api: FakeLibvirt, connection: Connection) -> None:
    assert other_users(connection, [SOURCE_PATH], None) == {SOURCE_PATH: ["web1"]}
    assert other_users(connection, [SOURCE_PATH], api.domain.UUIDString()) == {}
    assert other_users(connection, ["/dev/other"], None) == {}
    layer = "<disk type='block'><source dev='/dev/x'/><backingStore type='block'><source dev='/dev/base'/></backingStore></disk>"
    api.domain.inactive_xml = domain_xml(devices=layer)
    assert other_users(connection, ["/dev/base"], None) == {"/dev/base": ["web1"]}

    def gone(_flags: int) -> t.NoReturn:
        raise LibvirtError("Domain not found", api.VIR_ERR_NO_DOMAIN)

    api.domain.XMLDesc = gone
    assert other_users(connection, [SOURCE_PATH], None) == {}


@pytest.mark.parametrize(("state", "asked"), [([1, 1], True), ([3, 1], True), ([3, 2], False), ([3, 11], False)])
def test_a_domain_that_comes_in_is_not_asked_for_block_jobs(
    api: FakeLibvirt, connection: Connection, state: list[int], asked: bool
) -> None:
    calls: list[str] = []
    api.domain.current_state = state
    api.domain.blockJobInfo = lambda target, _flags: calls.append(target) or {}
    describe(connection, "web1", None)
    assert bool(calls) is asked


@pytest.mark.parametrize(
    ("setting", "device", "libvirt", "qemu", "is_refused"),
    [
        ("0\n", False, 9_000_000, 7_002_022, True),
        ("0\n", True, 9_000_000, 7_002_022, True),
        ("0\n", True, 10_000_000, 8_000_000, True),
        ("0\n", True, 10_001_000, 7_002_022, True),
        ("0\n", False, 11_003_000, 10_000_000, True),
        ("0\n", True, 10_001_000, 8_000_000, False),
        ("1\n", False, 9_000_000, 7_002_022, False),
        (None, False, 9_000_000, 7_002_022, False),
    ],
)
def test_whether_the_kernel_lets_qemu_do_post_copy(
    tmp_path: Path, setting: str | None, device: bool, libvirt: int, qemu: int, is_refused: bool
) -> None:
    (tmp_path / "proc/sys/vm").mkdir(parents=True)
    (tmp_path / "dev").mkdir()
    if setting is not None:
        (tmp_path / "proc/sys/vm/unprivileged_userfaultfd").write_text(setting)
    if device:
        (tmp_path / "dev/userfaultfd").touch()
    problem = postcopy_problem(libvirt, qemu, str(tmp_path))
    assert ("vm.unprivileged_userfaultfd=1" in problem if problem else False) is is_refused
