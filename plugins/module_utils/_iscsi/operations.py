# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What operations left on this host: their records, and whether anybody needs them."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.volumes import Call, restore
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import is_running
from ansible_collections.lunshift.migration.plugins.module_utils._operation import is_locked, lock_of


def describe(call: Call, running: t.Callable[[str], bool] = is_running) -> list[dict[str, t.Any]]:
    """All operations with a record on this host, or only the one that the call names. Changes nothing."""
    known = call.records.operation_ids()
    wanted = known if call.operation_id is None else [name for name in known if name == call.operation_id]
    return [_describe(replace(call, check_mode=True, operation_id=name), name, running) for name in wanted]


def _describe(call: Call, operation_id: str, running: t.Callable[[str], bool]) -> dict[str, t.Any]:
    seen: dict[str, t.Any] = {
        "operation_id": operation_id,
        "created": None,
        "age_s": 0,
        "live": False,
        "move": None,
        "made": [],
        "restorable": [],
        "in_use": [],
        "problem": None,
    }
    try:
        seen["live"] = running(operation_id) or is_locked(lock_of(operation_id), call.lock_directory)
        record = call.load()
        seen.update(
            created=record.created,
            age_s=int(call.records.age_s(operation_id)),
            move=record.move.to_dict() if record.move else None,
            made=list(dict.fromkeys(path.serial for path in record.paths)),
        )
    except (MigrationError, OSError) as exc:
        return {**seen, "problem": str(exc)}
    try:
        seen["restorable"] = list(restore(call).actions)
    except MigrationError as exc:
        # What is used is no mess: the domain runs with it here.
        key = "in_use" if exc.error_id == "volume_in_use" else "problem"
        seen[key] = exc.details["problems"] if key == "in_use" else str(exc)
    return seen


__all__ = ("describe",)
