# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection
from ansible_collections.lunshift.migration.plugins.module_utils._preflight import way
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.estimate import estimate, in_words
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.fit import fit
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.host import data_channel, lock_manager, settings
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.needs import Lease, needs
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import SOURCE, FakeLibvirt, LibvirtError

MIB = 1024**2
XML = """<domain type='kvm'><name>web1</name><memory unit='KiB'>1048576</memory>
<memoryBacking><hugepages>{pages}</hugepages></memoryBacking>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><kernel>/boot/k</kernel><loader>/fw/ovmf.fd</loader><nvram>/nv/a</nvram></os>
<cpu mode='custom' check='full'><model>EPYC</model>
<numa><cell id='0' memory='262144'/><cell id='1' memory='786432' unit='KiB'/></numa></cpu>
<devices><emulator>/usr/bin/qemu</emulator>
<disk type='network' device='disk'>
<source protocol='iscsi' name='i/1'><auth username='u'><secret type='iscsi' usage='chap-b'/></auth></source>
<encryption format='luks'><secret type='passphrase' uuid='u-1'/></encryption><target dev='vda'/></disk>
<disk type='file' device='cdrom'><source file='/iso/a.iso'/><target dev='sda'/></disk>
<disk type='file' device='cdrom'><source file='/iso/b.iso' startupPolicy='optional'/><target dev='sdb'/></disk>
<interface type='network'><source network='prod'/></interface>
<interface type='bridge'><source bridge='br0'/></interface>
<interface type='direct'><source dev='eth1' mode='bridge'/></interface>
<graphics type='vnc' listen='192.0.2.11'><listen type='address' address='192.0.2.11'/></graphics>
<graphics type='spice' listen='0.0.0.0'/>
<graphics type='vnc'><listen type='network' network='mgmt'/></graphics>
<tpm model='tpm-crb'><backend type='emulator'><encryption secret='u-2'/></backend></tpm>
<lease><lockspace>ns</lockspace><key>web1</key><target path='/leases'/></lease>
<console type='file'><source path='/log/c.log'/></console>
</devices></domain>"""


def test_needs_are_read_from_the_definition() -> None:
    found = needs(XML.format(pages="<page size='2048' unit='KiB' nodeset='1'/>"))
    assert (found.emulator, found.arch, found.machine, found.virt_type) == ("/usr/bin/qemu", "x86_64", "pc-q35-7.2", "kvm")
    assert found.cpu_xml is not None
    assert found.cpu_xml.startswith("<cpu mode=")
    assert found.memory_kib == 1048576
    assert found.huge_pages_kib == {2048: 786432}
    assert found.networks == ("prod", "mgmt")
    assert found.interfaces == ("br0", "eth1")
    assert found.addresses == ("192.0.2.11",)
    assert found.files == ("/boot/k", "/fw/ovmf.fd"), "neither what QEMU makes, nor the disks' files"
    assert found.leases == (Lease("ns", "web1", "/leases"),)


@pytest.mark.parametrize(
    ("pages", "wanted"),
    [("", {0: 1048576}), ("<page size='1' unit='GiB'/>", {1048576: 1048576}), ("<page size='2' unit='M' nodeset='0-1'/>", {2048: 1048576})],
)
def test_huge_pages(pages: str, wanted: dict[int, int]) -> None:
    assert needs(XML.format(pages=pages)).huge_pages_kib == wanted


def test_a_small_definition_needs_little() -> None:
    found = needs("<domain type='qemu'><memory unit='MiB'>64</memory></domain>")
    assert (found.memory_kib, found.huge_pages_kib, found.cpu_xml, found.files) == (65536, {}, None, ())


@pytest.mark.parametrize(
    ("memory", "dirty", "bandwidth", "converges", "duration_s", "rounds"),
    [
        (1000 * MIB, 0, 100 * MIB, True, 10.0, 2),
        (1000 * MIB, 50 * MIB, 100 * MIB, True, 19.8, 7),
        (1000 * MIB, 100 * MIB, 100 * MIB, False, None, None),
        (1000 * MIB, 300 * MIB, 100 * MIB, False, None, None),
        (10 * MIB, 300 * MIB, 100 * MIB, True, 0.1, 1),
        (1000 * MIB, None, 100 * MIB, None, None, None),
        (1000 * MIB, 10, None, None, None, None),
    ],
)
def test_estimate(
    memory: int, dirty: int | None, bandwidth: int | None, converges: bool | None, duration_s: float | None, rounds: int | None
) -> None:
    found = estimate(memory, dirty, bandwidth, downtime_ms=300)
    assert (found.converges, found.duration_s, found.rounds) == (converges, duration_s, rounds)


