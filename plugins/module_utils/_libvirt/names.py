# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""libvirt's numbers as words. The numbers are part of libvirt's stable interface."""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass

STATES = ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended")

# By state, then by reason. Only what can be met on a domain that is or was being migrated needs no guess.
REASONS: dict[str, tuple[str, ...]] = {
    "running": (
        "unknown",
        "booted",
        "migrated",
        "restored",
        "from_snapshot",
        "unpaused",
        "migration_canceled",
        "save_canceled",
        "wakeup",
        "crashed",
        "postcopy",
        "postcopy_failed",
    ),
    "paused": (
        "unknown",
        "user",
        "migration",
        "save",
        "dump",
        "ioerror",
        "watchdog",
        "from_snapshot",
        "shutting_down",
        "snapshot",
        "crashed",
        "starting_up",
        "postcopy",
        "postcopy_failed",
        "api_error",
    ),
    "shutdown": ("unknown", "user"),
    "shutoff": ("unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from_snapshot", "daemon"),
    "crashed": ("unknown", "panicked"),
}

SECRET_USAGE_TYPES = ("none", "volume", "ceph", "iscsi", "tls", "vtpm")

JOB_TYPES = ("none", "bounded", "unbounded", "completed", "failed", "cancelled")
JOB_OPERATIONS = (
    "unknown",
    "start",
    "save",
    "restore",
    "migration_in",
    "migration_out",
    "snapshot",
    "snapshot_revert",
    "dump",
    "backup",
    "snapshot_delete",
)

# States in which a QEMU process exists.
ACTIVE_STATES = ("running", "blocked", "paused", "shutdown", "crashed", "pmsuspended")


@dataclass(frozen=True)
class DomainState:
    """A domain's state in words, with libvirt's own numbers beside them."""

    state: str
    reason: str
    code: int
    reason_code: int

    @property
    def active(self) -> bool:
        return self.state in ACTIVE_STATES

    def to_dict(self) -> dict[str, t.Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})"


def _word(words: t.Sequence[str], number: int) -> str:
    """A newer libvirt may know more numbers than this table."""
    return words[number] if 0 <= number < len(words) else f"unknown_{number}"


def domain_state(code: int, reason_code: int) -> DomainState:
    state = _word(STATES, code)
    return DomainState(state=state, reason=_word(REASONS.get(state, ("unknown",)), reason_code), code=code, reason_code=reason_code)


def job_type(code: int) -> str:
    return _word(JOB_TYPES, code)


def job_operation(code: int) -> str:
    return _word(JOB_OPERATIONS, code)


def secret_usage_type(code: int) -> str:
    return _word(SECRET_USAGE_TYPES, code)


def version(number: int) -> str:
    """libvirt's C(1000000 * major + 1000 * minor + release) as people write it."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


__all__ = ("ACTIVE_STATES", "REASONS", "STATES", "DomainState", "domain_state", "job_operation", "job_type", "secret_usage_type", "version")
