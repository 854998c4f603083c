# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What stands against a live migration of one domain, read from what libvirt says of it. Pure.

A blocker is what libvirt or QEMU would refuse, usually after the storage has been connected, or what
they would let through to the harm of the guest's data. A caution does not stop anybody.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.names import DomainState

NOVA_NAMESPACE = "http://openstack.org/xmlns/libvirt/nova/"
# libvirt asks virtiofsd whether it can migrate from this version on, and refuses virtiofs before.
VIRTIOFS_MIGRATES_FROM = 10_008_000
SAFE_CACHE_MODES = ("none", "directsync")


@dataclass(frozen=True)
class DomainFacts:
    """What libvirt knows of a domain beyond its XML."""

    name: str
    state: DomainState
    libvirt_version: int
    job_operation: str | None = None
    snapshots: int = 0
    checkpoints: int = 0
    managed_save: bool = False
    block_jobs: tuple[str, ...] = field(default=())
    # Disks with an I/O error, by target.
    disk_errors: t.Mapping[str, str] = field(default_factory=dict)


Finding = dict[str, str]


def _finding(finding_id: str, message: str) -> Finding:
    return {"id": finding_id, "message": message}


def is_nova_managed(root: ET.Element) -> bool:
    """Whether OpenStack Nova made the domain: it puts its own metadata into each."""
    return any(element.tag.startswith("{" + NOVA_NAMESPACE) for element in root.iterfind("./metadata/*"))


def blockers(facts: DomainFacts, xml: str) -> list[Finding]:
    """Everything that stands against the migration, at once."""
    root = ET.fromstring(xml)  # libvirt's own output, which needs no hardened parser
    found = [*_state_blockers(facts), *_storage_blockers(facts, root), *_device_blockers(facts, root)]
    if is_nova_managed(root):
        found.append(
            _finding(
                "nova_managed",
                f"domain {facts.name} is managed by OpenStack Nova, which would not know of the move and would act on the wrong host;"
                " use Nova's own live migration, or insist with allow_nova_managed",
            )
        )
    return found


def _state_blockers(facts: DomainFacts) -> t.Iterator[Finding]:
    if facts.state.state not in ("running", "paused"):
        yield _finding("not_running", f"domain {facts.name} is {facts.state}; only a running or paused domain can be migrated live")
    if facts.job_operation:
        yield _finding(
            "job_running",
            f"domain {facts.name} has a running libvirt job ({facts.job_operation}); wait for its end, or look at it with"
            f" 'virsh domjobinfo {facts.name}'",
        )
    if facts.managed_save:
        yield _finding(
            "managed_save",
            f"domain {facts.name} has a managed save image, whose memory would be restored over newer data at the next start; remove it"
            f" with 'virsh managedsave-remove {facts.name}'",
        )


def _storage_blockers(facts: DomainFacts, root: ET.Element) -> t.Iterator[Finding]:
    if facts.snapshots:
        yield _finding(
            "snapshots",
            f"domain {facts.name} has {facts.snapshots} snapshots, which libvirt does not migrate; delete them, or their metadata with"
            f" 'virsh snapshot-delete {facts.name} NAME --metadata'",
        )
    if facts.checkpoints:
        yield _finding(
            "checkpoints",
            f"domain {facts.name} has {facts.checkpoints} checkpoints, which libvirt does not migrate; delete them, or their metadata with"
            f" 'virsh checkpoint-delete {facts.name} NAME --metadata'",
        )
    for target in facts.block_jobs:
        yield _finding(
            "block_job",
            f"disk {target} of domain {facts.name} has an active block job; wait for its end, or stop it with 'virsh blockjob {facts.name}"
            f" {target} --abort'",
        )
    for disk in root.iterfind("./devices/disk"):
        yield from _disk_blockers(facts.name, disk)


def _disk_blockers(name: str, disk: ET.Element) -> t.Iterator[Finding]:
    target = _target(disk)
    if disk.find("transient") is not None:
        yield _finding("transient_disk", f"disk {target} of domain {name} is transient; libvirt does not migrate its overlay")
    if disk.get("device") == "lun" or disk.find("source/reservations") is not None:
        yield _finding(
            "persistent_reservations",
            f"disk {target} of domain {name} passes SCSI commands to its LUN (device='lun' or reservations); persistent reservations that"
            " the guest holds would stay with the source host",
        )
    if _is_shared_block(disk) and disk.find("source") is not None:
        cache = _driver(disk, "cache")
        # QEMU's own initiator has no host page cache under it, so what QEMU does by default is safe there.
        if cache not in SAFE_CACHE_MODES and not (cache is None and disk.get("type") == "network"):
            yield _finding(
                "unsafe_cache",
                f"disk {target} of domain {name} uses cache mode {cache or 'default'}; libvirt does not refuse it, but data may still be in"
                " the source's page cache when the destination reads. Set cache='none' or 'directsync' and restart the domain",
            )


