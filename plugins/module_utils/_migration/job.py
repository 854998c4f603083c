# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""One libvirt migration job from its start to its end: watched, limited, and ended when it has to be.

libvirt's call blocks until the domain has moved or stays, and it has no time limit. So it runs in a thread, while
this one asks for the job's numbers, writes them down, and aborts the job when its time or its lease is over. The
migration is peer-to-peer: it goes on when this process dies.
"""

from __future__ import annotations

import threading
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import Clock, JobDirectory, Lease
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection, LibvirtError
from ansible_collections.lunshift.migration.plugins.module_utils._migration.statistics import Progress, completed, progress

# The first looks come quicker: an idle guest moves in about a second.
FIRST_INTERVAL_S = 0.1
INTERVAL_S = 0.5
CALL_TIMEOUT_S = 10.0
# libvirt has no limit for reaching the destination, and one that hangs takes it for ever. Slow hosts take half a minute.
BEGIN_LIMIT_S = 120.0
# An abort takes milliseconds; only a migration that is being finished, or a daemon that hangs, takes long.
ABORT_WAIT_S = 60.0
# The numbers of the finished job come by an event of their own.
EVENT_WAIT_S = 1.0


@dataclass(frozen=True)
class Limits:
    """When the job is ended, and how long the guest may stand still. 0 means: no limit, or the hypervisor's own."""

    timeout_s: float
    downtime_ms: int
    abort_without_controller: bool


@dataclass(frozen=True)
class JobEnd:
    """How it ended. ``error`` is None only when libvirt called it a success."""

    error: MigrationError | None
    statistics: dict[str, int | None] | None
    seconds: float
    lease_lapsed: bool
    downtime_was_set: bool


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
        limits: Limits,
        *,
        clock: Clock = time.monotonic,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._connection = connection
        self._handle = handle
        self._start = start
        self._directory = directory
        self._lease = lease
        self._limits = limits
        self._clock = clock
        self._interval_s = interval_s
        self._began = clock()
        self._progress = progress("starting", 0, {})
        self._downtime_set = False
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
            downtime_was_set=self._downtime_set,
        )

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
            if reason is None:
                reason = self._reason_to_abort()
                aborted_at = self._clock()
            if reason is not None:
                self._abort()
                if self._clock() - aborted_at > ABORT_WAIT_S:
                    raise MigrationError(
                        f"{reason}. libvirt was told to abort the job, and has not ended it after {ABORT_WAIT_S:g} s: the domain may still"
                        " move. Read both hosts",
                        error_id="abort_failed",
                    )
            self._look("aborting" if reason else "migrating")
        return reason

    def _reason_to_abort(self) -> MigrationError | None:
        if self._lease.lapsed():
            self._lease_lapsed = True
            if self._limits.abort_without_controller:
                return MigrationError(
                    "The controller was lost (nothing renewed the lease), so the migration was aborted", error_id="lease_lapsed"
                )
        if not self._progress.total_bytes and self._elapsed() > BEGIN_LIMIT_S:
            return MigrationError(
                f"Nothing was moved for {BEGIN_LIMIT_S:g} s, so the migration was aborted. Look at libvirt on the destination: it may hang",
                error_id="not_begun",
            )
        if 0 < self._limits.timeout_s < self._elapsed():
            return MigrationError(
                f"The migration took longer than timeout ({self._limits.timeout_s:g} s) at {self._progress.percent} %, iteration"
                f" {self._progress.iteration}, and was aborted. Give it more time, more bandwidth or a longer downtime",
                error_id="timeout",
            )
        return None

    def _abort(self) -> None:
        """Told again at each look: before libvirt's job has begun there is nothing that could be aborted."""
        try:
            self._connection.call(self._handle.abortJob, timeout_s=CALL_TIMEOUT_S)
        except MigrationError:
            return

    def _look(self, phase: str) -> None:
        try:
            stats = self._connection.call(self._handle.jobStats, timeout_s=CALL_TIMEOUT_S)
        except MigrationError:
            return  # The job has not begun, is ending, or the daemon hangs: the call itself will tell.
        if not stats.get("type"):
            return
        self._set_downtime()
        self._progress = progress(phase, self._elapsed(), stats, self._progress.percent)
        self._directory.write_progress({**self._progress.to_dict(), "lease_lapsed": self._lease_lapsed})

    def _set_downtime(self) -> None:
        """libvirt takes a limit only for a job that runs."""
        if self._downtime_set or not self._limits.downtime_ms:
            return
        try:
            self._connection.call(self._handle.migrateSetMaxDowntime, self._limits.downtime_ms, 0, timeout_s=CALL_TIMEOUT_S)
        except LibvirtError:
            return  # Too early; at the next look again.
        self._downtime_set = True

    @property
    def last_progress(self) -> Progress:
        return self._progress


__all__ = ("JobEnd", "Limits", "MigrationJob")
