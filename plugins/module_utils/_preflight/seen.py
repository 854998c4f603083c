# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What was seen before a migration, as the checks get it: the results of modules, some of which may have failed. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

GO, WARNING, UNPROVEN, NO_GO = "go", "warning", "unproven", "no_go"

_LAST_PART = re.compile(r"^(.*[^.;])(?:;|\.) +(\S[^;]*)$", re.DOTALL)

Result = t.Mapping[str, t.Any]


class Unread(Exception):
    """A check has nothing to go by; the words say why."""


@dataclass(frozen=True)
class Verdict:
    """One line of a check: what was found, why, and what to do."""

    verdict: str
    cause: str
    remedy: str = ""


@dataclass(frozen=True)
class Intent:
    """What the operator wants to do, as far as a check depends on it."""

    domain: str
    source_name: str
    destination_name: str
    destination_uri: str = ""
    destination_connections: t.Mapping[str, t.Any] = field(default_factory=dict)
    # Whether tasks of the operator's make volumes visible to the destination only when the run begins.
    exports: bool = False
    identity_gate: bool = True
    accept_unproven: t.Sequence[str] = ()
    bandwidth_mib: int = 0
    downtime_ms: int = 300
    timeout_s: int = 0
    # Whether the operator allowed post-copy.
    postcopy: bool = False
    # Whether the destination was asked about the whole domain, or about all but its volumes.
    complete: bool = False
    # Memory of the domains that the same plan moves before this one.
    earlier_memory_kib: int = 0


@dataclass(frozen=True)
class Seen:
    """Results of modules; one that is missing, was skipped, failed or came from an unreachable host counts as unread."""

    source: Result = field(default_factory=dict)
    destination: Result = field(default_factory=dict)
    source_host: Result = field(default_factory=dict)
    destination_host: Result = field(default_factory=dict)
    way: Result = field(default_factory=dict)
    source_devices: Result = field(default_factory=dict)
    destination_devices: Result = field(default_factory=dict)
    attached: Result = field(default_factory=dict)
    dry_run: Result = field(default_factory=dict)


def failure(result: Result) -> str | None:
    """Why a result cannot be used; None when it can."""
    if result.get("unreachable"):
        return f"not reachable: {str(result.get('msg') or 'no answer').strip()}"
    # A task that may not fail keeps the message of what failed in it.
    if result.get("failed") or result.get("error_id") or result.get("exception"):
        return str(result.get("msg") or "it failed without a word").strip()
    return "it was not looked at" if not result or result.get("skipped") else None


def part(result: Result, key: str, whose: str) -> t.Any:
    """One value of a result; Unread when there is none."""
    problem = failure(result)
    if problem is None and key in result:
        return result[key]
    raise Unread(f"{whose}: {problem or f'it did not tell {key}'}")


def halves(message: str) -> tuple[str, str]:
    """Cause and remedy of a message that says both: what comes after its last semicolon, or its last sentence, says what to do."""
    parts = _LAST_PART.match(message)
    return (parts[1], parts[2]) if parts else (message, "")


__all__ = ("GO", "NO_GO", "UNPROVEN", "WARNING", "Intent", "Seen", "Unread", "Verdict", "failure", "halves", "part")
