# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: disk_places
short_description: What a host's domains may call volumes
version_added: 0.2.0
author:
  - The lunshift.migration authors
description:
  - Tells by volume under which names a domain of the host may have it as a disk, to find out who else uses it.
options:
  _input:
    description: Volumes as P(lunshift.migration.volume_requests#filter) gives them.
    type: list
    elements: dict
    required: true
seealso:
  - module: lunshift.migration.domain_info
"""

EXAMPLES = r"""
- name: Ask which other domains use the volumes
  lunshift.migration.domain_info:
    name: web1
    other_users_of: "{{ (requests | lunshift.migration.disk_places).values() | flatten }}"
"""

RETURN = r"""
_value:
  description: By volume, the names. They are as in RV(lunshift.migration.domain_info#module:disks).
  type: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._migration.hand_over import disk_places
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"disk_places": as_filter(disk_places)}