def _device_blockers(facts: DomainFacts, root: ET.Element) -> t.Iterator[Finding]:
    devices = root.find("./devices")
    if devices is None:
        return
    for hostdev in devices.iterfind("hostdev"):
        kind = hostdev.get("type") or hostdev.get("mode")
        if kind != "usb":
            yield _finding("host_device", f"domain {facts.name} has a host device ({kind}), which cannot go along; detach it first")
    for interface in devices.iterfind("interface[@type='hostdev']"):
        teaming = interface.find("teaming")
        if teaming is None or teaming.get("type") != "transient":
            yield _finding("host_device", f"domain {facts.name} has a network card of the host (interface type='hostdev'); detach it first")
    for shmem in devices.iterfind("shmem"):
        model = shmem.find("model")
        if shmem.get("role") != "master" or (model is not None and model.get("type") == "ivshmem"):
            name = shmem.get("name")
            yield _finding(
                "shared_memory", f"domain {facts.name} has shared memory ({name}), which libvirt does not migrate; detach it first"
            )
    yield from _filesystem_blockers(facts, devices)
    if root.find("./launchSecurity") is not None:
        yield _finding("launch_security", f"domain {facts.name} has encrypted memory (launchSecurity), which QEMU does not migrate")
    needs_tsc = root.find("./cpu/feature[@policy='require'][@name='invtsc']") is not None
    if needs_tsc and root.find("./clock/timer[@name='tsc'][@frequency]") is None:
        yield _finding(
            "invtsc",
            f"domain {facts.name} requires the CPU feature invtsc without a TSC frequency; remove the feature, or set"
            " <timer name='tsc' frequency='...'/> in <clock>",
        )


def _filesystem_blockers(facts: DomainFacts, devices: ET.Element) -> t.Iterator[Finding]:
    for filesystem in devices.iterfind("filesystem"):
        source = filesystem.find("source")
        own_daemon = source is not None and source.get("socket")
        if _driver(filesystem, "type") == "virtiofs" and not own_daemon and facts.libvirt_version < VIRTIOFS_MIGRATES_FROM:
            yield _finding(
                "filesystem", f"domain {facts.name} has a virtiofs directory, which this host's libvirt does not migrate; detach it first"
            )


def cautions(facts: DomainFacts, xml: str) -> list[Finding]:
    """What an operator may want to know; nothing of it stops a migration."""
    found = [
        _finding(
            "disk_error",
            f"disk {target} of domain {facts.name} has an I/O error now ({error}); what it could not write is tried again only after"
            f" 'virsh resume {facts.name}', here or on the destination",
        )
        for target, error in facts.disk_errors.items()
    ]
    for disk in ET.fromstring(xml).iterfind("./devices/disk"):
        # What is only read loses no write.
        if not _is_shared_block(disk) or disk.find("source") is None or disk.find("readonly") is not None:
            continue
        target = _target(disk)
        if _driver(disk, "error_policy") != "stop":
            found.append(
                _finding(
                    "error_policy",
                    f"disk {target} of domain {facts.name} has no error_policy='stop': should its LUN fail during the move, the guest gets"
                    " I/O errors and loses writes instead of pausing. Set <driver error_policy='stop'/> for its next start",
                )
            )
    return found


def _is_shared_block(disk: ET.Element) -> bool:
    source = disk.find("source")
    protocol = source.get("protocol") if source is not None else None
    return disk.get("type") == "block" or (disk.get("type") == "network" and protocol == "iscsi")


def _target(disk: ET.Element) -> str:
    target = disk.find("target")
    return str(target.get("dev")) if target is not None else "(without target)"


def _driver(element: ET.Element, attribute: str) -> str | None:
    driver = element.find("driver")
    value = driver.get(attribute) if driver is not None else None
    return None if value == "default" else value


__all__ = ("DomainFacts", "blockers", "cautions", "is_nova_managed")