def test_estimate_in_words() -> None:
    words = in_words(estimate(1000 * MIB, 50 * MIB, 100 * MIB, 300))
    assert words == "1000 MiB of memory, 50 MiB/s written by the guest, at most 100 MiB/s of bandwidth, about 19.8 s in 7 rounds"
    assert in_words(estimate(MIB, None, None, 300)) == "1 MiB of memory"


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def test_settings_of_libvirt(tmp_path: Path) -> None:
    write(
        tmp_path, "etc/libvirt/qemu.conf", '#lock_manager = "no"\nlock_manager = \'lockd\'\n migration_port_min=5 # x\na = "1"\na = "2"\n'
    )
    assert settings(str(tmp_path), "etc/libvirt/qemu.conf") == {"lock_manager": "lockd", "migration_port_min": "5", "a": "2"}
    assert settings(str(tmp_path), "etc/absent.conf") == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {"runs": False, "locks_disks": True, "requires_leases": False, "file_lockspace_dir": None, "scsi_lockspace_dir": None}),
        ("auto_disk_leases = 0\n", {"locks_disks": False, "requires_leases": True}),
        (
            'require_lease_for_disks = 1\nfile_lockspace_dir = "/l"\n',
            {"locks_disks": True, "requires_leases": True, "file_lockspace_dir": "/l"},
        ),
    ],
)
def test_lockd(tmp_path: Path, text: str, expected: dict[str, t.Any]) -> None:
    write(tmp_path, "etc/libvirt/qemu-lockd.conf", text)
    found = lock_manager({"lock_manager": "lockd"}, str(tmp_path))
    assert {key: found[key] for key in expected} == expected
    write(tmp_path, "run/libvirt/virtlockd-sock", "")
    assert lock_manager({"lock_manager": "lockd"}, str(tmp_path))["runs"] is True


def test_other_lock_managers(tmp_path: Path) -> None:
    assert lock_manager({}, str(tmp_path)) == {"name": None}
    assert lock_manager({"lock_manager": "sanlock"}, str(tmp_path)) == {"name": "sanlock"}


def test_ports_in_use_are_left_out(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st\n"
    write(tmp_path, "proc/net/tcp", head + "   0: 0B02000A:C000 00000000:0000 0A x\n   1: 0B02000A:C001 0C02000A:1111 01 x\n")
    write(tmp_path, "proc/net/tcp6", head + "   0: 00000000000000000000000000000000:C002 00000000000000000000000000000000:0000 0A x\n")
    found = data_channel({"migration_host": "192.0.2.5", "migration_port_max": "49156"}, str(tmp_path))
    assert found == {"host": "192.0.2.5", "first_port": 49152, "last_port": 49156, "free_ports": [49153, 49155, 49156]}
    assert len(data_channel({}, str(tmp_path))["free_ports"]) == 62


class Api(FakeLibvirt):
    VIR_DOMAIN_STATS_DIRTYRATE = 512


class Handle:
    """What a destination's libvirt answers. The words and codes are libvirt 9's."""

    machine: str | None = None
    comparison: int | LibvirtError = 2

    def getDomainCapabilities(self, *_arguments: t.Any) -> str:
        if self.machine:
            raise LibvirtError(self.machine, 8)
        return "<domainCapabilities/>"

    def compareHypervisorCPU(self, *arguments: t.Any) -> int:
        assert arguments[-1] == 1, "libvirt shall say which features are missing"
        if isinstance(self.comparison, LibvirtError):
            raise self.comparison
        return self.comparison

    def networkLookupByName(self, name: str) -> t.Any:
        if name == "mgmt":
            raise LibvirtError("Network not found", 43)

        class Network:
            def isActive(self) -> int:
                return 0

        return Network()


def asked(tmp_path: Path, handle: Handle, xml: str | None = None) -> dict[str, t.Any]:
    return fit(Connection(Api(), handle, SOURCE, 1), needs(xml or XML.format(pages="")), str(tmp_path))


def test_what_a_destination_has(tmp_path: Path) -> None:
    for path in ("boot/k", "leases/ns/web1", "sys/class/net/br0/x"):
        write(tmp_path, path, "")
    write(tmp_path, "proc/meminfo", "Hugepagesize:    2048 kB\n")
    write(tmp_path, "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "10\n")
    found = asked(tmp_path, Handle(), XML.format(pages="").replace("192.0.2.11", "127.0.0.2"))
    assert found["machine"]["ok"] is True
    assert found["cpu"] == {"ok": True, "problem": None, "mode": "custom", "enforced": True}
    assert found["huge_pages"] == [{"size_kib": 2048, "needed_kib": 1048576, "free_kib": 20480}]
    assert found["networks"] == {"prod": "inactive", "mgmt": "missing"}
    assert found["interfaces"] == {"br0": True, "eth1": False}
    assert found["addresses"] == {"127.0.0.2": True}
    assert found["files"] == {"/boot/k": True, "/fw/ovmf.fd": False}
    assert [lease["problem"] for lease in found["leases"]] == [None], "without a lock manager nobody asks for leases"
    assert asked(tmp_path, Handle())["addresses"] == {"192.0.2.11": False}, "an address for documentation is nobody's"


def test_an_emulator_that_does_not_fit(tmp_path: Path) -> None:
    handle = Handle()
    handle.machine = "the machine 'pc-q35-7.2' is not supported"
    found = asked(tmp_path, handle)
    assert found["machine"] == {"ok": False, "problem": "the machine 'pc-q35-7.2' is not supported"}
    assert found["cpu"]["ok"] is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (1, True),
        (0, False),
        (LibvirtError("the CPU is incompatible with host CPU: missing avx512f", 91), False),
        (LibvirtError("internal error: Unknown CPU model nosuch", 1), False),
        (LibvirtError("this function is not supported by the connection driver", 3), None),
    ],
)
def test_cpu_comparison(tmp_path: Path, answer: t.Any, expected: bool | None) -> None:
    handle = Handle()
    handle.comparison = answer
    assert asked(tmp_path, handle)["cpu"]["ok"] is expected


