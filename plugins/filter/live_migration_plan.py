# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: live_migration_plan
short_description: What a live migration of one domain would do
version_added: 0.1.0
author:
  - The lunshift.migration authors
description:
  - Decides, from what C(lunshift.migration.domain_info) said of both hosts, whether the domain has to be migrated,
    has moved already, or cannot be migrated, and which volumes it needs on the destination.
  - The role P(lunshift.migration.live_migrate#role) uses it for check mode and real runs alike.
options:
  _input:
    description: The result of M(lunshift.migration.domain_info) on the source.
    type: dict
    required: true
  destination:
    description: The result of M(lunshift.migration.domain_info) on the destination.
    type: dict
    required: true
  source_name:
    description: The source's name, for messages.
    type: str
    required: true
  destination_name:
    description: The destination's name, for messages.
    type: str
    required: true
  source_connections:
    description: Connection info that the operator gives for the source, by volume.
    type: dict
    default: {}
  overrides:
    description: Target dev to volume, for disks whose serial does not name their volume, and for images below a disk (C(vda[1])).
    type: dict
    default: {}
  destination_initiator:
    description: What opens the volumes on the destination.
    type: str
    choices: [same, kernel, libiscsi]
    default: same
  destination_connections:
    description: Connection info by volume for the destination, as far as it is known before any export.
    type: dict
    default: {}
    version_added: 0.2.0
  eject:
    description: Target devs of CD-ROM and floppy drives whose medium stays behind.
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  allow_nova_managed:
    description: Whether a domain that Nova manages may be migrated behind its back.
    type: bool
    default: false
  require_error_policy:
    description: Whether a disk without C(error_policy='stop') is a reason against the migration. Otherwise it is among C(warnings).
    type: bool
    default: false
    version_added: 0.2.0
  postcopy:
    description: Whether the operator allowed post-copy, which the destination's kernel may not.
    type: bool
    default: false
    version_added: 0.2.0
seealso:
  - module: lunshift.migration.domain_info
"""

EXAMPLES = r"""
- name: Tell every reason why the domain cannot be migrated
  ansible.builtin.debug:
    msg: "{{ (on_source | lunshift.migration.live_migration_plan(on_destination, 'hosta', 'hostb')).problems }}"
"""

RETURN = r"""
_value:
  description:
    - C(action) (V(migrate), V(follow) when a job of an earlier run still moves it, V(settle) when an earlier run left something half done,
      V(finish) when the domain has moved already, V(none)), C(name), C(uuid), C(volumes),
      C(problems), C(warnings), C(source_connections) and C(outcome).
    - C(source_connections) holds the secrets that were given in O(source_connections); do not show it.
  type: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._migration.plan import plan
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


def live_migration_plan(
    source: dict[str, t.Any],
    destination: dict[str, t.Any],
    source_name: str,
    destination_name: str,
    source_connections: dict[str, t.Any] | None = None,
    overrides: dict[str, str] | None = None,
    destination_initiator: str = "same",
    allow_nova_managed: bool = False,
    destination_connections: dict[str, t.Any] | None = None,
    eject: list[str] | None = None,
    require_error_policy: bool = False,
    postcopy: bool = False,
) -> dict[str, t.Any]:
    return plan(
        source=source,
        destination=destination,
        source_name=source_name,
        destination_name=destination_name,
        source_connections=source_connections or {},
        overrides=overrides or {},
        destination_initiator=destination_initiator,
        allow_nova_managed=allow_nova_managed,
        destination_connections=destination_connections,
        eject=eject or [],
        require_error_policy=require_error_policy,
        postcopy=postcopy,
    )


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"live_migration_plan": as_filter(live_migration_plan)}
