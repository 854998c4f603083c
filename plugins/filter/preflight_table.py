# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_table
short_description: The findings of a preflight for people
version_added: 0.2.0
author:
  - The lunshift.migration authors
description:
  - For each domain its sum, then what stands against it, warnings, what is unproven, and at last everything that is well.
options:
  _input:
    description: What P(lunshift.migration.preflight_findings#filter) found, of one domain or several.
    type: list
    elements: dict
    required: true
seealso:
  - plugin: lunshift.migration.preflight_findings
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ live_migrate_preflight | lunshift.migration.preflight_table }}"
"""

RETURN = r"""
_value:
  description: Lines of text.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._preflight.table import table
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"preflight_table": as_filter(table)}
