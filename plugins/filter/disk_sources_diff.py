# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: disk_sources_diff
short_description: The redacted difference of two domain XMLs
version_added: 0.1.0
author:
  - The lunshift.migration authors
description:
  - Shows people what P(lunshift.migration.rewrite_disk_sources#filter) changed, as a unified diff. Passwords in either XML are replaced by
    a mark first.
options:
  _input:
    description: The domain's XML before.
    type: str
    required: true
  after:
    description: The domain's XML after.
    type: str
    required: true
  before_header:
    description: What the first header line calls the XML before.
    type: str
    default: before
  after_header:
    description: What the second header line calls the XML after.
    type: str
    default: after
notes:
  - Needs the Python library C(lxml) on the controller.
seealso:
  - plugin: lunshift.migration.rewrite_disk_sources
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what the destination gets
  ansible.builtin.debug:
    msg: "{{ (domain.xml | lunshift.migration.disk_sources_diff(destination_xml, 'host-a', 'host-b')).splitlines() }}"

- name: Refuse to go on when nothing would change
  ansible.builtin.assert:
    that: (domain.xml | lunshift.migration.disk_sources_diff(destination_xml)) != ''
"""

RETURN = r"""
_value:
  description: The difference; empty when there is none.
  type: str
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._domain_xml import diff
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


def disk_sources_diff(before: str, after: str, before_header: str = "before", after_header: str = "after") -> str:
    return diff(before, after, before_header, after_header)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"disk_sources_diff": as_filter(disk_sources_diff)}
