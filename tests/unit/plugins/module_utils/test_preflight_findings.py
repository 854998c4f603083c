# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import re
import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.blockers import DomainFacts, blockers
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.names import domain_state
from ansible_collections.lunshift.migration.plugins.module_utils._migration.plan import plan
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.expected import expected_xml
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.findings import ITEMS, findings
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.seen import Intent, Seen, halves
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.table import table

UUID = "6c1f3b7e-9f0d-4f53-9d52-0c4ed3a6a001"
SERIAL = "58a84f6d"
GIB_KIB = 1024**2
DISK = (
    "<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none' error_policy='stop'/>"
    "<source protocol='iscsi' name='iqn.2026-11.org.example:hosta/5'><host name='192.0.2.1' port='3260'/></source>"
    f"<target dev='vda' bus='virtio'/><serial>{SERIAL}</serial></disk>"
)
XML = f"<domain type='kvm'><name>web1</name><uuid>{UUID}</uuid><memory unit='KiB'>{GIB_KIB}</memory><devices>{DISK}</devices></domain>"
IDENTITY = {
    "wwid": "naa.600140512345678901234567890abcde",
    "unit_serial": "sn-1",
    "vendor": "LIO",
    "model": "disk",
    "size_bytes": 1 << 30,
    "logical_block_bytes": 512,
    "physical_block_bytes": 4096,
}
OTHER = {**IDENTITY, "wwid": "naa.6001405aaaaaaaaaaaaaaaaaaaaaaaaa", "unit_serial": "sn-2"}
ADDRESS = {
    "driver_volume_type": "iscsi",
    "data": {"target_portal": "192.0.2.2:3260", "target_iqn": "iqn.2026-11.org.example:hostb", "target_lun": 7},
}
NO_LOCKS = {"name": None}
LOCKD = {
    "name": "lockd",
    "runs": True,
    "locks_disks": True,
    "requires_leases": False,
    "file_lockspace_dir": "/leases/ns",
    "scsi_lockspace_dir": None,
}
LEASE = {"lockspace": "ns", "key": "web1", "directory": "/leases", "problem": None}


def host(name: str, **more: t.Any) -> dict[str, t.Any]:
    return {
        "hostname": name,
        "uuid": f"uuid-of-{name}",
        "libvirt_version": "9.0.0",
        "hypervisor_version": "7.2.22",
        "libvirt_number": 9000000,
        "hypervisor_number": 7002022,
        "cpu": {"model": "EPYC", "vendor": "AMD", "features": ["svm"]},
        "time_s": 1000.0,
        "memory_total_kib": 8 * GIB_KIB,
        "memory_available_kib": 4 * GIB_KIB,
        "swap_free_kib": 0,
        "lock_manager": NO_LOCKS,
        "data_channel": {"host": name, "first_port": 49152, "last_port": 49153, "free_ports": [49152, 49153]},
        **more,
    }


FIT = {
    "machine": {"ok": True, "problem": None},
    "cpu": {"ok": True, "problem": None, "mode": "custom", "enforced": True},
    "memory_kib": GIB_KIB,
    "huge_pages": [],
    "networks": {},
    "interfaces": {},
    "addresses": {},
    "files": {},
    "leases": [],
}


def clean() -> dict[str, t.Any]:
    """What is seen when all is well; a test changes a part of it."""
    return copy.deepcopy(
        {
            "source": {
                "exists": True,
                "name": "web1",
                "uuid": UUID,
                "state": {"state": "running", "reason": "booted", "code": 1, "reason_code": 1},
                "job": {"active": False, "operation": None},
                "xml": XML,
                "inactive_xml": XML,
                "blockers": [],
                "cautions": [],
            },
            "destination": {
                "exists": False,
                "name": "web1",
                "uuid": None,
                "state": None,
                "secrets": [],
                "missing_files": [],
                "postcopy_problem": None,
            },
            "source_host": {"host": host("hosta"), "fit": None},
            "destination_host": {"host": host("hostb", time_s=1001.0), "fit": FIT},
            "way": {
                "control": {"reached": True, "as_daemon": True, "hangs": False, "problem": None, "host": host("hostb"), "domain": None},
                "data": {
                    "host": "hostb",
                    "address": "192.0.2.12",
                    "problem": None,
                    "open": [49152, 49153],
                    "blocked": [],
                    "link_mib_per_s": 100,
                },
                "dirty_rate": {"bytes_per_s": 10 * 1024**2, "problem": None},
                "time_s": 1002.0,
            },
            "source_devices": {"luns": [], "volumes": {SERIAL: {"identity": IDENTITY, "problem": None}}},
            "destination_devices": {"luns": [], "volumes": {}},
            "attached": {"device_path": {SERIAL: ADDRESS}, "volumes": {SERIAL: {"identity": IDENTITY, "made": False, "unproven": None}}},
            "dry_run": {"changed": True, "actions": ["would migrate"]},
        }
    )


