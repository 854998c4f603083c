# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: content_samples
short_description: The samples of contents in what iscsi_device_info gathered
version_added: 0.1.0
author:
  - The lunshift.migration authors (@lunshift)
description:
  - Takes the samples of every volume that a host sees out of a result of M(lunshift.migration.iscsi_device_info), each volume once.
options:
  _input:
    description: A result of M(lunshift.migration.iscsi_device_info) with O(lunshift.migration.iscsi_device_info#module:fingerprint).
    type: dict
    required: true
seealso:
  - plugin: lunshift.migration.identity_verdict
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show how many blocks of each volume were sampled
  ansible.builtin.debug:
    msg: "{{ devices | lunshift.migration.content_samples | dict2items | map(attribute='value') | map('length') }}"
"""

RETURN = r"""
_value:
  description:
    - By volume, or by device for a LUN that is none of the volumes asked for, the samples in the form that
      P(lunshift.migration.identity_verdict#filter) takes.
  type: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._migration.hand_over import content_samples
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"content_samples": as_filter(content_samples)}
