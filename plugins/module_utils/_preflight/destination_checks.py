# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Checks of what the destination has: everything that libvirt or QEMU would miss there. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._preflight.seen import (
    GO,
    NO_GO,
    UNPROVEN,
    WARNING,
    Intent,
    Seen,
    Verdict,
    halves,
    part,
)

Verdicts = t.Iterator[Verdict]
_MIB = 1024


def _fit(seen: Seen, intent: Intent) -> t.Mapping[str, t.Any]:
    return t.cast("t.Mapping[str, t.Any]", part(seen.destination_host, "fit", intent.destination_name))


def _host(seen: Seen, intent: Intent) -> t.Mapping[str, t.Any]:
    return t.cast("t.Mapping[str, t.Any]", part(seen.destination_host, "host", intent.destination_name))


def versions(seen: Seen, intent: Intent) -> Verdicts:
    here, there = part(seen.source_host, "host", intent.source_name), _host(seen, intent)
    for number, text, what in (("libvirt_number", "libvirt_version", "libvirt"), ("hypervisor_number", "hypervisor_version", "QEMU")):
        if there[number] < here[number]:
            yield Verdict(
                WARNING,
                f"{what} {there[text]} of {intent.destination_name} is older than {here[text]} of {intent.source_name}",
                f"upgrade {what} on {intent.destination_name} first; a migration to an older version is not what its makers test",
            )


def machine(seen: Seen, intent: Intent) -> Verdicts:
    found = _fit(seen, intent)["machine"]
    if not found["ok"]:
        yield Verdict(
            NO_GO,
            f"{intent.destination_name}: {found['problem']}",
            "install the same emulator there, of a version that knows the machine type",
        )


def cpu(seen: Seen, intent: Intent) -> Verdicts:
    found = _fit(seen, intent)["cpu"]
    if found["ok"]:
        return
    cause = f"{intent.destination_name}: {found['problem']}"
    if found["ok"] is False:
        # Otherwise the guest would start, and find features missing that it uses.
        yield Verdict(
            NO_GO if found["enforced"] else WARNING, cause, "choose a CPU model that both hosts have (virsh hypervisor-cpu-baseline)"
        )
    elif found.get("mode") == "host-passthrough":
        here, there = part(seen.source_host, "host", intent.source_name)["cpu"], _host(seen, intent)["cpu"]
        if here != there or not here["features"]:
            yield Verdict(
                UNPROVEN, f"{cause}, and the hosts' CPUs differ", "move such a domain between hosts of one CPU type and microcode"
            )
    else:
        yield Verdict(UNPROVEN, cause, "compare the hosts' CPUs by 'virsh capabilities'")


def memory(seen: Seen, intent: Intent) -> Verdicts:
    found, host = _fit(seen, intent), _host(seen, intent)
    in_huge_pages_kib = sum(pages["needed_kib"] for pages in found["huge_pages"])
    needed_kib = intent.earlier_memory_kib + max(0, found["memory_kib"] - in_huge_pages_kib)
    available_kib = host["memory_available_kib"]
    if available_kib is None:
        yield Verdict(UNPROVEN, f"{intent.destination_name} does not tell its free memory", "look at 'free -m' there")
    elif needed_kib > available_kib:
        enough = needed_kib <= available_kib + (host["swap_free_kib"] or 0)
        earlier = " together with the domains before it" if intent.earlier_memory_kib else ""
        yield Verdict(
            WARNING if enough else NO_GO,
            f"the domain may use {needed_kib // _MIB} MiB{earlier},"
            f" but {intent.destination_name} has {available_kib // _MIB} MiB available",
            "move other guests away first, or choose another destination" + ("" if not enough else "; the host would have to swap"),
        )


def huge_pages(seen: Seen, intent: Intent) -> Verdicts:
    for pages in _fit(seen, intent)["huge_pages"]:
        free_kib = pages["free_kib"]
        if free_kib is None or free_kib < pages["needed_kib"]:
            has = "no such pages" if free_kib is None else f"{free_kib // _MIB} MiB of them free"
            yield Verdict(
                NO_GO,
                f"the domain needs {pages['needed_kib'] // _MIB} MiB in huge pages of {pages['size_kib']} KiB, and"
                f" {intent.destination_name} has {has}",
                f"reserve them there (/sys/kernel/mm/hugepages/hugepages-{pages['size_kib']}kB/nr_hugepages)",
            )


def secrets(seen: Seen, intent: Intent) -> Verdicts:
    """Beside what the plan found missing."""
    if part(seen.destination, "secrets", intent.destination_name) is None:
        yield Verdict(UNPROVEN, f"libvirt on {intent.destination_name} does not tell its secrets", "look at 'virsh secret-list' there")
    if not intent.complete:
        yield Verdict(
            UNPROVEN,
            "which secrets the volumes need is not known before the connection info of each is",
            "see the items of the volumes",
        )


