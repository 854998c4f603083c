#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_path_info
short_description: Read what the way from the source to the destination is like
version_added: 0.2.0
author: The lunshift.migration authors (@lunshift)
description:
  - Run it on the source. A migration is peer-to-peer, so the source's libvirt daemon reaches the destination's with credentials of its own;
    the module tries the same address as the same user.
  - Tells which of the destination's ports for the data answer, and, if wanted, how much of its memory the guest writes.
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
  name:
    description: Name of the domain.
    type: str
    required: true
  uri:
    description: How the host reaches its own libvirt. The connection must not be read-only.
    type: str
    default: qemu:///system
  destination_uri:
    description: How the libvirt daemon of this host reaches the destination's, with the daemon's credentials.
    type: str
    required: true
  data_host:
    description: Name or address that the data go to. Without it no port is asked.
    type: str
  data_ports:
    description: Ports of O(data_host) that are asked.
    type: list
    elements: int
    default: []
  dirty_rate_s:
    description:
      - For how many seconds the writing of the guest is measured; V(0) to leave it. QEMU samples pages meanwhile, which neither
        changes the guest nor stops it.
    type: int
    default: 0
  port_timeout:
    description: Seconds after which a port that does not answer counts as blocked.
    type: int
    default: 3
  timeout:
    description: Seconds after which a libvirt that does not answer is given up.
    type: int
    default: 15
requirements:
  - python3-libvirt on the managed host
  - ip (iproute2) on the managed host, to know the speed of the link
notes:
  - Nothing listens at the ports before a migration, so the good answer is the destination's own refusal. A firewall's refusal by ICMP, and
    silence, count as blocked. A firewall that refuses by a TCP reset cannot be told from the host itself.
seealso:
  - module: lunshift.migration.migration_host_info
"""

EXAMPLES = r"""
- name: Can the source reach the destination?
  lunshift.migration.migration_path_info:
    name: web1
    destination_uri: qemu+tls://hostb.example.org/system
    data_host: hostb.example.org
    data_ports: [49152, 49153]
    dirty_rate_s: 1
  register: way

- name: Show it
  ansible.builtin.debug:
    msg: "{{ way.control.problem or 'reached' }}, blocked ports {{ way.data.blocked }}, {{ way.dirty_rate.bytes_per_s }} B/s"
"""

RETURN = r"""
control:
  description: What answered at O(destination_uri).
  returned: success
  type: dict
  contains:
    reached:
      description: Whether the daemon there let this user in.
      type: bool
    as_daemon:
      description: Whether the module ran as root, as libvirt's system daemon does; otherwise its credentials say nothing of the daemon's.
      type: bool
    hangs:
      description: Whether there was no answer at all.
      type: bool
    problem:
      description: Why it was not reached; V(null) when it was.
      type: str
    host:
      description: Name, UUID and versions of the host that answered; V(null) when none did.
      type: dict
    domain:
      description: What that host says of the domain, the same keys as M(lunshift.migration.domain_info) has; V(null) when none answered.
      type: dict
data:
  description: What answered at O(data_host); V(null) without O(data_host).
  returned: success
  type: dict
  contains:
    host:
      description: As asked for.
      type: str
    address:
      description: What it is resolved to on this host.
      type: str
    problem:
      description: Why it cannot be used at all.
      type: str
    open:
      description: Ports that answered.
      type: list
      elements: int
    blocked:
      description: Ports that did not.
      type: list
      elements: int
    link_mib_per_s:
      description: Speed of this host's network device on the way, in MiB/s; V(null) when it does not say.
      type: int
time_s:
  description: The host's clock at the end, in seconds since 1970.
  returned: success
  type: float
dirty_rate:
  description: What was measured; V(null) without O(dirty_rate_s), or when the domain does not run here.
  returned: success
  type: dict
  contains:
    bytes_per_s:
      description: Memory that the guest wrote per second.
      type: int
    problem:
      description: Why it could not be measured.
      type: str
"""

import time
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import bounded, open_connection
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.domain import read_state
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.way import control_channel, data_ports, dirty_rate


def work(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What the module does, without Ansible."""
    connection = open_connection(params["uri"], params["timeout"])
    handle = connection.call(connection.find, params["name"], None)
    uuid = str(connection.call(handle.UUIDString)) if handle else None
    rate = None
    if handle and params["dirty_rate_s"] and connection.call(read_state, connection, handle).active:
        seconds = params["dirty_rate_s"]
        rate = bounded(lambda: dirty_rate(connection, handle, seconds), params["timeout"] + seconds, str(connection))
    connection.close()
    return {
        "changed": False,
        "control": control_channel(params["destination_uri"], params["name"], uuid, params["timeout"]),
        "data": data_ports(params["data_host"], params["data_ports"], params["port_timeout"]) if params["data_host"] else None,
        "dirty_rate": rate,
        "time_s": time.time(),
    }


def main() -> None:
    module = make_module(
        {
            "name": {"type": "str", "required": True},
            "uri": {"type": "str", "default": "qemu:///system"},
            "destination_uri": {"type": "str", "required": True},
            "data_host": {"type": "str"},
            "data_ports": {"type": "list", "elements": "int", "default": []},
            "dirty_rate_s": {"type": "int", "default": 0},
            "port_timeout": {"type": "int", "default": 3},
            "timeout": {"type": "int", "default": 15},
        },
        supports_check_mode=True,
    )
    run(module, lambda: work(module.params))


if __name__ == "__main__":
    main()
