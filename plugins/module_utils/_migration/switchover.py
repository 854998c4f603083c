# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The guarded switchover: the guest arrives paused, and goes on only when the source is proven to have it no more.

libvirt itself resumes the guest on the destination and then tells the source. When that last reply is lost, the source
resumes its own, and two guests write to the same volumes. Here nobody but the job on the source resumes the destination's.

The proof is the end of the source's emulator where the kernel tells it, and the word of the source's libvirt otherwise, which comes
up to 200 ms later.

That makes the job's last step one that must not be forgotten. So a note says on the source's disk, before libvirt is called, that
the step is pending; whoever finds it (the job's watcher, the next run, the role) can take it. It goes when the step was taken, or
when the domain stayed.
"""

from __future__ import annotations

import contextlib
import json
import platform
import threading
import time
import typing as t
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import UUID

from ansible_collections.lunshift.migration.plugins.module_utils._durable import remove_file, replace_file
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import Clock
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.domain import read_state
from ansible_collections.lunshift.migration.plugins.module_utils._migration.source_process import SourceProcess

NOTES = Path("/var/lib/lunshift-migration/switchovers")
GUARDED, DIRECT = "guarded", "direct"
_VERSION = 1
# The destination took the guest a moment ago: it answers at once, or something is wrong there.
CALL_TIMEOUT_S = 5.0
# How long the job tries to resume; then the watcher goes on, and so does the next run.
RESUME_PATIENCE_S = 60.0
RETRY_S = 0.5
Opener = t.Callable[..., Connection]


@dataclass(frozen=True)
class Note:
    """One migration that began here and whose end is not written down.

    ``resume`` is true while the guest waits for it, ``suspect`` once it was seen to run on both hosts.
    """

    uuid: str
    name: str
    mode: str
    resume: bool
    autostart: bool
    destination_uri: str
    suspect: bool = False

    def to_dict(self) -> dict[str, t.Any]:
        """What domain_info tells."""
        return {"mode": self.mode, "resume": self.resume, "uuid": self.uuid, "suspect": self.suspect}

    @property
    def waits(self) -> bool:
        return self.mode == GUARDED and self.resume


def _path(uuid: str) -> Path:
    try:
        return NOTES / f"{UUID(uuid)}.json"
    except ValueError as exc:
        raise MigrationError(f"{uuid!r} is no UUID of a domain", error_id="invalid_input") from exc


def write_note(note: Note) -> None:
    """On the disk before this returns; whoever reads sees the old note or the new one."""
    path = _path(note.uuid)
    try:
        for directory in (NOTES.parent, NOTES):
            directory.mkdir(mode=0o700, exist_ok=True)
        replace_file(str(path), json.dumps({"version": _VERSION, **asdict(note)}))
    except OSError as exc:
        raise _unusable(path, exc) from exc


def remove_note(uuid: str) -> bool:
    """Whether there was one."""
    path = _path(uuid)
    try:
        return remove_file(str(path))
    except OSError as exc:
        raise _unusable(path, exc) from exc


def read_note(uuid: str | None, name: str | None = None) -> Note | None:
    """The note of a domain; by its name alone when the domain is not here any more and nobody knows its UUID."""
    try:
        if uuid:
            return _read(_path(uuid))
        notes = [_read(path) for path in sorted(NOTES.glob("*.json"))] if name else []
    except OSError as exc:
        raise _unusable(NOTES, exc) from exc
    return next((note for note in notes if note and note.name == name), None)


def _read(path: Path) -> Note | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("version") != _VERSION:
            raise ValueError(f"it is not of version {_VERSION}")
        return Note(**content)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise _unusable(path, exc) from exc


def _unusable(path: Path, problem: Exception) -> MigrationError:
    """What is not known permits nothing, so it must not look like "no note"."""
    return MigrationError(
        f"{platform.node()}: the note {path} of a switchover cannot be used: {problem}. Run the task as root (become: true); when the file"
        " is damaged, see on both hosts where the domain is, and remove it",
        error_id="switchover_note",
    )


def is_gone(source: Connection, uuid: str) -> bool:
    """Whether the source's own libvirt has no process of the domain any more. Runs several calls: the caller bounds them."""
    handle = source.find(None, uuid)
    return handle is None or not read_state(source, handle).active


def resume(destination: Connection, note: Note) -> bool:
    """Let the guest go on; false when it runs already. Runs several calls: the caller bounds them.

    MigrationError when it is not as the switchover left it: then somebody has to look.
    """
    handle = destination.find(None, note.uuid)
    state = read_state(destination, handle) if handle is not None else None
    if state is not None and state.state == "running":
        return False
    if state is None or (state.state, state.reason) != ("paused", "user"):
        raise MigrationError(
            f"domain {note.name} cannot be resumed at {note.destination_uri}: it is {state or 'not there'}. See what libvirt's log and"
            f" 'virsh domblkerror {note.name}' say there",
            error_id="resume_refused",
        )
    destination.translate(handle.resume)
    return True


class Switchover:
    """The last step of one migration. The connection to the destination stands before the first byte moves."""

    def __init__(
        self,
        note: Note,
        source: Connection,
        opener: Opener,
        *,
        clock: Clock = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._note = note
        self._source = source
        self._opener = opener
        self._clock = clock
        self._sleep = sleep
        self._destination = opener(note.destination_uri, CALL_TIMEOUT_S, watch=True) if note.waits else None
        # The thread that waits for the emulator's end takes the step too.
        self._stepping = threading.Lock()
        self._emulator_ended = False
        # From the proof that the source has the guest no more to the guest running on the destination.
        self.waited_ms: int | None = None

    def begin(self) -> None:
        write_note(self._note)
        self.watch()

    def watch(self) -> None:
        """From now on the step is taken as soon as the source's emulator has ended, where that can be seen."""
        emulator = SourceProcess.find(self._note.name, self._note.uuid) if self._note.waits else None
        if emulator is not None:
            threading.Thread(target=self._wait_for_end_of, args=[emulator], daemon=True).start()

    def _wait_for_end_of(self, emulator: SourceProcess) -> None:
        if emulator.has_ended(None):
            self._emulator_ended = True
            self.try_once()
        emulator.close()

    def try_once(self) -> None:
        """At once when the domain seems to have moved; what does not work now is tried again by ``finish``."""
        with contextlib.suppress(MigrationError):
            self._step()

    def finish(self) -> None:
        """Until it is done, or in vain for too long. The source says that the domain is gone, or this does nothing."""
        give_up = self._clock() + RESUME_PATIENCE_S
        while self._note.waits:
            try:
                self._step()
            except MigrationError as exc:
                if exc.error_id == "resume_refused":
                    raise
                if self._clock() > give_up:
                    raise self._pending(exc) from exc
                self._sleep(RETRY_S)
                self._destination = None

    def end(self) -> None:
        """Nothing is pending any more."""
        remove_note(self._note.uuid)

    def _step(self) -> None:
        with self._stepping:
            if not self._note.waits:
                return
            began = self._clock()
            if not (self._emulator_ended or self._source.call(is_gone, self._source, self._note.uuid)):
                raise MigrationError(f"{platform.node()}: domain {self._note.name} is still active here", error_id="source_not_gone")
            if self._destination is None:
                self._destination = self._opener(self._note.destination_uri, CALL_TIMEOUT_S)
            self._destination.call(resume, self._destination, self._note)
            self.waited_ms = round((self._clock() - began) * 1000)
            self._note = replace(self._note, resume=False)
            write_note(self._note)

    def _pending(self, problem: MigrationError) -> MigrationError:
        return MigrationError(
            f"{platform.node()}: domain {self._note.name} has moved to {self._note.destination_uri} and is paused there: it could not be"
            f" resumed within {RESUME_PATIENCE_S:g} s ({problem}). Nothing is lost: a process on {platform.node()} goes on trying for a"
            " while, and the same task run again resumes it",
            error_id="resume_pending",
        )


__all__ = ("DIRECT", "GUARDED", "NOTES", "Note", "Switchover", "is_gone", "read_note", "remove_note", "resume", "write_note")
