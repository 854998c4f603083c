#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: iscsi_volume
short_description: Attach iSCSI volumes to a host, or detach them without a trace
version_added: 0.1.0
author: The lunshift.migration authors (@lunshift)
description:
  - Attaches a list of volumes by their connection info. Only the LUNs that were asked for appear, whatever else the targets offer.
  - A volume counts as attached when it can be read and, with O(volumes[].expected_identity), when the device itself says that it is the
    expected volume. A disk that still stands for the volume that had its LUN number before is replaced, or refused when it is in use.
  - All or nothing. When one volume fails, what this call made is undone, and the error names every volume that failed.
  - Detaching refuses volumes in use, ends a session with its last volume only, and fails when anything is left.
  - What a call makes is written down before it is made, see O(operation_id). A call that was killed can be run again or undone.
extends_documentation_fragment:
  - lunshift.migration.attributes
attributes:
  check_mode:
    support: full
    details:
      - The identity of a volume that is not attached is asked from its target by a session that makes no device.
        Where that is not possible RV(volumes.identity) is V(null) and RV(volumes.unproven) says why.
  diff_mode:
    support: full
  platform:
    platforms: linux
requirements:
  - root, on the host that the volumes belong to
  - open-iscsi (Debian) or iscsi-initiator-utils (RHEL), and udev
  - libiscsi 1.18 or newer, for volumes of V(libiscsi) and for check mode
options:
  state:
    description:
      - V(attached) makes sure that the volumes can be used on this host.
      - V(detached) makes sure that nothing of them is on this host, whoever attached them.
      - V(restored) undoes what the operation O(operation_id) made on this host and never what was there before it. An operation
        that made nothing, or that was undone before, is no error.
    type: str
    choices: [attached, detached, restored]
    default: attached
  volumes:
    description: The volumes. Required unless O(state=restored), which finds them in the operation's record.
    type: list
    elements: dict
    default: []
    suboptions:
      serial:
        description: What names the volume on every host, as in C(<serial>) of a domain's disk. Cinder uses the volume's id.
        type: str
        required: true
      connection_info:
        description:
          - How this host reaches the volume, in the form that Cinder gives it.
          - C(driver_volume_type) is C(iscsi), and C(data) has C(target_portal), C(target_iqn) and C(target_lun), or C(target_portals),
            C(target_iqns) and C(target_luns) for several paths, with C(auth_method), C(auth_username) and C(auth_password) for CHAP.
          - With C(auth_username_in) and C(auth_password_in) the target has to prove itself, too (mutual CHAP). Only the kernel's initiator
            can do that. They are available since 0.2.0.
          - A CHAP password is written into the node record, which only root can read. It never becomes an argument of a command.
          - C(target_lun) is the number that Linux uses. For a number from 256 to 16383 the flat form, 16384 more, is tried first.
          - Several paths are attached when multipathd runs, as one multipath map, which is used only when it has all of them and no other;
            otherwise the first one is, with a warning. Who wants to go on without a path that is down names the others alone.
          - A map is made whatever C(find_multipaths) says, for the volume's WWID is added to those that multipath remembers, and taken from
            them again when the volume leaves, where this operation added it.
        type: dict
        required: true
      initiator:
        description: Who opens the volume on this host. For V(libiscsi), which is inside QEMU, nothing is attached.
        type: str
        choices: [kernel, libiscsi]
        default: kernel
      expected_identity:
        description:
          - What the volume has to be, in the form of RV(volumes.identity). A key that is V(null) or left out is not compared.
          - C(vendor) and C(model) are never compared.
        type: dict
  at_boot:
    description:
      - Whether the volumes of the kernel's initiator come back when the host starts, before libvirt does, so that a domain that
        starts with its host finds them. Again only these LUNs are brought in. Left out, it stays as it is.
      - A list and a script in C(/var/lib/lunshift-migration/at_boot) and the systemd unit C(lunshift-volumes.service) do it, without
        Ansible. Passwords stay in open-iscsi's node records. Detaching takes a volume off the list, and with the last one all of this goes.
    type: bool
    version_added: 0.2.0
  operation_id:
    description:
      - Names the operation that this call is a part of, such as the domain's UUID. What is made is recorded under it, in
        C(/var/lib/lunshift-migration/operations), for O(state=restored).
      - Without it nothing is recorded. A call that was killed is then finished by running it again, or by O(state=detached).
    type: str
  timeout:
    description:
      - How many seconds each wait may take.
      - The waits are the one for another run on the same target, the login, and the one for a volume to be ready or gone.
    type: int
    default: 30
