# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: identity_verdict
short_description: Whether two hosts see the same volumes
version_added: 0.1.0
author:
  - The lunshift.migration authors
description:
  - Compares what both hosts' devices say of themselves. libvirt does not do that; it lets a wrong LUN, another size and swapped disks
    through, and the guest's data are gone.
  - An id that a target makes up by itself (such as C(beaf11) of tgt), or that two volumes of one host share, does not count.
  - A volume is V(proven) when its WWID, or its unit serial together with vendor and model, counts and is the same on both hosts, and
    size and block sizes are the same. It is a V(mismatch) when any of these differ. Everything else is V(unproven).
  - Samples of the content can make a mismatch of any volume, and can prove one that its ids do not prove.
options:
  _input:
    description:
      - The source's identities by serial (or whatever names the volume on both hosts), V(null) for one that could not be read.
    type: dict
    required: true
  destination:
    description: The destination's identities, by the same names.
    type: dict
    required: true
  accepted:
    description: Volumes to take on trust when they are unproven. A mismatch stays refused.
    type: list
    elements: str
    default: []
  source_luns:
    description:
      - The identities of all LUNs that the source sees, as RV(lunshift.migration.iscsi_device_info#module:luns) lists them, to find ids
        that are not unique.
    type: list
    elements: dict
    default: []
  destination_luns:
    description: The same of the destination.
    type: list
    elements: dict
    default: []
  destination_stale:
    description:
      - Nodes among O(destination_luns) that do not count, for they are no longer the volumes that the kernel has on record
        (RV(lunshift.migration.iscsi_volume#module:stale)).
    type: list
    elements: str
    default: []
    version_added: 0.2.0
  fingerprints:
    description:
      - Samples of the content. V(source) and V(destination) each are a list of readings in the order of time, and a reading leads from
        the volume's name to offsets with the digests that were read there, V(null) for a block of zeros.
      - The source has to be read before and after the destination, because the guest goes on writing. Only blocks that did not
        change count.
      - Samples prove a volume only when every volume that the host sees was sampled, under any name, and when they hold
        enough blocks that no other volume has at the same place.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Compare the volumes of both hosts
  ansible.builtin.set_fact:
    verdict: >-
      {{ identities_on_source | lunshift.migration.identity_verdict(
           identities_on_destination, source_luns=on_source.luns, destination_luns=on_destination.luns) }}

- name: Refuse unless all are proven
  ansible.builtin.fail:
    msg: "{{ verdict.error_id }}: {{ verdict.message }}"
  when: not verdict.ok

- name: Let samples decide where ids cannot
  ansible.builtin.set_fact:
    verdict: >-
      {{ identities_on_source | lunshift.migration.identity_verdict(
           identities_on_destination, fingerprints={'source': [before, after], 'destination': [between]}) }}
"""

RETURN = r"""
_value:
  description: The verdict.
  type: dict
  contains:
    ok:
      description: Whether every volume is proven or accepted.
      type: bool
      returned: always
    error_id:
      description: V(identity_mismatch) or V(identity_unproven); V(null) when all is well. A mismatch comes first.
      type: str
      returned: always
    volumes:
      description: By name, C(verdict) (V(proven), V(mismatch), V(unproven) or V(accepted)) and C(reasons).
      type: dict
      returned: always
    table:
      description: What was seen where, as C(serial), C(field), C(source) and C(destination).
      type: list
      elements: dict
      returned: always
    message:
      description: The same for people, in lines. A C(!) marks what differs.
      type: str
      returned: always
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.gate import verdict
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


def identity_verdict(
    source: dict[str, t.Any],
    destination: dict[str, t.Any],
    accepted: list[str] | None = None,
    source_luns: list[dict[str, t.Any]] | None = None,
    destination_luns: list[dict[str, t.Any]] | None = None,
    fingerprints: dict[str, t.Any] | None = None,
    destination_stale: list[str] | None = None,
) -> dict[str, t.Any]:
    for name, value, kind in (("the input", source, dict), ("destination", destination, dict), ("accepted", accepted or [], list)):
        if not isinstance(value, kind):
            raise InputError([f"{name} is no {kind.__name__}, but {type(value).__name__}"])
    return verdict(source, destination, accepted or [], source_luns or [], destination_luns or [], fingerprints, destination_stale or [])


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"identity_verdict": as_filter(identity_verdict)}
