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
    if "total_bytes" not in progress:
        return str(progress.get("phase", "starting"))
    parts = [
        str(progress["phase"]),
        f"{progress['percent']} %",
        f"{progress['done_bytes'] / MIB:.0f} of {progress['total_bytes'] / MIB:.0f} MiB",
        f"{progress['bytes_per_s'] / MIB:.0f} MiB/s",
    ]
    if progress.get("bandwidth_limit_bytes_per_s"):
        parts[-1] += f" (at most {progress['bandwidth_limit_bytes_per_s'] / MIB:.0f})"
    if progress.get("seconds_left") is not None:
        parts.append(f"~{progress['seconds_left']:.0f} s left")
    return " | ".join(parts)


def describe_result(result: t.Mapping[str, t.Any]) -> str | None:
    """What was done, when the copy is whole."""
    counts = result.get("counts")
    if result.get("failed") or not counts:
        return None
    parts = [f"copied in {result['seconds']} s" if result["changed"] else f"nothing to do, as found in {result['seconds']} s"]
    for name, word in (("written_bytes", "written"), ("zeroed_bytes", "made zero"), ("verified_bytes", "verified")):
        if counts[name]:
            parts.append(f"{counts[name] / MIB:.1f} MiB {word}")
    return " | ".join(parts)


class ActionModule(LeasedAction):
    def _operation_id(self, arguments: t.Mapping[str, t.Any]) -> str | None:
        return arguments.get("operation_id")

    def _line(self, arguments: t.Mapping[str, t.Any], progress: t.Mapping[str, t.Any]) -> str:
        return f"{arguments['operation_id']}: {describe_progress(progress)}"

    def _last_lines(self, arguments: t.Mapping[str, t.Any], result: t.Mapping[str, t.Any]) -> t.Iterator[str]:
        summary = describe_result(result)
        if summary:
            yield f"{arguments['operation_id']}: {summary}"
