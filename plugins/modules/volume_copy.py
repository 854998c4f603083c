#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: volume_copy
short_description: Copy a volume between any two backends, block for block
version_added: 0.2.0
author: The lunshift.migration authors (@lunshift)
description:
  - Copies a volume to another one that exists already, whatever their backends are. O(source) and O(target) say in Cinder's form how this
    host reaches each; the copy itself knows neither of them.
  - The target holds the source block for block afterwards, on stable storage. What it has behind the source's end is made zero. Zeros
    take no space where the target can give it back.
  - A copy that was interrupted goes on where it was, when the same task is run again. What was done is read again from a source that may
    have changed meanwhile, unless it is a snapshot.
  - A second run on volumes that are identical already changes nothing. After small changes of the source it copies only those.
  - While the copy runs the play shows its progress and renews its lease. Another task with the same O(operation_id) hands its limits over
    to the copy that runs, and returns that one's result.
  - The source is never written to.
extends_documentation_fragment:
  - lunshift.migration.attributes
attributes:
  check_mode:
    support: full
    details:
      - Both volumes are opened for reading and looked at as a run would look at them, so every refusal of a run is told. Volumes of the
        kernel's iSCSI initiator have to be attached for that, and are detached again.
      - With O(overwrite=true) the target is not read, so that RV(to_copy_bytes) may be more than a run would write.
  diff_mode:
    support: none
    details: Content is not shown.
  platform:
    platforms: linux
options:
  source:
    description:
      - Connection info of the volume that is read, as Cinder gives it. C(driver_volume_type) chooses the backend.
      - C(local) is a block device, a logical volume or a raw file of this host, C(data.device_path).
      - C(iscsi) is a LUN, with C(target_portal), C(target_iqn), C(target_lun) and, for CHAP, C(auth_method), C(auth_username) and
        C(auth_password) in C(data). Beside C(data) there may be C(initiator). With C(kernel), the default, the LUN is attached to
        this host like M(lunshift.migration.iscsi_volume) does it, and detached at the end. With C(libiscsi) this process logs in
        by itself; the host needs C(libiscsi7), but no device and no root, and C(libvirt.initiator_iqn) is the name that it uses.
      - C(rbd) is an image of a Ceph cluster, which librbd opens; this host needs C(librbd1), but no device, no C(/etc/ceph) and no Python
        bindings. C(data) has C(name) (C(POOL/IMAGE) or C(POOL/NAMESPACE/IMAGE), with C(@SNAPSHOT) or without), C(hosts), C(ports),
        C(auth_username) and C(keyring), the text of a keyring file. Beside C(data) there may be C(ceph) with C(conf_path),
        C(keyring_path) and C(snapshot). As a target the image is locked while it is copied to; an image without the feature
        C(exclusive-lock) cannot be, and is only refused when somebody has it open at the start. A request that no OSD answers for
        60 seconds ends the copy.
    type: dict
  target:
    description: Connection info of the volume that is written to, in the same form.
    type: dict
  state:
    description:
      - V(copied) makes the target a copy of the source.
      - V(aborted) ends the copy of this O(operation_id) that runs on the host. What it has done stays, and another run goes on from there.
    type: str
    choices: [copied, aborted]
    default: copied
  operation_id:
    description:
      - Name of the job on the host, by which M(lunshift.migration.job_lease) finds it.
      - Two copies at once need two names.
    type: str
    required: true
  overwrite:
    description:
      - Whether what the target holds may be lost.
      - Without it a target is refused that holds anything but zeros, the source's own data, or what an earlier copy of the same two
        volumes left there. To know that, all of a target is read that cannot tell where it holds nothing.
    type: bool
    default: false
  verify:
    description:
      - V(written) reads what was written again from the target, past its caches, and compares it with what was read from the source.
      - V(full) reads both volumes again as a whole.
      - What differs is copied once more; what differs then is an error that names the places.
    type: str
    choices: [none, written, full]
    default: written
  source_quiesced:
    description:
      - Your word that nothing writes to the source while it is copied. It is needed where nobody can tell from this host, which is
        so with every volume that other hosts may reach.
      - A source that is seen to be in use is refused nevertheless.
    type: bool
    default: false
  allow_sector_size_change:
    description: Copy between volumes with sectors of different size. An identical copy of a disk with partitions is of no use then.
    type: bool
    default: false
  bandwidth_mib:
    description: The most that is read per second, in MiB; V(0) for no limit. It may be changed while the copy runs, by another task.
    type: int
    default: 0
  journal:
    description:
      - Path of the file, on the host, that says what is done. It is bound to the two volumes, and stays after the copy.
      - By default one in C(/var/lib/lunshift-migration/copies), named after the two volumes.
    type: path
  timeout:
    description: Seconds that a volume may take to be opened, and that a command to its storage may take.
    type: int
    default: 30
  lease_s:
    description:
      - Seconds after which a controller that was not heard of counts as lost; V(0) for never.
      - Without effect when the task itself is asynchronous (C(async)), for nobody renews a lease then.
    type: int
    default: 60
  on_controller_loss:
    description:
      - What the copy does then. With V(continue) it goes on to its end; the same task, run again, then waits for it, or finds it done.
      - With V(abort) it ends; the same task, run again, goes on.
    type: str
    choices: [abort, continue]
    default: continue
  _ticket:
    description: Of the collection's own action plugin, which starts the job in the background under this name. Leave it out.
    type: str
