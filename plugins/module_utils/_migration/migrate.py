# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The work of domain_migrate: move one domain, or end its move, and say what both hosts look like then."""

from __future__ import annotations

import platform
import shlex
import time
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._follow import follow
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import (
    Clock,
    JobDirectory,
    Lease,
)
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection, LibvirtError, open_connection
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.domain import Domain, find_domain, read_job
from ansible_collections.lunshift.migration.plugins.module_utils._migration import peers
from ansible_collections.lunshift.migration.plugins.module_utils._migration.failures import sentence
from ansible_collections.lunshift.migration.plugins.module_utils._migration.job import JobEnd, MigrationJob
from ansible_collections.lunshift.migration.plugins.module_utils._migration.outcome import outcome
from ansible_collections.lunshift.migration.plugins.module_utils._migration.prepare import (
    Prepared,
    Request,
    prepare,
    refuse,
    scrub,
    taken_over,
)
from ansible_collections.lunshift.migration.plugins.module_utils._migration.statistics import completed
from ansible_collections.lunshift.migration.plugins.module_utils._migration.switchover import (
    GUARDED,
    Note,
    Switchover,
    is_gone,
    read_note,
    remove_note,
)
from ansible_collections.lunshift.migration.plugins.module_utils._migration.watcher import Watcher
from ansible_collections.lunshift.migration.plugins.module_utils._operation import noted_move

CONNECT_TIMEOUT_S = 20.0
# Between two looks whether a job that was taken over has ended: the guest may wait for it, paused.
TAKEN_OVER_LOOK_S = 0.05
ABORT_WAIT_S = 30.0
# Somebody ended the job: an operator, or another program.
VIR_ERR_OPERATION_ABORTED = 78
Opener = t.Callable[..., Connection]
Result = dict[str, t.Any]


