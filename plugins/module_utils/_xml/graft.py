# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Carry disk sources and listen addresses over to a domain that was dumped afresh, with its secrets, on its host."""

from __future__ import annotations

import copy
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._xml.disks import REMOVABLE, Disk, read_layers
from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import canonical, drop_attribute, drop_child, parse, to_text
from ansible_collections.lunshift.migration.plugins.module_utils._xml.lun_users import find_lun_users
from ansible_collections.lunshift.migration.plugins.module_utils._xml.redact import REDACTED, redact

if t.TYPE_CHECKING:
    from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import Element

# What the given XML decides, or whoever sets a password while the domain runs.
_CHANGEABLE = frozenset(("passwd", "password", "passwdValidTo", "connected", "listen"))


def graft(fresh_xml: str, given_xml: str, planned_sources: t.Mapping[str, str | None] | None = None, eject: t.Collection[str] = ()) -> str:
    """The fresh domain with the disk sources and listen addresses of the given one. It holds secrets.

    Raises one InputError (``domain_changed``) with everything in which the domain is no longer the one that the given
    XML was made of. ``planned_sources`` leads from target dev to the source at that time (as ``disks()`` tells it);
    without it a disk that was moved to other storage in between cannot be noticed. ``eject`` names the drives whose medium
    the given XML leaves out on purpose.
    """
    fresh, given = parse(fresh_xml), parse(given_xml)
    differences = [
        *_identity_differences(fresh, given),
        *_disk_differences(fresh, given, planned_sources, eject),
        *_graphics_differences(fresh, given),
        *_new_lun_users(fresh, given),
    ]
    if differences:
        raise InputError(
            [f"{difference}; plan the migration again" for difference in differences],
            error_id="domain_changed",
        )
    redacted = copy.deepcopy(fresh)
    redact(redacted)
    for (element, disk), (seen, _disk), (planned, _planned_disk) in zip(*(read_layers(root) for root in (fresh, redacted, given))):
        _graft_disk(element, disk, seen, planned)
    for element, planned in zip(fresh.findall("devices/graphics"), given.findall("devices/graphics")):
        _graft_listen_addresses(element, planned)
    return to_text(fresh, fresh_xml)


def _identity_differences(fresh: Element, given: Element) -> t.Iterator[str]:
    for tag in ("name", "uuid"):
        now, planned = (str(root.findtext(tag) or "").strip() for root in (fresh, given))
        if now != planned:
            yield f"the {tag} of the domain is {now}, but the given XML is of {planned}"


def _disk_differences(
    fresh: Element, given: Element, planned_sources: t.Mapping[str, str | None] | None, eject: t.Collection[str]
) -> t.Iterator[str]:
    now, planned = read_layers(fresh), read_layers(given)
    targets, planned_targets = ([disk.target for _element, disk in layers] for layers in (now, planned))
    if targets != planned_targets:
        yield f"the disks of the domain are {_names(targets)}, but {_names(planned_targets)} in the given XML"
        return
    for (element, disk), (other, planned_disk) in zip(now, planned):
        for what, seen, expected in _compared(element, disk, other, planned_disk, disk.target in eject):
            if seen != expected:
                yield f"disk {disk.target}: its {what} is {seen}, but {expected} in the given XML"
        if planned_sources is not None and disk.source != planned_sources.get(str(disk.target)):
            yield f"disk {disk.target}: its source is {disk.source}, but was {planned_sources.get(str(disk.target))} when this was planned"


def _compared(element: Element, disk: Disk, other: Element, planned: Disk, ejected: bool) -> t.Iterator[tuple[str, str | None, str | None]]:
    yield "serial", disk.serial, planned.serial
    yield "device", disk.device, planned.device
    yield "bus", _bus(element), _bus(other)
    if ejected and planned.source is None and disk.device in REMOVABLE and not disk.needs_entry:
        return
    yield "source", _presence(disk), _presence(planned)
    # The rewriting never makes a LUN of a file; when it looks like that, the disk was moved to other storage meanwhile.
    yield "kind", _kind(disk), _kind(planned)


def _bus(disk: Element) -> str | None:
    target = disk.find("target")
    return target.get("bus") if target is not None else None


def _presence(disk: Disk) -> str:
    return "absent" if disk.source is None else "present"


def _kind(disk: Disk) -> str:
    return "a LUN" if disk.needs_entry else disk.type


def _names(targets: t.Sequence[str | None]) -> str:
    return ", ".join(str(target) for target in targets) or "none"


def _graphics_differences(fresh: Element, given: Element) -> t.Iterator[str]:
    now, planned = ([_graphics_shape(graphics) for graphics in root.findall("devices/graphics")] for root in (fresh, given))
    if now != planned:
        yield f"the graphics of the domain are {_shapes(now)}, but {_shapes(planned)} in the given XML"


def _graphics_shape(graphics: Element) -> str:
    attributes = [f"{name}={graphics.get(name)}" for name in sorted(map(str, graphics.attrib)) if name not in _CHANGEABLE]
    return " ".join([*attributes, *(f"listen={listen.get('type')}" for listen in graphics.findall("listen"))])


def _shapes(shapes: t.Sequence[str]) -> str:
    return ", ".join(f"({shape})" for shape in shapes) or "none"


def _new_lun_users(fresh: Element, given: Element) -> t.Iterator[str]:
    known = find_lun_users(given)
    return (finding["message"] for finding in find_lun_users(fresh) if finding not in known)


def _graft_disk(element: Element, disk: Disk, redacted: Element, planned: Element) -> None:
    parts = [[each for each in disk if each.tag in ("source", "auth")] for disk in (redacted, planned)]
    if _canonical(redacted, parts[0]) == _canonical(planned, parts[1]):
        return  # Nothing to carry over, so a secret inside (an HTTP cookie, for one) stays as it is.
    new = [copy.deepcopy(each) for each in parts[1]]
    if any(REDACTED.encode() in canonical(each) for each in new):
        raise InputError(
            [f"disk {disk.target}: its new source holds a secret that was redacted; such a disk cannot be rewritten"],
            error_id="domain_changed",
        )
    element.set("type", planned.get("type", "file"))
    _replace(element, new)


def _canonical(disk: Element, parts: t.Sequence[Element]) -> tuple[str, list[bytes]]:
    return disk.get("type", "file"), [canonical(each) for each in parts]


def _replace(disk: Element, new: t.Sequence[Element]) -> None:
    """Put <source> and <auth> where the old ones were."""
    old = [each for each in disk if each.tag in ("source", "auth")]
    for before, after in zip(old, new):
        after.tail = before.tail
        disk.replace(before, after)
    for extra in old[len(new) :]:
        drop_child(disk, extra)
    if not new:
        return
    position = disk.index(new[min(len(old), len(new)) - 1]) + 1 if old else len(disk)
    for offset, extra in enumerate(new[len(old) :]):
        disk.insert(position + offset, extra)


def _graft_listen_addresses(graphics: Element, planned: Element) -> None:
    for element, other in ((graphics, planned), *zip(graphics.findall("listen"), planned.findall("listen"))):
        attribute = "listen" if element is graphics else "address"
        value = other.get(attribute)
        if value is None:
            drop_attribute(element, attribute)
        else:
            element.set(attribute, value)


__all__ = ("graft",)
