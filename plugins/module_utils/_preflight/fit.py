# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Whether one host has what a domain needs. Reads only; what cannot be found out is None, never a guess."""

from __future__ import annotations

import os
import socket
import typing as t
import xml.etree.ElementTree as ET
from dataclasses import asdict

from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection, LibvirtError
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.host import lock_manager, read_text, settings
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.needs import Lease, Needs

# libvirt's constants, which the binding names only where it knows the function.
_ERR_NO_NETWORK = 43
_ERR_CPU_INCOMPATIBLE = 91
_COMPARE_FAIL = 1


def fit(connection: Connection, wanted: Needs, root: str = "/") -> dict[str, t.Any]:
    """What this host has of ``wanted``, in plain types. Runs many calls: the caller bounds them as a whole."""
    machine_problem = _machine_problem(connection, wanted)
    return {
        "machine": {"ok": machine_problem is None, "problem": machine_problem},
        "cpu": {"ok": None, "problem": "the emulator cannot be asked"} if machine_problem else _cpu(connection, wanted),
        "memory_kib": wanted.memory_kib,
        "huge_pages": [_huge_pages(root, size, needed) for size, needed in sorted(wanted.huge_pages_kib.items())],
        "networks": {name: _network(connection, name) for name in wanted.networks},
        "interfaces": {name: os.path.isdir(os.path.join(root, "sys/class/net", name)) for name in wanted.interfaces},
        "addresses": {address: _is_own(address) for address in wanted.addresses},
        "files": {path: os.path.exists(os.path.join(root, path.lstrip("/"))) for path in wanted.files},
        "leases": [{**asdict(lease), "problem": _lease_problem(lease, root)} for lease in wanted.leases],
    }


def _machine_problem(connection: Connection, wanted: Needs) -> str | None:
    """libvirt asks the emulator itself, so this is about emulator, architecture, machine type and KVM alike."""
    try:
        connection.translate(connection.handle.getDomainCapabilities, wanted.emulator, wanted.arch, wanted.machine, wanted.virt_type, 0)
    except LibvirtError as exc:
        return exc.said
    return None


def _cpu(connection: Connection, wanted: Needs) -> dict[str, t.Any]:
    """``ok`` is None when libvirt cannot compare: for host-passthrough, and on some architectures.

    ``enforced`` is false when libvirt would start the domain nevertheless, without the features that are missing.
    """
    if not wanted.cpu_xml:
        return {"ok": True, "problem": None, "mode": None, "enforced": True}
    cpu = ET.fromstring(wanted.cpu_xml)
    about = {"mode": cpu.get("mode") or "custom", "enforced": cpu.get("check") != "none"}
    if about["mode"] != "custom":
        return {"ok": None, "problem": f"libvirt compares no CPU of mode {about['mode']}", **about}
    try:
        result = connection.translate(
            connection.handle.compareHypervisorCPU,
            wanted.emulator,
            wanted.arch,
            wanted.machine,
            wanted.virt_type,
            wanted.cpu_xml,
            _COMPARE_FAIL,
        )
    except LibvirtError as exc:
        if exc.code == _ERR_CPU_INCOMPATIBLE:
            return {"ok": False, "problem": exc.said, **about}
        # A model that libvirt does not know it refuses in any case.
        unknown = exc.code != connection.api.VIR_ERR_NO_SUPPORT and "CPU" in exc.said
        return {"ok": False if unknown else None, "problem": exc.said, **about, "enforced": True}
    incompatible = int(result) <= 0
    return {"ok": not incompatible, "problem": "the host's CPU lacks features of it" if incompatible else None, **about}


def _huge_pages(root: str, size_kib: int, needed_kib: int) -> dict[str, t.Any]:
    if not size_kib:
        size_kib = _default_huge_page_kib(root)
    free = read_text(root, f"sys/kernel/mm/hugepages/hugepages-{size_kib}kB/free_hugepages").strip()
    return {"size_kib": size_kib, "needed_kib": needed_kib, "free_kib": int(free) * size_kib if free.isdigit() else None}


def _default_huge_page_kib(root: str) -> int:
    for line in read_text(root, "proc/meminfo").splitlines():
        if line.startswith("Hugepagesize:"):
            return int(line.split()[1])
    return 0


def _network(connection: Connection, name: str) -> str:
    try:
        network = connection.translate(connection.handle.networkLookupByName, name)
        return "active" if connection.translate(network.isActive) else "inactive"
    except LibvirtError as exc:
        return "missing" if exc.code == _ERR_NO_NETWORK else f"unknown ({exc.said})"


def _is_own(address: str) -> bool | None:
    """Whether something could listen at this address here: it is bound and let go again, at a port that the kernel chooses."""
    try:
        found = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    for family, kind, protocol, _name, where in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(where)
            return True
        except OSError:
            continue
    return False


def _lease_problem(lease: Lease, root: str) -> str | None:
    """What this host's lock manager would say of a lease; None when it can take it, or when there is no lock manager."""
    manager = lock_manager(settings(root, "etc/libvirt/qemu.conf"), root)
    if manager["name"] != "lockd":
        return None
    lockspace = os.path.join(lease.directory, lease.lockspace)
    if lockspace != manager["file_lockspace_dir"]:
        return f"its lockspace is {lockspace}, but file_lockspace_dir in qemu-lockd.conf is {manager['file_lockspace_dir']}"
    path = os.path.join(lockspace, lease.key)
    return None if os.path.exists(os.path.join(root, path.lstrip("/"))) else f"there is no file {path}"


__all__ = ("fit",)