@dataclass
class Migration:
    """One run of domain_migrate. ``warn`` tells the operator what the result alone would not."""

    request: Request
    warn: t.Callable[[str], None]
    opener: Opener = open_connection
    watcher: t.Callable[[str], Watcher] = Watcher
    clock: Clock = time.monotonic
    sleep: t.Callable[[float], None] = time.sleep

    def abort(self, check_mode: bool) -> Result:
        """End a running outgoing migration; the domain then stays here."""
        connection = self.opener(self.request.uri, CONNECT_TIMEOUT_S)
        handle = connection.call(lambda: connection.find(self.request.name, self.request.uuid))
        if handle is None or not self._is_moving(connection, handle):
            return {"changed": False, "source": peers.view(connection, self.request.name, self.request.uuid).to_dict(), "actions": []}
        if not check_mode:
            connection.call(handle.abortJob)
            until = self.clock() + ABORT_WAIT_S
            while self._is_moving(connection, handle):
                if self.clock() > until:
                    raise MigrationError(
                        f"{platform.node()}: libvirt was told to abort the migration of {self.request.label}, and has not ended it after"
                        f" {ABORT_WAIT_S:g} s; the domain may still move. Read both hosts",
                        error_id="abort_failed",
                    )
                self.sleep(0.1)
        source = peers.view(connection, self.request.name, self.request.uuid)
        return {
            "changed": True,
            "source": source.to_dict(),
            "actions": [f"aborted the migration of domain {self.request.label} on {platform.node()}"],
        }

    def _is_moving(self, connection: Connection, handle: t.Any) -> bool:
        try:
            job = connection.call(read_job, connection, handle)
        except LibvirtError as exc:
            if exc.code == connection.api.VIR_ERR_NO_DOMAIN:
                return False  # It has arrived at the other host.
            raise
        return bool(job["active"]) and job["operation"] in ("migration_out", "unknown")

    def migrate(self, check_mode: bool) -> Result:
        if check_mode:
            return self._migrate(None, None)
        while True:
            try:
                return self._as_job()
            except MigrationError as exc:
                if exc.error_id != "job_running":
                    raise
            result = follow(self.request.operation_id, self.request.controls.to_dict(), self.warn, self.clock, self.sleep)
            if result is not None:
                return result

    def _as_job(self) -> Result:
        with JobDirectory(self.request.operation_id) as directory:
            if self.request.switchover != GUARDED:
                return self._migrate(directory, None)
            # Before anything of libvirt exists in this process.
            watcher = self.watcher(self.request.uri)
            try:
                return self._migrate(directory, watcher)
            finally:
                watcher.release()

    def _migrate(self, directory: JobDirectory | None, watcher: Watcher | None) -> Result:
        request = self.request
        lease = Lease(directory.lease_path, request.controls.lease_s, self.clock) if directory else None
        connection = self.opener(request.uri, CONNECT_TIMEOUT_S, watch=True)
        domain = connection.call(find_domain, connection, request.name, request.uuid)
        known = (domain.name, domain.uuid) if domain else (request.name, request.uuid)
        destination = peers.look(request.destination_uri, *known, self.opener)
        if domain is None or not domain.state.active:
            return self._settle(connection, domain, destination, is_check=directory is None)
        note = read_note(domain.uuid)
        if domain.job["operation"] == "migration_out" and note and note.destination_uri == request.destination_uri:
            return self._take_over(connection, domain, note, directory, lease)
        refuse(connection, request, domain, destination)
        if destination.exists is None:
            self.warn(
                f"{destination.problem}. libvirt's daemon may still reach it, but what has to be done there after the move cannot be done"
                " from this host"
            )
        prepared = prepare(connection, request, domain)
        if directory is None or lease is None:
            return {
                **self._identity(domain),
                "changed": True,
                "source": _as_view(domain).to_dict(),
                "destination": destination.to_dict(),
                "actions": [f"would migrate domain {domain.name} from {platform.node()} to {request.destination_uri}"],
                "diff": {"prepared": prepared.difference},
            }
        note = Note(
            uuid=domain.uuid,
            name=domain.name,
            mode=request.switchover,
            resume=domain.state.state == "running",
            autostart=domain.autostart,
            destination_uri=request.destination_uri,
        )
        switchover = Switchover(note, connection, self.opener, clock=self.clock, sleep=self.sleep)
        switchover.begin()
        if watcher:
            watcher.arm(domain.uuid)

        def start() -> None:
            connection.translate(domain.handle.migrateToURI3, request.destination_uri, prepared.parameters, prepared.flags)
            switchover.try_once()

        return self._run(connection, prepared, switchover, start, directory, lease)

    def _take_over(self, connection: Connection, domain: Domain, note: Note, directory: JobDirectory | None, lease: Lease | None) -> Result:
        """The process that began the migration is dead, and libvirt goes on: watch its job to the end."""
        if directory is None or lease is None:
            return {
                **self._identity(domain),
                "changed": True,
                "source": _as_view(domain).to_dict(),
                "actions": [f"would take over the running migration of domain {domain.name} to {note.destination_uri}"],
                "diff": {"prepared": ""},
            }
        switchover = Switchover(note, connection, self.opener, clock=self.clock, sleep=self.sleep)
        switchover.watch()

        def wait() -> None:
            while self._is_moving(connection, domain.handle):
                self.sleep(TAKEN_OVER_LOOK_S)
            if not connection.call(is_gone, connection, domain.uuid):
                raise MigrationError(
                    "the migration that was taken over has ended, and the domain is still here; libvirt's log says why",
                    error_id="taken_over_failed",
                )
            switchover.try_once()

        return self._run(connection, taken_over(domain), switchover, wait, directory, lease, is_taken_over=True)

    def _identity(self, domain: Domain) -> Result:
        return {"name": domain.name, "uuid": domain.uuid}

    # -- nothing to migrate ------------------------------------------------------------------------------------------

    def _settle(self, connection: Connection, domain: Domain | None, destination: peers.View, *, is_check: bool) -> Result:
        """The domain does not run here. Fine when it runs there: then a former run has moved it."""
        request = self.request
        source = _as_view(domain) if domain else peers.View(exists=False, name=request.name, uuid=request.uuid)
        if not destination.active:
            raise MigrationError(
                f"domain {request.label} cannot be migrated. {platform.node()}: {source}; {request.destination_uri}: {destination}",
                error_id="not_running" if domain else "domain_not_found",
                source=source.to_dict(),
                destination=destination.to_dict(),
                outcome=_outcome(source, destination),
            )
        if domain:
            self.warn(
                f"{platform.node()}: a shut-off definition of {domain.name} is still here, while the domain runs at"
                f" {request.destination_uri}; starting it would open its volumes twice. Remove it with 'virsh undefine"
                f" {shlex.quote(domain.name)}'"
            )
        actions = self._settle_pending(connection, destination, is_check=is_check)
        if actions and not is_check:
            destination = peers.look(request.destination_uri, destination.name, destination.uuid, self.opener)
        return {
            "changed": bool(actions),
            "name": destination.name,
            "uuid": destination.uuid,
            "source": source.to_dict(),
            "destination": destination.to_dict(),
            "outcome": _outcome(source, destination),
            "actions": actions,
            "diff": {"prepared": ""},
        }

    def _settle_pending(self, connection: Connection, destination: peers.View, *, is_check: bool) -> list[str]:
        """A run that was killed has neither resumed the guest nor carried autostart over."""
        note, state, actions = read_note(destination.uuid), destination.state, []
        if note and note.waits and state and state.state != "running":
            if (state.state, state.reason) != ("paused", "user"):
                return []  # Somebody has to repair what halted it first.
            actions.append(f"{'would resume' if is_check else 'resumed'} domain {note.name} at {note.destination_uri}")
            if not is_check:
                Switchover(note, connection, self.opener, clock=self.clock, sleep=self.sleep).finish()
        told = note or noted_move(self.request.operation_id)
        if told:
            actions += self._carry_autostart(told.autostart, destination, change=not is_check)
        if note and not is_check:
            remove_note(note.uuid)
        return actions

    # -- the migration -----------------------------------------------------------------------------------------------

    def _run(
        self,
        connection: Connection,
        prepared: Prepared,
        switchover: Switchover,
        start: t.Callable[[], None],
        directory: JobDirectory,
        lease: Lease,
        *,
        is_taken_over: bool = False,
    ) -> Result:
        request, domain = self.request, prepared.domain
        job = MigrationJob(
            connection,
            domain.handle,
            start,
            directory,
            lease,
            request.controls,
            postcopy_allowed=request.method.postcopy,
            taken_over=is_taken_over,
            clock=self.clock,
        )
        try:
            end = job.run()
            if end.error is None:
                switchover.finish()
        except MigrationError as exc:
            raise self._failure(exc, prepared, job, *self._both(domain)) from exc
        directory.write_progress({**job.last_progress.to_dict(), "phase": "finishing"})
        source, destination = self._both(domain)
        if end.error is not None:
            if source.exists is not False or not destination.active:
                source = self._resumed(connection, domain, job, source, destination)
                failure = self._failure(end.error, prepared, job, source, destination)
                if failure.details["outcome"] == "stayed":
                    switchover.end()
                raise failure from end.error
            # libvirt may report an error after the domain has arrived.
            self.warn(f"the domain has moved, although libvirt said: {scrub(str(end.error), prepared.secrets)}")
            switchover.finish()
            source, destination = self._both(domain)
        return {**self._success(prepared, end, switchover, source, destination), "followed": is_taken_over}

    def _both(self, domain: Domain) -> tuple[peers.View, peers.View]:
        source, destination = peers.look_at_both(self.request.uri, self.request.destination_uri, domain.name, domain.uuid, self.opener)
        note = read_note(domain.uuid)
        return replace(source, switchover=note.to_dict() if note else None), destination

    def _resumed(
        self, connection: Connection, domain: Domain, job: MigrationJob, source: peers.View, destination: peers.View
    ) -> peers.View:
        """libvirt lets a guest run again that was suspended in the middle; not one that was suspended as the migration failed."""
        stands_still = source.state is not None and (source.state.state, source.state.reason) == ("paused", "user")
        if not job.suspended or not stands_still or domain.state.state == "paused" or destination.exists is not False:
            return source
        try:
            connection.call(domain.handle.resume)
        except MigrationError as exc:
            self.warn(
                f"{exc}. So the guest stands still on {platform.node()}, where it was suspended to end the migration; run 'virsh resume"
                f" {shlex.quote(domain.name)}' there"
            )
        return self._both(domain)[0]

    def _failure(
        self, error: MigrationError, prepared: Prepared, job: MigrationJob, source: peers.View, destination: peers.View
    ) -> MigrationError:
        """The error with what both hosts look like now. What this host sees never permits to undo anything."""
        said = sentence(error.said) if isinstance(error, LibvirtError) else str(error)
        message = (
            f"{platform.node()}: migration of domain {prepared.domain.name} to {self.request.destination_uri} failed: {said.rstrip('.')}."
            f" Seen from the source now: source {source}; destination {destination}"
        )
        details = {
            **self._identity(prepared.domain),
            "source": source.to_dict(),
            "destination": destination.to_dict(),
            "outcome": _outcome(source, destination),
            "progress": job.last_progress.to_dict(),
            "steps": list(job.steps),
        }
        if isinstance(error, LibvirtError):
            said_by_libvirt = error.details["libvirt"]
            details["libvirt"] = {**said_by_libvirt, "message": scrub(said_by_libvirt["message"], prepared.secrets)}
        return MigrationError(scrub(message, prepared.secrets), error_id=_error_id(error), **details)

    def _success(self, prepared: Prepared, end: JobEnd, switchover: Switchover, source: peers.View, destination: peers.View) -> Result:
        request, domain = self.request, prepared.domain
        actions = [f"migrated domain {domain.name} from {platform.node()} to {request.destination_uri}"]
        result = _outcome(source, destination)
        if result != "moved" and destination.exists is not None:
            self.warn(f"libvirt called the migration a success, but then said: source {source}; destination {destination}. Read both hosts")
        elif source.exists:
            self.warn(
                f"{platform.node()}: the domain has moved, but it is still known here ({source}); look at it with 'virsh dominfo"
                f" {shlex.quote(domain.name)}'"
            )
        if domain.persistent:
            actions += self._carry_autostart(domain.autostart, destination)
        switchover.end()
        source = replace(source, switchover=None)
        if end.lease_lapsed:
            self.warn("the controller was lost in the middle; the migration went on, as on_controller_loss says")
        return {
            **self._identity(domain),
            "changed": True,
            "source": source.to_dict(),
            "destination": destination.to_dict(),
            "outcome": result,
            "statistics": end.statistics or self._statistics_of_destination(destination),
            "seconds": end.seconds,
            "resume_ms": switchover.waited_ms,
            "steps": list(end.steps),
            "autostart": domain.autostart,
            "actions": actions,
            "diff": {"prepared": prepared.difference},
        }

    def _carry_autostart(self, wanted: bool, destination: peers.View, change: bool = True) -> list[str]:
        """libvirt does not carry it over. What was done, or would be without ``change``, in words."""
        uri = self.request.destination_uri
        try:
            connection = self.opener(uri, CONNECT_TIMEOUT_S)
            handle = connection.call(lambda: connection.find(destination.name, destination.uuid))
            if bool(connection.call(handle.autostart)) == wanted:
                return []
            if change:
                connection.call(handle.setAutostart, int(wanted))
        except MigrationError as exc:
            command = ["virsh", "autostart", *([] if wanted else ["--disable"]), str(destination.name)]
            self.warn(f"{exc}. So autostart could not be carried over; run '{shlex.join(command)}' on the destination")
            return []
        return [f"{'' if change else 'would have '}{'enabled' if wanted else 'disabled'} autostart of domain {destination.name} at {uri}"]

    def _statistics_of_destination(self, destination: peers.View) -> dict[str, int | None] | None:
        """The destination keeps the numbers as well, for whoever asks first and leaves them there."""
        try:
            connection = self.opener(self.request.destination_uri, CONNECT_TIMEOUT_S)
            handle = connection.call(lambda: connection.find(destination.name, destination.uuid))
            api = connection.api
            return completed(connection.call(handle.jobStats, api.VIR_DOMAIN_JOB_STATS_COMPLETED | api.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED))
        except MigrationError:
            return None


def _outcome(source: peers.View, destination: peers.View) -> str:
    """The word alone. What it permits has to be decided over each host's own connection."""
    return str(outcome(source.to_dict(), destination.to_dict())["outcome"])


def _error_id(error: MigrationError) -> str:
    aborted = isinstance(error, LibvirtError) and error.code == VIR_ERR_OPERATION_ABORTED
    return "aborted" if aborted else error.error_id


def _as_view(domain: Domain) -> peers.View:
    return peers.View(exists=True, name=domain.name, uuid=domain.uuid, state=domain.state, persistent=domain.persistent, job=domain.job)


__all__ = ("Migration",)
