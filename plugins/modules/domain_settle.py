#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: domain_settle
short_description: End what a live migration left half done, by one step on one host
version_added: 0.2.0
author: The lunshift.migration authors (@lunshift)
description:
  - Takes one step on the host that the task runs on. Which step on which host is right follows from what BOTH hosts say, and only the
    filter P(lunshift.migration.migration_outcome#filter) decides it; do not use this module without one of its permits.
  - The domain has to be in the very state that the decision was made from. Otherwise the module refuses and changes nothing.
  - A step that was taken already changes nothing.
extends_documentation_fragment:
  - lunshift.migration.attributes
  - lunshift.migration.attributes.actiongroup_migration
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: linux
options:
  uuid:
    description: UUID of the domain.
    type: str
    required: true
  uri:
    description: How the host reaches its own libvirt.
    type: str
    default: qemu:///system
  state:
    description:
      - V(resumed) lets a paused domain go on. Permitted on the destination by C(resume_destination).
      - V(removed) ends the domain without shutting its guest down, and takes its definition away. Permitted on the destination by
        C(remove_destination), on the source by C(remove_source).
      - V(forgotten) takes away the note that M(lunshift.migration.domain_migrate) left on the source when it did not see a migration's end.
        It touches no domain. Use it when the outcome is V(moved) or V(stayed).
    type: str
    choices: [resumed, removed, forgotten]
    required: true
  expected_state:
    description: The state in which the decision saw the domain, as M(lunshift.migration.domain_info) returns it in C(state.state).
    type: str
  expected_reason:
    description: The reason of that state, from C(state.reason).
    type: str
  timeout:
    description: Seconds after which a libvirt that does not answer is given up.
    type: int
    default: 60
requirements:
  - python3-libvirt on the managed host
seealso:
  - plugin: lunshift.migration.migration_outcome
    plugin_type: filter
  - module: lunshift.migration.domain_info
"""

EXAMPLES = r"""
- name: Let the guest go on that a guarded switchover left paused on the destination
  lunshift.migration.domain_settle:
    uuid: "{{ on_destination.uuid }}"
    state: resumed
    expected_state: "{{ on_destination.state.state }}"
    expected_reason: "{{ on_destination.state.reason }}"
  delegate_to: host-b
  when: (on_source | lunshift.migration.migration_outcome(on_destination)).permits.resume_destination

- name: End what a lost reply left on the source
  lunshift.migration.domain_settle:
    uuid: "{{ on_source.uuid }}"
    state: removed
    expected_state: "{{ on_source.state.state }}"
    expected_reason: "{{ on_source.state.reason }}"
  when: (on_source | lunshift.migration.migration_outcome(on_destination)).permits.remove_source

- name: Nothing of the migration is pending any more
  lunshift.migration.domain_settle:
    uuid: "{{ on_source.switchover.uuid }}"
    state: forgotten
"""

RETURN = r"""
name:
  description: Name of the domain; null when it is not there.
  returned: success
  type: str
uuid:
  description: UUID of the domain.
  returned: success
  type: str
state:
  description:
    - State of the domain afterwards, as M(lunshift.migration.domain_info) returns it; null when it is not there, and with
      O(state=forgotten).
    - Also with the error V(state_changed), where it is the state that was found.
  returned: success
  type: dict
actions:
  description: What was done, or in check mode would be done, one sentence each.
  returned: success
  type: list
  elements: str
error_id:
  description: Stable name of the kind of error, for example V(state_changed), V(job_running), V(libvirt_error).
  returned: on failure
  type: str
"""

from ansible_collections.lunshift.migration.plugins.module_utils._migration.settle import Step, settle
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run


def main() -> None:
    expected = ("expected_state", "expected_reason")
    module = make_module(
        {
            "uuid": {"type": "str", "required": True},
            "uri": {"type": "str", "default": "qemu:///system"},
            "state": {"type": "str", "choices": ["resumed", "removed", "forgotten"], "required": True},
            "expected_state": {"type": "str"},
            "expected_reason": {"type": "str"},
            "timeout": {"type": "int", "default": 60},
        },
        required_if=[("state", "resumed", expected), ("state", "removed", expected)],
        supports_check_mode=True,
    )
    params = module.params
    step = Step(
        uuid=params["uuid"],
        uri=params["uri"],
        state=params["state"],
        expected_state=params["expected_state"],
        expected_reason=params["expected_reason"],
        timeout_s=params["timeout"],
    )
    run(module, lambda: settle(step, module.check_mode))


if __name__ == "__main__":
    main()
