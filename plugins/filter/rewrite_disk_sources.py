# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rewrite_disk_sources
short_description: Point the disks of a domain's XML at another host's iSCSI targets
version_added: 0.1.0
author:
  - The lunshift.migration authors
description:
  - Takes the XML of a libvirt domain and gives it as a destination host has to get it, where the same volumes are
    reached through other targets, portals or LUN numbers.
  - Every disk with C(type='block') and a source, and every iSCSI network disk, is looked up in O(map) by its C(<serial>).
    An image below a disk in its chain (C(<backingStore>)) has no serial, so O(overrides) name its volume.
    An unknown, missing or duplicate serial, an image without an override, and anything else in the domain that names a block
    device or an iSCSI target (C(type='volume'), SCSI hostdev, mirror, nvram, QEMU arguments), is part of one error that names all of them.
  - Only C(@type) and C(<source>) of disks and their images, an C(<auth>) beside it and the graphics listen addresses change.
    Everything else keeps its canonical form, comments and namespaces included. Children of C(<source>) that have to do with the
    data and not with the way to them stay, too (C(seclabel), C(reservations), C(encryption), C(slices)).
  - Other disks (Ceph RBD, files, an empty CD-ROM drive) are not touched.
options:
  _input:
    description:
      - The domain's XML, as RV(lunshift.migration.domain_info#module:xml) or RV(lunshift.migration.domain_info#module:inactive_xml)
        give it. Rewrite the live and the inactive XML each from its own.
    type: str
    required: true
  map:
    description:
      - Serial to device path, for a volume that the kernel's initiator attaches on the destination; or serial to
        connection info in Cinder's form, for a volume that QEMU opens itself (libiscsi).
      - In connection info C(libvirt) may stand beside C(data), with C(secret_uuid) or C(secret_usage) of the libvirt secret that holds the
        CHAP password on the destination, and with C(initiator_iqn). A password is not needed, and never written.
      - A disk may change its kind, from C(block) to C(network) and back. An entry that no disk uses is no error.
    type: dict
    required: true
  graphics_listen_addrs:
    description:
      - Listen addresses by type of graphics. They replace addresses only; a domain that
        listens on a socket, on a libvirt network or on the host's default keeps that.
    type: dict
    default: {}
  overrides:
    description:
      - Target dev (C(vdb)) to what O(map) leads to, for disks whose serial does not name their volume, or that have none.
      - C(vdb[1]) is the image below the disk C(vdb), C(vdb[2]) the one below that. Several disks may stand on one image.
    type: dict
    default: {}
  eject:
    description:
      - Target devs of CD-ROM and floppy drives whose medium, which is no LUN, is left out.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
notes:
  - Needs the Python library C(lxml) on the controller.
  - The connection info's first path is used, since QEMU's initiator knows no multipath.
seealso:
  - module: lunshift.migration.domain_info
  - module: lunshift.migration.domain_migrate
  - plugin: lunshift.migration.disk_sources_diff
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Rewrite a domain for devices of the destination's kernel
  ansible.builtin.set_fact:
    destination_xml: >-
      {{ domain.xml | lunshift.migration.rewrite_disk_sources(
           attached.device_path, graphics_listen_addrs={'vnc': '192.0.2.12', 'spice': '192.0.2.12'}) }}

- name: Rewrite a domain whose disk is opened by QEMU itself
  ansible.builtin.set_fact:
    destination_xml: "{{ domain.xml | lunshift.migration.rewrite_disk_sources(connections) }}"
  vars:
    connections:
      58a84f6d-3f0c-4e19-a0af-eb657b790657:
        driver_volume_type: iscsi
        data:
          target_portal: 192.0.2.20:3260
          target_iqn: iqn.2026-11.com.example:host-b
          target_lun: 7
        libvirt:
          initiator_iqn: iqn.2026-11.com.example:initiator-b

- name: Name the volume of a disk whose serial is another one
  ansible.builtin.set_fact:
    destination_xml: "{{ domain.xml | lunshift.migration.rewrite_disk_sources(device_path, overrides={'vdb': device_path[volume_id]}) }}"
"""

RETURN = r"""
_value:
  description: The domain's XML for the destination.
  type: str
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._domain_xml import rewrite
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


def rewrite_disk_sources(
    xml: str,
    map: dict[str, t.Any],  # noqa: A002  (the public name of the argument)
    graphics_listen_addrs: dict[str, str | None] | None = None,
    overrides: dict[str, t.Any] | None = None,
    eject: list[str] | None = None,
) -> str:
    kinds = (
        ("the input", xml, str),
        ("map", map, dict),
        ("graphics_listen_addrs", graphics_listen_addrs or {}, dict),
        ("overrides", overrides or {}, dict),
        ("eject", eject or [], list),
    )
    problems = [
        f"{name} has to be a {kind.__name__}, but is a {type(value).__name__}" for name, value, kind in kinds if not isinstance(value, kind)
    ]
    if problems:
        raise InputError(problems)
    return rewrite(xml, map, graphics_listen_addrs, overrides, eject or [])


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"rewrite_disk_sources": as_filter(rewrite_disk_sources)}
