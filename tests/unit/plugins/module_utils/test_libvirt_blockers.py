# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.blockers import DomainFacts, blockers, cautions
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.names import domain_state, job_operation, version
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import domain_xml

RUNNING = domain_state(1, 1)
NETWORK_DISK = """<disk type='network' device='disk'><driver name='qemu' type='raw'{cache}/>
<source protocol='iscsi' name='iqn.2026-11.x:a/1'/>
<target dev='vda'/></disk>"""


def facts(**changes: t.Any) -> DomainFacts:
    return DomainFacts(**{"name": "web1", "state": RUNNING, "libvirt_version": 9000000, **changes})


def ids(xml: str, **changes: t.Any) -> list[str]:
    return [blocker["id"] for blocker in blockers(facts(**changes), xml)]


def test_a_plain_running_domain_has_none() -> None:
    assert ids(domain_xml()) == []
    assert ids(domain_xml(), state=domain_state(3, 1)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": domain_state(5, 1)}, "not_running"),
        ({"state": domain_state(6, 1)}, "not_running"),
        ({"job_operation": "migration_out"}, "job_running"),
        ({"managed_save": True}, "managed_save"),
        ({"snapshots": 2}, "snapshots"),
        ({"checkpoints": 1}, "checkpoints"),
        ({"block_jobs": ("vda",)}, "block_job"),
    ],
)
def test_what_libvirt_knows_beside_the_xml(changes: dict[str, t.Any], expected: str) -> None:
    assert ids(domain_xml(), **changes) == [expected]


@pytest.mark.parametrize(
    ("devices", "top", "expected"),
    [
        ("<disk type='file' device='disk'><source file='/x'/><target dev='vdb'/><transient/></disk>", "", "transient_disk"),
        (
            "<disk type='block' device='lun'><driver cache='none'/><source dev='/dev/x'/><target dev='sda'/></disk>",
            "",
            "persistent_reservations",
        ),
        (
            "<disk type='block' device='disk'><driver cache='none'/><source dev='/dev/x'><reservations managed='yes'/></source></disk>",
            "",
            "persistent_reservations",
        ),
        ("<hostdev mode='subsystem' type='pci'/>", "", "host_device"),
        ("<hostdev mode='capabilities' type='net'/>", "", "host_device"),
        ("<interface type='hostdev'/>", "", "host_device"),
        ("<shmem name='s'><model type='ivshmem-plain'/></shmem>", "", "shared_memory"),
        ("<shmem name='s' role='master'><model type='ivshmem'/></shmem>", "", "shared_memory"),
        ("<filesystem type='mount'><driver type='virtiofs'/><source dir='/x'/></filesystem>", "", "filesystem"),
        ("", "<launchSecurity type='sev'/>", "launch_security"),
        ("", "<cpu><feature policy='require' name='invtsc'/></cpu>", "invtsc"),
        ("", "<metadata><i:instance xmlns:i='http://openstack.org/xmlns/libvirt/nova/1.1'/></metadata>", "nova_managed"),
    ],
)
def test_what_the_xml_shows(devices: str, top: str, expected: str) -> None:
    assert ids(domain_xml(devices=devices, top=top)) == [expected]


@pytest.mark.parametrize(
    ("devices", "top"),
    [
        ("<hostdev mode='subsystem' type='usb'/>", ""),
        ("<interface type='hostdev'><teaming type='transient' persistent='ua-net0'/></interface>", ""),
        ("<shmem name='s' role='master'><model type='ivshmem-plain'/></shmem>", ""),
        ("<filesystem type='mount'><driver type='virtiofs'/><source socket='/x'/></filesystem>", ""),
        ("<disk type='block' device='cdrom'><target dev='sdb'/></disk>", ""),
        ("", "<cpu><feature policy='require' name='invtsc'/></cpu><clock><timer name='tsc' frequency='1'/></clock>"),
        ("", "<metadata><x:note xmlns:x='http://example.org/'>nova</x:note></metadata>"),
    ],
)
def test_what_only_looks_like_one(devices: str, top: str) -> None:
    assert ids(domain_xml(devices=devices, top=top)) == []


def test_virtiofs_is_left_to_a_libvirt_that_can_judge_it() -> None:
    devices = "<filesystem type='mount'><driver type='virtiofs'/><source dir='/x'/></filesystem>"
    assert ids(domain_xml(devices=devices), libvirt_version=10008000) == []


@pytest.mark.parametrize(
    ("cache", "block", "network"),
    [
        ("none", [], []),
        ("directsync", [], []),
        ("writeback", ["unsafe_cache"], ["unsafe_cache"]),
        ("writethrough", ["unsafe_cache"], ["unsafe_cache"]),
        ("unsafe", ["unsafe_cache"], ["unsafe_cache"]),
        # A kernel device without a cache mode goes through the page cache; QEMU's own initiator has none.
        (None, ["unsafe_cache"], []),
        ("default", ["unsafe_cache"], []),
    ],
)
def test_cache_modes(cache: str | None, block: list[str], network: list[str]) -> None:
    attribute = f" cache='{cache}'" if cache else ""
    block_disk = f"<disk type='block'><driver name='qemu'{attribute}/><source dev='/dev/x'/><target dev='vda'/></disk>"
    assert ids(domain_xml(disk=block_disk)) == block
    assert ids(domain_xml(disk=NETWORK_DISK.format(cache=attribute))) == network


def test_all_at_once_with_cause_and_remedy() -> None:
    found = blockers(facts(snapshots=1, block_jobs=("vda", "vdb")), domain_xml(devices="<hostdev type='mdev'/>"))
    assert [blocker["id"] for blocker in found] == ["snapshots", "block_job", "block_job", "host_device"]
    assert "virsh blockjob web1 vdb --abort" in found[2]["message"]


def test_a_disk_that_would_not_pause_the_guest_is_a_caution() -> None:
    assert cautions(facts(), domain_xml()) == []
    found = cautions(facts(), domain_xml(disk=NETWORK_DISK.format(cache="")))
    assert [caution["id"] for caution in found] == ["error_policy"]
    assert "Set <driver error_policy='stop'/>" in found[0]["message"]
    assert cautions(facts(), domain_xml(disk=NETWORK_DISK.format(cache="").replace("<target", "<readonly/><target"))) == []


def test_numbers_of_a_newer_libvirt_stay_readable() -> None:
    assert str(domain_state(99, 7)) == "unknown_99 (unknown_7)"
    assert domain_state(3, 2).to_dict() == {"state": "paused", "reason": "migration", "code": 3, "reason_code": 2}
    assert job_operation(77) == "unknown_77"
    assert version(9000000) == "9.0.0"
    assert version(10008003) == "10.8.3"
