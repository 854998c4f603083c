# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""The work of volume_copy: open both volumes, see whether one may be copied onto the other, copy, verify, and close both again."""

from __future__ import annotations

import contextlib
import hashlib
import time
import typing as t
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError, MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._follow import follow
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import Clock, JobDirectory, is_running, write_controls
from ansible_collections.lunshift.migration.plugins.module_utils._operation import LOCKS, locked
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import Facts, VolumeHandle
from ansible_collections.lunshift.migration.plugins.module_utils._volume.journal import Journal, Pair, open_journal
from ansible_collections.lunshift.migration.plugins.module_utils._volume.objections import CopyRefused, Options, objections, problems_of
from ansible_collections.lunshift.migration.plugins.module_utils._volume.opening import How, close_volume, open_volume, parse_volume
from ansible_collections.lunshift.migration.plugins.module_utils._volume.passes import Passes
from ansible_collections.lunshift.migration.plugins.module_utils._volume.supervisor import Controls, Supervisor

JOURNALS = Path("/var/lib/lunshift-migration/copies")
_ABORT_WAIT_S = 60.0
_ABORT_LOOK_S = 0.2
Result = dict[str, t.Any]


@dataclass(frozen=True)
class Request:
    """``journal`` is a path, or None for one that is found by the two volumes."""

    source: t.Mapping[str, t.Any]
    target: t.Mapping[str, t.Any]
    options: Options
    controls: Controls
    operation_id: str
    journal: str | None = None
    timeout_s: int = 30


