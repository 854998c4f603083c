# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Point the disks and graphics of a domain at the destination, and touch nothing else."""

from __future__ import annotations

import ipaddress
import re
import typing as t
from collections import Counter

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._xml.destination import (
    BlockDestination,
    Destination,
    IscsiDestination,
    destination,
)
from ansible_collections.lunshift.migration.plugins.module_utils._xml.disks import REMOVABLE, Disk, read_layers
from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import drop_attribute, drop_child, new_child, parse, to_text
from ansible_collections.lunshift.migration.plugins.module_utils._xml.lun_users import find_lun_users

if t.TYPE_CHECKING:
    from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import Element

# What <source> says of an iSCSI target and nothing else; the rest of it (seclabel, encryption, slices, ...) is about the data.
_ISCSI_ATTRIBUTES = ("protocol", "name", "tls", "tlsHostname", "query")
_ISCSI_CHILDREN = ("host", "initiator", "auth")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")

DeviceMap = t.Mapping[str, t.Any]


class _Problems:
    """Everything that stands against the rewriting, as sentences and as plain types."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.disks: list[dict[str, t.Any]] = []

    def of_disk(self, disk: Disk, cause: str, remedy: str) -> None:
        self.disks.append({"target": disk.target, "serial": disk.serial, "source": disk.source, "cause": cause, "remedy": remedy})
        serial = f"serial {disk.serial}" if disk.serial else "no serial"
        self.messages.append(f"disk {disk.target} ({serial}, source {disk.source}): {cause}; {remedy}")


def rewrite(
    xml: str,
    device_map: DeviceMap,
    graphics_listen_addrs: t.Mapping[str, str | None] | None = None,
    overrides: DeviceMap | None = None,
    eject: t.Sequence[str] = (),
) -> str:
    """The domain as the destination has to get it.

    ``device_map`` leads from a serial to a device path or connection info, ``overrides`` from a target dev, or that of an
    image below a disk (C(vda[1])), to the same. ``eject`` names drives whose medium stays behind. Raises one InputError
    (``unmapped_disks``) that names every disk and every other user of a LUN that would still point at the source's devices.
    """
    root = parse(xml)
    problems = _Problems()
    emptied = _emptied(root, eject, problems)
    changes = _changes(root, device_map, overrides or {}, problems)
    addresses = _addresses(graphics_listen_addrs or {}, problems)
    problems.messages.extend(finding["message"] for finding in find_lun_users(root))
    if problems.messages:
        raise InputError(problems.messages, error_id="unmapped_disks", disks=problems.disks)
    for element, value in changes:
        _point_at(element, value)
    for element in emptied:
        _empty(element)
    for graphics in root.findall("devices/graphics"):
        address = addresses.get(graphics.get("type", ""))
        if address:
            set_listen_address(graphics, address)
    return to_text(root, xml)


def _emptied(root: Element, eject: t.Sequence[str], problems: _Problems) -> list[Element]:
    """The drives that lose their medium."""
    by_target = {disk.target: (element, disk) for element, disk in read_layers(root)}
    emptied: list[Element] = []
    for target in eject:
        element, disk = by_target.get(target, (None, None))
        if element is None or disk is None:
            problems.messages.append(f"the drive {target} whose medium should be left out is no disk of the domain; correct or remove it")
        elif disk.device not in REMOVABLE:
            problems.of_disk(disk, "only a CD-ROM or floppy drive can go without its medium", "do not name it among those to eject")
        elif disk.needs_entry:
            problems.of_disk(disk, "its medium is a LUN, which can go along", "give it an entry, and do not name it among those to eject")
        else:
            emptied.append(element)
    return emptied


def _empty(drive: Element) -> None:
    drive.set("type", "file")
    for tag in ("source", "auth", "backingStore"):
        for child in drive.findall(tag):
            drop_child(drive, child)


def _changes(root: Element, device_map: DeviceMap, overrides: DeviceMap, problems: _Problems) -> list[tuple[Element, Destination]]:
    by_serial = {str(serial).strip(): value for serial, value in device_map.items()}
    pairs = read_layers(root)
    serials = Counter(disk.serial for _element, disk in pairs if disk.needs_entry and disk.target not in overrides)
    changes: list[tuple[Element, Destination]] = []
    used: dict[str, Disk] = {}
    for element, disk in pairs:
        if len(element.findall("source")) > 1:
            problems.of_disk(disk, "it has more than one <source>", "leave the one that counts")
            continue
        new = _new_source(element, disk, by_serial, overrides, serials, problems) if disk.needs_entry else None
        if new is None:
            continue
        other = next((used[name] for name in new.same_as if name in used), None)
        # Nothing is ever written to an image below another, so several disks may stand on the same.
        if other and not (disk.layer and other.layer):
            problems.of_disk(disk, f"its entry is the same device as that of disk {other.target}", "give each disk its own volume")
        used.update((name, disk) for name in new.same_as)
        changes.append((element, new))
    _check_overrides(overrides, {disk.target: disk for _element, disk in pairs}, problems)
    return changes


def _new_source(
    element: Element, disk: Disk, by_serial: DeviceMap, overrides: DeviceMap, serials: Counter[str | None], problems: _Problems
) -> Destination | None:
    """What the map says of one disk; None, and a problem, when that cannot be used."""
    value, cause, remedy = _entry(disk, by_serial, overrides, serials)
    if cause:
        problems.of_disk(disk, cause, remedy)
        return None
    try:
        new = destination(disk.serial or f"of disk {disk.target}", value)
    except InputError as exc:
        problems.of_disk(disk, "; ".join(exc.details["problems"]), "correct its entry")
        return None
    if isinstance(new, IscsiDestination) and element.find("source[@startupPolicy]") is not None:
        problems.of_disk(
            disk, "libvirt refuses the startupPolicy of its <source> on a network disk", "remove it, or map the disk to a path"
        )
    return new


def _entry(disk: Disk, by_serial: DeviceMap, overrides: DeviceMap, serials: Counter[str | None]) -> tuple[t.Any, str | None, str]:
    """The map's value for one disk, or the cause and the remedy of its absence."""
    by_override = f"or give an override for target dev {disk.target}"
    if disk.target is not None and disk.target in overrides:
        return overrides[disk.target], None, ""
    if disk.layer:
        return (
            None,
            "it is an image below another, and has no serial by which its volume could be found",
            f"give an override for target dev {disk.target}",
        )
    if disk.serial is None:
        return None, "it has no serial, so no volume can be found for it", f"define a <serial> {by_override}"
    if serials[disk.serial] > 1:
        return None, "another disk has the same serial, so it is not known which volume is which", f"correct the serials {by_override}"
    if disk.serial not in by_serial:
        return None, "the device map has no entry for its serial", f"add one {by_override}"
    return by_serial[disk.serial], None, ""


