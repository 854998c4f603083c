# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes of the lab: recorded when they start, so that only they are ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import typing as t
from pathlib import Path

from .context import LabError

# Longer than anything takes that has not hung; the longest builds a root file system.
TIMEOUT_S = 1800.0
# The machine's own PATH may hold wrappers (pyenv and the like) that hosts must not see.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(
    argv: t.Sequence[str | Path],
    *,
    check: bool = True,
    stdin: str | None = None,
    env: dict[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> str:
    """Run one command and give its standard output; a failure is a LabError with its error output."""
    command = [str(part) for part in argv]
    try:
        result = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8", **(env or {})},
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command)} did not end within {timeout_s:g} s") from None
    if check and result.returncode:
        raise LabError(f"{' '.join(command)} failed with {result.returncode}: {(result.stderr or result.stdout).strip()}")
    return result.stdout


def record(path: Path, pid: int) -> None:
    """Remember a process so that nobody else's, with the same number later, is taken for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{pid} {_started(pid)}\n")


def recorded(path: Path) -> int | None:
    """The recorded process' id while it lives."""
    try:
        pid_text, started = path.read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid_text) if _started(int(pid_text)) == started else None


def end(path: Path, *, timeout_s: float = 10.0) -> None:
    """Kill the recorded process and wait until it is gone. tgtd ignores a polite signal, so none is sent."""
    pid = recorded(path)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: recorded(path) is None, f"process {pid} of {path} to end", timeout_s=timeout_s)
    path.unlink(missing_ok=True)


def wait_until(condition: t.Callable[[], bool], what: str, *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(0.02)


def _started(pid: int) -> str:
    """Boot id and start time of a process; empty when it is gone or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    if fields[0] in "ZX":
        return ""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{fields[19]}"
