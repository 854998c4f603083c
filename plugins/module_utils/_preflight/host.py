# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What a host says of itself where a migration depends on it. Reads only."""

from __future__ import annotations

import os
import re
import socket
import time
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.domain import read_host

# libvirt's own range where qemu.conf says nothing.
FIRST_PORT, LAST_PORT = 49152, 49215
# libvirt takes the lowest free one; nobody needs to know of more than these.
MAX_PORTS = 64
LOCKD_SOCKETS = ("run/libvirt/virtlockd-sock", "var/run/libvirt/virtlockd-sock")
_SETTING = re.compile(r"^[ \t]*(\w+)[ \t]*=[ \t]*(?:\"([^\"\n]*)\"|'([^'\n]*)'|(\d+))", re.MULTILINE)
_LISTENING = "0A"


def read_migration_host(connection: Connection, root: str = "/") -> dict[str, t.Any]:
    """Runs several calls: the caller bounds them as a whole."""
    qemu = settings(root, "etc/libvirt/qemu.conf")
    return {
        **read_host(connection),
        "libvirt_number": int(connection.translate(connection.handle.getLibVersion)),
        "hypervisor_number": int(connection.translate(connection.handle.getVersion)),
        "cpu": _host_cpu(connection),
        "time_s": time.time(),
        "memory_total_kib": _meminfo(root, "MemTotal"),
        "memory_available_kib": _meminfo(root, "MemAvailable"),
        "swap_free_kib": _meminfo(root, "SwapFree"),
        "lock_manager": lock_manager(qemu, root),
        "data_channel": data_channel(qemu, root),
    }


def settings(root: str, path: str) -> dict[str, str]:
    """The plain settings of one of libvirt's files; the last of several counts, as it does for libvirt."""
    return {name: quoted or single or number for name, quoted, single, number in _SETTING.findall(read_text(root, path))}


def lock_manager(qemu: t.Mapping[str, str], root: str) -> dict[str, t.Any]:
    """Who keeps a second host from starting the same domain, and what it locks. ``name`` is None where nobody does."""
    name = qemu.get("lock_manager") or None
    if name != "lockd":
        return {"name": name}
    own = settings(root, "etc/libvirt/qemu-lockd.conf")
    automatic = own.get("auto_disk_leases", "1") != "0"
    return {
        "name": name,
        "runs": any(os.path.exists(os.path.join(root, path)) for path in LOCKD_SOCKETS),
        "locks_disks": automatic,
        # libvirt's default depends on the other setting.
        "requires_leases": own.get("require_lease_for_disks", "0" if automatic else "1") != "0",
        "file_lockspace_dir": own.get("file_lockspace_dir"),
        "scsi_lockspace_dir": own.get("scsi_lockspace_dir"),
    }


def data_channel(qemu: t.Mapping[str, str], root: str) -> dict[str, t.Any]:
    """Where this host waits for the data of a migration to it. ``host`` is what libvirt tells the source to connect to."""
    first = int(qemu.get("migration_port_min", FIRST_PORT))
    last = int(qemu.get("migration_port_max", LAST_PORT))
    used = _listening(root)
    free = [port for port in range(first, last + 1) if port not in used]
    return {
        "host": qemu.get("migration_host") or socket.gethostname(),
        "first_port": first,
        "last_port": last,
        "free_ports": free[:MAX_PORTS],
    }


def _listening(root: str) -> set[int]:
    """Ports that something waits at already, under any address."""
    used = set()
    for path in ("proc/net/tcp", "proc/net/tcp6"):
        for line in read_text(root, path).splitlines()[1:]:
            _number, local, _remote, state = line.split()[:4]
            if state == _LISTENING:
                used.add(int(local.rpartition(":")[2], 16))
    return used


def _host_cpu(connection: Connection) -> dict[str, t.Any]:
    """The CPU as libvirt knows it; two hosts with the same one can run each other's host-passthrough guests."""
    cpu = ET.fromstring(connection.translate(connection.handle.getCapabilities)).find("./host/cpu")
    if cpu is None:
        return {"model": None, "vendor": None, "features": []}
    features = sorted(str(feature.get("name")) for feature in cpu.iterfind("feature"))
    return {"model": cpu.findtext("model"), "vendor": cpu.findtext("vendor"), "features": features}


def _meminfo(root: str, name: str) -> int | None:
    found = re.search(rf"^{name}:\s+(\d+) kB", read_text(root, "proc/meminfo"), re.MULTILINE)
    return int(found[1]) if found else None


def read_text(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


__all__ = ("data_channel", "lock_manager", "read_migration_host", "read_text", "settings")