seealso:
  - module: lunshift.migration.iscsi_device_info
  - module: lunshift.migration.domain_migrate
"""

EXAMPLES = r"""
- name: Attach two volumes
  lunshift.migration.iscsi_volume:
    volumes:
      - serial: 3f6b1d0e-54c8-4c1e-9d3c-1a6e1f0d7a11
        connection_info:
          driver_volume_type: iscsi
          data: {target_portal: "192.0.2.10:3260", target_iqn: "iqn.2026-11.example:hostb", target_lun: 1}
      - serial: 9a0c7f52-0a3f-4be0-8ad5-6b4a0c1f2e22
        connection_info:
          driver_volume_type: iscsi
          data: {target_portal: "192.0.2.10:3260", target_iqn: "iqn.2026-11.example:hostb", target_lun: 2}
  register: volumes

- name: Show what an attachment would do, and what the targets say of the volumes
  lunshift.migration.iscsi_volume:
    volumes: "{{ my_volumes }}"
  check_mode: true
  diff: true

- name: Attach as a part of an operation, and undo that part when something after it fails
  block:
    - name: Attach, and insist on the volume that the source host has
      lunshift.migration.iscsi_volume:
        operation_id: "{{ domain_uuid }}"
        volumes:
          - serial: 3f6b1d0e-54c8-4c1e-9d3c-1a6e1f0d7a11
            connection_info: "{{ connection_of_destination }}"
            expected_identity: "{{ identity_on_source }}"

    - name: Use them
      ansible.builtin.include_tasks: use.yml
  rescue:
    - name: Undo what the operation made here
      lunshift.migration.iscsi_volume:
        state: restored
        operation_id: "{{ domain_uuid }}"

- name: Detach a volume
  lunshift.migration.iscsi_volume:
    state: detached
    volumes:
      - serial: 3f6b1d0e-54c8-4c1e-9d3c-1a6e1f0d7a11
        connection_info: "{{ connection_of_source }}"
"""

RETURN = r"""
device_path:
  description:
    - For each serial where the volume is found on this host. For the kernel's initiator the C(by-path) name, or for a multipath map its
      C(by-id) name. For libiscsi the connection info without secrets.
    - V(null) after a detach, and in check mode for a multipath map whose WWID cannot be asked yet.
  returned: success
  type: dict
  sample:
    3f6b1d0e-54c8-4c1e-9d3c-1a6e1f0d7a11: /dev/disk/by-path/ip-192.0.2.10:3260-iscsi-iqn.2026-11.example:hostb-lun-1
volumes:
  description: Each volume by its serial.
  returned: success
  type: dict
  contains:
    initiator:
      description: Who opens the volume, as it was given.
      type: str
      sample: kernel
    device_path:
      description: As in RV(device_path).
      type: raw
    nodes:
      description: The disks of its paths. Their names do not outlive a session.
      type: list
      elements: str
      sample: [/dev/sda]
    identity:
      description: What the volume itself answered. V(null) when it was not asked.
      type: dict
      contains:
        wwid:
          description: Its name from VPD page 0x83, as in C(device/wwid) of sysfs.
          type: str
        unit_serial:
          description: Its serial from VPD page 0x80. This is not the serial of the domain's disk.
          type: str
        vendor:
          description: Vendor of the INQUIRY data.
          type: str
        model:
          description: Product of the INQUIRY data.
          type: str
        size_bytes:
          description: Its size.
          type: int
        logical_block_bytes:
          description: Size of a logical block.
          type: int
        physical_block_bytes:
          description: Size of a physical block.
          type: int
    made:
      description: Whether this call attached it, or would have in check mode.
      type: bool
    at_boot:
      description: Whether it comes back when the host starts.
      type: bool
    unproven:
      description: Why there is no identity. V(null) when there is one.
      type: str