INTENT = {
    "domain": "web1",
    "source_name": "hosta",
    "destination_name": "hostb",
    "destination_uri": "qemu+tls://hostb/system",
    "destination_connections": {SERIAL: ADDRESS},
    "complete": True,
    "timeout_s": 3600,
}


def make_plan(seen: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    arguments: dict[str, t.Any] = {
        "source_connections": {},
        "overrides": {},
        "destination_initiator": "same",
        "allow_nova_managed": False,
        "destination_connections": {},
    }
    both = {"source": seen["source"], "destination": seen["destination"], "source_name": "hosta", "destination_name": "hostb"}
    return plan(**both, **{**arguments, **more})


def judge(seen: dict[str, t.Any], planned: dict[str, t.Any] | None = None, **intent: t.Any) -> list[dict[str, str]]:
    return findings(Seen(**seen), Intent(**{**INTENT, **intent}), planned or make_plan(seen))


def changed(seen: dict[str, t.Any], path: str, value: t.Any) -> dict[str, t.Any]:
    """The same with one value changed; the path has dots."""
    *way, last = path.split(".")
    place = seen
    for name in way:
        place = place[name]
    place[last] = value
    return seen


def lines_of(found: list[dict[str, str]], item: str, verdict: str) -> str:
    return "\n".join(f"{each['cause']} -> {each['remedy']}" for each in found if (each["item"], each["verdict"]) == (item, verdict))


def test_all_is_well() -> None:
    found = judge(clean())
    assert {each["verdict"] for each in found} == {"go"}
    assert [each["item"] for each in found] == list(ITEMS), "every item is told, in this order"
    assert {frozenset(each) for each in found} == {frozenset(("domain", "item", "verdict", "cause", "remedy"))}


@pytest.mark.parametrize(
    ("item", "verdict", "path", "value", "words"),
    [
        ("hosts", "no_go", "destination_host.host.uuid", "uuid-of-hosta", "one host UUID"),
        ("hosts", "no_go", "way.control.host", host("hostc"), r"leads to hostc .*, not to hostb.*live_migrate_inbound_uri"),
        (
            "control_channel",
            "no_go",
            "way.control",
            {"reached": False, "as_daemon": True, "hangs": False, "problem": "authentication failed: no", "host": None, "domain": None},
            "authentication failed: no -> The SOURCE's libvirt daemon may not log in",
        ),
        (
            "control_channel",
            "unproven",
            "way.control",
            {"reached": False, "as_daemon": False, "hangs": False, "problem": "refused", "host": None, "domain": None},
            "refused",
        ),
        (
            "control_channel",
            "no_go",
            "way.control",
            {"reached": False, "as_daemon": True, "hangs": True, "problem": "no answer within 15 s", "host": None, "domain": None},
            "no answer within 15 s.*without a limit",
        ),
        ("control_channel", "unproven", "way.control.as_daemon", False, "other than root.*become: true"),
        ("data_channel", "no_go", "way.data.problem", "hosta cannot resolve hostb", "cannot resolve hostb -> set migration_host"),
        (
            "data_channel",
            "no_go",
            "way.data",
            {"host": "hostb", "address": "192.0.2.12", "problem": None, "open": [49153], "blocked": [49152], "link_mib_per_s": None},
            r"cannot reach hostb \(192.0.2.12\) at port 49152 -> open the ports 49152 to 49153",
        ),
        (
            "data_channel",
            "warning",
            "way.data",
            {"host": "hostb", "address": "192.0.2.12", "problem": None, "open": [49152], "blocked": [49153, 49154], "link_mib_per_s": None},
            "at port 49153-49154",
        ),
        (
            "data_channel",
            "no_go",
            "way.data",
            {"host": "hostb", "address": "192.0.2.12", "problem": None, "open": [], "blocked": [], "link_mib_per_s": None},
            "all ports of hostb from 49152 to 49153 are in use",
        ),
        ("data_channel", "unproven", "way.data", None, "did not try"),
        ("versions", "warning", "destination_host.host.libvirt_number", 8000000, "libvirt 9.0.0 of hostb is older"),
        ("versions", "warning", "destination_host.host.hypervisor_number", 7000000, "QEMU 7.2.22 of hostb is older"),
        (
            "machine",
            "no_go",
            "destination_host.fit.machine",
            {"ok": False, "problem": "the machine 'pc-q35-9' is not supported"},
            "pc-q35-9",
        ),
        (
            "cpu",
            "no_go",
            "destination_host.fit.cpu",
            {"ok": False, "problem": "no feature avx512f", "mode": "custom", "enforced": True},
            "no feature avx512f -> choose a CPU model",
        ),
        (
            "cpu",
            "warning",
            "destination_host.fit.cpu",
            {"ok": False, "problem": "no avx512f", "mode": "custom", "enforced": False},
            "avx512f",
        ),
        (
            "cpu",
            "unproven",
            "destination_host.fit.cpu",
            {"ok": None, "problem": "cannot compare", "mode": "custom", "enforced": True},
            "cannot compare",
        ),
        ("memory", "no_go", "destination_host.fit.memory_kib", 5 * GIB_KIB, "may use 5120 MiB, but hostb has 4096 MiB available"),
        ("memory", "unproven", "destination_host.host.memory_available_kib", None, "does not tell"),
        (
            "huge_pages",
            "no_go",
            "destination_host.fit.huge_pages",
            [{"size_kib": 2048, "needed_kib": GIB_KIB, "free_kib": 2048}],
            "needs 1024 MiB in huge pages of 2048 KiB, and hostb has 2 MiB of them free",
        ),
        (
            "huge_pages",
            "no_go",
            "destination_host.fit.huge_pages",
            [{"size_kib": 1048576, "needed_kib": GIB_KIB, "free_kib": None}],
            "no such pages",
        ),
        ("secrets", "unproven", "destination.secrets", None, "does not tell its secrets"),
        ("networks", "no_go", "destination_host.fit.networks", {"prod": "missing"}, "network prod is missing on hostb"),
        ("networks", "no_go", "destination_host.fit.networks", {"prod": "inactive"}, "net-start prod"),
        ("networks", "no_go", "destination_host.fit.interfaces", {"br7": False}, "no bridge or network device br7"),
        ("graphics", "no_go", "destination_host.fit.addresses", {"192.0.2.11": False}, "192.0.2.11.*live_migrate_graphics_listen_addrs"),
        ("files", "no_go", "destination_host.fit.files", {"/boot/k": False}, "hostb has no file /boot/k"),
        ("lock_manager", "warning", "source_host.host.lock_manager", LOCKD, "of hosta is lockd, that of hostb none"),
        ("lock_manager", "warning", "destination_host.host.lock_manager", LOCKD, "of hosta is none, that of hostb lockd"),
        ("lock_manager", "no_go", "source_host.host.lock_manager", {"name": "sanlock"}, "of hosta is sanlock, that of hostb none"),
        ("lock_manager", "warning", "destination_host.fit.leases", [LEASE], "has a <lease>, but hostb has no lock manager"),
        ("clock", "warning", "destination_host.host.time_s", 990.0, "hostb is at least 10 s behind that of hosta"),
        ("clock", "warning", "destination_host.host.time_s", 1052.0, "hostb is at least 50 s ahead of that of hosta"),
        ("convergence", "unproven", "way.dirty_rate", {"bytes_per_s": None, "problem": "QEMU said no"}, "not measured.*QEMU said no"),
        ("convergence", "unproven", "way.data.link_mib_per_s", None, "bandwidth is not known -> give live_migrate_bandwidth_mib"),
        ("convergence", "warning", "way.dirty_rate.bytes_per_s", 200 * 1024**2, "would not converge"),
        ("volumes", "no_go", "attached.volumes", {SERIAL: {"identity": OTHER}}, "the WWIDs differ.*it is another volume"),
        (
            "volumes",
            "no_go",
            "attached.volumes",
            {SERIAL: {"identity": None, "unproven": "timeout"}},
            "not read on the destination; timeout",
        ),
        ("volumes", "unproven", "attached.volumes", {SERIAL: {"identity": {**IDENTITY, "wwid": None, "unit_serial": None}}}, "no WWID"),
        ("volumes", "no_go", "attached", {"error_id": "attach_refused", "msg": "x; y", "problems": ["portal down"]}, "hostb: portal down"),
        (
            "volumes",
            "no_go",
            "source_devices.volumes",
            {SERIAL: {"identity": None, "problem": "no session"}},
            f"hosta: volume {SERIAL}: no session",
        ),
        (
            "check_run",
            "no_go",
            "dry_run",
            {"error_id": "plan_outdated", "msg": "disk vdb is new; look again"},
            "disk vdb is new -> look again",
        ),
        (
            "name",
            "no_go",
            "dry_run",
            {"error_id": "blocked", "msg": "x", "blockers": [{"id": "name_taken", "message": "hostb has the UUID as old1; rename it"}]},
            "the UUID as old1 -> rename it",
        ),
        ("check_run", "unproven", "dry_run", {"skipped": True}, "could be tried"),
        ("destination", "no_go", "destination", {"unreachable": True, "msg": "ssh: no route"}, "hostb: not reachable: ssh: no route"),
        ("name", "unproven", "destination", {"unreachable": True, "msg": "ssh: no route"}, "hostb was not read"),
        ("memory", "unproven", "destination_host", {"unreachable": True, "msg": "gone"}, "hostb: not reachable: gone"),
        ("source", "no_go", "source", {"error_id": "libvirt_unreachable", "msg": "libvirt is down"}, "hosta: libvirt is down"),
        ("snapshots", "unproven", "source", {"error_id": "libvirt_unreachable", "msg": "libvirt is down"}, "hosta was not read"),
    ],
)
def test_one_thing_is_wrong(item: str, verdict: str, path: str, value: t.Any, words: str) -> None:
    found = judge(changed(clean(), path, value))
    told = lines_of(found, item, verdict)
    assert told, f"{item} is not {verdict}: {[each for each in found if each['item'] == item]}"
    assert re.search(words, told, re.DOTALL), told


def test_memory_of_earlier_domains_counts() -> None:
    assert "together with the domains before it" in lines_of(judge(clean(), earlier_memory_kib=4 * GIB_KIB), "memory", "no_go")


def test_swap_makes_it_a_warning_and_huge_pages_are_not_counted_twice() -> None:
    seen = changed(clean(), "destination_host.fit.memory_kib", 5 * GIB_KIB)
    seen["destination_host"]["host"]["swap_free_kib"] = 2 * GIB_KIB
    assert lines_of(judge(seen), "memory", "warning")
    seen["destination_host"]["fit"]["huge_pages"] = [{"size_kib": 2048, "needed_kib": 5 * GIB_KIB, "free_kib": 8 * GIB_KIB}]
    assert not lines_of(judge(seen), "memory", "warning")


def test_host_passthrough_needs_the_same_cpu() -> None:
    cannot = {"ok": None, "problem": "libvirt compares no CPU of mode host-passthrough", "mode": "host-passthrough", "enforced": True}
    seen = changed(clean(), "destination_host.fit.cpu", cannot)
    assert not lines_of(judge(seen), "cpu", "unproven")
    seen["destination_host"]["host"]["cpu"]["features"] = ["svm", "avx2"]
    assert "CPUs differ" in lines_of(judge(seen), "cpu", "unproven")


@pytest.mark.parametrize(
    ("change", "leases", "verdict", "words"),
    [
        ({}, [LEASE], "go", ""),
        ({"runs": False}, [LEASE], "no_go", "virtlockd does not run on hostb"),
        ({}, [{**LEASE, "problem": "there is no file /leases/ns/web1"}], "no_go", "cannot take the lease ns/web1: there is no file"),
        ({"requires_leases": True}, [], "no_go", "requires a <lease>"),
        ({}, [], "warning", "locks disks by their path"),
        ({"scsi_lockspace_dir": "/leases/scsi"}, [], "go", ""),
        ({"name": "sanlock"}, [LEASE], "unproven", "nothing is known"),
    ],
)
def test_lock_manager_on_both_hosts(change: dict[str, t.Any], leases: list[t.Any], verdict: str, words: str) -> None:
    seen = clean()
    for side in ("source_host", "destination_host"):
        seen[side]["host"]["lock_manager"] = {**LOCKD, **change}
    seen["destination_host"]["fit"]["leases"] = leases
    found = [each for each in judge(seen) if each["item"] == "lock_manager"]
    assert [each["verdict"] for each in found] == [verdict]
    assert words in found[0]["cause"]


def test_what_the_operator_exports_later_is_unproven_and_else_missing() -> None:
    seen = {**clean(), "attached": {"skipped": True}}
    intent: dict[str, t.Any] = {"destination_connections": {}, "complete": False}
    assert "known only after the export to hostb" in lines_of(judge(seen, exports=True, **intent), "volumes", "unproven")
    assert not [each for each in judge(seen, exports=True, **intent) if each["verdict"] == "no_go"]
    assert "no connection info for volume 58a84f6d" in lines_of(judge(seen, **intent), "volumes", "no_go")
    assert lines_of(judge(seen, exports=True, **intent), "secrets", "unproven")


def test_an_accepted_volume_and_no_gate_are_warnings() -> None:
    seen = changed(clean(), "attached.volumes", {SERIAL: {"identity": None}})
    assert "accepted by the operator" in lines_of(judge(seen, accept_unproven=[SERIAL]), "volumes", "warning")
    assert "switched off" in lines_of(judge(seen, identity_gate=False), "volumes", "warning")


def test_a_stale_disk_on_the_destination_is_no_double() -> None:
    luns = [{**IDENTITY, "paths": [{"iqn": "iqn.2026-11.a:a", "lun": lun, "node": node}]} for lun, node in ((7, "sda"), (9, "sdc"))]
    seen = changed(clean(), "destination_devices.luns", luns)
    assert "shared by several volumes" in lines_of(judge(seen), "volumes", "unproven")
    seen["attached"]["stale"] = ["/dev/sdc"]
    assert not lines_of(judge(seen), "volumes", "unproven")


def test_post_copy_is_looked_at_when_it_was_allowed() -> None:
    seen = changed(clean(), "destination.postcopy_problem", "post-copy would be refused; set vm.unprivileged_userfaultfd=1")
    assert [found["verdict"] for found in judge(seen)].count("no_go") == 0
    for planned in (make_plan(seen), make_plan(seen, postcopy=True)):
        wrong = [found for found in judge(seen, planned, postcopy=True) if found["verdict"] == "no_go"]
        assert [(found["item"], found["remedy"]) for found in wrong] == [("postcopy", "set vm.unprivileged_userfaultfd=1")]
    assert lines_of(judge(clean(), postcopy=True), "postcopy", "go")


def test_a_timeout_that_is_too_short() -> None:
    assert "more than the timeout of 5 s" in lines_of(judge(clean(), timeout_s=5), "convergence", "warning")


def test_a_domain_that_has_moved_already() -> None:
    seen = clean()
    seen["source"], seen["destination"] = seen["destination"], seen["source"]
    assert "web1 is on the destination" in lines_of(judge(seen), "domain", "go")


def test_a_domain_that_is_on_its_way() -> None:
    seen = clean()
    planned = {
        **make_plan(seen),
        "action": "follow",
        "problems": ["hostb: a job; look"],
        "outcome": {"message": "a job is running on web1"},
    }
    found = judge(seen, planned)
    assert lines_of(found, "domain", "warning").startswith("a job is running on web1; a run would take the job over")
    assert lines_of(found, "domain", "no_go") == "hostb: a job -> look"


def test_a_domain_that_is_nowhere() -> None:
    seen = changed(clean(), "source", {"exists": False, "name": "web1", "uuid": None, "state": None})
    assert "neither on hosta nor on hostb" in lines_of(judge(seen), "domain", "no_go")


HARMFUL = """<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>web1</name><uuid>u</uuid>
<memory unit='KiB'>1024</memory><metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'/></metadata>
<cpu><feature policy='require' name='invtsc'/></cpu><launchSecurity type='sev'/>
<devices>
<disk type='block' device='disk'><driver name='qemu' cache='writeback'/><source dev='/dev/sda'/><target dev='vda'/><serial>a</serial></disk>
<disk type='block' device='lun'><driver name='qemu' cache='none'/><source dev='/dev/sdb'/><target dev='vdb'/><serial>b</serial></disk>
<disk type='block' device='disk'><driver name='qemu' cache='none'/><source dev='/dev/sdc'/><target dev='vdc'/><transient/></disk>
<disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='vdd'/></disk>
<hostdev mode='subsystem' type='pci'/><hostdev mode='subsystem' type='scsi'><source/></hostdev>
<shmem name='s'><model type='ivshmem'/></shmem>
<filesystem type='mount'><driver type='virtiofs'/><source dir='/x'/><target dir='x'/></filesystem>
</devices></domain>"""


def test_nothing_that_the_run_refuses_is_go() -> None:
    """Every problem of the run's own plan is told as a no-go, whole, whatever it is about."""
    facts = DomainFacts("web1", domain_state(1, 1), 9000000, "backup", 1, 1, True, ("vda",))
    harmful = blockers(facts, HARMFUL)
    assert len({blocker["id"] for blocker in harmful}) >= 12
    destinations = [
        {"exists": True, "name": "web1", "uuid": "other", "state": {"state": "running", "reason": "booted"}, "job": {"active": False}},
        {"exists": True, "name": "web1", "uuid": UUID, "state": {"state": "shutoff", "reason": "shutdown"}},
        {"exists": True, "name": "web1", "uuid": UUID, "state": {"state": "paused", "reason": "user"}, "job": {"active": False}},
    ]
    for destination in destinations:
        seen = clean()
        seen["source"] = {**seen["source"], "xml": HARMFUL, "inactive_xml": None, "blockers": harmful}
        seen["destination"] = destination
        planned = make_plan(seen, overrides={"vdz": "x"})
        problems = planned["problems"]
        told = {(each["cause"], each["remedy"]) for each in judge(seen, planned) if each["verdict"] == "no_go"}
        assert problems
        assert {halves(problem) for problem in problems} <= told


def test_secrets_and_files_that_the_plan_misses_have_items_of_their_own() -> None:
    seen = clean()
    encrypted = "<encryption format='luks'><secret type='passphrase' uuid='u-1'/></encryption>"
    medium = "<disk type='file' device='cdrom'><source file='/iso/a.iso'/><target dev='sda'/></disk>"
    seen["source"]["xml"] = seen["source"]["inactive_xml"] = XML.replace("<target", f"{encrypted}<target").replace(
        "</devices>", f"{medium}</devices>"
    )
    seen["destination"]["missing_files"] = ["/iso/a.iso"]
    chap = {**ADDRESS, "data": {**ADDRESS["data"], "auth_method": "CHAP", "auth_username": "u"}, "libvirt": {"secret_usage": "chap-b"}}
    found = judge(seen, make_plan(seen, destination_connections={SERIAL: chap}))
    assert "UUID u-1" in lines_of(found, "secrets", "no_go")
    assert "usage chap-b" in lines_of(found, "secrets", "no_go")
    again = judge(seen, make_plan(seen, destination_connections={SERIAL: chap}), destination_connections={SERIAL: chap})
    assert str(again).count("usage chap-b") == 1, "plan and volumes say the same"
    later = judge(seen, make_plan(seen), destination_connections={SERIAL: chap})
    assert "usage chap-b" in lines_of(later, "volumes", "no_go"), "the export told it, which the plan did not know"
    assert "there is no file /iso/a.iso" in lines_of(found, "files", "no_go")
    assert {each["item"] for each in found if each["verdict"] == "no_go"} == {"secrets", "files"}


def test_every_blocker_of_the_check_run_is_told_once() -> None:
    facts = DomainFacts("web1", domain_state(1, 1), 9000000, None, 2, 0, False, ())
    found = blockers(facts, XML)
    seen = clean()
    seen["source"]["blockers"] = found
    seen["dry_run"] = {"error_id": "blocked", "msg": "web1 cannot be migrated", "blockers": found}
    assert lines_of(judge(seen), "snapshots", "no_go").count("2 snapshots") == 1
    seen["source"]["blockers"] = []
    assert lines_of(judge(seen), "snapshots", "no_go").count("2 snapshots") == 1


def test_the_table_tells_the_worst_first() -> None:
    found = judge(changed(clean(), "destination_host.fit.networks", {"prod": "missing"}), timeout_s=5)
    lines = table([*found, *judge(clean(), domain="web2")])
    assert lines[0] == "web1: NO GO (1 NO GO, 1 warning, 0 unproven, 26 go)"
    assert lines[1].startswith("  NO GO     networks         the libvirt network prod is missing on hostb -> ")
    assert lines[2].startswith("  warning   convergence")
    assert [line for line in lines if not line.startswith(" ")][1] == "web2: go (0 NO GO, 0 warning, 0 unproven, 28 go)"
    assert table([]) == []


@pytest.mark.parametrize(
    ("message", "cause", "remedy"),
    [
        ("domain web1 has 2 snapshots; delete them", "domain web1 has 2 snapshots", "delete them"),
        ("no refusal; data may be lost. Set cache='none'", "no refusal; data may be lost", "Set cache='none'"),
        ("a thing without a remedy", "a thing without a remedy", ""),
    ],
)
def test_cause_and_remedy_of_a_message(message: str, cause: str, remedy: str) -> None:
    assert halves(message) == (cause, remedy)


EXPECT: dict[str, t.Any] = {
    "overrides": {},
    "listen_used": {"vnc": "192.0.2.11"},
    "listen_given": {},
    "listen_of_destination": {"vnc": "192.0.2.12"},
}
GRAPHICS = "<graphics type='vnc' listen='192.0.2.11'><listen type='address' address='192.0.2.11'/></graphics>"


def _expected(xml: str, connections: dict[str, t.Any]) -> dict[str, t.Any]:
    volumes = [{"key": SERIAL, "target": "vda", "source_initiator": "libiscsi", "destination_initiator": "libiscsi", "live": True}]
    return expected_xml(xml, {"volumes": volumes}, connections=connections, device_path={}, **EXPECT)


def test_the_domain_as_the_destination_would_get_it() -> None:
    with_graphics = XML.replace("</devices>", GRAPHICS + "</devices>")
    known = _expected(with_graphics, {SERIAL: ADDRESS})
    assert (known["rewritten"], known["complete"]) == (True, True)
    assert "hostb/7" in known["xml"]
    assert "192.0.2.11" not in known["xml"]
    unknown = _expected(with_graphics, {})
    assert (unknown["rewritten"], unknown["complete"]) == (True, False)
    assert f"unknown-yet-{SERIAL}" in unknown["xml"]
    nameless = _expected(with_graphics.replace(f"<serial>{SERIAL}</serial>", ""), {SERIAL: ADDRESS})
    assert (nameless["rewritten"], nameless["complete"]) == (False, False)
    assert "<disk" not in nameless["xml"]
    assert "192.0.2.12" in nameless["xml"]


def test_an_image_that_only_a_header_names_is_no_go_as_in_the_run() -> None:
    seen = clean()
    for key in ("xml", "inactive_xml"):
        seen["source"][key] = XML.replace("type='raw'", "type='qcow2'")
    seen["source_devices"]["volumes"][SERIAL]["names_backing_image"] = True
    (found,) = (each for each in judge(seen) if each["verdict"] == "no_go")
    assert (found["item"], "stands on another" in found["cause"]) == ("volumes", True)
    seen["source_devices"]["volumes"][SERIAL]["names_backing_image"] = False
    assert [each for each in judge(seen) if each["verdict"] == "no_go"] == []


def test_a_medium_that_stays_behind_is_not_asked_for() -> None:
    cdrom = "<disk type='file' device='cdrom'><source file='/a.iso'/><target dev='sda' bus='sata'/></disk>"
    xml = XML.replace("</devices>", f"{cdrom}</devices>")
    arguments: dict[str, t.Any] = {
        "connections": {SERIAL: ADDRESS},
        "device_path": {},
        "overrides": {},
        "listen_used": {},
        "listen_given": {},
        "listen_of_destination": {},
    }
    planned = plan(
        source={**clean()["source"], "xml": xml, "inactive_xml": xml},
        destination={"exists": False},
        source_name="hosta",
        destination_name="hostb",
        source_connections={},
        overrides={},
        destination_initiator="same",
        allow_nova_managed=False,
        eject=["sda"],
    )
    assert "/a.iso" in expected_xml(xml, planned, **arguments)["xml"]
    assert "/a.iso" not in expected_xml(xml, planned, **arguments, eject=["sda"])["xml"]
    seen = clean()
    seen["source"]["xml"] = xml
    assert [each["item"] for each in judge(seen, make_plan(seen, eject=["sdb"])) if each["verdict"] == "no_go"] == ["disks"]