def _check_overrides(overrides: DeviceMap, by_target: t.Mapping[str | None, Disk], problems: _Problems) -> None:
    for target in overrides:
        disk = by_target.get(target)
        if disk is None:
            problems.messages.append(f"the override for target dev {target} fits no disk of the domain; correct or remove it")
        elif not disk.needs_entry:
            problems.of_disk(disk, "it is no block or iSCSI disk with a source, but there is an override for it", "remove the override")


def _addresses(given: t.Mapping[str, str | None], problems: _Problems) -> dict[str, str]:
    addresses: dict[str, str] = {}
    for kind, address in given.items():
        if not address:
            continue
        if not _is_address(address):
            problems.messages.append(f"graphics_listen_addrs of {kind}: {address!r} is neither an address nor a host name")
        addresses[kind] = address
    return addresses


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(_HOST_NAME.fullmatch(text))
    return True


def _point_at(disk: Element, value: Destination) -> None:
    source = disk.find("source")
    if source is None:
        return  # Disks without a source need no entry and never come here.
    if isinstance(value, BlockDestination):
        disk.set("type", "block")
        _to_block(disk, source, value)
    else:
        disk.set("type", "network")
        _to_iscsi(disk, source, value)


def _to_block(disk: Element, source: Element, value: BlockDestination) -> None:
    for attribute in _ISCSI_ATTRIBUTES:
        drop_attribute(source, attribute)
    for parent, tags in ((source, _ISCSI_CHILDREN), (disk, ("auth",))):
        for tag in tags:
            for child in parent.findall(tag):
                drop_child(parent, child)
    source.set("dev", value.path)


def _to_iscsi(disk: Element, source: Element, value: IscsiDestination) -> None:
    drop_attribute(source, "dev")
    source.set("protocol", "iscsi")
    source.set("name", f"{value.iqn}/{value.lun}")
    host = _only_child(source, "host", 0)
    # An IPv6 address stays without brackets: libvirt adds them for QEMU.
    _set_attributes(host, {"name": value.address, "port": str(value.port)})
    _set_auth(disk, source, host, value)
    if value.initiator_iqn:
        initiator = _only_child(source, "initiator", len(source))
        _set_attributes(_only_child(initiator, "iqn", 0), {"name": value.initiator_iqn})
    else:
        # The name of the source's initiator would be refused at the destination's target, or taken for the source.
        for initiator in source.findall("initiator"):
            drop_child(source, initiator)


def _set_auth(disk: Element, source: Element, host: Element, value: IscsiDestination) -> None:
    """libvirt reads <auth> inside <source> or, in older definitions, beside it; it refuses both."""
    if value.username is None:
        for parent in (source, disk):
            for auth in parent.findall("auth"):
                drop_child(parent, auth)
        return
    parent = disk if disk.find("auth") is not None and source.find("auth") is None else source
    auth = _only_child(parent, "auth", source.index(host) + 1)
    _set_attributes(auth, {"username": value.username})
    name, text = ("uuid", value.secret_uuid) if value.secret_uuid else ("usage", value.secret_usage)
    _set_attributes(_only_child(auth, "secret", 0), {"type": "iscsi", name: str(text)})


def set_listen_address(graphics: Element, address: str) -> None:
    """Write the address wherever one stands; the two places of it have to agree.

    Listening on a socket or on a libvirt network is the destination's own affair, and so is the default.
    """
    listens = graphics.findall("listen")
    for listen in listens:
        if listen.get("type") == "address" and listen.get("address"):
            listen.set("address", address)
    if graphics.get("listen") and (not listens or listens[0].get("type") == "address"):
        graphics.set("listen", address)


def _only_child(parent: Element, tag: str, index: int) -> Element:
    """The child of that name, made at the index when there is none; further ones go."""
    found = parent.findall(tag)
    for extra in found[1:]:
        drop_child(parent, extra)
    return found[0] if found else new_child(parent, index, tag)


def _set_attributes(element: Element, attributes: t.Mapping[str, str]) -> None:
    """Exactly these attributes, in the order that they have already."""
    for name in set(element.attrib) - set(attributes):
        del element.attrib[name]
    for name, value in attributes.items():
        element.set(name, value)


__all__ = ("rewrite", "set_listen_address")
