# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Run one command with a limit, without a shell, in the C locale."""

from __future__ import annotations

import os
import shutil
import subprocess
import typing as t
from dataclasses import dataclass

# sbin is missing from the PATH of many non-login shells, and the iSCSI tools live there.
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RC_NOT_FOUND = 127
RC_TIMED_OUT = 124


@dataclass(frozen=True)
class CommandResult:
    """How a command ended. ``rc`` is RC_NOT_FOUND or RC_TIMED_OUT when it did not run or not end."""

    rc: int
    stdout: str
    stderr: str


def run_command(argv: t.Sequence[str], timeout_s: float) -> CommandResult:
    """Run ``argv``. Never waits longer than the limit, even for a process that cannot be killed.

    C(subprocess.run) waits after its kill; a process stuck in the kernel on a dead
    target would then hold the caller for minutes.
    """
    environment = {**os.environ, "LC_ALL": "C", "PATH": _SEARCH_PATH}
    try:
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError:
        return CommandResult(rc=RC_NOT_FOUND, stdout="", stderr=f"{argv[0]}: command not found")
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        try:
            stdout, stderr = process.communicate(timeout=1)
        except subprocess.TimeoutExpired:
            stdout, stderr = "", ""
        return CommandResult(rc=RC_TIMED_OUT, stdout=stdout, stderr=f"{stderr}no answer within {timeout_s:g} s")
    return CommandResult(rc=process.returncode, stdout=stdout, stderr=stderr)


def has_command(name: str) -> bool:
    return shutil.which(name, path=_SEARCH_PATH) is not None


__all__ = ("RC_NOT_FOUND", "RC_TIMED_OUT", "CommandResult", "has_command", "run_command")
