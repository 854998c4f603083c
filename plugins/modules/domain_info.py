#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: domain_info
short_description: Read a libvirt domain and what stands against its live migration
version_added: 0.1.0
author: The lunshift.migration authors (@lunshift)
description:
  - Reads one domain on one host, its disks by serial, its live and its stored definition without secrets, its state and its job.
  - Tells everything that libvirt or QEMU would refuse later, and what they would let through to the harm of the guest's data, at once.
  - A domain that is not there is an answer, not an error.
  - Ends in bounded time even when the libvirt daemon hangs.
extends_documentation_fragment:
  - lunshift.migration.attributes
  - lunshift.migration.attributes.actiongroup_migration
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing is changed.
  platform:
    platforms: linux
options:
  name:
    description: Name of the domain. Give this or O(uuid).
    type: str
  uuid:
    description: UUID of the domain. Give this or O(name).
    type: str
  uri:
    description: How the host reaches its own libvirt. The connection must not be read-only.
    type: str
    default: qemu:///system
  timeout:
    description: Seconds after which a libvirt that does not answer is given up, with the error id V(libvirt_unreachable).
    type: int
    default: 30
  other_users_of:
    description:
      - Sources of disks, as RV(disks) name them, of which is to be told which other domains of this host use them. See RV(other_users).
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  wanted_files:
    description: Paths to look for on this host, such as the RV(image_files) of a domain that is to come here. See RV(missing_files).
    type: list
    elements: path
    default: []
    version_added: 0.2.0
requirements:
  - python3-libvirt on the managed host
  - python3-lxml on the managed host
seealso:
  - module: lunshift.migration.domain_migrate
  - plugin: lunshift.migration.rewrite_disk_sources
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read a domain
  lunshift.migration.domain_info:
    name: web1
  register: web1

- name: Show which volumes it uses
  ansible.builtin.debug:
    msg: "{{ web1.disks | selectattr('needs_entry') | map(attribute='serial') }}"

- name: Refuse at once, with every reason
  ansible.builtin.fail:
    msg: "{{ web1.blockers | map(attribute='message') | join('; ') }}"
  when: web1.exists and web1.blockers | length > 0
"""

RETURN = r"""
exists:
  description:
    - Whether the host has such a domain.
    - When not, of the other values only RV(name) and RV(uuid) (as asked for), RV(state) (null), RV(switchover), RV(host),
      RV(secrets), RV(other_users), RV(missing_files) and RV(postcopy_problem) are given.
  returned: success
  type: bool
name:
  description: Name of the domain.
  returned: success
  type: str
uuid:
  description: UUID of the domain.
  returned: success
  type: str
state:
  description: State in words and in libvirt's numbers; null when there is no such domain.
  returned: success
  type: dict
  contains:
    state:
      description: The state, V(running), V(paused), V(shutoff) and so on.
      type: str
    reason:
      description: Why it is in that state, for example V(booted), V(migrated), V(ioerror).
      type: str
    code:
      description: libvirt's number of the state.
      type: int
    reason_code:
      description: libvirt's number of the reason.
      type: int
  sample: {state: running, reason: booted, code: 1, reason_code: 1}
job:
  description: The libvirt job that runs on the domain.
  returned: when the domain exists
  type: dict
  contains:
    active:
      description: Whether a job runs.
      type: bool
    type:
      description: V(none) when no job runs, else V(bounded) or V(unbounded).
      type: str
    operation:
      description: What the job does, for example V(migration_out); null when no job runs.
      type: str
    elapsed_ms:
      description: How long it has been running.
      type: int
    total_bytes:
      description: What it has to move.
      type: int
    remaining_bytes:
      description: What is left to move.
      type: int
switchover:
  description:
    - What M(lunshift.migration.domain_migrate) left pending on this host, its source; null when nothing is pending.
    - It stays when the domain has gone, and then it is found by the name that was asked for.
  returned: success
  type: dict
  version_added: 0.2.0
  contains:
    mode:
      description: The V(guarded) or V(direct) switchover that the migration was begun with.
      type: str
    resume:
      description: Whether the guest ran when the migration began, and has not been resumed since.
      type: bool
    uuid:
      description: UUID of the domain.
      type: str
    suspect:
      description: Whether the domain was seen to run on both hosts, and the copy here was ended.
      type: bool
persistent:
  description: Whether libvirt stores a definition of the domain.
  returned: when the domain exists
  type: bool
autostart:
  description: Whether the domain starts with its host.
  returned: when the domain exists
  type: bool
