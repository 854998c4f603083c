# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_xml
short_description: The domain as the destination would get it, as far as that is known
version_added: 0.2.0
author:
  - The lunshift.migration authors
description:
  - What M(lunshift.migration.migration_host_info) on the destination is asked about, before anything is connected there.
options:
  _input:
    description: The source's redacted XML, as M(lunshift.migration.domain_info) gives it.
    type: str
    required: true
  plan:
    description: What P(lunshift.migration.live_migration_plan#filter) decided.
    type: dict
    required: true
  connections:
    description: How the destination reaches each volume, as far as that is known.
    type: dict
    default: {}
  device_path:
    description: Volume to device path, as M(lunshift.migration.iscsi_volume) tells it in check mode.
    type: dict
    default: {}
  overrides:
    description: Target dev to volume, for disks whose serial does not name their volume.
    type: dict
    default: {}
  eject:
    description: Target devs of drives whose medium stays behind.
    type: list
    elements: str
    default: []
  listen_used:
    description: Graphics type to the address that is used on the source.
    type: dict
    default: {}
  listen_given:
    description: Graphics type to the address that the operator gives for the destination.
    type: dict
    default: {}
  listen_of_destination:
    description: Graphics type to the address in the destination's C(qemu.conf).
    type: dict
    default: {}
seealso:
  - plugin: lunshift.migration.preflight_findings
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Ask the destination about all that is known
  lunshift.migration.migration_host_info:
    domain_xml: "{{ (on_source.xml | lunshift.migration.preflight_xml(plan, connections)).xml }}"
  delegate_to: hostb
"""

RETURN = r"""
_value:
  description:
    - C(xml), C(rewritten) and C(complete).
    - When some volume's place is not known yet, C(complete) is false, and the disk has a path that no host has.
    - When the run would refuse to change the definition, C(rewritten) is false, too. Then the disks on volumes are left out of C(xml), and
      the rest of the domain can still be asked about.
  type: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._preflight.expected import expected_xml
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


def preflight_xml(
    xml: str,
    plan: dict[str, t.Any],
    connections: dict[str, t.Any] | None = None,
    device_path: dict[str, t.Any] | None = None,
    overrides: dict[str, str] | None = None,
    eject: list[str] | None = None,
    listen_used: dict[str, str | None] | None = None,
    listen_given: dict[str, str] | None = None,
    listen_of_destination: dict[str, str] | None = None,
) -> dict[str, t.Any]:
    return expected_xml(
        xml,
        plan,
        connections=connections or {},
        device_path=device_path or {},
        overrides=overrides or {},
        eject=eject or [],
        listen_used=listen_used or {},
        listen_given=listen_given or {},
        listen_of_destination=listen_of_destination or {},
    )


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"preflight_xml": as_filter(preflight_xml)}
