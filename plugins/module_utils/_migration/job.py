# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""One libvirt migration job from its start to its end: watched, limited, and ended when it has to be.

libvirt's call blocks until the domain has moved or stays, and it has no time limit. So it runs in a thread, while
this one asks for the job's numbers, writes them down, and does what C(steering.py) decides. The migration is
peer-to-peer: it goes on when this process dies.
"""

from __future__ import annotations

import threading
import time
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import Clock, JobDirectory, Lease
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection
from ansible_collections.lunshift.migration.plugins.module_utils._migration import steering
from ansible_collections.lunshift.migration.plugins.module_utils._migration.controls import Controls
from ansible_collections.lunshift.migration.plugins.module_utils._migration.statistics import Progress, completed, progress

# The first looks come quicker: an idle guest moves in about a second.
FIRST_INTERVAL_S = 0.1
INTERVAL_S = 0.5
CALL_TIMEOUT_S = 10.0
# An abort takes milliseconds; only a migration that is being finished, or a daemon that hangs, takes long.
ABORT_WAIT_S = 60.0
# The numbers of the finished job come by an event of their own.
EVENT_WAIT_S = 1.0
# What libvirt itself starts with when it is given no limit.
UNLIMITED_MIB = ((1 << 63) - 1) >> 20


@dataclass(frozen=True)
class JobEnd:
    """How it ended. ``error`` is None only when libvirt called it a success; ``steps`` is what was done about the job, in words."""

    error: MigrationError | None
    statistics: dict[str, int | None] | None
    seconds: float
    lease_lapsed: bool
    suspended: bool
    steps: tuple[str, ...]


class _Call:
    """libvirt's blocking call, in a thread that dies with the process."""

    def __init__(self, function: t.Callable[[], t.Any]) -> None:
        self._error: Exception | None = None
        self._done = threading.Event()
        self._function = function
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._function()
        except Exception as exc:  # noqa: BLE001 (raised again by error())
            self._error = exc
        finally:
            self._done.set()

    def wait(self, seconds: float) -> bool:
        return self._done.wait(seconds)

    def error(self) -> MigrationError | None:
        """What libvirt said; anything else that went wrong in the thread goes on here."""
        if self._error is None or isinstance(self._error, MigrationError):
            return self._error
        raise self._error


