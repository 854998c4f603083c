# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of the same name in the background of its host, and shows live how far it is."""

from __future__ import annotations

import typing as t

from ansible_collections.lunshift.migration.plugins.plugin_utils._leased_action import LeasedAction

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


class ActionModule(LeasedAction):
    def _operation_id(self, arguments: t.Mapping[str, t.Any]) -> str | None:
        return arguments.get("operation_id") or _label(arguments)

    def _line(self, arguments: t.Mapping[str, t.Any], progress: t.Mapping[str, t.Any]) -> str:
        return f"{_label(arguments)}: {describe_progress(progress)}"

    def _last_lines(self, arguments: t.Mapping[str, t.Any], result: t.Mapping[str, t.Any]) -> t.Iterator[str]:
        # The error of a migration that failed tells the last of its steps.
        for step in [] if result.get("failed") else result.get("steps", []):
            yield f"{_label(arguments)}: {step}"
        summary = describe_result(result)
        if summary:
            yield f"{_label(arguments)}: {summary}"


def _label(arguments: t.Mapping[str, t.Any]) -> str | None:
    return arguments.get("name") or arguments.get("uuid")
