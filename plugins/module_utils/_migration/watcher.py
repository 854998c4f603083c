# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""A second process beside the job on the source, for the one step that must not be forgotten.

libvirt's migration goes on when the job's process is killed, and after a guarded switchover the guest then waits, paused, on the
destination. The watcher sleeps on a pipe that ends with the job. When a note is left then, it waits for the end of libvirt's
job, proves that the source has the domain no more, resumes the guest on the destination, and ends. It does nothing else, and it
ends by itself in any case.
"""

from __future__ import annotations

import contextlib
import os
import syslog
import time
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection, open_connection
from ansible_collections.lunshift.migration.plugins.module_utils._migration import peers
from ansible_collections.lunshift.migration.plugins.module_utils._migration.switchover import Note, Switchover, read_note

Opener = t.Callable[..., Connection]
LOOK_EVERY_S = 1.0
CONNECT_TIMEOUT_S = 20.0
# A migration that takes longer than a day is no longer waited for.
LIMIT_S = 86400.0
# How long a host may not answer, or say something that does not fit, once libvirt's job was not seen any more.
PATIENCE_S = 900.0
# So often the domain has to be seen without a job before it counts as having stayed.
STAYED_LOOKS = 3


class Watcher:
    """The job's end of the pipe. It has to be made before the process has threads or connections to libvirt: it forks."""

    def __init__(self, uri: str, opener: Opener = open_connection) -> None:
        reading, self._writing = os.pipe()
        child = os.fork()
        if child:
            os.close(reading)
            os.waitpid(child, 0)
            return
        try:
            # Twice, so that nobody has to wait for the watcher's end.
            if not os.fork():
                _leave(keep=reading)
                _guard(reading, uri, opener)
        finally:
            os._exit(0)

    def arm(self, uuid: str) -> None:
        """From now on there may be something to do for this domain."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._writing, uuid.encode("ascii"))

    def release(self) -> None:
        """The job is over, by whatever end: from here the note alone counts."""
        os.close(self._writing)


def _leave(keep: int) -> None:
    """No terminal, no connection, no lock and no open file of the job may live on through this process."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor != keep:
            with contextlib.suppress(OSError):  # The one that the listing itself used.
                os.close(descriptor)


def _guard(reading: int, uri: str, opener: Opener) -> None:
    with os.fdopen(reading, "rb") as pipe:
        uuid = pipe.read().decode("ascii")  # Returns when the job has ended, by whatever end.
    if uuid and watch(uuid, uri, opener):
        syslog.syslog(syslog.LOG_NOTICE, f"lunshift.migration: the migration of domain {uuid} lost its job; resumed it on the destination")


def watch(
    uuid: str,
    uri: str,
    opener: Opener = open_connection,
    *,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> bool:
    """Finish what a job left pending; whether the guest was resumed from here."""
    limit_s = clock() + LIMIT_S
    give_up_s: float | None = None
    stayed = 0
    while clock() < limit_s:
        with contextlib.suppress(MigrationError):
            note = read_note(uuid)
            if note is None or not note.waits:
                return False
            here = peers.look(uri, note.name, uuid, opener)
            stayed = stayed + 1 if here.active and not _has_job(here) else 0
            if stayed >= STAYED_LOOKS:
                return False
            if here.exists is not None and not here.active:
                return _resume(note, uri, opener)
            if _has_job(here):
                give_up_s = None
        give_up_s = give_up_s or clock() + PATIENCE_S
        if clock() > give_up_s:
            return False
        sleep(LOOK_EVERY_S)
    return False


def _has_job(here: peers.View) -> bool:
    return bool(here.job and here.job.get("active"))


def _resume(note: Note, uri: str, opener: Opener) -> bool:
    """One attempt of the whole step; MigrationError when it has to be tried again."""
    switchover = Switchover(note, opener(uri, CONNECT_TIMEOUT_S), opener)
    switchover.finish()
    return True


__all__ = ("Watcher", "watch")
