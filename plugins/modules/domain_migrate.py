#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: domain_migrate
short_description: Live-migrate a libvirt domain whose destination reaches its volumes by other paths
version_added: 0.1.0
author: The lunshift.migration authors (@lunshift)
description:
  - Moves a running domain from the host that the task runs on to another host, peer-to-peer and live. Its volumes must be
    reachable on both hosts; nothing is copied but memory.
  - O(destination_xml) and O(persistent_xml) say by which paths the destination reaches the volumes. They may be without secrets. Only
    their disk sources and graphics listen addresses are used, put into fresh dumps of the domain; when disks, graphics or
    identity of the domain are not those of the given XML, the module refuses.
  - While the job runs the play shows its progress and renews its lease. When the controller is lost the lease lapses, and the job
    does what O(on_controller_loss) says.
  - A domain that runs on the destination already is left alone, so the same task can be run again.
  - libvirt's call is migrateToURI3, because migrateToURI2 cannot carry the definition that the destination has to store.
extends_documentation_fragment:
  - lunshift.migration.attributes
  - lunshift.migration.attributes.actiongroup_migration
attributes:
  check_mode:
    support: full
    details: Everything is done but libvirt's call. What only the destination's libvirt and QEMU can refuse is not known then.
  diff_mode:
    support: full
    details: The difference between the definitions of source and destination, without secrets.
  platform:
    platforms: linux
