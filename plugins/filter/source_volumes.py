# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: source_volumes
short_description: What the source's devices say of a domain's volumes
version_added: 0.1.0
author:
  - The lunshift.migration authors
description:
  - Looks each planned volume up among the source's iSCSI devices by the path that the domain really uses, and gives
    its identity and how the source reaches it.
options:
  _input:
    description: The result of P(lunshift.migration.live_migration_plan#filter).
    type: dict
    required: true
  devices:
    description: The result of M(lunshift.migration.iscsi_device_info) on the source.
    type: dict
    required: true
seealso:
  - plugin: lunshift.migration.live_migration_plan
    plugin_type: filter
  - module: lunshift.migration.iscsi_device_info
"""

EXAMPLES = r"""
- name: Show which identities the source's volumes have
  ansible.builtin.debug:
    msg: "{{ (plan | lunshift.migration.source_volumes(devices)).identities }}"
"""

RETURN = r"""
_value:
  description: C(connections) and C(identities), both by volume, and C(problems), a list of sentences.
  type: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._migration.hand_over import source_side
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"source_volumes": as_filter(source_side)}