def test_other_kinds_of_cpu(tmp_path: Path) -> None:
    passthrough = XML.format(pages="").replace("mode='custom'", "mode='host-passthrough'")
    assert asked(tmp_path, Handle(), passthrough)["cpu"]["ok"] is None
    lax = XML.format(pages="").replace("check='full'", "check='none'")
    assert asked(tmp_path, Handle(), lax)["cpu"]["enforced"] is False
    unknown = Handle()
    unknown.comparison = LibvirtError("internal error: Unknown CPU model nosuch", 1)
    assert asked(tmp_path, unknown, lax)["cpu"]["enforced"] is True, "whatever it is told to check, libvirt has to know the model"
    assert asked(tmp_path, Handle(), "<domain type='qemu'/>")["cpu"]["ok"] is True


def test_leases_of_lockd(tmp_path: Path) -> None:
    write(tmp_path, "etc/libvirt/qemu.conf", 'lock_manager = "lockd"\n')
    write(tmp_path, "etc/libvirt/qemu-lockd.conf", 'file_lockspace_dir = "/elsewhere"\n')
    assert "but file_lockspace_dir in qemu-lockd.conf is /elsewhere" in asked(tmp_path, Handle())["leases"][0]["problem"]
    write(tmp_path, "etc/libvirt/qemu-lockd.conf", 'file_lockspace_dir = "/leases/ns"\n')
    assert asked(tmp_path, Handle())["leases"][0]["problem"] == "there is no file /leases/ns/web1"
    write(tmp_path, "leases/ns/web1", "")
    assert asked(tmp_path, Handle())["leases"][0]["problem"] is None


def test_ports_that_answer_and_one_that_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way, "_is_loopback", lambda address: False)
    with socket.create_server(("127.0.0.1", 0)) as open_one, socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        closed = socket.create_server(("127.0.0.1", 0))
        ports = [open_one.getsockname()[1], closed.getsockname()[1], full.getsockname()[1]]
        closed.close()
        # A full queue of a listener drops further requests, as a firewall does.
        fillers = [socket.socket() for _number in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", ports[2]))
        found = way.data_ports("127.0.0.1", ports, 0.5)
        for filler in fillers:
            filler.close()
    assert (found["open"], found["blocked"]) == (ports[:2], ports[2:])


def test_a_name_that_leads_nowhere_or_to_the_host_itself() -> None:
    assert "cannot resolve no-such-host.invalid" in way.data_ports("no-such-host.invalid", [1], 0.1)["problem"]
    assert "which is itself" in way.data_ports("127.0.1.1", [1], 0.1)["problem"]


class Guest:
    def __init__(self, answers: list[dict[str, t.Any]], error: LibvirtError | None = None) -> None:
        self.answers = answers
        self.error = error

    def startDirtyRateCalc(self, seconds: int, _flags: int) -> None:
        if self.error:
            raise self.error

    def domainListGetStats(self, domains: list[t.Any], _stats: int, _flags: int) -> list[t.Any]:
        return [(domains[0], self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([{"dirtyrate.calc_status": 1}, {"dirtyrate.calc_status": 2, "dirtyrate.megabytes_per_second": 3}], 3 * MIB),
        ([{"dirtyrate.calc_status": 2}], None),
    ],
)
def test_dirty_rate(monkeypatch: pytest.MonkeyPatch, answers: list[dict[str, t.Any]], expected: int | None) -> None:
    monkeypatch.setattr(way, "_POLL_S", 0)
    guest = Guest(answers)
    assert way.dirty_rate(Connection(Api(), guest, SOURCE, 1), guest, 1) == {"bytes_per_s": expected, "problem": None}


def test_a_dirty_rate_that_cannot_be_had() -> None:
    guest = Guest([{}], LibvirtError("not supported by QEMU", 3))
    assert "not supported by QEMU" in way.dirty_rate(Connection(Api(), guest, SOURCE, 1), guest, 1)["problem"]
