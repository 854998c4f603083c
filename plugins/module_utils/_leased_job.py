# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""A long job on a host, watched from a controller that may be lost.

Each job has a directory, named after its operation id, for as long as it runs::

    /run/lunshift-migration/jobs/<operation id>/lease          each poll of the controller touches it
                                               /progress.json  what the job last said of itself
                                               /controls.json  limits that somebody gave the running job in its middle

The directory itself is locked by the job. What the job returned waits in
C(/run/lunshift-migration/results/<operation id>.<ticket>) until somebody reads it; the ticket tells one run from another. Who follows
another run's job asks for a copy by an empty file C(<operation id>.<ticket>.heir) there.
The controller's side is C(plugin_utils/_leased_job.py).
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import time
import typing as t
import urllib.parse
from pathlib import Path

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError

JOBS = Path("/run/lunshift-migration/jobs")
RESULTS = Path("/run/lunshift-migration/results")
# Who looks whether a job runs holds its lock for a moment too.
LOCK_PATIENCE_S = 1.0
LOOK_EVERY_S = 0.1
CONTROLS = "controls.json"
Clock = t.Callable[[], float]


def _file_name(operation_id: str) -> str:
    """Operation ids may be domain names, which hold nearly any character."""
    name = urllib.parse.quote(operation_id, safe="").replace(".", "%2E")
    if not operation_id or len(name) > 200:
        raise MigrationError(f"operation_id {operation_id!r} cannot name a job: it is empty or too long", error_id="invalid_input")
    return name


def job_path(operation_id: str) -> Path:
    """The directory of one job."""
    return JOBS / _file_name(operation_id)


def result_path(operation_id: str, ticket: str) -> Path:
    """Where one run of the job leaves its result."""
    if not ticket.isalnum():
        raise MigrationError(f"ticket {ticket!r} is none that a job was started with", error_id="invalid_input")
    return RESULTS / f"{_file_name(operation_id)}.{ticket}"


class Lease:
    """Time that the controller grants the job; over when nobody has touched its file for ``lease_s`` seconds.

    What counts is that the file's time changes, seen by this process' own clock: a host whose wall clock is set
    in the middle neither gains nor loses a lease.
    """

    def __init__(self, path: Path, lease_s: float, clock: Clock = time.monotonic) -> None:
        self._path = path
        self._lease_s = lease_s
        self._clock = clock
        self._touched_ns: int | None = None
        self._renewed = clock()

    def change(self, lease_s: float) -> None:
        """Another length, from now on."""
        self._lease_s = lease_s

    def lapsed(self) -> bool:
        """Whether the lease is over. A lease of 0 seconds never is."""
        now = self._clock()
        touched_ns = self._read()
        if touched_ns != self._touched_ns:
            self._touched_ns = touched_ns
            self._renewed = now
        return self._lease_s > 0 and now - self._renewed > self._lease_s

    def _read(self) -> int | None:
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return None


