# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Read one domain, and the host that it is on. Nothing here changes anything."""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils import _domain_xml
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt import blockers as _blockers
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection, LibvirtError
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.names import (
    DomainState,
    domain_state,
    job_operation,
    job_type,
    secret_usage_type,
    version,
)
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.postcopy import postcopy_problem

LISTENING_GRAPHICS = ("vnc", "spice")


@dataclass(frozen=True)
class Domain:
    """What libvirt says of one domain. The XML still holds secrets, so it never leaves the host like this."""

    handle: t.Any
    name: str
    uuid: str
    state: DomainState
    persistent: bool
    autostart: bool
    xml: str
    inactive_xml: str | None
    job: dict[str, t.Any]
    facts: _blockers.DomainFacts

    @property
    def nova_managed(self) -> bool:
        return _blockers.is_nova_managed(ET.fromstring(self.xml))

    def blockers(self) -> list[dict[str, str]]:
        """All that stands against a migration, including LUN users that nobody would rewrite."""
        return [*_blockers.blockers(self.facts, self.xml), *_domain_xml.unmapped_lun_users(self.xml)]

    def cautions(self) -> list[dict[str, str]]:
        return _blockers.cautions(self.facts, self.xml)


def find_domain(connection: Connection, name: str | None, uuid: str | None) -> Domain | None:
    """The domain, or None when it is not there, or goes away while it is read."""
    handle = connection.find(name, uuid)
    if handle is None:
        return None
    try:
        return read_domain(connection, handle)
    except LibvirtError as exc:
        if exc.code == connection.api.VIR_ERR_NO_DOMAIN:
            return None
        raise


def read_state(connection: Connection, handle: t.Any) -> DomainState:
    code, reason_code = connection.translate(handle.state)
    return domain_state(code, reason_code)


def read_domain(connection: Connection, handle: t.Any) -> Domain:
    """Everything about one domain. Runs many calls: the caller bounds them as a whole."""
    api, call = connection.api, connection.translate
    state = read_state(connection, handle)
    name = str(call(handle.name))
    persistent = bool(call(handle.isPersistent))
    migratable = api.VIR_DOMAIN_XML_MIGRATABLE | api.VIR_DOMAIN_XML_SECURE
    xml = str(call(handle.XMLDesc, migratable))
    job = read_job(connection, handle) if state.active else no_job()
    facts = _blockers.DomainFacts(
        name=name,
        state=state,
        libvirt_version=int(call(connection.handle.getLibVersion)),
        job_operation=str(job["operation"]) if job["active"] else None,
        snapshots=int(call(handle.snapshotNum)),
        checkpoints=len(_or_default(connection, handle.listAllCheckpoints, [])),
        managed_save=bool(_or_default(connection, handle.hasManagedSaveImage, False)),
        block_jobs=tuple(_block_jobs(connection, handle, xml)) if state.active and not _is_arriving(state) else (),
        # libvirt lets this question wait for a running job.
        disk_errors=_disk_errors(connection, handle) if state.active and not job["active"] else {},
    )
    return Domain(
        handle=handle,
        name=name,
        uuid=str(call(handle.UUIDString)),
        state=state,
        persistent=persistent,
        autostart=bool(call(handle.autostart)) if persistent else False,
        xml=xml,
        inactive_xml=str(call(handle.XMLDesc, migratable | api.VIR_DOMAIN_XML_INACTIVE)) if persistent else None,
        job=job,
        facts=facts,
    )


def _is_arriving(state: DomainState) -> bool:
    """While a domain comes in, libvirt lets every call wait that would ask its emulator."""
    return state.state == "paused" and state.reason in ("migration", "starting_up")


def _or_default(connection: Connection, function: t.Callable[..., t.Any], default: t.Any) -> t.Any:
    """Some drivers, and old daemons, lack a call; then there is nothing to be found by it either."""
    try:
        return connection.translate(function)
    except LibvirtError as exc:
        if exc.code == connection.api.VIR_ERR_NO_SUPPORT:
            return default
        raise


def read_job(connection: Connection, handle: t.Any) -> dict[str, t.Any]:
    """The running job in plain types.

    An answer that cannot be had counts as a job: libvirt refuses it while a migration is just beginning, for one.
    """
    try:
        stats = connection.translate(handle.jobStats)
    except LibvirtError as exc:
        if exc.code == connection.api.VIR_ERR_NO_DOMAIN:
            raise
        if exc.code == connection.api.VIR_ERR_NO_SUPPORT:
            return no_job()
        stats = {"type": connection.api.VIR_DOMAIN_JOB_UNBOUNDED}
    if not stats.get("type"):
        return no_job()
    return {
        "active": True,
        "type": job_type(int(stats["type"])),
        "operation": job_operation(int(stats.get("operation", 0))),
        "elapsed_ms": int(stats.get("time_elapsed", 0)),
        "total_bytes": int(stats.get("data_total", 0)),
        "remaining_bytes": int(stats.get("data_remaining", 0)),
    }


def no_job() -> dict[str, t.Any]:
    return {"active": False, "type": "none", "operation": None, "elapsed_ms": 0, "total_bytes": 0, "remaining_bytes": 0}


def _block_jobs(connection: Connection, handle: t.Any, xml: str) -> t.Iterator[str]:
    """Targets with an active block job. The XML shows only some kinds, so every disk is asked about."""
    for target in ET.fromstring(xml).iterfind("./devices/disk/target"):
        dev = str(target.get("dev"))
        try:
            if connection.translate(handle.blockJobInfo, dev, 0):
                yield dev
        except LibvirtError:
            continue  # An empty CD-ROM has no block device to ask.


