# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: destination_map
short_description: What the rewriting needs to know of the destination
version_added: 0.1.0
author:
  - The lunshift.migration authors
description:
  - Completes the destination's device map by the disks that only the next boot would have, keys the operator's overrides
    by target dev, and chooses the graphics listen addresses.
options:
  _input:
    description: The result of P(lunshift.migration.live_migration_plan#filter).
    type: dict
    required: true
  device_path:
    description: The device map of the attached volumes (RV(lunshift.migration.iscsi_volume#module:device_path)).
    type: dict
    required: true
  connections:
    description: Connection info by volume, as the destination reaches them.
    type: dict
    required: true
  xml:
    description: The definition that will be rewritten. The running and the stored one need not have the same disks.
    type: str
    required: true
  overrides:
    description: Target dev to volume, for disks whose serial does not name their volume.
    type: dict
    default: {}
  listen_used:
    description: The graphics listen addresses that the domain has, by type.
    type: dict
    default: {}
  listen_given:
    description: The addresses that the operator wants, by type.
    type: dict
    default: {}
  listen_of_destination:
    description: The destination's own listen addresses, by type.
    type: dict
    default: {}
  eject:
    description: Target devs of drives whose medium stays behind.
    type: list
    elements: str
    default: []
  identities:
    description:
      - The source's identities by volume (C(identities) of P(lunshift.migration.source_volumes#filter)).
      - In check mode they tell how a multipath map will be called that is not there yet.
    type: dict
    default: {}
    version_added: 0.2.0
seealso:
  - plugin: lunshift.migration.rewrite_disk_sources
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the map by which the domain's XML would be rewritten
  ansible.builtin.debug:
    msg: "{{ plan | lunshift.migration.destination_map(attached.device_path, connections, domain.xml) }}"
"""

RETURN = r"""
_value:
  description: C(map), C(overrides), C(eject) and C(graphics_listen_addrs), as P(lunshift.migration.rewrite_disk_sources#filter) takes them.
  type: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._migration.hand_over import device_map, listen_addresses
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


def destination_map(
    plan: dict[str, t.Any],
    device_path: dict[str, t.Any],
    connections: dict[str, t.Any],
    xml: str,
    overrides: dict[str, str] | None = None,
    listen_used: dict[str, str | None] | None = None,
    listen_given: dict[str, str] | None = None,
    listen_of_destination: dict[str, str] | None = None,
    eject: list[str] | None = None,
    identities: dict[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    return {
        **device_map(plan, device_path, connections, overrides or {}, xml, eject or [], identities or {}),
        "graphics_listen_addrs": listen_addresses(listen_used or {}, listen_given or {}, listen_of_destination or {}),
    }


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"destination_map": as_filter(destination_map)}
