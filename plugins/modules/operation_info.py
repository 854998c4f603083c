#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: operation_info
short_description: Read what operations have noted on a host, and whether it is still needed
version_added: 0.2.0
author: The lunshift.migration authors (@lunshift)
description:
  - Lists the operation records of one host. A migration writes one on its source before it changes anything, and
    M(lunshift.migration.iscsi_volume) writes one where it attaches volumes.
  - A record that no run needs any more and that nothing uses is what a killed run left behind. The entry point C(sweep) of the role
    P(lunshift.migration.live_migrate#role) clears it, when both hosts say that it may.
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
requirements:
  - root
options:
  operation_id:
    description: Only this operation. An operation without a record on this host is no error.
    type: str
seealso:
  - module: lunshift.migration.operation_record
  - module: lunshift.migration.iscsi_volume
"""

EXAMPLES = r"""
- name: Read all records of this host
  lunshift.migration.operation_info:
  register: found

- name: Show what killed runs may have left here
  ansible.builtin.debug:
    msg: "{{ found.operations | rejectattr('live') | rejectattr('in_use') | selectattr('restorable') }}"
"""

RETURN = r"""
operations:
  description: One entry for each record, sorted by the operation's id. They hold no secrets.
  returned: success
  type: list
  elements: dict
  contains:
    operation_id:
      description: The operation; the role uses the UUID of the domain.
      type: str
    created:
      description: When the record was first written, in UTC. V(null) for a record of release 0.1.0.
      type: str
      sample: "2026-11-22T05:43:48Z"
    age_s:
      description: Seconds since the record was last written.
      type: int
    live:
      description: Whether a job or another run holds the operation on this host now.
      type: bool
    move:
      description: The migration away from this host that the record is about; V(null) when it is about none.
      type: dict
      contains:
        domain:
          description: Name of the domain.
          type: str
        destination:
          description: Name of the destination, as the one who wrote the record called it.
          type: str
        autostart:
          description: Whether the domain started with this host.
          type: bool
        volumes:
          description: What M(lunshift.migration.iscsi_volume) takes to detach the volumes here.
          type: list
          elements: dict
    made:
      description: The serials of the volumes that the operation attached here since the host was started.
      type: list
      elements: str
    restorable:
      description: What C(state=restored) of M(lunshift.migration.iscsi_volume) would do now, one sentence each.
      type: list
      elements: str
    in_use:
      description: Who uses the volumes that were attached, one sentence each. While there are users nothing can be restored.
      type: list
      elements: str
    problem:
      description: Why the record could not be read or its state not be seen; else V(null).
      type: str
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.operations import describe
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.volumes import Call
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run


def argument_spec() -> dict[str, t.Any]:
    return {"operation_id": {"type": "str"}}


def main() -> None:
    module = make_module(argument_spec=argument_spec(), supports_check_mode=True)
    # One look for users, without the wait for those that may be about to end.
    call = Call(Host(), check_mode=True, timeout_s=0, operation_id=module.params["operation_id"])
    run(module, lambda: {"changed": False, "operations": describe(call)})


if __name__ == "__main__":
    main()