notes:
  - Run it as root, but for backends that need no device of the host.
seealso:
  - module: lunshift.migration.job_lease
  - module: lunshift.migration.iscsi_volume
"""

EXAMPLES = r"""
- name: Copy a logical volume to a larger one
  lunshift.migration.volume_copy:
    operation_id: move-web1
    source:
      driver_volume_type: local
      data:
        device_path: /dev/old/web1
    target:
      driver_volume_type: local
      data:
        device_path: /dev/new/web1
  register: copied

- name: Show how fast it was, and the digest of its content
  ansible.builtin.debug:
    msg: "{{ copied.bytes_per_s | human_readable }}/s, {{ copied.digest }}"

- name: Give a copy that runs more room
  lunshift.migration.volume_copy:
    operation_id: move-web1
    bandwidth_mib: 500
    source:
      driver_volume_type: local
      data:
        device_path: /dev/old/web1
    target:
      driver_volume_type: local
      data:
        device_path: /dev/new/web1

- name: Copy a snapshot of an image to another cluster
  lunshift.migration.volume_copy:
    operation_id: move-db1
    source:
      driver_volume_type: rbd
      data:
        name: volumes/db1@before-move
        hosts: [192.0.2.11, 192.0.2.12, 192.0.2.13]
        ports: ["6789", "6789", "6789"]
        auth_username: cinder
        keyring: "{{ lookup('ansible.builtin.file', 'old.client.cinder.keyring') }}"
    target:
      driver_volume_type: rbd
      data:
        name: volumes/db1
        auth_username: cinder
      ceph:
        conf_path: /etc/ceph/new.conf
        keyring_path: /etc/ceph/new.client.cinder.keyring

- name: End it
  lunshift.migration.volume_copy:
    operation_id: move-web1
    state: aborted
"""

RETURN = r"""
source:
  description: The source.
  returned: when O(state=copied)
  type: dict
  contains: &volume
    name:
      description: What it is called here.
      type: str
    identity:
      description: What tells it from every other volume.
      type: str
    size_bytes:
      description: Its size.
      type: int
    logical_block_bytes:
      description: Size of its sectors.
      type: int
    physical_block_bytes:
      description: What it reads and writes at once.
      type: int
    immutable:
      description: Whether it cannot change, for it is a snapshot.
      type: bool
    can_unmap:
      description: Whether ranges of zeros give their space back.
      type: bool
target:
  description: The target.
  returned: when O(state=copied)
  type: dict
  contains: *volume
actions:
  description: What was done, or in check mode would be done, one sentence each.
  returned: success
  type: list
  elements: str
data_bytes:
  description: How much of the source may be data; the rest is known to be zero.
  returned: when O(state=copied)
  type: int
target_data_bytes:
  description: How much of the target may be data now. With O(overwrite=true) it is lost where it is not the source's.
  returned: in check mode
  type: int
to_copy_bytes:
  description: How much of the source's data the target does not hold yet.
  returned: in check mode
  type: int
estimated_s:
  description:
    - The least time that a run would take, in seconds; as fast as a sample of the source can be read now, and no faster than
      O(bandwidth_mib).
    - How fast the target can be written is not known without writing to it.
  returned: in check mode
  type: float
counts:
  description: What was done with the bytes of both volumes.
  returned: when a copy was made
  type: dict
  contains:
    read_bytes:
      description: Read from the source.
      type: int
    target_read_bytes:
      description: Read from the target, to compare.
      type: int
    written_bytes:
      description: Data that was given to the target.
      type: int
    zeroed_bytes:
      description: What the target was told to make zero.
      type: int
    unchanged_bytes:
      description: What was found to be right on the target already.
      type: int
    skipped_bytes:
      description: What is zero on both sides, and what an earlier run had done.
      type: int
    verified_bytes:
      description: What was read again and found right.
      type: int
    repaired_bytes:
      description: What was copied once more, for it was found to be wrong.
      type: int