@dataclass
class VolumeCopy:
    """One run of volume_copy. ``warn`` tells the operator what the result alone would not."""

    request: Request
    warn: t.Callable[[str], None]
    clock: Clock = time.monotonic
    sleep: t.Callable[[float], None] = time.sleep
    lock_directory: str = LOCKS

    def copy(self, check_mode: bool) -> Result:
        self._refuse_bad_input()
        if check_mode:
            with contextlib.ExitStack() as opened:
                return self._plan(*self._open(opened, writable=False))
        while True:
            try:
                with JobDirectory(self.request.operation_id) as directory, contextlib.ExitStack() as opened:
                    supervisor = Supervisor(directory, self.request.controls, self.clock)
                    supervisor.opening()
                    return self._copy(supervisor, opened)
            except MigrationError as exc:
                if exc.error_id != "job_running":
                    raise
            followed = follow(self.request.operation_id, self.request.controls.to_dict(), self.warn, self.clock, self.sleep)
            if followed is not None:
                return followed

    def abort(self, check_mode: bool) -> Result:
        """End the running copy of this operation; what it has done stays, and a later run goes on."""
        operation_id = self.request.operation_id
        if not is_running(operation_id):
            return {"changed": False, "actions": []}
        if not check_mode:
            write_controls(operation_id, replace(self.request.controls, abort=True).to_dict())
            until = self.clock() + _ABORT_WAIT_S
            while is_running(operation_id):
                if self.clock() > until:
                    raise MigrationError(
                        f"copy {operation_id} was told to end, and still runs after {_ABORT_WAIT_S:g} s; its storage does not answer",
                        error_id="abort_failed",
                    )
                self.sleep(_ABORT_LOOK_S)
        return {"changed": True, "actions": [f"aborted copy {operation_id}"]}

    def _refuse_bad_input(self) -> None:
        problems = problems_of(self.request.options)
        for side in ("source", "target"):
            try:
                parse_volume(f"{side}: ", getattr(self.request, side))
            except InputError as exc:
                problems += exc.details["problems"]
        if problems:
            raise InputError(problems)

    def _open(self, opened: contextlib.ExitStack, *, writable: bool) -> tuple[VolumeHandle, VolumeHandle]:
        """Both volumes, which ``opened`` will close; every problem of both at once."""
        handles: list[VolumeHandle] = []
        errors: list[MigrationError] = []
        for side, info in (("source", self.request.source), ("target", self.request.target)):
            how = How(
                writable=writable and side == "target",
                # The same for both: they may share a session, which belongs to neither alone.
                operation_id=self.request.operation_id,
                timeout_s=self.request.timeout_s,
            )
            try:
                handle = open_volume(info, how)
            except MigrationError as exc:
                errors.append(exc)
                continue
            opened.enter_context(self._closing(handle))
            handles.append(handle)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            problems = [str(error) for error in errors]
            raise MigrationError("; ".join(problems), error_id=errors[0].error_id, **{**errors[0].details, "problems": problems})
        source, target = handles
        opened.enter_context(_naming_the_side(source, target))
        found = objections(source.facts, target.facts, source.users(), target.users(), self.request.options)
        if found:
            raise CopyRefused(found)
        return source, target

    @contextlib.contextmanager
    def _closing(self, handle: VolumeHandle) -> t.Iterator[None]:
        """What failed first is the reason, and names the place; storage that fails then often fails to be flushed and closed, too."""
        try:
            yield
        except BaseException:
            try:
                close_volume(handle)
            except MigrationError as exc:
                self.warn(str(exc))
            raise
        close_volume(handle)

    def _journal(self, opened: contextlib.ExitStack, source: Facts, target: Facts, *, read_only: bool) -> Journal:
        pair = Pair(source.identity, target.identity, source.size_bytes, source.immutable)
        name = hashlib.sha256(f"{pair.source}\0{pair.target}".encode()).hexdigest()[:32]
        path = Path(self.request.journal) if self.request.journal else JOURNALS / f"{name}.journal"
        journal = open_journal(path, pair, read_only=read_only)
        opened.callback(journal.close)
        return journal

    def _copy(self, supervisor: Supervisor, opened: contextlib.ExitStack) -> Result:
        source, target = self._open(opened, writable=True)
        # By whatever way it is reached, one volume is the target of one copy of this host at a time.
        opened.enter_context(locked([f"volume {target.facts.identity}"], 0, self.clock, self.sleep, self.lock_directory))
        journal = self._journal(opened, source.facts, target.facts, read_only=False)
        passes = Passes(source, target, journal, self.request.options, supervisor.look)
        supervisor.watch(passes)
        passes.survey()
        passes.copy()
        passes.verify()
        if journal.damaged_pages:
            self.warn(f"journal {journal.path} was damaged in {journal.damaged_pages} places; what it said there was done again")
        counts = passes.tally.counts()
        seconds = supervisor.elapsed_s()
        return {
            "changed": bool(counts["written_bytes"] or counts["zeroed_bytes"]),
            "source": describe(source.facts),
            "target": describe(target.facts),
            "actions": _actions(source, target, counts, resumed=passes.resumes),
            "counts": counts,
            "data_bytes": passes.data_bytes,
            "seconds": round(seconds, 2),
            "bytes_per_s": int(source.facts.size_bytes / seconds) if seconds else 0,
            "resumed": passes.resumes,
            "verified": self.request.options.verify,
            "digest": journal.tree_digest(),
            "journal": str(journal.path),
        }

    def _plan(self, source: VolumeHandle, target: VolumeHandle) -> Result:
        """What a run would do, as far as it can be known without writing."""
        with contextlib.ExitStack() as opened:
            journal = self._journal(opened, source.facts, target.facts, read_only=True)
            passes = Passes(source, target, journal, self.request.options, lambda _phase: None)
            passes.survey()
            target_data_bytes = passes.target_data_bytes()
            would_copy = passes.to_copy_bytes()
            action = f"would copy {would_copy} bytes of data from {source.name} to {target.name}"
            if self.request.options.overwrite and target_data_bytes:
                action += f", of which {target_data_bytes} bytes may hold data now that would be lost"
            return {
                "changed": bool(would_copy),
                "source": describe(source.facts),
                "target": describe(target.facts),
                "actions": [action] if would_copy else [],
                "data_bytes": passes.data_bytes,
                "target_data_bytes": target_data_bytes,
                "to_copy_bytes": would_copy,
                "estimated_s": round(passes.estimate_s(would_copy), 1),
                "resumed": passes.resumes,
                "verified": self.request.options.verify,
                "journal": str(journal.path),
            }


@contextlib.contextmanager
def _naming_the_side(source: VolumeHandle, target: VolumeHandle) -> t.Iterator[None]:
    """Both sides are read from: what failed is not always the source."""
    try:
        yield
    except MigrationError as exc:
        side = {source.name: "source", target.name: "target"}.get(exc.details.get("volume", ""))
        if side:
            exc.details["side"] = side
            exc.args = (f"{side}: {exc}",)
        raise


def describe(facts: Facts) -> dict[str, t.Any]:
    """For results."""
    names = ("name", "identity", "size_bytes", "logical_block_bytes", "physical_block_bytes", "immutable", "can_unmap")
    return {name: getattr(facts, name) for name in names}


def _actions(source: VolumeHandle, target: VolumeHandle, counts: t.Mapping[str, int], *, resumed: bool) -> list[str]:
    if not counts["written_bytes"] and not counts["zeroed_bytes"]:
        return []
    again = "went on copying" if resumed else "copied"
    done = [f"{again} {source.name} to {target.name}: {counts['written_bytes']} bytes written, {counts['zeroed_bytes']} made zero"]
    if counts["repaired_bytes"]:
        done.append(f"copied {counts['repaired_bytes']} bytes once more, for they were not what had been written")
    return done


__all__ = ("JOURNALS", "Request", "VolumeCopy", "describe")
