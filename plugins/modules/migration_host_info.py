#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_host_info
short_description: Read what a libvirt host is as an end of a live migration
version_added: 0.2.0
author: The lunshift.migration authors (@lunshift)
description:
  - Reads versions, CPU, free memory, lock manager, clock and migration ports of one host.
  - With O(domain_xml) it also tells which of the things that the domain needs are there, by asking libvirt, the kernel and the file system.
  - Changes nothing, and decides nothing. The filter P(lunshift.migration.preflight_findings#filter) makes verdicts of it.
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
  uri:
    description: How the host reaches its own libvirt. The connection must not be read-only.
    type: str
    default: qemu:///system
  domain_xml:
    description: The domain as this host would get it. The redacted XML of M(lunshift.migration.domain_info) is enough.
    type: str
  timeout:
    description: Seconds after which a libvirt that does not answer is given up, with the error id V(libvirt_unreachable).
    type: int
    default: 30
requirements:
  - python3-libvirt on the managed host
notes:
  - To find out whether an address can be listened at, it is bound at a port that the kernel chooses, and let go again at once.
  - Files can only be found where the user that runs the module can see them; run it as root.
seealso:
  - module: lunshift.migration.migration_path_info
  - module: lunshift.migration.domain_info
"""

EXAMPLES = r"""
- name: What the host is, and what it has of the domain's needs
  lunshift.migration.migration_host_info:
    domain_xml: "{{ web1.xml }}"
  register: on_destination

- name: Show which networks are missing
  ansible.builtin.debug:
    msg: "{{ on_destination.fit.networks | dict2items | rejectattr('value', '==', 'active') | map(attribute='key') }}"
"""

RETURN = r"""
host:
  description: The host.
  returned: success
  type: dict
  contains:
    hostname:
      description: Name of the host.
      type: str
    uuid:
      description: UUID that libvirt knows hosts by.
      type: str
    libvirt_version:
      description: Version of the libvirt daemon.
      type: str
    hypervisor_version:
      description: Version of the hypervisor.
      type: str
    libvirt_number:
      description: The same as libvirt's number, to compare.
      type: int
    hypervisor_number:
      description: The same as libvirt's number, to compare.
      type: int
    cpu:
      description: Model, vendor and features of the host's CPU as libvirt knows them.
      type: dict
    time_s:
      description: The host's clock, in seconds since 1970.
      type: float
    memory_total_kib:
      description: Memory of the host.
      type: int
    memory_available_kib:
      description: What could be used without swapping.
      type: int
    swap_free_kib:
      description: Unused swap space.
      type: int
    lock_manager:
      description:
        - C(name) (V(null) when there is none); for C(lockd) also C(runs), C(locks_disks), C(requires_leases), C(file_lockspace_dir) and
          C(scsi_lockspace_dir), from C(/etc/libvirt/qemu.conf) and C(/etc/libvirt/qemu-lockd.conf).
      type: dict
    data_channel:
      description:
        - Where the host waits for the data of a migration to it. C(host) is what libvirt tells the source to connect to, C(first_port) and
          C(last_port) are its range, C(free_ports) the lowest ones that nothing listens at (64 at most).
      type: dict
fit:
  description: What the host has of the things that O(domain_xml) needs; V(null) without O(domain_xml).
  returned: success
  type: dict
  contains:
    machine:
      description: C(ok) and C(problem), as libvirt says it of emulator, architecture, machine type and kind of virtualisation.
      type: dict
    cpu:
      description: >-
        C(ok) (V(null) when libvirt cannot compare), C(problem), C(mode), and C(enforced), which is false when libvirt would start the
        domain nevertheless (C(check='none')).
      type: dict
    memory_kib:
      description: Memory that the domain may use.
      type: int
    huge_pages:
      description: By size, C(size_kib), C(needed_kib) and C(free_kib) (V(null) when the host has no such pages).
      type: list
      elements: dict
    networks:
      description: By name, V(active), V(inactive) or V(missing).
      type: dict
    interfaces:
      description: Bridges and other network devices, and whether they are there.
      type: dict
    addresses:
      description: Listen addresses of graphics, and whether they belong to the host.
      type: dict
    files:
      description: What the domain boots from (kernel, firmware), and whether it is there.
      type: dict
    leases:
      description: Each with C(lockspace), C(key), C(directory) and C(problem), V(null) when the lock manager can take it.
      type: list
      elements: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection, bounded, open_connection
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.fit import fit
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.host import read_migration_host
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.needs import needs


def read(connection: Connection, domain_xml: str | None) -> dict[str, t.Any]:
    return {"host": read_migration_host(connection), "fit": fit(connection, needs(domain_xml)) if domain_xml else None}


def main() -> None:
    module = make_module(
        {
            "uri": {"type": "str", "default": "qemu:///system"},
            "domain_xml": {"type": "str"},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    params = module.params

    def work() -> dict[str, t.Any]:
        connection = open_connection(params["uri"], params["timeout"])
        result = bounded(lambda: read(connection, params["domain_xml"]), params["timeout"], str(connection))
        connection.close()
        return {"changed": False, **result}

    run(module, work)


if __name__ == "__main__":
    main()
