# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What may be cleared of an operation that no run finished. Pure."""

from __future__ import annotations

import typing as t

KEEP = "keep"
# Both hosts have to be read first; then the same question again, with the outcome.
READ = "read"
FINISH = "finish"
UNDO = "undo"


def sweep_decision(
    operation: t.Mapping[str, t.Any],
    outcome: t.Mapping[str, t.Any] | None,
    *,
    domains: t.Iterable[t.Mapping[str, t.Any]],
    hosts: t.Container[str],
    older_than_s: int,
) -> dict[str, str]:
    """Decide about one operation as operation_info lists it: ``{action: keep | read | finish | undo, reason}``.

    Only the outcome that both hosts gave permits anything. ``domains`` are the results of domain_info that it was decided from, ``hosts``
    those that can be read at all. The operation's id is the UUID of its domain, as the role gives it.
    """
    reason = _reason_to_wait(operation, older_than_s) or _not_a_move(operation)
    move = operation["move"]
    if reason is None and move["destination"] not in hosts:
        reason = f"its destination {move['destination']} is not in the inventory, so nobody can tell where {move['domain']} is"
    if reason is not None:
        return {"action": KEEP, "reason": reason}
    if outcome is None:
        return {"action": READ, "reason": f"the move of {move['domain']} to {move['destination']} was not finished"}
    others = {str(domain["uuid"]) for domain in domains if domain.get("exists")} - {operation["operation_id"]}
    if others:
        return {"action": KEEP, "reason": f"another domain has the name {move['domain']} now (UUID {', '.join(sorted(others))})"}
    permits = outcome["permits"]
    for action, permitted in ((FINISH, permits["clean_source"]), (UNDO, permits["undo_destination"])):
        if permitted:
            return {"action": action, "reason": str(outcome["message"])}
    return {"action": KEEP, "reason": f"{outcome['message']}. Next: {outcome['next_step']}"}


def _reason_to_wait(operation: t.Mapping[str, t.Any], older_than_s: int) -> str | None:
    if operation["problem"]:
        return str(operation["problem"])
    if operation["live"]:
        return "a run works on it now"
    if operation["age_s"] < older_than_s:
        return f"it was last written {operation['age_s']} s ago, and until {older_than_s} s have passed a run may still need it"
    return None


def _not_a_move(operation: t.Mapping[str, t.Any]) -> str | None:
    if operation["move"]:
        return None
    if operation["in_use"]:
        return f"what it attached is in use: {'; '.join(operation['in_use'])}"
    if operation["restorable"]:
        # A move is decided on its source, which knows both hosts.
        return (
            f"it attached {', '.join(operation['made']) or 'something'} here, nobody uses it, and no move from this host is noted. When the"
            " host that the domain came from has no note either, undo it by lunshift.migration.iscsi_volume with state: restored and"
            f" operation_id: {operation['operation_id']}"
        )
    return "nothing is left to undo"


__all__ = ("sweep_decision",)