def _disk_errors(connection: Connection, handle: t.Any) -> dict[str, str]:
    """Disks whose last request failed while QEMU was told to stop then, by target; what failed in words."""
    api = connection.api
    words = {api.VIR_DOMAIN_DISK_ERROR_UNSPEC: "unspecified", api.VIR_DOMAIN_DISK_ERROR_NO_SPACE: "no space"}
    try:
        errors = connection.translate(handle.diskErrors)
    except LibvirtError as exc:
        # It has just ended, or the driver has no such question.
        if exc.code in (api.VIR_ERR_OPERATION_INVALID, api.VIR_ERR_NO_SUPPORT):
            return {}
        raise
    return {str(target): words.get(code, f"error {code}") for target, code in sorted(errors.items()) if code}


def graphics_listen_addresses(xml: str) -> dict[str, str | None]:
    """By type: the address that graphics listen on now; None when it is no address (a socket, for one)."""
    addresses: dict[str, str | None] = {}
    for graphics in ET.fromstring(xml).iterfind("./devices/graphics"):
        kind = str(graphics.get("type"))
        if kind in LISTENING_GRAPHICS:
            listen = graphics.find("listen[@type='address']")
            addresses[kind] = graphics.get("listen") or (listen.get("address") if listen is not None else None)
    return addresses


def read_host(connection: Connection) -> dict[str, t.Any]:
    """The host as libvirt sees it. ``uuid`` is what libvirt tells two hosts apart by."""
    handle, call = connection.handle, connection.translate
    capabilities = ET.fromstring(call(handle.getCapabilities))
    return {
        "hostname": str(call(handle.getHostname)),
        "uuid": capabilities.findtext("./host/uuid"),
        "libvirt_version": version(int(call(handle.getLibVersion))),
        "hypervisor_version": version(int(call(handle.getVersion))),
    }


def read_secrets(connection: Connection) -> list[dict[str, t.Any]] | None:
    """The names of the secrets that this libvirt keeps, not their values; None when it keeps none at all."""
    call = connection.translate
    secrets = _or_default(connection, connection.handle.listAllSecrets, None)
    if secrets is None:
        return None
    return [
        {
            "uuid": str(call(secret.UUIDString)),
            "usage_type": secret_usage_type(int(call(secret.usageType))),
            "usage": str(call(secret.usageID) or "") or None,
        }
        for secret in secrets
    ]


def image_files(domain: Domain) -> list[str]:
    """Files under the running and the stored domain that a destination has to have at the same path.

    libvirt itself goes on without a medium whose C(startupPolicy) says so.
    """
    files = set()
    for xml in (domain.xml, domain.inactive_xml):
        for disk in ET.fromstring(xml).iterfind("./devices/disk") if xml else ():
            # The disk itself and the images below it.
            for element in (disk, *disk.iter("backingStore")):
                source = element.find("source[@file]") if element.get("type") == "file" else None
                if source is not None and source.get("startupPolicy", "mandatory") == "mandatory":
                    files.add(str(source.get("file")))
    return sorted(files)


def other_users(connection: Connection, sources: t.Collection[str], uuid: str | None) -> dict[str, list[str]]:
    """By source (as C(disks) call it), the other domains of this host that name it, running or not."""
    api, call = connection.api, connection.translate
    users: dict[str, list[str]] = {}
    for handle in call(connection.handle.listAllDomains) if sources else ():
        try:
            if call(handle.UUIDString) == uuid:
                continue
            flags = [0] if call(handle.isActive) else []
            flags += [api.VIR_DOMAIN_XML_INACTIVE] if call(handle.isPersistent) else []
            xmls = [str(call(handle.XMLDesc, flag | api.VIR_DOMAIN_XML_MIGRATABLE)) for flag in flags]
            named = {disk["source"] for xml in xmls for disk in _domain_xml.disks(xml)}
        except LibvirtError as exc:
            if exc.code == api.VIR_ERR_NO_DOMAIN:
                continue  # It went away meanwhile.
            raise
        for source in sorted(named & set(sources)):
            users.setdefault(source, []).append(str(call(handle.name)))
    return users


def describe(connection: Connection, name: str | None, uuid: str | None) -> dict[str, t.Any]:
    """What domain_info returns: plain types without secrets."""
    handle, call = connection.handle, connection.translate
    of_host = {
        "host": read_host(connection),
        "secrets": read_secrets(connection),
        "postcopy_problem": postcopy_problem(int(call(handle.getLibVersion)), int(call(handle.getVersion))),
    }
    domain = find_domain(connection, name, uuid)
    if domain is None:
        return {"exists": False, "name": name, "uuid": uuid, "state": None, **of_host}
    return {
        "exists": True,
        "name": domain.name,
        "uuid": domain.uuid,
        "state": domain.state.to_dict(),
        "job": domain.job,
        "persistent": domain.persistent,
        "autostart": domain.autostart,
        "disks": _domain_xml.disks(domain.xml),
        "xml": _domain_xml.redact_xml(domain.xml),
        "inactive_xml": _domain_xml.redact_xml(domain.inactive_xml) if domain.inactive_xml else None,
        "blockers": domain.blockers(),
        "cautions": domain.cautions(),
        "disk_errors": dict(domain.facts.disk_errors),
        "nova_managed": domain.nova_managed,
        "graphics_listen_addrs": graphics_listen_addresses(domain.xml),
        "image_files": image_files(domain),
        **of_host,
    }


__all__ = (
    "Domain",
    "describe",
    "find_domain",
    "graphics_listen_addresses",
    "no_job",
    "other_users",
    "read_domain",
    "read_host",
    "read_job",
    "read_state",
)
