# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The controller's side of a long job: start it in the background of its host, renew its lease, show its progress.

Ansible kills its workers without ceremony, so nothing here can clean up. It need not: a job whose lease nobody
renews ends as the operator chose. Only SIGKILL of ansible-playbook leaves a worker alive; it then stops by itself.
The host's side is C(module_utils/_leased_job.py).
"""

from __future__ import annotations

import os
import secrets
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.lunshift.migration.plugins.plugin_utils._alarm import limit

POLL = "lunshift.migration.job_lease"
# The poll waits on the host, where it sees the end at once.
POLL_WAIT_S = 2.0
RETRY_S = 2.0
# A host that loses its power while it is asked never answers, and ssh alone waits for hours. Slow hosts take ten seconds.
ANSWER_LIMIT_S = 30.0
# How long the connection may be away when the job has no lease.
PATIENCE_S = 60.0
# A job holds its lock from its first moment to its last; what comes after that is writing a file.
END_PATIENCE_S = 10.0
# A new line after so many seconds, or at once when so much was done since.
SHOW_EVERY_S = 5.0
SHOW_PERCENT = 10

Format = t.Callable[[t.Mapping[str, t.Any]], str]


class ProgressLines:
    """Shows a line only when there is something new to say."""

    def __init__(
        self, prefix: str, format_line: Format, show: t.Callable[[str], None], clock: t.Callable[[], float] = time.monotonic
    ) -> None:
        self._prefix = prefix
        self._format = format_line
        self._show = show
        self._clock = clock
        self._shown_at: float | None = None
        self._percent = 0
        self._phase = ""
        self._line = ""

    def update(self, progress: t.Mapping[str, t.Any]) -> None:
        if not progress:
            return
        # Two looks may overtake each other; a percentage never goes back.
        percent = max(int(progress.get("percent", 0)), self._percent)
        line = self._format({**progress, "percent": percent})
        phase = str(progress.get("phase", ""))
        now = self._clock()
        is_due = (
            self._shown_at is None
            or phase != self._phase
            or percent >= self._percent + SHOW_PERCENT
            or now >= self._shown_at + SHOW_EVERY_S
        )
        if is_due and line != self._line:
            self.say(line)
            self._shown_at, self._percent, self._phase, self._line = now, percent, phase, line

    def say(self, text: str) -> None:
        self._show(f"[{self._prefix}] {text}")


class LeasedJob:
    """One job, run through the action plugin of its module."""

    def __init__(
        self,
        action: ActionBase,
        task_vars: dict[str, t.Any],
        operation_id: str,
        lease_s: float,
        lines: ProgressLines,
        *,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
        parent: t.Callable[[], int] = os.getppid,
    ) -> None:
        self._parent = parent
        self._controller = parent()
        self._action = action
        self._task_vars = task_vars
        self._operation_id = operation_id
        self._lease_s = lease_s
        self._lines = lines
        self._clock = clock
        self._sleep = sleep
        self._ticket = secrets.token_hex(8)
        self._heard_of = self._seen_running = clock()
        self._problem = ""
        # Set while it is not known whether the job has begun.
        self._start_failure: AnsibleConnectionFailure | None = None

    def run(self, module_args: dict[str, t.Any]) -> dict[str, t.Any]:
        """The module's result, as if it had been run in the foreground."""
        answer = self._start(module_args)
        if answer is not None and "finished" not in answer:
            return answer  # It did not even start: wrong arguments, for one.
        self._heard_of = self._seen_running = self._clock()
        while True:
            result = self._silence() if answer is None else self._judge(answer)
            if result is not None:
                return result
            if self._parent() != self._controller:
                return self._lost_controller()
            answer = self._poll()

    def _start(self, module_args: dict[str, t.Any]) -> dict[str, t.Any] | None:
        """The host says of a job that it has just started what it would say at any poll."""
        try:
            return self._execute(None, {**module_args, "_ticket": self._ticket})
        except AnsibleConnectionFailure as exc:
            # It may have begun nevertheless: the connection may have been lost while the host was about to answer.
            self._start_failure, self._problem = exc, str(exc)
            return None

    def _poll(self) -> dict[str, t.Any] | None:
        """None when the host did not say anything about the job."""
        try:
            answer = self._execute(POLL, {"operation_id": self._operation_id, "ticket": self._ticket, "wait_s": POLL_WAIT_S})
        except AnsibleConnectionFailure as exc:
            self._problem = str(exc)
            return None
        self._problem = str(answer.get("msg", ""))
        return answer if "finished" in answer else None

    def _judge(self, answer: t.Mapping[str, t.Any]) -> dict[str, t.Any] | None:
        now = self._heard_of = self._clock()
        if answer["finished"]:
            return dict(answer["result"])
        self._lines.update(answer["progress"])
        if answer["running"]:
            self._seen_running, self._start_failure = now, None
        elif self._start_failure is not None:
            raise self._start_failure
        elif now - self._seen_running > END_PATIENCE_S:
            return self._lost_job()
        return None

    def _silence(self) -> dict[str, t.Any] | None:
        if self._clock() - self._heard_of <= (self._lease_s or PATIENCE_S):
            self._sleep(RETRY_S)
            return None
        if self._start_failure is not None:
            raise self._start_failure
        return self._lost_host(self._problem)

    def _execute(self, module_name: str | None, module_args: dict[str, t.Any]) -> dict[str, t.Any]:
        silent = AnsibleConnectionFailure(f"no answer within {ANSWER_LIMIT_S:g} s")
        try:
            with limit(ANSWER_LIMIT_S, silent):
                return t.cast(
                    "dict[str, t.Any]",
                    self._action._execute_module(module_name=module_name, module_args=module_args, task_vars=self._task_vars),
                )
        except AnsibleConnectionFailure:
            # The next attempt must not wait behind this one, in a connection that both would share.
            self._action._connection.reset()
            raise

    def _lost_controller(self) -> dict[str, t.Any]:
        """Nobody reads this result: the point is that the lease is not renewed for a controller that is no more."""
        return {"failed": True, "operation_id": self._operation_id, "msg": "ansible-playbook was killed, so the job is left to its lease"}

    def _lost_host(self, problem: str) -> dict[str, t.Any]:
        return {
            "failed": True,
            "error_id": "controller_lost_host",
            "operation_id": self._operation_id,
            "msg": (
                f"The host could not be reached for {self._lease_s or PATIENCE_S:g} s while job {self._operation_id} ran on it ({problem})."
                + (" Its lease has lapsed by now, so it does what on_controller_loss says." if self._lease_s else " It goes on.")
                + " When the host is back, look at the job with the module job_lease (renew: false), read both hosts, and run the same"
                " task again"
            ),
        }

    def _lost_job(self) -> dict[str, t.Any]:
        return {
            "failed": True,
            "error_id": "job_lost",
            "operation_id": self._operation_id,
            "msg": (
                f"Job {self._operation_id} does not run on the host any more, and has left no result: its process was killed, or the host"
                " was started again. What it had asked others for, such as a migration by libvirt, may still go on. Look at what it worked"
                " on, and run the same task again"
            ),
        }


def prefix_of(action: ActionBase, task_vars: t.Mapping[str, t.Any]) -> str:
    """The host that the job runs on, as people know it."""
    return str(action._task.delegate_to or task_vars.get("inventory_hostname", ""))


def show_for(action: ActionBase) -> t.Callable[[str], None]:
    """From a worker a line reaches the controller's output at once, and becomes an event of ansible-runner."""
    if action._task.no_log:
        return lambda _text: None
    return t.cast("t.Callable[[str], None]", Display().display)


__all__ = ("LeasedJob", "ProgressLines", "prefix_of", "show_for")