disks:
  description:
    - The disks of the live definition, each with its target, serial, type, device, protocol, source and initiator.
    - The images below a disk in its chain follow it, as far as the definition names them, with the target V(vda[1]), V(vda[2]) and
      so on, and their number in C(layer).
    - C(error_policy) and C(rerror_policy) are what the definition tells QEMU to do when a write or a read fails, V(null) when it does
      not say.
  returned: when the domain exists
  type: list
  elements: dict
xml:
  description: The live definition in the form that libvirt migrates, without secrets.
  returned: when the domain exists
  type: str
inactive_xml:
  description: The stored definition, which the next start uses, without secrets; null for a transient domain.
  returned: when the domain exists
  type: str
blockers:
  description: Everything that stands against a live migration.
  returned: when the domain exists
  type: list
  elements: dict
  contains:
    id:
      description: Stable name of the kind, for example V(snapshots), V(block_job), V(unsafe_cache), V(nova_managed), V(not_running).
      type: str
    message:
      description: A sentence with cause and remedy.
      type: str
cautions:
  description: What is worth knowing before a migration and does not stop it; the same keys as RV(blockers).
  returned: when the domain exists
  type: list
  elements: dict
disk_errors:
  description:
    - Disks with an I/O error, by target, and what kind it is. QEMU tells it of disks whose error policy is V(stop).
    - Not asked while a job runs.
  returned: when the domain exists
  type: dict
  sample: {vda: unspecified}
nova_managed:
  description: Whether the domain's metadata say that OpenStack Nova manages it.
  returned: when the domain exists
  type: bool
graphics_listen_addrs:
  description: By type (V(vnc), V(spice)), the address that graphics listen on; null when it is no address.
  returned: when the domain exists
  type: dict
  sample: {vnc: 192.0.2.11}
image_files:
  description: Files that stand for disks in the live and in the stored definition, and that a destination has to have at the same path.
  returned: when the domain exists
  type: list
  elements: str
  version_added: 0.2.0
secrets:
  description: The secrets that this host's libvirt keeps, by their names; null when it keeps none at all.
  returned: success
  type: list
  elements: dict
  version_added: 0.2.0
  contains:
    uuid:
      description: UUID of the secret.
      type: str
    usage_type:
      description: What it is for, V(volume), V(ceph), V(iscsi), V(tls) or V(vtpm).
      type: str
    usage:
      description: The name by which definitions may refer to it instead.
      type: str
other_users:
  description: By source of O(other_users_of), the other domains, running or not, that have it as a disk or below one.
  returned: success
  type: dict
  version_added: 0.2.0
  sample: {"iqn.2026-11.org.example:hosta/3": [web2, web3]}
missing_files:
  description: The paths of O(wanted_files) at which this host has nothing.
  returned: success
  type: list
  elements: str
  version_added: 0.2.0
postcopy_problem:
  description: Why this host's QEMU could not take a domain by post-copy, with the remedy; null when nothing is known against it.
  returned: success
  type: str
  version_added: 0.2.0
host:
  description: The host as its libvirt sees it.
  returned: success
  type: dict
  contains:
    hostname:
      description: Name of the host.
      type: str
    uuid:
      description: UUID that libvirt knows hosts by; the two hosts of a migration must differ in it.
      type: str
    libvirt_version:
      description: Version of the libvirt daemon.
      type: str
    hypervisor_version:
      description: Version of the hypervisor.
      type: str
"""

import os
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import bounded, open_connection
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.domain import describe, other_users
from ansible_collections.lunshift.migration.plugins.module_utils._migration.switchover import read_note
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run


def main() -> None:
    module = make_module(
        {
            "name": {"type": "str"},
            "uuid": {"type": "str"},
            "uri": {"type": "str", "default": "qemu:///system"},
            "timeout": {"type": "int", "default": 30},
            "other_users_of": {"type": "list", "elements": "str", "default": []},
            "wanted_files": {"type": "list", "elements": "path", "default": []},
        },
        mutually_exclusive=[("name", "uuid")],
        required_one_of=[("name", "uuid")],
        supports_check_mode=True,
    )
    params = module.params

    def work() -> dict[str, t.Any]:
        connection = open_connection(params["uri"], params["timeout"])

        def read() -> dict[str, t.Any]:
            found = describe(connection, params["name"], params["uuid"])
            return {**found, "other_users": other_users(connection, params["other_users_of"], found["uuid"])}

        result = bounded(read, params["timeout"], str(connection))
        connection.close()
        note = read_note(result["uuid"], result["name"])
        missing_files = [path for path in params["wanted_files"] if not os.path.exists(path)]
        return {"changed": False, **result, "switchover": note.to_dict() if note else None, "missing_files": missing_files}

    run(module, work)


if __name__ == "__main__":
    main()