stale:
  description:
    - Disks of before the call that the kernel had on record as other volumes than the target showed there by then. Linux does not notice
      when an array takes a LUN away, or gives its number to another volume.
    - They are those at the places of O(volumes), which were replaced, and those with the ids of one of O(volumes), which are left alone,
      with a warning. No disk is asked that has other ids on record.
  returned: success
  type: list
  elements: str
  sample: [/dev/sdc]
  version_added: 0.2.0
actions:
  description: What was done, or would be done in check mode, in order. Empty when nothing had to be done.
  returned: success
  type: list
  elements: str
  sample:
    - make a node record for iqn.2026-11.example:hostb at 192.0.2.10:3260
    - log in to iqn.2026-11.example:hostb at 192.0.2.10:3260
    - scan LUN 1 of iqn.2026-11.example:hostb at 192.0.2.10:3260 (volume 3f6b1d0e-54c8-4c1e-9d3c-1a6e1f0d7a11)
error_id:
  description: >-
    What kind of failure it was. One of V(invalid_input), V(not_root), V(locked), V(attach_refused), V(attach_failed), V(identity_mismatch),
    V(not_reachable), V(at_boot_unsupported), V(volume_in_use), V(detach_failed) and V(operation_record).
  returned: failure
  type: str
problems:
  description: Each problem as one sentence.
  returned: failure, when there can be several
  type: list
  elements: str
table:
  description: The fields in which a volume differs from what was expected.
  returned: failure, when volumes were asked for their identity
  type: list
  elements: dict
  contains:
    serial:
      description: The volume.
      type: str
    field:
      description: The key of the identity.
      type: str
    expected:
      description: What was expected.
      type: raw
    seen:
      description: What the volume answered.
      type: raw
failed_volumes:
  description: The serials of the volumes that failed.
  returned: failure of an attachment
  type: list
  elements: str
left:
  description: Why a failed attachment could not undo its own part. Empty when it could.
  returned: failure of an attachment
  type: list
  elements: str
undone:
  description: What a failed attachment undid of its own part.
  returned: failure of an attachment
  type: list
  elements: str
"""

import os
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError, MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.request import parse_requests
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.volumes import Call, attach_volumes, detach_volumes, restore
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run


def argument_spec() -> dict[str, t.Any]:
    return {
        "state": {"type": "str", "choices": ["attached", "detached", "restored"], "default": "attached"},
        "volumes": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "serial": {"type": "str", "required": True},
                "connection_info": {"type": "dict", "required": True},
                "initiator": {"type": "str", "choices": ["kernel", "libiscsi"], "default": "kernel"},
                "expected_identity": {"type": "dict"},
            },
        },
        "at_boot": {"type": "bool"},
        "operation_id": {"type": "str"},
        "timeout": {"type": "int", "default": 30},
    }


def work(params: t.Mapping[str, t.Any], check_mode: bool, host: Host) -> dict[str, t.Any]:
    """What the module does, without Ansible."""
    requests = parse_requests(params["volumes"])
    if params["timeout"] < 1:
        raise InputError(["timeout must be at least 1 second"])
    if os.geteuid() != 0:
        raise MigrationError("only root can attach and detach volumes; set become: true", error_id="not_root")
    call = Call(
        host=host,
        check_mode=check_mode,
        timeout_s=params["timeout"],
        operation_id=params["operation_id"] or None,
        at_boot=params["at_boot"],
    )
    if params["state"] == "restored":
        return restore(call).to_dict()
    return (attach_volumes if params["state"] == "attached" else detach_volumes)(call, requests).to_dict()


def main() -> None:
    module = make_module(
        argument_spec=argument_spec(),
        supports_check_mode=True,
        required_if=[("state", "attached", ["volumes"]), ("state", "detached", ["volumes"]), ("state", "restored", ["operation_id"])],
    )
    run(module, lambda: work(module.params, module.check_mode, Host()))


if __name__ == "__main__":
    main()