def networks(seen: Seen, intent: Intent) -> Verdicts:
    found = _fit(seen, intent)
    for name, state in found["networks"].items():
        if state != "active":
            yield Verdict(
                NO_GO if state in ("missing", "inactive") else UNPROVEN,
                f"the libvirt network {name} is {state} on {intent.destination_name}",
                f"define and start it there (virsh net-define, virsh net-start {name})",
            )
    for name, exists in found["interfaces"].items():
        if not exists:
            yield Verdict(NO_GO, f"{intent.destination_name} has no bridge or network device {name}", "make it there, in the same network")


def graphics(seen: Seen, intent: Intent) -> Verdicts:
    for address, is_own in _fit(seen, intent)["addresses"].items():
        if not is_own:
            yield Verdict(
                NO_GO,
                f"graphics would listen on {address}, which is no address of {intent.destination_name}",
                f"set live_migrate_graphics_listen_addrs in the host variables of {intent.destination_name}",
            )


def files(seen: Seen, intent: Intent) -> Verdicts:
    for path, exists in _fit(seen, intent)["files"].items():
        if not exists:
            yield Verdict(
                NO_GO,
                f"{intent.destination_name} has no file {path}",
                "copy it there under the same path",
            )


def postcopy(seen: Seen, intent: Intent) -> Verdicts:
    if not intent.postcopy:
        yield Verdict(GO, "not allowed by live_migrate_timeout_action")
        return
    problem = part(seen.destination, "postcopy_problem", intent.destination_name)
    if problem:
        yield Verdict(NO_GO, *halves(f"{intent.destination_name}: {problem}"))


def lock_manager(seen: Seen, intent: Intent) -> Verdicts:
    here, there = part(seen.source_host, "host", intent.source_name)["lock_manager"], _host(seen, intent)["lock_manager"]
    leases = _fit(seen, intent)["leases"]
    if here["name"] != there["name"]:
        yield Verdict(
            # sanlock sends its state along, and libvirt refuses another one's; lockd sends none.
            NO_GO if "sanlock" in (here["name"], there["name"]) else WARNING,
            f"the lock manager of {intent.source_name} is {here['name'] or 'none'},"
            f" that of {intent.destination_name} {there['name'] or 'none'}",
            "set the same lock_manager in /etc/libvirt/qemu.conf of both hosts, and restart their daemons",
        )
    if there["name"] is None:
        if leases:
            yield Verdict(
                WARNING,
                f"the domain has a <lease>, but {intent.destination_name} has no lock manager that would take it",
                "set lock_manager in /etc/libvirt/qemu.conf there",
            )
        elif here["name"] is None:
            yield Verdict(GO, "none on either host: libvirt itself would not keep the domain from being started twice")
        return
    yield from _lockd(there, leases, intent)


def _lockd(manager: t.Mapping[str, t.Any], leases: t.Sequence[t.Mapping[str, t.Any]], intent: Intent) -> Verdicts:
    if manager["name"] != "lockd":
        yield Verdict(UNPROVEN, f"of the lock manager {manager['name']} nothing is known here", "look at its leases on both hosts")
        return
    if not manager["runs"]:
        yield Verdict(NO_GO, f"virtlockd does not run on {intent.destination_name}", "start virtlockd (or its socket) there")
    for lease in leases:
        if lease["problem"]:
            yield Verdict(
                NO_GO,
                f"{intent.destination_name} cannot take the lease {lease['lockspace']}/{lease['key']}: {lease['problem']}",
                "mount the shared directory of leases there, under the path that both qemu-lockd.conf name",
            )
    if not leases and manager["requires_leases"]:
        yield Verdict(
            NO_GO,
            f"lockd on {intent.destination_name} requires a <lease>, and the domain has none",
            "give the domain a <lease>, or set require_lease_for_disks = 0 in /etc/libvirt/qemu-lockd.conf there",
        )
    elif not leases and not manager["scsi_lockspace_dir"]:
        yield Verdict(
            WARNING,
            "lockd locks disks by their path, which differs from host to host, and QEMU's own initiator has none: it keeps nobody from"
            " starting the domain twice",
            "give the domain a <lease>, or set scsi_lockspace_dir in /etc/libvirt/qemu-lockd.conf of both hosts",
        )


__all__ = ("cpu", "files", "graphics", "huge_pages", "lock_manager", "machine", "memory", "networks", "postcopy", "secrets", "versions")
