#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iscsi_device_info
short_description: Tell which iSCSI sessions, LUNs and volumes a host has
version_added: 0.1.0
description:
  - Tells the iSCSI sessions of a host, every LUN with its paths, multipath map, identity and users, and what a
    storage provider has to know of the host.
  - For the volumes in O(volumes) it tells the device map, serial to device path, that
    M(lunshift.migration.iscsi_volume) would return and that the filter
    P(lunshift.migration.rewrite_disk_sources#filter) takes.
  - Everything comes from sysfs, C(/proc) and udev's links in one pass, without any command. LUNs that are not disks
    are left out.
  - A volume that is not attached to the host, or that QEMU opens with its own initiator libiscsi, can be looked at by
    a user-space session from this host. It logs in, asks for the identity and logs out; no device appears.
notes:
  - Needs root, for C(/etc/iscsi/initiatorname.iscsi) and for the raw device pages in sysfs.
  - The identity of an attached LUN is the one that the kernel read when it found the device. The kernel does not
    notice when the array gives the LUN number to another volume afterwards. M(lunshift.migration.iscsi_volume) asks
    the device itself.
  - User-space sessions need the library libiscsi on the host (Debian and Ubuntu, package C(libiscsi7) and later; Red
    Hat and SUSE, package C(libiscsi)). Without it the RV(ignore:volumes) concerned have a problem that says so.
  - The module never changes anything, so check mode makes no difference. It writes nothing to the system log, and
    CHAP passwords appear in no result.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: linux
options:
  volumes:
    description:
      - The volumes to look for, by serial, each with the connection info by which THIS host reaches it.
      - The connection info has Cinder's form, C({driver_volume_type, data}) with C(target_portal), C(target_iqn),
        C(target_lun) in C(data), or the lists C(target_portals), C(target_iqns), C(target_luns) for several paths,
        and optionally C(auth_method), C(auth_username), C(auth_password), C(auth_username_in), C(auth_password_in).
      - C(libvirt.initiator_iqn) beside C(data) is the initiator name of a volume that QEMU opens itself.
      - A volume is found by portal, IQN and LUN; all three have to be equal.
    type: dict
    default: {}
  libiscsi_serials:
    description:
      - The volumes of O(volumes) that QEMU opens itself on this host, with libiscsi. They need no device here.
    type: list
    elements: str
    default: []
  probe:
    description:
      - Ask the targets about volumes that are not attached to this host and about those in O(libiscsi_serials).
      - The session logs in with the initiator name of the host, or with C(libvirt.initiator_iqn) for a volume of
        O(libiscsi_serials) that has one. It disturbs no other session.
    type: bool
    default: true
  fingerprint:
    description:
      - The volumes of O(volumes) whose content is to be sampled, for identities that prove nothing.
      - The other volumes of O(volumes) and every other LUN that the host sees are sampled at the same places, since
        only what no other volume has is a proof.
      - 64 blocks of 4096 bytes are read directly from the device, twice with a pause of a second. Nothing is written.
    type: list
    elements: str
    default: []
  image_headers:
    description:
      - The volumes of O(volumes) that hold a qcow2 image, of which is to be told whether its header names another image below it.
      - The first block is read directly from the device. Nothing is written.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
extends_documentation_fragment:
  - lunshift.migration.attributes
seealso:
  - module: lunshift.migration.iscsi_volume
author:
  - The lunshift.migration authors (@lunshift)
"""

EXAMPLES = r"""
- name: Gather all iSCSI devices of the host
  lunshift.migration.iscsi_device_info:
  register: devices

- name: Tell the storage provider which host is to get a volume
  ansible.builtin.debug:
    var: devices.connector

- name: Find the device of a volume, or ask the target about it when it is not attached
  lunshift.migration.iscsi_device_info:
    volumes:
      58a84f6d-3f0c-4e19-a0af-eb657b790657:
        driver_volume_type: iscsi
        data:
          target_portal: 192.0.2.10:3260
          target_iqn: iqn.2026-11.org.example:host-b
          target_lun: 7
  register: devices

- name: Refuse to go on with a volume that has a problem
  ansible.builtin.assert:
    that: devices.volumes.values() | map(attribute='problem') | select | list | length == 0
    fail_msg: "{{ devices.volumes.values() | map(attribute='problem') | select | join('; ') }}"

- name: Look at a volume that QEMU opens itself, over the initiator name of the domain
  lunshift.migration.iscsi_device_info:
    volumes:
      58a84f6d-3f0c-4e19-a0af-eb657b790657:
        driver_volume_type: iscsi
        data:
          target_portal: "[2001:db8::10]:3260"
          target_iqn: iqn.2026-11.org.example:host-b
          target_lun: 7
          auth_method: CHAP
          auth_username: guest-1
          auth_password: "{{ guest_1_chap_password }}"
        libvirt:
          initiator_iqn: iqn.2026-11.org.example:guest-1
    libiscsi_serials:
      - 58a84f6d-3f0c-4e19-a0af-eb657b790657
"""

RETURN = r"""
initiator_name:
  description: The name of the host's own iSCSI initiator; null when it has none.
  type: str
  returned: success
  sample: iqn.1993-08.org.debian:01:506a5ca44813
connector:
  description: What the storage provider has to know of the host, in the form of os-brick and Cinder.
  type: dict
  returned: success
  contains:
    initiator:
      description: The name of the host's own iSCSI initiator.
      type: str
    ip:
      description:
        - The host's address on the way to the first portal of O(volumes), else of a session, else of its default
          route; null without any.
      type: str
    host:
      description: The host's name.
      type: str
    multipath:
      description: Whether multipathd runs.
      type: bool
    platform:
      description: The machine type.
      type: str
    os_type:
      description: The operating system.
      type: str
    do_local_attach:
      description: Always false, as for every host that is not the storage itself.
      type: bool
  sample:
    do_local_attach: false
    host: host-b
    initiator: iqn.1993-08.org.debian:01:506a5ca44813
    ip: 192.0.2.22
    multipath: true
    os_type: linux
    platform: x86_64
addresses:
  description: The host's addresses, without those of the loopback and of single links.
  type: list
  elements: str
  returned: success
  sample: [192.0.2.22, "2001:db8::22"]
graphics_listen_addrs:
  description: Where libvirt lets graphics listen on this host by default, from C(/etc/libvirt/qemu.conf).
  type: dict
  returned: success
  contains:
    vnc:
      description: The address for VNC.
      type: str
    spice:
      description: The address for SPICE.
      type: str
  sample: {spice: 127.0.0.1, vnc: 127.0.0.1}
sessions:
  description: The sessions of the kernel's initiator, in the order of their numbers.
  type: list
  elements: dict
  returned: success
  contains:
    sid:
      description: The number of the session.
      type: int
    state:
      description: The state as the kernel names it, C(LOGGED_IN), C(FAILED) or C(FREE).
      type: str
    iqn:
      description: The target.
      type: str
    tpgt:
      description: The target portal group tag.
      type: int
    portal:
      description: The portal as configured, C(address:port), with brackets around an IPv6 address.
      type: str
    interface:
      description: The interface of open-iscsi that the session uses.
      type: str
    host_no:
      description: The number of the session's SCSI host.
      type: int
  sample:
    - {host_no: 2, interface: default, iqn: "iqn.2026-11.org.example:host-b", portal: "192.0.2.10:3260", sid: 1,
      state: LOGGED_IN, tpgt: 1}
luns:
  description:
    - The LUNs that are attached as disks. Several paths are one LUN when they look the same and either belong to one
      target and LUN number, to one multipath map, or to one of O(volumes).
    - Two LUN numbers of one target are never taken for one LUN, even if a multipath map joins them.
  type: list
  elements: dict
  returned: success
  contains:
    wwid:
      description:
        - The name from device page 0x83 in the form of the kernel, C(naa.), C(eui.) or C(t10.) and so on; null when
          the LUN has none.
      type: str
    unit_serial:
      description: The unit serial number from device page 0x80; null when the LUN has none.
      type: str
    vendor:
      description: The vendor.
      type: str
    model:
      description: The model.
      type: str
    size_bytes:
      description: The size.
      type: int
    logical_block_bytes:
      description: The logical block size.
      type: int
    physical_block_bytes:
      description: The physical block size.
      type: int
    multipath:
      description: The multipath map on the LUN; null without one.
      type: dict
      contains:
        name:
          description: The name of the map.
          type: str
        device:
          description: The device node of the map.
          type: str
        uuid:
          description: The UUID of the map in device-mapper, C(mpath-) and the WWID as multipath writes it.
          type: str
        by_id:
          description: The links in C(/dev/disk/by-id) to the map.
          type: list
          elements: str
    holders:
      description:
        - What stands on the LUN, on its partitions or on its map, however high. The map itself is not listed.
        - Processes that have the device open are not looked for.
      type: list
      elements: dict
      contains:
        kind:
          description:
            - C(mount), C(swap), C(md), C(device), or the maker of a device-mapper device, such as C(lvm) or C(crypt).
          type: str
        name:
          description: The mount point, or the name of the device.
          type: str
    paths:
      description: The SCSI disks that lead to the LUN.
      type: list
      elements: dict
      contains:
        node:
          description: The name of the device node.
          type: str
        hctl:
          description: Host, channel, target and LUN number.
          type: str
        sid:
          description: The number of the session.
          type: int
        portal:
          description: The portal of the session.
          type: str
        iqn:
          description: The target of the session.
          type: str
        lun:
          description: The LUN number of the kernel.
          type: int
        state:
          description: The state of the device as the kernel names it, C(running) or C(transport-offline) for example.
          type: str
        by_path:
          description: The links in C(/dev/disk/by-path) to the device.
          type: list
          elements: str
        by_id:
          description: The links in C(/dev/disk/by-id) to the device.
          type: list
          elements: str
    fingerprint:
      description: Like RV(volumes.fingerprint), for a LUN that is none of O(volumes); else null.
      type: dict
volumes:
  description: What was found out about each volume of O(volumes), by serial.
  type: dict
  returned: success
  contains:
    initiator:
      description: Who opens the volume on this host, V(kernel) or V(libiscsi).
      type: str
    attached:
      description: Whether the host has a device for the volume. Always false for V(libiscsi).
      type: bool
    device_path:
      description:
        - The name that leads to the attached volume on this host. The link was seen to lead to the device of this
          portal, IQN and LUN.
        - C(/dev/disk/by-id/dm-uuid-mpath-...) when there is a multipath map, else the link in C(/dev/disk/by-path).
      type: str
    predicted_device_path:
      description: The name that a volume of the kernel's initiator that is not attached is going to get; else null.
      type: str
    identity:
      description:
        - What tells this volume from others, with the keys RV(luns[].wwid) to RV(luns[].physical_block_bytes); null
          when it is not known.
      type: dict
    identity_source:
      description:
        - V(sysfs) for an attached volume, V(session) when the target was asked; null when the identity is not known.
      type: str
    problem:
      description:
        - One sentence that says why the volume cannot be used, or why nothing is known of it; null when all is well.
      type: str
    fingerprint:
      description:
        - Samples of the content. Each leads from the offset of a block to the SHA-256 sums of its first and second
          reading.
        - The sum is null for a block of zeros, and V(past_end) for a block that the volume is too small to have.
        - Null as a whole when O(fingerprint) is empty or the volume could not be read.
      type: dict
      sample:
        "0": [null, null]
        "4096":
          - 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
          - 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
    names_backing_image:
      description:
        - Whether the header of the qcow2 image on the volume names another image below it.
        - Null when the volume is not in O(image_headers), holds no qcow2 image or could not be read.
      type: bool
      version_added: 0.2.0
  sample:
    58a84f6d-3f0c-4e19-a0af-eb657b790657:
      attached: true
      device_path: /dev/disk/by-path/ip-192.0.2.10:3260-iscsi-iqn.2026-11.org.example:host-b-lun-7
      fingerprint: null
      identity:
        logical_block_bytes: 512
        model: VIRTUAL-DISK
        physical_block_bytes: 4096
        size_bytes: 1073741824
        unit_serial: "0000070001"
        vendor: IET
        wwid: naa.60000000000000000e00000000070001
      identity_source: sysfs
      initiator: kernel
      predicted_device_path: null
      problem: null
device_path:
  description:
    - The device map of the volumes that can be opened on this host; those with a RV(volumes.problem) are not in it. A
      device path for a volume of the kernel's initiator; the connection info without passwords for one of
      O(libiscsi_serials).
  type: dict
  returned: success
  sample:
    58a84f6d-3f0c-4e19-a0af-eb657b790657: >-
      /dev/disk/by-path/ip-192.0.2.10:3260-iscsi-iqn.2026-11.org.example:host-b-lun-7
"""

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.device_info import device_info, read_request
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run


def main() -> None:
    module = make_module(
        {
            "volumes": {"type": "dict", "default": {}},
            "libiscsi_serials": {"type": "list", "elements": "str", "default": []},
            "probe": {"type": "bool", "default": True},
            "fingerprint": {"type": "list", "elements": "str", "default": []},
            "image_headers": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    options = module.params
    run(
        module,
        lambda: device_info(
            read_request(
                options["volumes"], options["libiscsi_serials"], options["probe"], options["fingerprint"], options["image_headers"]
            )
        ),
    )


if __name__ == "__main__":
    main()