options:
  name:
    description: Name of the domain. Give this or O(uuid).
    type: str
  uuid:
    description: UUID of the domain. Give this or O(name).
    type: str
  state:
    description:
      - V(migrated) moves the domain.
      - V(aborted) ends an outgoing migration of the domain that runs; the domain then stays.
    type: str
    choices: [migrated, aborted]
    default: migrated
  uri:
    description: How the host reaches its own libvirt.
    type: str
    default: qemu:///system
  destination_uri:
    description:
      - How the source's libvirt daemon reaches the destination's, for example V(qemu+tls://host2/system). Required with O(state=migrated).
      - The module connects there too, to see whether the domain has arrived and to set autostart. When it cannot, it says so.
    type: str
  destination_xml:
    description:
      - Definition of the running domain as the destination should have it.
      - Required unless the domain is on the destination already.
    type: str
  persistent_xml:
    description:
      - Definition that the destination should store. Required for a persistent domain, because its stored definition would otherwise
        name the source's devices.
    type: str
  planned_sources:
    description:
      - By target dev, the source of each disk when the migration was planned, as M(lunshift.migration.domain_info) returns it in
        RV(lunshift.migration.domain_info#module:disks).
      - When given, the module refuses a domain whose disks were moved to other storage since then.
    type: dict
  eject:
    description:
      - Target devs of CD-ROM and floppy drives whose medium O(destination_xml) and O(persistent_xml) leave out, because the destination
        does not have it. The guest finds such a drive empty.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  bandwidth_mib:
    description: Upper limit of what the migration uses of the network, in MiB per second; V(0) for none.
    type: int
    default: 0
  downtime_ms:
    description: For how many milliseconds the guest may stand still at the end; V(0) for the hypervisor's default (300 with QEMU).
    type: int
    default: 0
  timeout:
    description: Seconds after which the migration is aborted; V(0) for no limit.
    type: int
    default: 0
  operation_id:
    description: Name of the job on the host, by which M(lunshift.migration.job_lease) finds it. O(uuid) or O(name) when not given.
    type: str
  lease_s:
    description:
      - Seconds after which a controller that was not heard of counts as lost; V(0) for never.
      - Some seconds pass between two polls; on a slow host give it 15 or more.
      - Without effect when the task itself is asynchronous (C(async)), for nobody renews a lease then.
    type: int
    default: 60
  on_controller_loss:
    description: What the job does then. The domain stays on the source with V(abort), and goes on moving with V(continue).
    type: str
    choices: [abort, continue]
    default: abort
  allow_nova_managed:
    description: Migrate even a domain that OpenStack Nova manages. Nova would not know of the move.
    type: bool
    default: false
  switchover:
    description:
      - How the guest begins to run on the destination.
      - With V(guarded) libvirt leaves it paused there, and the job resumes it when the source's own libvirt says that the domain is gone
        from the source. When libvirt's last message is lost, the guest then runs on one host only. It costs some milliseconds.
      - With V(direct) libvirt resumes it by itself. When its last message is lost, BOTH hosts run the guest. Post-copy needs this.
      - With V(guarded) a process on the source takes the last step when the job is killed; and a later run takes it, too.
      - A guest that was paused before stays paused.
    type: str
    choices: [guarded, direct]
    default: guarded
    version_added: 0.2.0
  _ticket:
    description: Of the collection's own action plugin, which starts the job in the background under this name. Leave it out.
    type: str
requirements:
  - python3-libvirt on the managed host
  - python3-lxml on the managed host
notes:
  - The module runs on the source. It is blind to the destination when the network between them is the trouble, so after an error read
    the domain on each host over its own connection, with M(lunshift.migration.domain_info), before anything is undone.
  - A connection to the managed host that goes silent without being closed is noticed by ssh alone; set C(ServerAliveInterval).
seealso:
  - module: lunshift.migration.domain_info
  - module: lunshift.migration.job_lease
  - plugin: lunshift.migration.rewrite_disk_sources
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Read the domain on the source
  lunshift.migration.domain_info:
    name: web1
  register: web1

- name: Move it to host2
  lunshift.migration.domain_migrate:
    name: web1
    destination_uri: qemu+tls://host2.example.org/system
    destination_xml: "{{ web1.xml | lunshift.migration.rewrite_disk_sources(device_map) }}"
    persistent_xml: "{{ web1.inactive_xml | lunshift.migration.rewrite_disk_sources(device_map) }}"
    bandwidth_mib: 500
    downtime_ms: 500
    timeout: 3600
  vars:
    device_map:
      58a84f6d-3f0c-4e19-a0af-eb657b790657: /dev/disk/by-path/ip-192.0.2.10:3260-iscsi-iqn.2026-11.org.example:host2-lun-7

- name: End a migration that nobody waits for any more
  lunshift.migration.domain_migrate:
    name: web1
    state: aborted
"""

RETURN = r"""
name:
  description: Name of the domain.
  returned: when O(state=migrated)
  type: str
uuid:
  description: UUID of the domain.
  returned: when O(state=migrated)
  type: str
source:
  description: What the source said of the domain at the end; the same keys as M(lunshift.migration.domain_info) returns, and C(problem).
  returned: always, also with most errors
  type: dict
  contains:
    exists:
      description: Whether the domain is there; null when the host could not be asked.
      type: bool
    name:
      description: Name of the domain.
      type: str
    uuid:
      description: UUID of the domain.
      type: str
    state:
      description: Its state, as M(lunshift.migration.domain_info) returns it.
      type: dict
    persistent:
      description: Whether libvirt stores a definition of it.
      type: bool
    job:
      description: The libvirt job that runs on it, as M(lunshift.migration.domain_info) returns it; null when there is no domain.
      type: dict
    switchover:
      description: What is pending of its switchover, as M(lunshift.migration.domain_info) returns it.
      type: dict
    problem:
      description: Why the host could not be asked.
      type: str
destination:
  description: The same of the destination, as far as the source could see it.
  returned: when O(state=migrated), also with most errors
  type: dict
outcome:
  description:
    - What follows from both in one word, V(moved), V(stayed), V(unknown) and so on, as the filter
      P(lunshift.migration.migration_outcome#filter) says it.
    - Seen from the source alone. Before anything is undone, give that filter what each host says over its own connection.
  returned: when O(state=migrated), but not in check mode
  type: str
statistics:
  description: libvirt's own numbers of the finished migration; null when they could not be had.
  returned: when the domain was migrated
  type: dict
  contains:
    total_time_ms:
      description: How long libvirt's job took.
      type: int
    downtime_ms:
      description: How long the guest stood still, as measured.
      type: int
    setup_ms:
      description: How long the job took before the first byte.
      type: int
    data_total_bytes:
      description: What the job had to move.
      type: int
    data_processed_bytes:
      description: What it did move.
      type: int
    memory_total_bytes:
      description: Memory of the guest.
      type: int
    memory_processed_bytes:
      description: Memory that was sent, some of it more than once.
      type: int
    memory_bandwidth_bytes_per_s:
      description: How fast memory was sent at the end.
      type: int
    iterations:
      description: How many times libvirt went through the guest's memory.
      type: int
seconds:
  description: How long libvirt's call took.
  returned: when the domain was migrated
  type: float
resume_ms:
  description: For how many milliseconds the guest stood still after libvirt's part of a guarded switchover; null when that is not known.
  returned: when the domain was migrated
  type: int
autostart:
  description: Whether the domain starts with its host; carried over to the destination.
  returned: when the domain was migrated
  type: bool
actions:
  description: What was done, or in check mode would be done, one sentence each.
  returned: success
  type: list
  elements: str
progress:
  description: What was last seen of the job.
  returned: when a migration fails
  type: dict
blockers:
  description: Everything that stands against the migration, each with C(id) and C(message).
  returned: when the module refuses
  type: list
  elements: dict
error_id:
  description: Stable name of the kind of error, for example V(blocked), V(domain_changed), V(timeout), V(lease_lapsed), V(resume_pending),
    V(libvirt_error).
  returned: on failure
  type: str
libvirt:
  description: What libvirt said, with C(message), C(code) and C(domain).
  returned: when libvirt refuses or fails
  type: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._background import run_in_background
from ansible_collections.lunshift.migration.plugins.module_utils._migration.migrate import Migration
from ansible_collections.lunshift.migration.plugins.module_utils._migration.prepare import Request
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run


def main() -> None:
    module = make_module(
        {
            "name": {"type": "str"},
            "uuid": {"type": "str"},
            "state": {"type": "str", "choices": ["migrated", "aborted"], "default": "migrated"},
            "uri": {"type": "str", "default": "qemu:///system"},
            "destination_uri": {"type": "str"},
            "destination_xml": {"type": "str"},
            "persistent_xml": {"type": "str"},
            "planned_sources": {"type": "dict"},
            "eject": {"type": "list", "elements": "str", "default": []},
            "bandwidth_mib": {"type": "int", "default": 0},
            "downtime_ms": {"type": "int", "default": 0},
            "timeout": {"type": "int", "default": 0},
            "operation_id": {"type": "str"},
            "lease_s": {"type": "int", "default": 60},
            "on_controller_loss": {"type": "str", "choices": ["abort", "continue"], "default": "abort"},
            "allow_nova_managed": {"type": "bool", "default": False},
            "switchover": {"type": "str", "choices": ["guarded", "direct"], "default": "guarded"},
            # Of the action plugin: run in the background, under this ticket.
            "_ticket": {"type": "str"},
        },
        mutually_exclusive=[("name", "uuid")],
        required_one_of=[("name", "uuid")],
        required_if=[("state", "migrated", ("destination_uri",))],
        supports_check_mode=True,
    )
    params = module.params
    request = Request(
        name=params["name"],
        uuid=params["uuid"],
        uri=params["uri"],
        destination_uri=params["destination_uri"] or "",
        destination_xml=params["destination_xml"],
        persistent_xml=params["persistent_xml"],
        planned_sources=params["planned_sources"],
        eject=tuple(params["eject"]),
        bandwidth_mib=params["bandwidth_mib"],
        downtime_ms=params["downtime_ms"],
        timeout_s=params["timeout"],
        operation_id=params["operation_id"] or params["uuid"] or params["name"],
        lease_s=params["lease_s"] if params["_ticket"] else 0,
        abort_without_controller=params["on_controller_loss"] == "abort",
        allow_nova_managed=params["allow_nova_managed"],
        switchover=params["switchover"],
    )
    migration = Migration(request, warn=module.warn)

    def work() -> dict[str, t.Any]:
        return migration.abort(module.check_mode) if params["state"] == "aborted" else migration.migrate(module.check_mode)

    if params["_ticket"]:
        run_in_background(module, work, request.operation_id, params["_ticket"])
    run(module, work)


if __name__ == "__main__":
    main()
