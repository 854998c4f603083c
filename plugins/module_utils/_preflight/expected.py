# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The domain as the destination would get it, as far as that is known before anything is connected. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._migration.hand_over import device_map, listen_addresses
from ansible_collections.lunshift.migration.plugins.module_utils._xml.disks import disk_elements, read_disk
from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import drop_child, parse, to_text
from ansible_collections.lunshift.migration.plugins.module_utils._xml.rewrite import rewrite, set_listen_address


def expected_xml(
    xml: str,
    plan: t.Mapping[str, t.Any],
    *,
    connections: t.Mapping[str, t.Any],
    device_path: t.Mapping[str, t.Any],
    overrides: t.Mapping[str, str],
    listen_used: t.Mapping[str, str | None],
    listen_given: t.Mapping[str, str],
    listen_of_destination: t.Mapping[str, str],
    eject: t.Sequence[str] = (),
) -> dict[str, t.Any]:
    """C({xml, rewritten, complete}). What the run itself would hand to libvirt when ``complete``.

    A volume whose place is not known yet gets a path that nobody has. Where the run would refuse to change the definition
    (``rewritten`` is false), the disks on volumes are left out, so that the destination can still be asked about all else.
    """
    addresses = listen_addresses(listen_used, listen_given, listen_of_destination)
    keys = [volume["key"] for volume in plan["volumes"]]
    assumed = {key: f"/dev/disk/by-path/unknown-yet-{key}" for key in keys if key not in device_path and key not in connections}
    try:
        entries = device_map(plan, {**device_path, **assumed}, connections, overrides, xml, eject)
        rewritten = rewrite(xml, entries["map"], addresses, entries["overrides"], entries["eject"])
    except InputError:
        return {"xml": _without_volumes(xml, addresses), "rewritten": False, "complete": False}
    return {"xml": rewritten, "rewritten": True, "complete": not assumed}


def _without_volumes(xml: str, addresses: t.Mapping[str, str]) -> str:
    root = parse(xml)
    for element in disk_elements(root):
        parent = element.getparent()
        if read_disk(element).needs_entry and parent is not None:
            drop_child(parent, element)
    for graphics in root.findall("devices/graphics"):
        address = addresses.get(graphics.get("type", ""))
        if address:
            set_listen_address(graphics, address)
    return to_text(root, xml)


__all__ = ("expected_xml",)
