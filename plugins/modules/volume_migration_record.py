#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: volume_migration_record
short_description: Note what the migration of a volume has done, so that it can be committed or rolled back later
version_added: 0.2.0
author: The lunshift.migration authors (@lunshift)
description:
  - The role P(lunshift.migration.volume_migrate#role) notes with it, on the host that copies, which volumes it is about, whether it made
    the target itself, and how the copy ended. A later run goes on with that, a rollback removes only a target that was made, and a
    commit removes a source only when its verified copy is whole.
  - The note is on disk, and only its owner can read it, before this module returns. Passwords and keys are left out of it.
  - With nothing but O(operation_id) it tells what is noted.
  - Volumes that are not the noted ones are refused.
extends_documentation_fragment:
  - lunshift.migration.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: linux
options:
  operation_id:
    description: Names the migration.
    type: str
    required: true
  state:
    description: V(absent) takes the note away, and with it the results of copies that a lost controller never read.
    type: str
    choices: [present, absent]
    default: present
  source:
    description: Connection info of the source. The first note of a migration needs it, and O(source_identity).
    type: dict
  source_identity:
    description: What M(lunshift.migration.volume_info) says that it is.
    type: str
  target:
    description: Connection info of the target.
    type: dict
  target_identity:
    description: What M(lunshift.migration.volume_info) says that it is.
    type: str
  target_origin:
    description:
      - V(made) when this migration made the target, V(found) when it was there before.
      - V(unknown) before it is made, and when a run was killed meanwhile.
    type: str
    choices: [unknown, made, found]
  copied:
    description: What M(lunshift.migration.volume_copy) returned.
    type: dict
  phase:
    description:
      - V(undoing) is noted before a target is removed that was made, V(committing) before the source is removed, V(committed) after it.
      - The last two are refused as long as the target is not known to be the source's verified copy.
    type: str
    choices: [begun, undoing, committing, committed]
seealso:
  - module: lunshift.migration.volume_copy
  - module: lunshift.migration.volume_info
"""

EXAMPLES = r"""
- name: What became of a migration
  lunshift.migration.volume_migration_record:
    operation_id: web1-root
  register: noted

- name: Show what stands against its commit
  ansible.builtin.debug:
    msg: "{{ noted.unfinished }}"
"""

RETURN = r"""
record:
  description: What is noted, or in check mode would be; V(null) when nothing is.
  returned: success
  type: dict
  contains:
    operation_id:
      description: The migration.
      type: str
    source:
      description: Connection info of the source, without secrets.
      type: dict
    source_identity:
      description: What tells the source from every other volume.
      type: str
    target:
      description: Connection info of the target, without secrets; V(null) when it is not known yet.
      type: dict
    target_identity:
      description: What tells the target from every other volume; V(null) when it is not known yet.
      type: str
    target_origin:
      description: Whether the target was V(made) by this migration, V(found), or nobody knows (V(unknown)); V(null) before there is one.
      type: str
    copied:
      description: How the last copy ended; V(null) when none has.
      type: dict
      contains:
        size_bytes:
          description: Size of the source.
          type: int
        immutable:
          description: Whether the source is a snapshot.
          type: bool
        verified:
          description: How the copy was verified.
          type: str
        digest:
          description: Digest of its content.
          type: str
        journal:
          description: Path of its journal.
          type: str
    phase:
      description: V(begun), V(undoing), V(committing) or V(committed).
      type: str
    created:
      description: When it was first noted, in UTC.
      type: str
unfinished:
  description: Why the source may not be removed, one sentence each.
  returned: success
  type: list
  elements: str
"""

import typing as t
from dataclasses import asdict

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import redact
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import forget_results
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run
from ansible_collections.lunshift.migration.plugins.module_utils._volume import migration_record
from ansible_collections.lunshift.migration.plugins.module_utils._volume.migration_record import Copied, News, RecordStore


def argument_spec() -> dict[str, t.Any]:
    return {
        "operation_id": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "source": {"type": "dict"},
        "source_identity": {"type": "str"},
        "target": {"type": "dict"},
        "target_identity": {"type": "str"},
        "target_origin": {"type": "str", "choices": ["unknown", "made", "found"]},
        "copied": {"type": "dict"},
        "phase": {"type": "str", "choices": ["begun", "undoing", "committing", "committed"]},
    }


def work(params: t.Mapping[str, t.Any], *, check_mode: bool) -> dict[str, t.Any]:
    """What the module does, without Ansible."""
    store = RecordStore(migration_record.RECORDS)
    operation_id = params["operation_id"]
    if params["state"] == "absent":
        before, after = store.load(operation_id), None
        if not check_mode:
            store.remove(operation_id)
            forget_results(operation_id)
    else:
        plain = {name: params[name] for name in ("source_identity", "target_identity", "target_origin", "phase")}
        infos = {name: redact(params[name]) for name in ("source", "target")}
        copied = Copied.from_result(params["copied"]) if params["copied"] else None
        before, after = migration_record.note(store, operation_id, News(**infos, **plain, copied=copied), check_mode=check_mode)
    return {
        "changed": before != after,
        "record": asdict(after) if after else None,
        "unfinished": migration_record.unfinished(after) if after else [],
        "diff": {"before": asdict(before) if before else {}, "after": asdict(after) if after else {}},
    }


def main() -> None:
    module = make_module(argument_spec(), supports_check_mode=True)
    run(module, lambda: work(module.params, check_mode=module.check_mode))


if __name__ == "__main__":
    main()