seconds:
  description: How long it took.
  returned: when a copy was made
  type: float
bytes_per_s:
  description: The source's size by the time.
  returned: when a copy was made
  type: int
resumed:
  description: Whether an earlier copy was interrupted, and this one went on.
  returned: when O(state=copied)
  type: bool
verified:
  description: What O(verify) was.
  returned: when O(state=copied)
  type: str
digest:
  description:
    - SHA-256 over the digests of all chunks of 4 MiB, in order. That of a chunk is SHA-256 over the SHA-256 digests of its blocks
      of 64 KiB. Copies of one content have the same, on whatever backend.
    - V(null) when a part was copied with O(verify=none).
  returned: when a copy was made
  type: str
journal:
  description: Path of the journal, which has the digest of each chunk.
  returned: when O(state=copied)
  type: str
followed:
  description: Whether the copy was running already, and this task waited for its end.
  returned: when it was
  type: bool
error_id:
  description: >-
    What kind of failure it was, for example V(copy_refused), V(target_not_empty), V(volume_io_error), V(verification_failed),
    V(journal_mismatch), V(journal_damaged), V(lease_lapsed), V(aborted).
  returned: failure
  type: str
reasons:
  description: Stable names of what stands against the copy.
  returned: when the copy is refused
  type: list
  elements: str
problems:
  description: Each problem as one sentence.
  returned: failure, when there can be several
  type: list
  elements: str
volume:
  description: The volume that failed.
  returned: failure of one volume
  type: str
side:
  description: Which side of the copy that volume is, V(source) or V(target).
  returned: failure of one volume after both were opened
  type: str
offset:
  description: Where it failed.
  returned: failure at one place
  type: int
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._background import run_in_background
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run
from ansible_collections.lunshift.migration.plugins.module_utils._volume.copy import Request, VolumeCopy
from ansible_collections.lunshift.migration.plugins.module_utils._volume.objections import VERIFICATIONS, Options
from ansible_collections.lunshift.migration.plugins.module_utils._volume.supervisor import Controls


def main() -> None:
    module = make_module(
        {
            "source": {"type": "dict"},
            "target": {"type": "dict"},
            "state": {"type": "str", "choices": ["copied", "aborted"], "default": "copied"},
            "operation_id": {"type": "str", "required": True},
            "overwrite": {"type": "bool", "default": False},
            "verify": {"type": "str", "choices": list(VERIFICATIONS), "default": "written"},
            "source_quiesced": {"type": "bool", "default": False},
            "allow_sector_size_change": {"type": "bool", "default": False},
            "bandwidth_mib": {"type": "int", "default": 0},
            "journal": {"type": "path"},
            "timeout": {"type": "int", "default": 30},
            "lease_s": {"type": "int", "default": 60},
            "on_controller_loss": {"type": "str", "choices": ["abort", "continue"], "default": "continue"},
            # Of the action plugin: run in the background, under this ticket.
            "_ticket": {"type": "str"},
        },
        required_if=[("state", "copied", ("source", "target"))],
        supports_check_mode=True,
    )
    params = module.params
    request = Request(
        source=params["source"] or {},
        target=params["target"] or {},
        options=Options(
            overwrite=params["overwrite"],
            verify=params["verify"],
            source_quiesced=params["source_quiesced"],
            allow_sector_size_change=params["allow_sector_size_change"],
            bandwidth_mib=params["bandwidth_mib"],
        ),
        controls=Controls(
            bandwidth_mib=params["bandwidth_mib"],
            # In the foreground there is nobody who would renew it.
            lease_s=params["lease_s"] if params["_ticket"] else 0,
            abort_without_controller=params["on_controller_loss"] == "abort",
        ),
        operation_id=params["operation_id"],
        journal=params["journal"],
        timeout_s=params["timeout"],
    )
    job = VolumeCopy(request, warn=module.warn)

    def work() -> dict[str, t.Any]:
        return job.abort(module.check_mode) if params["state"] == "aborted" else job.copy(module.check_mode)

    if params["_ticket"]:
        run_in_background(module, work, request.operation_id, params["_ticket"])
    run(module, work)


if __name__ == "__main__":
    main()
