# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt with two hosts in memory, as far as the collection uses it. A migration moves a domain between them."""

from __future__ import annotations

import threading
import typing as t

SOURCE, DESTINATION = "qemu:///system", "qemu+tcp://hostb/system"

DISK = """<disk type='block' device='disk'><driver name='qemu' type='raw' cache='none' error_policy='stop'/>
<source dev='{source}'/><target dev='vda' bus='virtio'/><serial>s-1</serial></disk>"""
SOURCE_PATH, DESTINATION_PATH = "/dev/disk/by-path/on-hosta", "/dev/disk/by-path/on-hostb"


def domain_xml(source: str = SOURCE_PATH, devices: str = "", top: str = "", disk: str = DISK, password: str = "topsecret") -> str:
    return f"""<domain type='kvm'>
<name>web1</name>
<uuid>11111111-2222-4333-8444-555555555555</uuid>{top}
<devices>
{disk.format(source=source)}
<graphics type='vnc' port='-1' autoport='yes' listen='192.0.2.11' passwd='{password}'>
<listen type='address' address='192.0.2.11'/></graphics>
{devices}</devices>
</domain>
"""


class LibvirtError(Exception):
    def __init__(self, message: str, code: int, domain: int = 10) -> None:
        super().__init__(message)
        self._code, self._domain = code, domain

    def get_error_code(self) -> int:
        return self._code

    def get_error_domain(self) -> int:
        return self._domain


class FakeSecret:
    def UUIDString(self) -> str:
        return "22222222-2222-4333-8444-555555555555"

    def usageType(self) -> int:
        return 3

    def usageID(self) -> str:
        return "chap-a"


class FakeDomain:
    def __init__(self, api: FakeLibvirt, xml: str | None = None, inactive_xml: str | None = None) -> None:
        self.api = api
        self.xml = xml or domain_xml()
        self.inactive_xml = inactive_xml or self.xml
        self.current_state = [1, 1]
        self.persistent = True
        self.autostart_value = 0
        self.snapshots = 0
        self.checkpoints: list[t.Any] = []
        self.managed_save = 0
        self.block_jobs: set[str] = set()
        self.disk_errors: dict[str, int] = {}
        self.job: dict[str, t.Any] = {"type": 0}
        self.calls: list[tuple[t.Any, ...]] = []
        # What the migration does: return when released or aborted; raise this afterwards.
        self.release = threading.Event()
        self.aborted = threading.Event()
        self.migration_error: LibvirtError | None = None
        self.arrives = True
        self.arrives_as: list[int] | None = None

    def name(self) -> str:
        return "web1"

    def UUIDString(self) -> str:
        return "11111111-2222-4333-8444-555555555555"

    def state(self) -> list[int]:
        return self.current_state

    def isActive(self) -> int:
        return 1

    def isPersistent(self) -> int:
        return int(self.persistent)

    def autostart(self) -> int:
        return self.autostart_value

    def setAutostart(self, value: int) -> None:
        self.autostart_value = value

    def XMLDesc(self, flags: int) -> str:
        assert flags & self.api.VIR_DOMAIN_XML_MIGRATABLE
        return self.inactive_xml if flags & self.api.VIR_DOMAIN_XML_INACTIVE else self.xml

    def snapshotNum(self) -> int:
        return self.snapshots

    def listAllCheckpoints(self) -> list[t.Any]:
        return self.checkpoints

    def hasManagedSaveImage(self) -> int:
        return self.managed_save

    def blockJobInfo(self, target: str, _flags: int) -> dict[str, int]:
        return {"cur": 1} if target in self.block_jobs else {}

    def diskErrors(self) -> dict[str, int]:
        return self.disk_errors

    def jobStats(self, flags: int = 0) -> dict[str, t.Any]:
        if flags & self.api.VIR_DOMAIN_JOB_STATS_COMPLETED:
            return {"type": 3, "downtime": 77, "time_elapsed": 1000}
        return self.job

    def resume(self) -> None:
        self.calls.append(("resume",))
        self.current_state = [1, 5]

    def undefineFlags(self, flags: int) -> None:
        self.calls.append(("undefineFlags", flags))
        self.persistent = False

    def destroy(self) -> None:
        self.calls.append(("destroy",))
        for host in self.api.hosts.values():
            host.domains = [domain for domain in host.domains if domain is not self]

    def abortJob(self) -> None:
        self.calls.append(("abortJob",))
        self.job = {"type": 0}
        self.aborted.set()

    def migrateSetMaxDowntime(self, milliseconds: int, _flags: int) -> None:
        self.calls.append(("migrateSetMaxDowntime", milliseconds))

    def migrateSetMaxSpeed(self, mib: int, _flags: int) -> None:
        self.calls.append(("migrateSetMaxSpeed", mib))

    def migrateStartPostCopy(self, _flags: int) -> None:
        self.calls.append(("migrateStartPostCopy",))

    def suspend(self) -> None:
        self.calls.append(("suspend",))

    def migrateToURI3(self, uri: str, parameters: dict[str, t.Any], flags: int) -> None:
        self.calls.append(("migrateToURI3", uri, parameters, flags))
        self.job = {
            "type": 2,
            "operation": 5,
            "data_total": 1000,
            "data_remaining": 400,
            "memory_iteration": 2,
            "memory_bps": 200,
            "memory_dirty_rate": 1,
            "memory_page_size": 100,
        }
        while not (self.release.is_set() or self.aborted.is_set()):
            self.release.wait(0.005)
        self.job = {"type": 0}
        if self.aborted.is_set():
            raise LibvirtError("operation aborted: job 'migration out' canceled by client", 78)
        if self.arrives:
            arrived = FakeDomain(self.api, str(parameters[self.api.VIR_MIGRATE_PARAM_DEST_XML]))
            arrived.persistent = bool(flags & self.api.VIR_MIGRATE_PERSIST_DEST)
            arrived.current_state = self.arrives_as or ([3, 1] if flags & self.api.VIR_MIGRATE_PAUSED else [1, 2])
            self.api.hosts[uri].domains = [arrived]
            self.api.hosts[SOURCE].domains = []
        if self.migration_error:
            raise self.migration_error  # pylint: disable=raising-bad-type
        for callback in self.api.hosts[SOURCE].callbacks:
            callback(
                None, self, {"time_elapsed": 1200, "downtime": 62, "setup_time": 5, "data_processed": 900, "memory_iteration": 3}, None
            )


