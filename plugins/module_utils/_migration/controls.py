# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What an operator may change about a migration while it runs. Pure.

The job reads it anew at each look, so whoever follows the job later hands over controls of its own. What is settled
by libvirt's call, and stays as it is until the end, is in C(method.py).
"""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass, fields

TIMEOUT_ACTIONS = ("abort", "force", "postcopy")


@dataclass(frozen=True)
class Controls:
    """Limits of a running job. 0 means no limit, or the hypervisor's own."""

    bandwidth_mib: int = 0
    # The pause that the migration may plan with: from start to this, in steps.
    downtime_ms: int = 0
    downtime_start_ms: int = 0
    downtime_steps: int = 5
    timeout_s: float = 0
    timeout_action: str = "abort"
    progress_timeout_s: float = 0
    lease_s: float = 0
    abort_without_controller: bool = True

    def to_dict(self) -> dict[str, t.Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: t.Mapping[str, t.Any]) -> Controls:
        """What another release of the collection wrote may have more keys, or fewer."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})

    def problems(self) -> list[str]:
        """Everything that is wrong with the values themselves, in words."""
        found = [
            f"{name} must not be negative (it is {value:g})"
            for name, value in (
                ("bandwidth_mib", self.bandwidth_mib),
                ("downtime_ms", self.downtime_ms),
                ("downtime_start_ms", self.downtime_start_ms),
                ("timeout", self.timeout_s),
                ("progress_timeout", self.progress_timeout_s),
                ("lease_s", self.lease_s),
            )
            if value < 0
        ]
        if self.downtime_steps < 1:
            found.append(f"downtime_steps must be 1 or more (it is {self.downtime_steps})")
        if self.downtime_start_ms and self.downtime_start_ms > self.downtime_ms:
            found.append(
                f"downtime_start_ms ({self.downtime_start_ms}) must not be above downtime_ms ({self.downtime_ms}), where the steps end"
            )
        if self.timeout_action not in TIMEOUT_ACTIONS:
            found.append(f"timeout_action {self.timeout_action!r} is none of {', '.join(TIMEOUT_ACTIONS)}")
        return found


__all__ = ("TIMEOUT_ACTIONS", "Controls")
