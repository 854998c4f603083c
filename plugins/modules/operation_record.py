#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: operation_record
short_description: Note on its source that a migration begins, so that a killed run can be finished
version_added: 0.2.0
author: The lunshift.migration authors (@lunshift)
description:
  - Writes into the operation record of the source which domain leaves for which host, whether it starts with its host, and how the
    source reaches its volumes. The record is on disk, and only root can read it, before this module returns; it outlives a killed run
    and a restart of the host.
  - After the move the domain's definition no longer leads to the source's devices. The record does.
  - Passwords in O(volumes) are left out; detaching needs none.
extends_documentation_fragment:
  - lunshift.migration.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: linux
requirements:
  - root
options:
  operation_id:
    description: Names the operation; the role uses the UUID of the domain.
    type: str
    required: true
  state:
    description:
      - V(present) notes the migration, V(absent) takes the note away, and with it the results that a lost controller never read.
      - What M(lunshift.migration.iscsi_volume) noted under the same O(operation_id) stays in either case.
    type: str
    choices: [present, absent]
    default: present
  domain:
    description: Name of the domain. Required with O(state=present).
    type: str
  destination:
    description: Name of the host that takes the domain, as the inventory calls it. Required with O(state=present).
    type: str
  autostart:
    description: Whether the domain starts with this host, which libvirt does not carry over.
    type: bool
    default: false
  volumes:
    description: What M(lunshift.migration.iscsi_volume) takes to detach the volumes of the domain on this host.
    type: list
    elements: dict
    default: []
    suboptions:
      serial:
        description: What names the volume on every host.
        type: str
        required: true
      connection_info:
        description: How this host reaches the volume, in the form that Cinder gives it.
        type: dict
        required: true
      initiator:
        description: Who opens the volume on this host.
        type: str
        choices: [kernel, libiscsi]
        default: kernel
  timeout:
    description: How many seconds to wait for another run that works on the same operation.
    type: int
    default: 30
seealso:
  - module: lunshift.migration.operation_info
"""

EXAMPLES = r"""
- name: Note that web1 leaves
  lunshift.migration.operation_record:
    operation_id: "{{ web1.uuid }}"
    domain: web1
    destination: hostb
    autostart: "{{ web1.autostart }}"
    volumes: "{{ volumes_of_web1 }}"

- name: It has arrived, and nothing of it is left here
  lunshift.migration.operation_record:
    operation_id: "{{ web1.uuid }}"
    state: absent
"""

RETURN = r"""
operation_id:
  description: The operation.
  returned: success
  type: str
"""

import os
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import redact
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.volumes import Call, note_move
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import forget_results
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run
from ansible_collections.lunshift.migration.plugins.module_utils._operation import Move


def argument_spec() -> dict[str, t.Any]:
    return {
        "operation_id": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "domain": {"type": "str"},
        "destination": {"type": "str"},
        "autostart": {"type": "bool", "default": False},
        "volumes": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "serial": {"type": "str", "required": True},
                "connection_info": {"type": "dict", "required": True},
                "initiator": {"type": "str", "choices": ["kernel", "libiscsi"], "default": "kernel"},
            },
        },
        "timeout": {"type": "int", "default": 30},
    }


def _to_detach(volume: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Detaching needs no password; and what asks for CHAP and has none would be refused as a mistake."""
    plain: dict[str, t.Any] = redact(volume)
    info = plain["connection_info"]
    data = info.get("data")
    if isinstance(data, dict):
        info = {**info, "data": {key: value for key, value in data.items() if not key.startswith("auth_")}}
    return {**plain, "connection_info": info}


def work(params: t.Mapping[str, t.Any], call: Call) -> dict[str, t.Any]:
    """What the module does, without Ansible."""
    if os.geteuid() != 0:
        raise MigrationError("only root can write operation records; set become: true", error_id="not_root")
    move = None
    if params["state"] == "present":
        volumes = tuple(_to_detach(volume) for volume in params["volumes"])
        move = Move(params["domain"], params["destination"], params["autostart"], volumes)
    before, changed = note_move(call, move)
    if move is None and not call.check_mode:
        forget_results(params["operation_id"])
    return {
        "changed": changed,
        "operation_id": params["operation_id"],
        "diff": {"before": {"move": before}, "after": {"move": move.to_dict() if move else None}},
    }


def main() -> None:
    module = make_module(
        argument_spec=argument_spec(), supports_check_mode=True, required_if=[("state", "present", ("domain", "destination"))]
    )
    params = module.params
    call = Call(Host(), module.check_mode, params["timeout"], params["operation_id"])
    run(module, lambda: work(params, call))


if __name__ == "__main__":
    main()
