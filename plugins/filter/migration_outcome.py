# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: migration_outcome
short_description: Where a domain is, from what both hosts say, and what may be done
version_added: 0.1.0
author:
  - The lunshift.migration authors
description:
  - Decides what became of a migration. An error of libvirt tells neither that a migration failed nor that it is
    over, so nothing may be undone or cleaned up before both hosts were read.
  - Each host has to be read over its own Ansible connection, after the migration returned. A host that did not answer is a value, too,
    so register the results with C(ignore_errors) and C(ignore_unreachable).
options:
  _input:
    description:
      - The result of M(lunshift.migration.domain_info) on the source. Anything but a complete result means that the host was not read.
    type: dict
    required: true
  destination:
    description: The result of M(lunshift.migration.domain_info) on the destination.
    type: dict
    required: true
seealso:
  - module: lunshift.migration.domain_info
  - module: lunshift.migration.domain_migrate
  - module: lunshift.migration.domain_settle
"""

EXAMPLES = r"""
- name: Read the domain on the source
  lunshift.migration.domain_info:
    name: web1
  register: on_source
  ignore_errors: true
  ignore_unreachable: true

- name: Read the domain on the destination
  lunshift.migration.domain_info:
    name: web1
  delegate_to: host-b
  register: on_destination
  ignore_errors: true
  ignore_unreachable: true

- name: Say where the domain is
  ansible.builtin.debug:
    msg: "{{ on_source | lunshift.migration.migration_outcome(on_destination) }}"
"""

RETURN = r"""
_value:
  description: The decision.
  type: dict
  contains:
    outcome:
      description:
        - V(moved) when the destination has the domain, running or paused as an operator leaves it, and the source has it no more.
        - V(stayed) when it is the other way round.
        - V(still_moving) while a job runs on either host.
        - V(paused_on_source), V(paused_on_destination) and V(paused_on_both) when somebody has to resume the domain, or to destroy
          a copy of it.
        - V(running_on_both) when both hosts run it, V(postcopy_broken) when its memory is spread over both, V(gone) when neither
          has it active.
        - V(unknown) when a host was not read, or said something that permits no conclusion.
      type: str
      returned: always
    suspect:
      description: Whether both hosts run the domain, so that its volumes may hold what two guests wrote.
      type: bool
      returned: always
    permits:
      description:
        - What may be done without any look by a person. V(undo_destination) permits to detach what was attached on the destination,
          V(clean_source) to detach the volumes on the source. The others permit one step of M(lunshift.migration.domain_settle), after
          which both hosts have to be read again. At most one is true, and none unless both hosts were read and no job runs.
      type: dict
      returned: always
      contains:
        undo_destination:
          description: The source has the domain, and the destination has none of that name.
          type: bool
          returned: always
        clean_source:
          description: The destination has the domain whole, and on the source it is not active.
          type: bool
          returned: always
        resume_destination:
          description: The source has the domain no more, and its note says that a guarded switchover waits for the resume.
          type: bool
          returned: always
        remove_destination:
          description: The source has the domain, and the destination a paused copy that a guarded switchover never let run.
          type: bool
          returned: always
        remove_source:
          description: The destination runs it since it migrated, and what the source has is what a lost finish reply left.
          type: bool
          returned: always
    message:
      description: What was seen, in one sentence.
      type: str
      returned: always
    next_step:
      description: What to do now.
      type: str
      returned: always
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._migration.outcome import outcome
from ansible_collections.lunshift.migration.plugins.plugin_utils._filters import as_filter


def migration_outcome(source: dict[str, t.Any] | None, destination: dict[str, t.Any] | None) -> dict[str, t.Any]:
    return outcome(source, destination)


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"migration_outcome": as_filter(migration_outcome)}
