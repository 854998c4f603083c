# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_findings
short_description: Everything that stands against a planned migration, from what was read before it
version_added: 0.2.0
author:
  - The lunshift.migration authors
description:
  - Makes a verdict for each item of a planned migration, with cause and remedy. The role P(lunshift.migration.live_migrate#role) uses it
    in its entry point C(preflight).
  - A result that is missing, was skipped, failed or came from an unreachable host is no error; what depends on it is unproven.
options:
  _input:
    description:
      - Results of tasks, by what they are. C(source) and C(destination) of M(lunshift.migration.domain_info), C(source_host) and
        C(destination_host) of M(lunshift.migration.migration_host_info), C(way) of M(lunshift.migration.migration_path_info),
        C(source_devices) and C(destination_devices) of M(lunshift.migration.iscsi_device_info), C(attached) of
        M(lunshift.migration.iscsi_volume) and C(dry_run) of M(lunshift.migration.domain_migrate), both in check mode.
    type: dict
    required: true
  plan:
    description: What P(lunshift.migration.live_migration_plan#filter) decided.
    type: dict
    required: true
  domain:
    description: Name of the domain.
    type: str
    required: true
  source_name:
    description: The source's name, for messages.
    type: str
    required: true
  destination_name:
    description: The destination's name, for messages.
    type: str
    required: true
  destination_uri:
    description: How the source's libvirt daemon reaches the destination's, for messages.
    type: str
    default: ""
  destination_connections:
    description: Connection info of the destination, by volume, as far as it is known.
    type: dict
    default: {}
  exports:
    description: Whether tasks of the operator's make the volumes visible to the destination only when the run begins.
    type: bool
    default: false
  identity_gate:
    description: Whether both hosts must be proven to see the same volumes.
    type: bool
    default: true
  accept_unproven:
    description: Volumes that may go on although their identity cannot be proven.
    type: list
    elements: str
    default: []
  bandwidth_mib:
    description: The limit of the migration's bandwidth in MiB/s; V(0) when there is none.
    type: int
    default: 0
  downtime_ms:
    description: Longest pause of the guest that the migration may plan with, in milliseconds.
    type: int
    default: 300
  timeout_s:
    description: Seconds after which the migration would be aborted; V(0) for never.
    type: int
    default: 0
  postcopy:
    description: Whether the operator allowed post-copy.
    type: bool
    default: false
  complete:
    description: Whether the destination was asked about the whole domain, as P(lunshift.migration.preflight_xml#filter) told.
    type: bool
    default: false
  earlier_memory_kib:
    description: Memory of the domains that are planned to move there before this one.
    type: int
    default: 0
seealso:
  - plugin: lunshift.migration.preflight_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what stands against it
  ansible.builtin.debug:
    msg: "{{ results | lunshift.migration.preflight_findings(plan, 'web1', 'hosta', 'hostb') | selectattr('verdict', '==', 'no_go') }}"
"""

RETURN = r"""
_value:
  description:
    - Each finding with C(domain), C(item), C(verdict), C(cause) and C(remedy). Every item has at least one.
    - V(go) is known to be well, V(warning) does not stop the migration but somebody should know, V(unproven) could not be found out
      (yet), V(no_go) would make the migration fail or harm the guest.
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._preflight.findings import findings
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.seen import Intent, Seen
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


def preflight_findings(
    results: dict[str, t.Any], plan: dict[str, t.Any], domain: str, source_name: str, destination_name: str, **intent: t.Any
) -> list[dict[str, str]]:
    return findings(Seen(**results), Intent(domain, source_name, destination_name, **intent), plan)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"preflight_findings": as_filter(preflight_findings)}
