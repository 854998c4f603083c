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
  - A migration of the same O(operation_id) that runs already is taken over. While its job's process lives, that one follows the limits of
    this task, and its result becomes this task's. When the process is dead, this one watches libvirt's job to its end.
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
      - Required unless the domain is on the destination already, or a running migration is taken over.
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
  downtime_start_ms:
    description:
      - Begin with this shorter limit, and come to O(downtime_ms) in O(downtime_steps) steps; V(0) for O(downtime_ms) from the beginning.
      - A step is taken after each time that going through the guest's memory once more did not bring the rest clearly down. So a guest
        that converges anyway stands still for a shorter time, and one that does not has the longest limit after as many times through its
        memory as there are steps.
    type: int
    default: 0
    version_added: 0.2.0
  downtime_steps:
    description: Number of steps from O(downtime_start_ms) to O(downtime_ms), each by the same factor.
    type: int
    default: 5
    version_added: 0.2.0
  timeout:
    description: Seconds after which O(timeout_action) is taken; V(0) for no limit.
    type: int
    default: 0
  timeout_action:
    description:
      - What is done at O(timeout), or when there is no progress for O(progress_timeout). When no data has moved for 10 seconds, the
        migration is aborted whatever is chosen here.
      - V(abort) aborts the migration; the guest goes on on the source.
      - V(force) suspends the guest, so that nothing changes its memory any more, and it stands still until the rest is sent. That takes
        as long as the rest needs at the present bandwidth. The migration is aborted instead when that would be longer than
        O(progress_timeout). When the migration fails after all, the guest goes on on the source.
      - V(postcopy) lets the guest go on on the destination at once, and sends the rest of its memory after it. From then on the migration
        cannot be aborted, and B(when the network or either host fails before its end, the guest is lost), with what it had in memory; it
        runs slowly meanwhile. Choosing it allows that. It needs C(vm.unprivileged_userfaultfd=1) on the destination, or libvirt 10.1,
        QEMU 8.0 and Linux 6.1 there. M(lunshift.migration.domain_info) on the destination tells whether that is so.
    type: str
    choices: [abort, force, postcopy]
    default: abort
    version_added: 0.2.0
  progress_timeout:
    description:
      - Seconds without progress after which O(timeout_action) is taken; V(0) for no limit.
      - Progress is a new minimum of the memory that remains to be sent, an iteration that begins with less than any before, or a change of
        the downtime limit, the bandwidth or the guest's throttle. libvirt itself has no limit for data that do not arrive.
    type: int
    default: 300
    version_added: 0.2.0
  auto_converge:
    description: Let the hypervisor slow the guest's processors down, more and more, when it changes its memory faster than it can be sent.
    type: bool
    default: false
    version_added: 0.2.0
  auto_converge_initial_percent:
    description: By how much the processors are slowed down at first; V(0) for the hypervisor's default (20 with QEMU).
    type: int
    default: 0
    version_added: 0.2.0
  auto_converge_increment_percent:
    description: By how much more each time that did not suffice; V(0) for the hypervisor's default (10 with QEMU).
    type: int
    default: 0
    version_added: 0.2.0
  parallel_connections:
    description: Send memory over so many connections at once, which fast networks need; V(0) or V(1) for one.
    type: int
    default: 0
    version_added: 0.2.0
  compression:
    description:
      - Compress memory by these methods. It costs processor time, and pays on slow networks.
      - V(xbzrle) sends what changed of pages that were sent before, V(mt) compresses with several threads. V(zlib) and V(zstd)
        need O(parallel_connections), and a libvirt of this host that has them (9.0 has not).
    type: list
    elements: str
    choices: [xbzrle, mt, zlib, zstd]
    default: []
    version_added: 0.2.0
  compression_cache_mib:
    description: Memory that V(xbzrle) keeps pages in, on the source; V(0) for the hypervisor's default (64 with QEMU).
    type: int
    default: 0
    version_added: 0.2.0
  migrate_uri:
    description:
      - Where the destination takes the guest's memory, for example V(tcp://192.0.2.12) or V(tcp://[2001:db8::12]:49160), for a network of
        its own. By default libvirt takes the destination's host name, and a port from 49152 to 49215.
    type: str
    version_added: 0.2.0
  listen_address:
    description: Address on which the destination's hypervisor waits for the guest's memory; by default on all.
    type: str
    version_added: 0.2.0
  tls:
    description:
      - Encrypt the guest's memory on its way, with the hypervisors' own certificates (QEMU's are in C(/etc/pki/qemu) by default). Without
        it whoever sees the network sees the guest's memory.
      - libvirt's own connection is encrypted by O(destination_uri), for example V(qemu+tls://host2/system).
    type: bool
    default: false
    version_added: 0.2.0
  tls_destination:
    description: Name in the certificate of the destination, when it is not the name or address that the memory is sent to.
    type: str
    version_added: 0.2.0
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
      - With V(guarded) libvirt leaves it paused there, and the job resumes it as soon as the source's emulator has ended. When libvirt's
        last message is lost, the guest then runs on one host only. Where the source's kernel does not tell the end of a
        process (before 5.3), libvirt's word is waited for, which comes up to 200 ms later.
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
    downtime_start_ms: 100
    downtime_ms: 500
    timeout: 3600
  vars:
    device_map:
      58a84f6d-3f0c-4e19-a0af-eb657b790657: /dev/disk/by-path/ip-192.0.2.10:3260-iscsi-iqn.2026-11.org.example:host2-lun-7

- name: Move a guest that changes its memory quickly, encrypted, over a network of its own
  lunshift.migration.domain_migrate:
    name: web1
    destination_uri: qemu+tls://host2.example.org/system
    destination_xml: "{{ web1.xml | lunshift.migration.rewrite_disk_sources(device_map) }}"
    persistent_xml: "{{ web1.inactive_xml | lunshift.migration.rewrite_disk_sources(device_map) }}"
    migrate_uri: tcp://198.51.100.12
    listen_address: 198.51.100.12
    tls: true
    tls_destination: host2.example.org
    auto_converge: true
    timeout: 1800
    timeout_action: force

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
    throttle_percent:
      description: By how much O(auto_converge) slowed the guest down at the end.
      type: int
steps:
  description: What was done about the migration while it ran, one sentence each, for example that the downtime limit was raised.
  returned: when the domain was migrated, and when a migration fails
  type: list
  elements: str
seconds:
  description: How long libvirt's call took.
  returned: when the domain was migrated
  type: float
followed:
  description: Whether the migration was running already, and was taken over.
  returned: when the domain was migrated
  type: bool
resume_ms:
  description:
    - For how many milliseconds the guest still stood still on the destination of a guarded switchover after the source was proven to have
      it no more; null when that is not known.
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
  contains:
    phase:
      description: V(starting), V(migrating), V(suspended) (by O(timeout_action=force)), V(postcopy), V(aborting) or V(finishing).
      type: str
    elapsed_s:
      description: Seconds since the start.
      type: float
    percent:
      description: How much of the memory has been sent once; it never falls.
      type: int
    total_bytes:
      description: What the job has to move.
      type: int
    processed_bytes:
      description: What it has sent.
      type: int
    remaining_bytes:
      description: What has to be sent yet; it rises again at each iteration, by what the guest changed.
      type: int
    lowest_remaining_bytes:
      description: The lowest of these so far.
      type: int
    iteration:
      description: For how many times libvirt is going through the guest's memory.
      type: int
    bandwidth_bytes_per_s:
      description: How fast memory is sent.
      type: int
    dirty_bytes_per_s:
      description: How fast the guest changes memory.
      type: int
    throttle_percent:
      description: By how much O(auto_converge) slows the guest down.
      type: int
    expected_downtime_ms:
      description: How long the guest would stand still if the migration were ended now; null before that is known.
      type: int
    downtime_limit_ms:
      description: How long it may; null for the hypervisor's default.
      type: int
    converges:
      description: Whether the last iteration left clearly less than the ones before; null when it is too early to tell.
      type: bool
    seconds_left:
      description: When the end is expected; null when it is not.
      type: float
blockers:
  description: Everything that stands against the migration, each with C(id) and C(message).
  returned: when the module refuses
  type: list
  elements: dict
error_id:
  description:
    - Stable name of the kind of error, for example V(blocked), V(domain_changed), V(timeout), V(no_progress), V(lease_lapsed),
      V(resume_pending), V(libvirt_error).
  returned: on failure
  type: str
libvirt:
  description: What libvirt said, with C(message), C(code) and C(domain).
  returned: when libvirt refuses or fails
  type: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._background import run_in_background
from ansible_collections.lunshift.migration.plugins.module_utils._migration.controls import TIMEOUT_ACTIONS, Controls
from ansible_collections.lunshift.migration.plugins.module_utils._migration.method import COMPRESSIONS, Method
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
            "downtime_start_ms": {"type": "int", "default": 0},
            "downtime_steps": {"type": "int", "default": 5},
            "timeout": {"type": "int", "default": 0},
            "timeout_action": {"type": "str", "choices": list(TIMEOUT_ACTIONS), "default": "abort"},
            "progress_timeout": {"type": "int", "default": 300},
            "auto_converge": {"type": "bool", "default": False},
            "auto_converge_initial_percent": {"type": "int", "default": 0},
            "auto_converge_increment_percent": {"type": "int", "default": 0},
            "parallel_connections": {"type": "int", "default": 0},
            "compression": {"type": "list", "elements": "str", "choices": list(COMPRESSIONS), "default": []},
            "compression_cache_mib": {"type": "int", "default": 0},
            "migrate_uri": {"type": "str"},
            "listen_address": {"type": "str"},
            "tls": {"type": "bool", "default": False},
            "tls_destination": {"type": "str"},
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
        controls=_controls(params),
        method=_method(params),
        operation_id=params["operation_id"] or params["uuid"] or params["name"],
        allow_nova_managed=params["allow_nova_managed"],
        switchover=params["switchover"],
    )
    migration = Migration(request, warn=module.warn)

    def work() -> dict[str, t.Any]:
        return migration.abort(module.check_mode) if params["state"] == "aborted" else migration.migrate(module.check_mode)

    if params["_ticket"]:
        run_in_background(module, work, request.operation_id, params["_ticket"])
    run(module, work)


