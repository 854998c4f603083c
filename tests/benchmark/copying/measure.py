# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One command, measured: time, CPU of all processes that had to do with it, and memory.

The CPU of the kernel's own threads is nobody's: of loop devices, for every tool alike. Peak memory is that of the largest process; it is
never less than what this process has, for Linux lets a new program inherit that number.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import tempfile
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LIMIT_S = 1800.0
_END_S = 10.0


class CommandFailed(Exception):
    """A tool ended with an error, or did not end."""


@dataclass(frozen=True)
class Measured:
    wall_s: float
    client_cpu_s: float
    servers_cpu_s: float
    machine_cpu_s: float
    rss_mib: float
    output: str


def measure(argv: t.Sequence[str], servers: t.Sequence[int], *, stdin: str | None = None) -> Measured:
    """Run a command. ``servers`` are processes that work for it; what it leaves behind itself is waited for, and counts too."""
    # Orphans of the command become children of this process.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as given:
        given.write((stdin or "").encode())
        given.seek(0)
        before_s, machine_before_s = cpu_of(servers), _cpu_of_machine()
        started_s = time.monotonic()
        process = subprocess.Popen(argv, stdin=given, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            usages = [_wait(process)]
            wall_s = time.monotonic() - started_s
            usages += _orphans(process.pid)
        except BaseException:
            _end(process)
            raise
        servers_s, machine_s = cpu_of(servers) - before_s, _cpu_of_machine() - machine_before_s
        output.seek(0)
        words = output.read().decode(errors="replace")
    if process.returncode:
        raise CommandFailed(f"{' '.join(argv)} ended with {process.returncode}: {words[-2000:]}")
    client_s = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return Measured(wall_s, client_s, servers_s, machine_s, max(usage.ru_maxrss for usage in usages) / 1024, words)


def _wait(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    with _alarm():
        _pid, status, usage = os.wait4(process.pid, 0)
    # So that nobody waits for it again.
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


@contextlib.contextmanager
def _alarm() -> t.Iterator[None]:
    def late(_number: int, _frame: object) -> None:
        raise CommandFailed(f"a tool did not end within {_LIMIT_S:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, _LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _orphans(session: int) -> list[resource.struct_rusage]:
    """What the command started and did not wait for: servers of its own, which end when it has gone."""
    usages: list[resource.struct_rusage] = []
    deadline = time.monotonic() + _END_S
    while True:
        left = [pid for pid in _children() if _session_of(pid) == session]
        if not left:
            return usages
        for pid in left:
            done, _status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                usages.append(usage)
            elif time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _children() -> list[int]:
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def _end(process: subprocess.Popen[bytes]) -> None:
    """The command and what it started; politely first, for it may have something to give back."""
    if process.returncode is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _orphans(process.pid)


def cpu_of(pids: t.Sequence[int]) -> float:
    """Of all threads of these processes so far, in seconds."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def _cpu_of_machine() -> float:
    """Everything but idle, and waiting for a disk."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / _TICKS_PER_S
