# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: volume_requests
short_description: The volumes of a plan in the form that iscsi_volume takes
version_added: 0.1.0
author:
  - The lunshift.migration authors
description:
  - Joins the volumes of a plan with one host's connection info. Every volume without connection info is named in one error, and so
    is every volume for which the host's libvirt lacks the CHAP secret.
options:
  _input:
    description: The C(volumes) of P(lunshift.migration.live_migration_plan#filter).
    type: list
    elements: dict
    required: true
  connections:
    description: Connection info by volume, as one host reaches them.
    type: dict
    required: true
  side:
    description: Which of the two hosts it is.
    type: str
    choices: [source, destination]
    required: true
  host:
    description: The host's name, for messages.
    type: str
    required: true
  skip_unknown:
    description: Leave volumes without connection info out instead of refusing them.
    type: bool
    default: false
  secrets:
    description:
      - The secrets of the host's libvirt (RV(lunshift.migration.domain_info#module:secrets)). Without them it is not known whether
        one is missing.
    type: list
    elements: dict
    version_added: 0.2.0
seealso:
  - module: lunshift.migration.iscsi_volume
"""

EXAMPLES = r"""
- name: Attach a domain's volumes on the destination
  lunshift.migration.iscsi_volume:
    state: attached
    volumes: "{{ plan.volumes | lunshift.migration.volume_requests(connections, side='destination', host='hostb') }}"
"""

RETURN = r"""
_value:
  description: What O(lunshift.migration.iscsi_volume#module:volumes) takes.
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._migration.hand_over import volume_requests
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"volume_requests": as_filter(volume_requests)}
