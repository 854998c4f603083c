# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What a domain asks of the host that is to run it, read from its XML. Pure."""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET
from dataclasses import dataclass

# How many KiB one of libvirt's unit is; what it writes itself is always KiB.
_KIB = {
    "b": 1 / 1024,
    "bytes": 1 / 1024,
    "k": 1,
    "KiB": 1,
    "M": 1024,
    "MiB": 1024,
    "G": 1024**2,
    "GiB": 1024**2,
    "T": 1024**3,
    "TiB": 1024**3,
}
# Addresses that every host has.
_EVERYWHERE = ("", "0.0.0.0", "::", "127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Lease:
    """A lock that the lock manager takes for the domain."""

    lockspace: str
    key: str
    directory: str


@dataclass(frozen=True)
class Needs:
    """What has to be on the destination before libvirt starts the domain there, beside its disks."""

    emulator: str | None
    arch: str | None
    machine: str | None
    virt_type: str | None
    cpu_xml: str | None
    memory_kib: int
    # Size of a huge page in KiB (0 for the host's default size) -> what has to fit into such pages.
    huge_pages_kib: t.Mapping[int, int]
    networks: tuple[str, ...]
    interfaces: tuple[str, ...]
    addresses: tuple[str, ...]
    files: tuple[str, ...]
    leases: tuple[Lease, ...]


def needs(xml: str) -> Needs:
    """``xml`` is a domain as libvirt itself wrote it, with or without its secrets."""
    root = ET.fromstring(xml)
    kind = root.find("./os/type")
    cpu = root.find("./cpu")
    memory_kib = _kib(root.find("./memory"))
    return Needs(
        emulator=root.findtext("./devices/emulator"),
        arch=kind.get("arch") if kind is not None else None,
        machine=kind.get("machine") if kind is not None else None,
        virt_type=root.get("type"),
        cpu_xml=ET.tostring(cpu, encoding="unicode").strip() if cpu is not None else None,
        memory_kib=memory_kib,
        huge_pages_kib=_huge_pages(root, memory_kib),
        networks=tuple(dict.fromkeys(_networks(root))),
        interfaces=tuple(dict.fromkeys(_interfaces(root))),
        addresses=tuple(dict.fromkeys(_addresses(root))),
        files=tuple(dict.fromkeys(_files(root))),
        leases=tuple(_leases(root)),
    )


def _kib(element: ET.Element | None, attribute: str | None = None) -> int:
    if element is None:
        return 0
    number = (element.get(attribute) if attribute else element.text) or "0"
    return int(int(number.strip()) * _KIB.get(element.get("unit") or "KiB", 1))


def _huge_pages(root: ET.Element, memory_kib: int) -> dict[int, int]:
    backing = root.find("./memoryBacking/hugepages")
    if backing is None:
        return {}
    pages = backing.findall("page")
    if not pages:
        return {0: memory_kib}
    cells = {cell.get("id"): _kib(cell, "memory") for cell in root.iterfind("./cpu/numa/cell")}
    wanted: dict[int, int] = {}
    for page in pages:
        # A page size that names guest NUMA nodes counts for those alone.
        nodes = _numbers(page.get("nodeset"))
        share = sum(cells.get(str(node), 0) for node in nodes) if nodes and cells else memory_kib
        size = _kib(page, "size")
        wanted[size] = min(memory_kib, wanted.get(size, 0) + share)
    return wanted


def _numbers(text: str | None) -> list[int]:
    """C(0-2,4) as numbers."""
    found: list[int] = []
    for part in (text or "").split(","):
        first, _dash, last = part.partition("-")
        if first.strip().isdigit():
            found += range(int(first), int(last or first) + 1)
    return found


def _networks(root: ET.Element) -> t.Iterator[str]:
    for path in ("./devices/interface[@type='network']/source", "./devices/graphics/listen[@type='network']"):
        for element in root.iterfind(path):
            if element.get("network"):
                yield str(element.get("network"))


def _interfaces(root: ET.Element) -> t.Iterator[str]:
    """Bridges and other network devices of the host that the domain's network cards are plugged into."""
    for kind, attribute in (("bridge", "bridge"), ("direct", "dev")):
        for source in root.iterfind(f"./devices/interface[@type='{kind}']/source"):
            if source.get(attribute):
                yield str(source.get(attribute))


def _addresses(root: ET.Element) -> t.Iterator[str]:
    for graphics in root.iterfind("./devices/graphics"):
        listens = [listen.get("address") for listen in graphics.iterfind("listen[@type='address']")]
        for address in [graphics.get("listen"), *listens]:
            if (address or "") not in _EVERYWHERE:
                yield str(address)


def _files(root: ET.Element) -> t.Iterator[str]:
    """What the domain boots from. The files of disks are the plan's affair; consoles and the like QEMU makes itself."""
    for tag in ("kernel", "initrd", "dtb", "loader"):
        for element in root.iterfind(f"./os/{tag}"):
            path = (element.text or "").strip()
            if path.startswith("/"):
                yield path


def _leases(root: ET.Element) -> t.Iterator[Lease]:
    for lease in root.iterfind("./devices/lease"):
        target = lease.find("target")
        yield Lease(lease.findtext("lockspace") or "", lease.findtext("key") or "", str(target.get("path")) if target is not None else "")


__all__ = ("Lease", "Needs", "needs")