def _controls(params: t.Mapping[str, t.Any]) -> Controls:
    return Controls(
        bandwidth_mib=params["bandwidth_mib"],
        downtime_ms=params["downtime_ms"],
        downtime_start_ms=params["downtime_start_ms"],
        downtime_steps=params["downtime_steps"],
        timeout_s=params["timeout"],
        timeout_action=params["timeout_action"],
        progress_timeout_s=params["progress_timeout"],
        # In the foreground there is nobody who would renew it.
        lease_s=params["lease_s"] if params["_ticket"] else 0,
        abort_without_controller=params["on_controller_loss"] == "abort",
    )


def _method(params: t.Mapping[str, t.Any]) -> Method:
    return Method(
        auto_converge=params["auto_converge"],
        auto_converge_initial_percent=params["auto_converge_initial_percent"],
        auto_converge_increment_percent=params["auto_converge_increment_percent"],
        parallel_connections=params["parallel_connections"],
        compression=tuple(params["compression"]),
        compression_cache_mib=params["compression_cache_mib"],
        migrate_uri=params["migrate_uri"] or "",
        listen_address=params["listen_address"] or "",
        tls=params["tls"],
        tls_destination=params["tls_destination"] or "",
        postcopy=params["timeout_action"] == "postcopy",
    )


if __name__ == "__main__":
    main()
