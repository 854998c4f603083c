# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The disks of a domain: what they are called, and how the host reaches them."""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass, replace

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import DEFAULT_PORT
from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import parse

if t.TYPE_CHECKING:
    from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import Element

# The attribute of <source> that says where the data are, by the disk's type.
_SOURCE_ATTRIBUTE = {"file": "file", "block": "dev", "dir": "dir", "network": "name", "vhostvdpa": "dev", "vhostuser": "path"}

# Drives that a guest can have without a medium.
REMOVABLE = ("cdrom", "floppy")


@dataclass(frozen=True)
class Disk:
    """One disk as the domain describes it, or one image below it in its chain; None where it says nothing.

    ``initiator`` is kernel or libiscsi for a disk that has to be found on the destination by its serial, and
    ``needs_entry`` says that it has to be. ``source`` is a path, or C(iqn/lun), or what the type's source is called.
    ``layer`` is 0 for the disk itself. The image below it has layer 1 and, as libvirt calls it, the target C(vda[1]).
    ``chain_untold`` says that the image may stand on another one, of which the domain says nothing.
    ``error_policy`` is what QEMU does when a write fails, ``rerror_policy`` when a read does.
    """

    target: str | None
    serial: str | None
    type: str
    device: str
    protocol: str | None
    source: str | None
    portal: str | None
    initiator: str | None
    initiator_iqn: str | None
    needs_entry: bool
    layer: int = 0
    chain_untold: bool = False
    error_policy: str | None = None
    rerror_policy: str | None = None


def disk_elements(root: Element) -> list[Element]:
    """The disks themselves. Metadata may hold elements of the same name, so no search by name alone."""
    return root.findall("devices/disk")


def read_disk(element: Element) -> Disk:
    kind = element.get("type", "file")
    source = element.find("source")
    protocol = source.get("protocol") if source is not None and kind == "network" else None
    place = _place(kind, source)
    initiator = None
    if kind == "block" and place:
        initiator = "kernel"
    elif protocol == "iscsi":
        initiator = "libiscsi"
    return Disk(
        target=_attribute(element.find("target"), "dev"),
        serial=(element.findtext("serial") or "").strip() or None,
        type=kind,
        device=element.get("device", "disk"),
        protocol=protocol,
        source=place,
        portal=_portal(source) if initiator == "libiscsi" else None,
        initiator=initiator,
        initiator_iqn=_attribute(element.find("source/initiator/iqn"), "name") if initiator == "libiscsi" else None,
        needs_entry=initiator is not None,
        chain_untold=initiator is not None and _format(element) != "raw" and element.find("backingStore") is None,
        error_policy=_attribute(element.find("driver"), "error_policy"),
        rerror_policy=_attribute(element.find("driver"), "rerror_policy"),
    )


def read_layers(root: Element) -> list[tuple[Element, Disk]]:
    """Every disk in the domain's order, each followed by the images below it, as far as the domain names them."""
    found: list[tuple[Element, Disk]] = []
    for element in disk_elements(root):
        disk = read_disk(element)
        found.append((element, disk))
        for depth, layer in enumerate(chain_of(element), start=1):
            found.append((layer, replace(read_disk(layer), target=f"{disk.target}[{depth}]", device=disk.device, layer=depth)))
    return found


def chain_of(disk: Element) -> t.Iterator[Element]:
    """The <backingStore> elements below a disk; the empty one that ends a chain is not an image."""
    layer = disk.find("backingStore")
    while layer is not None and layer.find("source") is not None:
        yield layer
        layer = layer.find("backingStore")


def disks(xml: str) -> list[dict[str, t.Any]]:
    """Every disk of a domain in the domain's order, each followed by the images below it, in plain types."""
    return [asdict(disk) for _element, disk in read_layers(parse(xml))]


def _format(element: Element) -> str:
    """Of a disk or of an image below it; libvirt takes raw for granted."""
    return _attribute(element.find("driver"), "type") or _attribute(element.find("format"), "type") or "raw"


def _attribute(element: Element | None, name: str) -> str | None:
    return element.get(name) or None if element is not None else None


def _place(kind: str, source: Element | None) -> str | None:
    if source is None:
        return None
    if kind == "volume":
        return f"{source.get('pool', '')}/{source.get('volume', '')}"
    if kind == "nvme":
        return f"{_attribute(source.find('address'), 'bus') or ''}:{source.get('namespace', '')}"
    return source.get(_SOURCE_ATTRIBUTE.get(kind, "")) or None


def _portal(source: Element | None) -> str | None:
    """C(address:port), with brackets around an IPv6 address, as connection info has it; libvirt writes none."""
    name = _attribute(source.find("host"), "name") if source is not None else None
    if source is None or name is None:
        return None
    port = source.find("host").get("port") or DEFAULT_PORT  # type: ignore[union-attr]
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


__all__ = ("REMOVABLE", "Disk", "chain_of", "disk_elements", "disks", "read_disk", "read_layers")
