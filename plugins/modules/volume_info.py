#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: volume_info
short_description: Open a volume of any backend, and tell what it is
version_added: 0.2.0
author: The lunshift.migration authors (@lunshift)
description:
  - Opens a volume, tells its size, its sectors, what it is known by and who uses it, and closes it again. Its content is not read.
  - A volume of the kernel's iSCSI initiator that is not attached to this host is attached meanwhile, also in check mode.
extends_documentation_fragment:
  - lunshift.migration.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Nothing is changed.
  platform:
    platforms: linux
options:
  connection_info:
    description: How this host reaches the volume, in the form that Cinder gives it, as for M(lunshift.migration.volume_copy).
    type: dict
    required: true
  operation_id:
    description: Names the record of what is attached, with which C(state=restored) of M(lunshift.migration.iscsi_volume) undoes it.
    type: str
  timeout:
    description: Seconds that opening may take, and that a command to the storage may take.
    type: int
    default: 30
seealso:
  - module: lunshift.migration.volume_copy
"""

EXAMPLES = r"""
- name: How large must a target be?
  lunshift.migration.volume_info:
    connection_info:
      driver_volume_type: local
      data:
        device_path: /dev/old/web1
  register: source

- name: Make it
  community.general.lvol:
    vg: new
    lv: web1
    size: "{{ source.facts.size_bytes }}b"
"""

RETURN = r"""
facts:
  description: The volume.
  returned: success
  type: dict
  contains:
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
users:
  description: Who else has it open, one sentence each; V(null) where that cannot be known from this host.
  returned: success
  type: list
  elements: str
connection_info:
  description: How this host reaches it, without secrets.
  returned: success
  type: dict
error_id:
  description: What kind of failure it was, for example V(volume_unusable) or V(not_reachable).
  returned: failure
  type: str
problems:
  description: Each problem as one sentence.
  returned: failure, when there can be several
  type: list
  elements: str
"""

import contextlib
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import redact
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run
from ansible_collections.lunshift.migration.plugins.module_utils._volume.copy import describe
from ansible_collections.lunshift.migration.plugins.module_utils._volume.opening import How, close_volume, open_volume


def work(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What the module does, without Ansible."""
    how = How(operation_id=params["operation_id"], timeout_s=params["timeout"])
    with contextlib.ExitStack() as opened:
        volume = open_volume(params["connection_info"], how)
        opened.callback(close_volume, volume)
        return {
            "changed": False,
            "facts": describe(volume.facts),
            "users": volume.users(),
            "connection_info": redact(params["connection_info"]),
        }


def main() -> None:
    module = make_module(
        {
            "connection_info": {"type": "dict", "required": True},
            "operation_id": {"type": "str"},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    run(module, lambda: work(module.params))


if __name__ == "__main__":
    main()
