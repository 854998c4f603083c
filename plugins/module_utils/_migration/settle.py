# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""One step on one host that ends what a migration left half done. Which step is right, only the outcome of both hosts says."""

from __future__ import annotations

import platform
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection, open_connection
from ansible_collections.lunshift.migration.plugins.module_utils._migration import peers
from ansible_collections.lunshift.migration.plugins.module_utils._migration.switchover import read_note, remove_note, write_note

RESUMED, REMOVED, FORGOTTEN = "resumed", "removed", "forgotten"
Opener = t.Callable[..., Connection]
Result = dict[str, t.Any]


@dataclass(frozen=True)
class Step:
    """What to do, and in which state the domain was when it was decided."""

    uuid: str
    uri: str
    state: str
    expected_state: str | None = None
    expected_reason: str | None = None
    timeout_s: float = 60.0


def settle(step: Step, check_mode: bool, opener: Opener = open_connection) -> Result:
    """Take the step, or nothing when it was taken already; MigrationError when the domain is not as it was."""
    if step.state == FORGOTTEN:
        return _forget(step, check_mode)
    connection = opener(step.uri, step.timeout_s)
    before = peers.view(connection, None, step.uuid)
    if _is_done(step, before):
        return _result(before, before, [])
    _refuse_another_state(step, before)
    handle = connection.call(lambda: connection.find(None, step.uuid))
    words = f"{step.state} domain {before.name} ({before.state}) on {platform.node()}"
    if check_mode:
        return _result(before, before, [f"would have {words}"])
    if step.state == REMOVED and step.expected_state == "running":
        _note_suspect(step.uuid)
    connection.call(lambda: _resume(connection, handle) if step.state == RESUMED else _remove(connection, handle))
    return _result(before, peers.view(connection, before.name, step.uuid), [words])


def _is_done(step: Step, now: peers.View) -> bool:
    if step.state == REMOVED:
        return now.exists is False
    return now.state is not None and now.state.state == "running"


def _refuse_another_state(step: Step, now: peers.View) -> None:
    wanted = f"{step.expected_state} ({step.expected_reason})"
    if str(now.state) != wanted:
        raise MigrationError(
            f"{platform.node()}: domain {now.name or step.uuid} is not {wanted}, as it was when this was decided, but {now}; nothing was"
            " done. Read both hosts again",
            error_id="state_changed",
            state=now.state.to_dict() if now.state else None,
        )
    if now.job and now.job.get("active"):
        raise MigrationError(
            f"{platform.node()}: domain {now.name} has a running libvirt job ({now.job.get('operation')}); nothing was done. Wait for its"
            " end, then read both hosts again",
            error_id="job_running",
        )


def _resume(connection: Connection, handle: t.Any) -> None:
    connection.translate(handle.resume)


def _remove(connection: Connection, handle: t.Any) -> None:
    """The definition first: what a killed module leaves then is a domain that nobody starts again."""
    if connection.translate(handle.isPersistent):
        # Its variables may be on storage that the other host uses.
        connection.translate(handle.undefineFlags, connection.api.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
    connection.translate(handle.destroy)


def _note_suspect(uuid: str) -> None:
    """Two guests run. Once this one is gone nothing else shows it, and whoever decided it may be killed before it is told."""
    note = read_note(uuid)
    if note:
        write_note(replace(note, suspect=True))


def _forget(step: Step, check_mode: bool) -> Result:
    note = read_note(step.uuid)
    unknown = peers.View(exists=None, name=note.name if note else None, uuid=step.uuid)
    if note is None:
        return _result(unknown, unknown, [])
    if not check_mode:
        remove_note(step.uuid)
    done = "would have forgotten" if check_mode else "forgot"
    return _result(unknown, unknown, [f"{done} the pending {note.mode} switchover of domain {note.name} on {platform.node()}"])


def _result(before: peers.View, after: peers.View, actions: list[str]) -> Result:
    words = str(before) if before.exists is not None else ""
    return {
        "changed": bool(actions),
        "name": before.name,
        "uuid": before.uuid,
        "state": after.state.to_dict() if after.state else None,
        "actions": actions,
        "diff": {"before": words, "after": str(after) if after.exists is not None else ""},
    }


__all__ = ("FORGOTTEN", "REMOVED", "RESUMED", "Step", "settle")
