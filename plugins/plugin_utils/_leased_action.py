# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What the action plugins of the long jobs have in common: their module runs as a leased job, with lines for people."""

from __future__ import annotations

import abc
import typing as t

from ansible.plugins.action import ActionBase
from ansible_collections.lunshift.migration.plugins.plugin_utils._leased_job import LeasedJob, ProgressLines, prefix_of, show_for

DEFAULT_LEASE_S = 60


class LeasedAction(ActionBase):  # type: ignore[misc]
    """The module has an option C(state), one of whose values is C(aborted), and C(lease_s)."""

    _supports_check_mode = True
    _supports_async = True

    @abc.abstractmethod
    def _operation_id(self, arguments: t.Mapping[str, t.Any]) -> str | None:
        """The job's name; None when the module will refuse its arguments."""

    @abc.abstractmethod
    def _line(self, arguments: t.Mapping[str, t.Any], progress: t.Mapping[str, t.Any]) -> str:
        """One line of progress."""

    @abc.abstractmethod
    def _last_lines(self, arguments: t.Mapping[str, t.Any], result: t.Mapping[str, t.Any]) -> t.Iterator[str]:
        """What is to be said of the end."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = dict(self._task.args)
        operation_id = self._operation_id(arguments)
        if self._task.async_val or self._task.check_mode or arguments.get("state") == "aborted" or not operation_id:
            return {**result, **self._run_plainly(arguments, task_vars)}
        lines = ProgressLines(prefix_of(self, task_vars), lambda progress: self._line(arguments, progress), show_for(self))
        done = LeasedJob(self, task_vars, str(operation_id), _lease_s(arguments), lines).run(arguments)
        for line in self._last_lines(arguments, done):
            lines.say(line)
        return {**result, **done}

    def _run_plainly(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """Without progress: a task that is itself asynchronous has nobody who would renew a lease."""
        wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
        return t.cast("dict[str, t.Any]", self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=wrap_async))


def _lease_s(arguments: t.Mapping[str, t.Any]) -> float:
    try:
        return float(arguments["lease_s"])
    except (KeyError, TypeError, ValueError):
        return DEFAULT_LEASE_S  # What is no number the module refuses, in words of its own.


__all__ = ("LeasedAction",)