class MigrationJob:
    """Runs once. ``start`` is the blocking call of libvirt that migrates the domain ``handle``."""

    def __init__(
        self,
        connection: Connection,
        handle: t.Any,
        start: t.Callable[[], t.Any],
        directory: JobDirectory,
        lease: Lease,
        controls: Controls,
        *,
        postcopy_allowed: bool = False,
        taken_over: bool = False,
        clock: Clock = time.monotonic,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._connection = connection
        self._handle = handle
        self._start = start
        self._directory = directory
        self._lease = lease
        self._controls = controls
        self._postcopy_allowed = postcopy_allowed
        self._clock = clock
        self._interval_s = interval_s
        self._began = clock()
        self._progress = progress("starting", 0, {})
        # libvirt's call has set the bandwidth; all else is taken only by a job that runs. One that was taken over has any bandwidth.
        self._applied = steering.Applied(bandwidth_mib=-1 if taken_over else controls.bandwidth_mib)
        self._history = steering.History(applied=self._applied)
        self._steps: list[str] = []
        self._suspending = False
        self._lease_lapsed = False
        self._completed_stats: dict[str, t.Any] | None = None
        self._completed_event = threading.Event()

    def run(self) -> JobEnd:
        """Returns how the job ended; raises only when its end cannot be told."""
        unregister = self._listen()
        try:
            call = _Call(self._start)
            reason = self._watch(call)
            error = call.error()
            if error is None:
                self._completed_event.wait(EVENT_WAIT_S)
        finally:
            unregister()
        return JobEnd(
            error=reason if error is not None and reason is not None else error,
            statistics=completed(self._completed_stats) if self._completed_stats else None,
            seconds=round(self._elapsed(), 2),
            lease_lapsed=self._lease_lapsed,
            suspended=self.suspended,
            steps=self.steps,
        )

    @property
    def last_progress(self) -> Progress:
        return self._progress

    @property
    def suspended(self) -> bool:
        """Whether the guest may have been suspended from here: a call that took too long may have been heard."""
        return self._suspending

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(self._steps)

    def _elapsed(self) -> float:
        return self._clock() - self._began

    def _listen(self) -> t.Callable[[], None]:
        """Have libvirt send the finished job's numbers: after a success the source cannot be asked for them any more."""
        api, handle = self._connection.api, self._connection.handle

        def on_completed(_connection: t.Any, _domain: t.Any, stats: dict[str, t.Any], _opaque: t.Any) -> None:
            self._completed_stats = dict(stats)
            self._completed_event.set()

        try:
            callback = self._connection.call(
                handle.domainEventRegisterAny, self._handle, api.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, on_completed, None
            )
        except MigrationError:
            self._completed_event.set()  # Nothing to wait for: the destination is asked instead.
            return lambda: None

        def unregister() -> None:
            try:
                self._connection.call(handle.domainEventDeregisterAny, callback)
            except MigrationError:
                return

        return unregister

    def _watch(self, call: _Call) -> MigrationError | None:
        """Until the call returns. The reason for which the job was aborted from here, if it was."""
        interval_s = min(FIRST_INTERVAL_S, self._interval_s)
        reason: MigrationError | None = None
        aborted_at = 0.0
        while not call.wait(interval_s):
            interval_s = min(interval_s * 1.5, self._interval_s)
            self._follow_controls()
            self._look("aborting" if reason else self._phase())
            if reason is None:
                reason = self._steer()
                aborted_at = self._clock()
            if reason is not None:
                self._abort()
                if self._clock() - aborted_at > ABORT_WAIT_S:
                    raise MigrationError(
                        f"{reason}. libvirt was told to abort the job, and has not ended it after {ABORT_WAIT_S:g} s: the domain may still"
                        " move. Read both hosts",
                        error_id="abort_failed",
                    )
        return reason

    def _follow_controls(self) -> None:
        """Whoever follows the job may have handed over limits of its own."""
        given = self._directory.read_controls()
        controls = Controls.from_dict(given) if given is not None else self._controls
        if controls != self._controls:
            self._controls = controls
            self._lease.change(controls.lease_s)
            self._tell("other limits were handed over, and are followed from now on")

    def _phase(self) -> str:
        if self._applied.postcopy:
            return "postcopy"
        return "migrating" if self._applied.suspended_at_s is None else "suspended"

    def _look(self, phase: str) -> None:
        """Keeps the last numbers when there are no new ones: the job has not begun, is ending, or the daemon hangs."""
        elapsed_s = self._elapsed()
        try:
            stats = self._connection.call(self._handle.jobStats, timeout_s=CALL_TIMEOUT_S)
        except MigrationError:
            stats = {}
        if stats.get("type"):
            self._progress = progress(phase, elapsed_s, stats, self._progress.percent)
        self._history = self._history.after(elapsed_s, self._progress, self._applied)
        self._progress = replace(
            self._progress,
            lowest_remaining_bytes=self._history.lowest_bytes,
            downtime_limit_ms=self._applied.downtime_ms or None,
            converges=self._history.converges,
        )
        if stats.get("type"):
            self._directory.write_progress({**self._progress.to_dict(), "lease_lapsed": self._lease_lapsed})

    def _steer(self) -> MigrationError | None:
        """Carry out what is decided; the reason when that is to abort."""
        lapsed = self._lease.lapsed()
        self._lease_lapsed = self._lease_lapsed or lapsed
        actions = steering.decide(
            self._elapsed(),
            self._progress,
            self._history,
            self._controls,
            lease_lapsed=lapsed,
            postcopy_allowed=self._postcopy_allowed,
        )
        for action in actions:
            if isinstance(action, steering.Abort):
                self._tell(action.why)
                return MigrationError(action.why, error_id=action.error_id)
            try:
                self._carry_out(action)
            except MigrationError:
                # Too early, or too late; it is decided again at the next look.
                if isinstance(action, (steering.Suspend, steering.StartPostcopy)):
                    self._applied = replace(self._applied, refusals=self._applied.refusals + 1)
        return None

    def _carry_out(self, action: steering.Action) -> None:
        if isinstance(action, steering.SetDowntime):
            self._ask(self._handle.migrateSetMaxDowntime, action.milliseconds, 0)
            if self._applied.downtime_ms:
                self._tell(f"the downtime limit was raised to {action.milliseconds} ms")
            self._applied = replace(self._applied, downtime_ms=action.milliseconds)
        elif isinstance(action, steering.SetBandwidth):
            self._ask(self._handle.migrateSetMaxSpeed, action.mib or UNLIMITED_MIB, 0)
            self._tell(f"the bandwidth limit was set to {action.mib} MiB/s" if action.mib else "the bandwidth limit was lifted")
            self._applied = replace(self._applied, bandwidth_mib=action.mib)
        elif isinstance(action, steering.Suspend):
            self._suspending = True
            self._ask(self._handle.suspend)
            self._tell(action.why)
            self._applied = replace(self._applied, suspended_at_s=self._elapsed())
        elif isinstance(action, steering.StartPostcopy):
            self._ask(self._handle.migrateStartPostCopy, 0)
            self._tell(action.why)
            self._applied = replace(self._applied, postcopy=True)

    def _ask(self, function: t.Callable[..., t.Any], *arguments: int) -> None:
        self._connection.call(function, *arguments, timeout_s=CALL_TIMEOUT_S)

    def _tell(self, what: str) -> None:
        self._steps.append(f"after {self._elapsed():.1f} s: {what}")

    def _abort(self) -> None:
        """Told again at each look: before libvirt's job has begun there is nothing that could be aborted."""
        try:
            self._ask(self._handle.abortJob)
        except MigrationError:
            return


__all__ = ("JobEnd", "MigrationJob")
