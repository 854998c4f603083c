# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of the same name in the background of its host, and shows live how far it is."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.lunshift.migration.plugins.plugin_utils._leased_job import LeasedJob, ProgressLines, prefix_of, show_for

DEFAULT_LEASE_S = 60
MIB = 1 << 20


def describe_progress(progress: t.Mapping[str, t.Any]) -> str:
    """One line for people; what is not known yet is left out."""
    if not progress.get("total_bytes"):
        return str(progress.get("phase", "starting"))
    lowest = progress.get("lowest_remaining_bytes")
    parts = [
        f"{progress['percent']} %",
        f"{progress['remaining_bytes'] / MIB:.1f} of {progress['total_bytes'] / MIB:.0f} MiB remaining"
        + (f" (lowest {lowest / MIB:.1f})" if lowest is not None and lowest < progress["remaining_bytes"] else ""),
        f"iteration {progress['iteration']}",
        f"{progress['bandwidth_bytes_per_s'] / MIB:.0f} MiB/s",
        f"dirty {progress['dirty_bytes_per_s'] / MIB:.0f} MiB/s",
    ]
    if progress.get("throttle_percent"):
        parts.append(f"guest slowed by {progress['throttle_percent']} %")
    if progress.get("expected_downtime_ms") is not None:
        limit = progress.get("downtime_limit_ms")
        parts.append(f"downtime {progress['expected_downtime_ms']} ms expected" + (f", {limit} ms allowed" if limit else ""))
    if progress.get("converges") is False:
        parts.append("does not converge")
    elif progress.get("seconds_left") is not None:
        parts.append(f"~{progress['seconds_left']:.0f} s left")
    if progress.get("phase") != "migrating":
        parts.insert(0, str(progress["phase"]))
    return " | ".join(parts)


def describe_result(result: t.Mapping[str, t.Any]) -> str | None:
    """What has been measured, when the domain has moved."""
    statistics = result.get("statistics")
    if result.get("failed") or not statistics:
        return None
    parts = [f"moved in {result['seconds']} s"]
    if statistics.get("downtime_ms") is not None:
        parts.append(f"downtime {statistics['downtime_ms']} ms")
    if statistics.get("data_processed_bytes") is not None:
        parts.append(f"{statistics['data_processed_bytes'] / MIB:.1f} MiB sent")
    if statistics.get("iterations") is not None:
        parts.append(f"{statistics['iterations']} iterations")
    return " | ".join(parts)


def _lease_s(arguments: t.Mapping[str, t.Any]) -> float:
    try:
        return float(arguments["lease_s"])
    except (KeyError, TypeError, ValueError):
        return DEFAULT_LEASE_S  # What is no number the module refuses, in words of its own.


class ActionModule(ActionBase):  # type: ignore[misc]
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = dict(self._task.args)
        label = arguments.get("name") or arguments.get("uuid")
        operation_id = arguments.get("operation_id") or arguments.get("uuid") or arguments.get("name")
        if self._task.async_val or self._task.check_mode or arguments.get("state") == "aborted" or not operation_id:
            return {**result, **self._run_plainly(arguments, task_vars)}
        lines = ProgressLines(prefix_of(self, task_vars), lambda progress: f"{label}: {describe_progress(progress)}", show_for(self))
        moved = LeasedJob(self, task_vars, str(operation_id), _lease_s(arguments), lines).run(arguments)
        summary = describe_result(moved)
        # The error of a migration that failed tells the last of them.
        for step in [] if moved.get("failed") else moved.get("steps", []):
            lines.say(f"{label}: {step}")
        if summary:
            lines.say(f"{label}: {summary}")
        return {**result, **moved}

    def _run_plainly(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Without progress: a task that is itself asynchronous has nobody who would renew a lease."""
        wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
        return t.cast("dict[str, t.Any]", self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=wrap_async))
