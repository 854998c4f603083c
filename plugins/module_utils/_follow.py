# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""A run of a long job that finds it running already: it hands its limits over, and waits for that one's result."""

from __future__ import annotations

import secrets
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import (
    Clock,
    ask_for_copy,
    give_up_copy,
    is_running,
    take_result,
    write_controls,
)

LOOK_EVERY_S = 0.2
# A job that ends leaves its result at once.
RESULT_WAIT_S = 5.0


def follow(
    operation_id: str, controls: t.Mapping[str, t.Any], warn: t.Callable[[str], None], clock: Clock, sleep: t.Callable[[float], None]
) -> dict[str, t.Any] | None:
    """The result of the job that another process runs, with C(followed); its failure is raised. None when it ended without a result."""
    copy = ask_for_copy(operation_id, secrets.token_hex(8))
    write_controls(operation_id, controls)
    ended_at = None
    while ended_at is None or clock() < ended_at + RESULT_WAIT_S:
        result = take_result(copy)
        if result is not None:
            return _followed(result, warn)
        if ended_at is None and not is_running(operation_id):
            ended_at = clock()
        sleep(LOOK_EVERY_S)
    give_up_copy(copy)
    return None


def _followed(result: dict[str, t.Any], warn: t.Callable[[str], None]) -> dict[str, t.Any]:
    """Ansible's own keys go: they belong to the other run."""
    for warning in result.pop("warnings", []):
        warn(warning)
    failed = result.pop("failed", False)
    ours = {key: value for key, value in result.items() if key not in ("invocation", "deprecations", "exception")}
    if failed:
        ours.pop("changed", None)
        raise MigrationError(str(ours.pop("msg", "")), error_id=str(ours.pop("error_id", "defect")), **ours)
    return {**ours, "followed": True}


__all__ = ("follow",)