class JobDirectory:
    """The running job's own view of its directory. Use as a context manager: leaving it removes the directory."""

    def __init__(self, operation_id: str) -> None:
        self.operation_id = operation_id
        self.path = job_path(operation_id)
        self._descriptor: int | None = None

    @property
    def lease_path(self) -> Path:
        return self.path / "lease"

    def __enter__(self) -> JobDirectory:
        try:
            self._descriptor = self._lock()
        except PermissionError as exc:
            raise MigrationError(
                f"{platform.node()}: this user may not write to {exc.filename}; run the task as root (become: true)",
                error_id="not_permitted",
            ) from exc
        self.lease_path.touch()
        # Those of a job that was killed are not this one's.
        (self.path / CONTROLS).unlink(missing_ok=True)
        return self

    def __exit__(self, *_exception: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _lock(self) -> int:
        give_up = time.monotonic() + LOCK_PATIENCE_S
        while True:
            for directory in (self.path.parent.parent, self.path.parent, self.path):
                directory.mkdir(mode=0o700, exist_ok=True)
            try:
                descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # The job before this one removed it in between.
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                if time.monotonic() < give_up:
                    time.sleep(0.02)
                    continue
                raise MigrationError(
                    f"{platform.node()}: a job for operation {self.operation_id} is running already; watch it with the module job_lease"
                    " (renew: false), wait for its end, or abort it",
                    error_id="job_running",
                    operation_id=self.operation_id,
                ) from None
            if _is_same_directory(descriptor, self.path):
                return descriptor
            os.close(descriptor)

    def write_progress(self, progress: t.Mapping[str, t.Any]) -> None:
        _write_json(self.path / "progress.json", progress)

    def read_controls(self) -> dict[str, t.Any] | None:
        """What was handed over since the job began; None when nobody did, or while the file is not whole."""
        return _read_json(self.path / CONTROLS)


def _is_same_directory(descriptor: int, path: Path) -> bool:
    """Whether the locked directory is still the one with that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_json(path: Path, content: t.Mapping[str, t.Any]) -> None:
    """Whoever reads sees the old content or the new one, never a part."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


def _read_json(path: Path) -> dict[str, t.Any] | None:
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def renew(operation_id: str) -> bool:
    """Touch the lease of a running job; false when there is none to touch."""
    try:
        os.utime(job_path(operation_id) / "lease")
    except FileNotFoundError:
        return False
    return True


def is_running(operation_id: str) -> bool:
    """Whether a process holds the job's directory."""
    try:
        descriptor = os.open(job_path(operation_id), os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def write_controls(operation_id: str, controls: t.Mapping[str, t.Any]) -> bool:
    """Hand limits over to a running job, which follows them from its next look on; false when there is no job."""
    if not is_running(operation_id):
        return False
    try:
        _write_json(job_path(operation_id) / CONTROLS, controls)
    except FileNotFoundError:
        return False  # It has ended in between.
    return True


def read_progress(operation_id: str) -> dict[str, t.Any] | None:
    return _read_json(job_path(operation_id) / "progress.json")


def take_result(path: Path) -> dict[str, t.Any] | None:
    """The result of a finished job, once; its file is removed."""
    result = _read_json(path)
    if result is not None:
        path.unlink()
    return result


def forget_results(operation_id: str) -> None:
    """Those that nobody read, for their controller was lost. While a job runs, somebody may still come for one."""
    for stale in () if is_running(operation_id) else RESULTS.glob(f"{_file_name(operation_id)}.*"):
        stale.unlink(missing_ok=True)


def ask_for_copy(operation_id: str, ticket: str) -> Path:
    """Where the running job will leave a copy of its result, too."""
    path = result_path(operation_id, ticket)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _heir_of(path).touch(mode=0o600)
    return path


def give_up_copy(path: Path) -> None:
    _heir_of(path).unlink(missing_ok=True)


def _heir_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.heir")


def leave_result(written: Path, path: Path) -> None:
    """The result, whole, in its place and in that of everybody who asked for a copy."""
    operation, _dot, _ticket = path.name.rpartition(".")
    for heir in path.parent.glob(f"{operation}.*.heir"):
        os.link(written, heir.with_name(heir.name[: -len(".heir")]))
        heir.unlink()
    written.replace(path)


def watch(
    operation_id: str,
    ticket: str | None,
    *,
    renew_lease: bool,
    wait_s: float,
    clock: Clock = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> dict[str, t.Any]:
    """One look at a job, as job_lease returns it. Comes back early when the job ends within ``wait_s``."""
    until = clock() + wait_s
    while True:
        # All the time: on a slow host most of a short lease may pass between two polls.
        if renew_lease:
            renew(operation_id)
        running = is_running(operation_id)
        result = take_result(result_path(operation_id, ticket)) if ticket else None
        over = result is not None if ticket else not running
        if over or clock() >= until:
            break
        sleep(LOOK_EVERY_S)
    return {
        "running": running,
        "finished": result is not None,
        "progress": read_progress(operation_id) or {},
        "result": result or {},
    }


__all__ = (
    "JOBS",
    "RESULTS",
    "Clock",
    "JobDirectory",
    "Lease",
    "ask_for_copy",
    "forget_results",
    "give_up_copy",
    "is_running",
    "job_path",
    "leave_result",
    "read_progress",
    "renew",
    "result_path",
    "take_result",
    "watch",
    "write_controls",
)