class FakeConnect:
    def __init__(self, api: FakeLibvirt, domains: list[FakeDomain]) -> None:
        self.api = api
        self.domains = domains
        self.callbacks: list[t.Callable[..., None]] = []

    def _find(self, test: t.Callable[[FakeDomain], bool]) -> FakeDomain:
        for domain in self.domains:
            if test(domain):
                return domain
        raise LibvirtError("Domain not found", self.api.VIR_ERR_NO_DOMAIN)

    def lookupByName(self, name: str) -> FakeDomain:
        return self._find(lambda domain: domain.name() == name)

    def lookupByUUIDString(self, uuid: str) -> FakeDomain:
        return self._find(lambda domain: domain.UUIDString() == uuid)

    def getLibVersion(self) -> int:
        return 9000000

    def getVersion(self) -> int:
        return 7002022

    def getHostname(self) -> str:
        return "hosta"

    def getCapabilities(self) -> str:
        return "<capabilities><host><uuid>0000-a</uuid></host></capabilities>"

    def listAllDomains(self) -> list[FakeDomain]:
        return self.domains

    def listAllSecrets(self) -> list[FakeSecret]:
        return [FakeSecret()]

    def domainEventRegisterAny(self, _domain: t.Any, _event: int, callback: t.Callable[..., None], _opaque: t.Any) -> int:
        self.callbacks.append(callback)
        return len(self.callbacks) - 1

    def domainEventDeregisterAny(self, number: int) -> None:
        self.callbacks.pop(number)

    def setKeepAlive(self, _interval: int, _count: int) -> None:
        raise LibvirtError("not supported", 3)

    def close(self) -> None:
        pass


class FakeLibvirt:
    """Stands in for the module libvirt: constants with libvirt's own numbers, and open()."""

    libvirtError = LibvirtError
    VIR_ERR_NO_SUPPORT = 3
    VIR_ERR_NO_DOMAIN = 42
    VIR_ERR_OPERATION_INVALID = 55
    VIR_DOMAIN_DISK_ERROR_UNSPEC, VIR_DOMAIN_DISK_ERROR_NO_SPACE = 1, 2
    VIR_DOMAIN_XML_SECURE, VIR_DOMAIN_XML_INACTIVE, VIR_DOMAIN_XML_MIGRATABLE = 1, 2, 8
    VIR_DOMAIN_JOB_UNBOUNDED = 2
    VIR_DOMAIN_UNDEFINE_KEEP_NVRAM = 8
    VIR_DOMAIN_JOB_STATS_COMPLETED, VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED = 1, 2
    VIR_DOMAIN_EVENT_ID_JOB_COMPLETED = 21
    VIR_MIGRATE_LIVE, VIR_MIGRATE_PEER2PEER, VIR_MIGRATE_PERSIST_DEST = 1, 2, 8
    VIR_MIGRATE_UNDEFINE_SOURCE, VIR_MIGRATE_PAUSED, VIR_MIGRATE_ABORT_ON_ERROR = 16, 32, 4096
    VIR_MIGRATE_COMPRESSED, VIR_MIGRATE_AUTO_CONVERGE, VIR_MIGRATE_POSTCOPY = 2048, 8192, 32768
    VIR_MIGRATE_TLS, VIR_MIGRATE_PARALLEL = 65536, 131072
    VIR_MIGRATE_PARAM_DEST_XML, VIR_MIGRATE_PARAM_PERSIST_XML = "destination_xml", "persistent_xml"
    VIR_MIGRATE_PARAM_BANDWIDTH = "bandwidth"
    VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL = "auto_converge.initial"
    VIR_MIGRATE_PARAM_AUTO_CONVERGE_INCREMENT = "auto_converge.increment"
    VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS = "parallel.connections"
    VIR_MIGRATE_PARAM_COMPRESSION = "compression"
    VIR_MIGRATE_PARAM_COMPRESSION_XBZRLE_CACHE = "compression.xbzrle.cache"
    VIR_MIGRATE_PARAM_URI = "migrate_uri"
    VIR_MIGRATE_PARAM_LISTEN_ADDRESS = "listen_address"
    VIR_MIGRATE_PARAM_TLS_DESTINATION = "tls.destination"

    def __init__(self) -> None:
        self.domain = FakeDomain(self)
        self.hosts = {SOURCE: FakeConnect(self, [self.domain]), DESTINATION: FakeConnect(self, [])}
        self.unreachable: set[str] = set()

    def open(self, uri: str) -> FakeConnect:
        if uri in self.unreachable:
            raise LibvirtError(f"unable to connect to server at '{uri}'", 38)
        return self.hosts[uri]

    def virEventRegisterDefaultImpl(self) -> None:
        pass

    def virEventRunDefaultImpl(self) -> None:
        threading.Event().wait(3600)
