# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: sweep_decision
short_description: What may be cleared of an operation that no run finished
version_added: 0.2.0
author:
  - The lunshift.migration authors
description:
  - Decides about one operation that M(lunshift.migration.operation_info) found on a host. What a run works on, what a run may still need,
    and what is in use is kept. Of the rest only what the outcome on both hosts permits may be cleared.
  - The entry point C(sweep) of the role P(lunshift.migration.live_migrate#role) uses it.
options:
  _input:
    description: One entry of RV(lunshift.migration.operation_info#module:operations).
    type: dict
    required: true
  outcome:
    description: The result of P(lunshift.migration.migration_outcome#filter) for the domain, once both hosts were read.
    type: dict
  domains:
    description: The results of M(lunshift.migration.domain_info) on both hosts that O(outcome) was decided from.
    type: list
    elements: dict
    default: []
  hosts:
    description: The hosts that can be read.
    type: list
    elements: str
    required: true
  older_than_s:
    description: How many seconds ago the record must have been written last.
    type: int
    default: 3600
seealso:
  - module: lunshift.migration.operation_info
"""

EXAMPLES = r"""
- name: Show what would be looked at more closely
  ansible.builtin.debug:
    msg: "{{ item | lunshift.migration.sweep_decision(hosts=groups.all) }}"
  loop: "{{ found.operations }}"
"""

RETURN = r"""
_value:
  description:
    - C(action) and C(reason), a sentence.
    - C(action) is V(keep), V(read) (both hosts have to be read, then ask again with O(outcome)), V(finish) (the domain has moved, the
      source may be cleaned) or V(undo) (the domain stayed, what was made on the destination may go).
  type: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._migration import sweep
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


def sweep_decision(
    operation: dict[str, t.Any],
    outcome: dict[str, t.Any] | None = None,
    domains: t.Sequence[dict[str, t.Any]] = (),
    hosts: t.Sequence[str] = (),
    older_than_s: int = 3600,
) -> dict[str, str]:
    return sweep.sweep_decision(operation, outcome, domains=domains, hosts=hosts, older_than_s=older_than_s)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"sweep_decision": as_filter(sweep_decision)}
