# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role as an operator runs it: a process of ansible-playbook, watched from outside while it runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
import typing as t
from pathlib import Path

MOLECULE = Path(__file__).resolve().parent.parent
_TASK = re.compile(r"^TASK \[(?:lunshift\.migration\.live_migrate : )?(.*?)\] \**")
_DECISION = re.compile(r"^ok: \[.*?\] => (\{.*__live_migrate_outcome.*\})")
_ERROR = re.compile(r'"__live_migrate_error": "(.*?): ')


class Play:
    """One run of playbooks/live_migrate.yml. Its output is kept in a file, and looked at line by line as it comes."""

    def __init__(self, source: str, destination: str, domain: str, variables: t.Mapping[str, t.Any], log: Path) -> None:
        given = {
            "live_migrate_source": source,
            "live_migrate_destination": destination,
            "live_migrate_domains": [domain],
            "live_migrate_export_tasks": str(MOLECULE / "faults" / "export.yml"),
            "live_migrate_unexport_tasks": str(MOLECULE / "faults" / "unexport.yml"),
            **variables,
        }
        argv = [
            "ansible-playbook",
            "-v",
            "-i",
            os.environ["LUNSHIFT_INVENTORY"],
            "lunshift.migration.live_migrate",
            "-e",
            json.dumps(given),
        ]
        plain = {
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_CALLBACK_FORMAT_PRETTY": "0",
            "ANSIBLE_HOST_KEY_CHECKING": "0",
        }
        self.started_s = time.monotonic()
        self.ended_s: float | None = None
        self.killed = False
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._log = log.open("w", encoding="utf-8")
        # Its stdin is not this process': a paused play would read it.
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **plain},
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in t.cast(t.IO[str], self._process.stdout):
            self._log.write(f"{time.monotonic() - self.started_s:7.2f} {line}")
            self._log.flush()
            with self._said:
                self.lines.append(line.rstrip("\n"))
                self._said.notify_all()
        self._process.wait()
        self._log.close()
        with self._said:
            self.ended_s = time.monotonic()
            self._said.notify_all()

    @property
    def running(self) -> bool:
        return self.ended_s is None

    def wait_for_task(self, name: str, timeout_s: float) -> bool:
        """Until the role comes to this task; false when it ended before."""
        with self._said:
            self._said.wait_for(lambda: self._came_to(name) or not self.running, timeout_s)
            return self._came_to(name)

    def wait(self, timeout_s: float) -> int | None:
        """The exit code; None, and an end by force, when it takes too long."""
        with self._said:
            self._said.wait_for(lambda: not self.running, timeout_s)
        if self.running:
            self.kill()
            return None
        return self._process.returncode

    def kill(self) -> None:
        """What the kernel does when the controller's memory is gone: no "finally", no word to anybody."""
        self.killed = True
        self._process.kill()

    def frozen(self) -> _Frozen:
        """While the block runs the controller does nothing more."""
        return _Frozen(self._process.pid)

    def words(self) -> str:
        """All that it said, as one line."""
        return " ".join(" ".join(self.lines).split())

    def outcomes(self) -> list[str]:
        """The outcomes that it decided on, the last one last."""
        found = []
        for line in self.lines:
            if match := _DECISION.match(line):
                found.append(str(json.loads(match[1])["ansible_facts"]["__live_migrate_outcome"]["outcome"]))
        return found

    def failed_at(self) -> str:
        """The task whose error the role keeps, and tells with the outcome."""
        return next((match[1] for line in self.lines if (match := _ERROR.search(line))), "")

    def last_task(self) -> str:
        names = [match[1] for line in self.lines if (match := _TASK.match(line))]
        return names[-1] if names else "no task"

    def _came_to(self, name: str) -> bool:
        return any((match := _TASK.match(line)) and match[1] == name for line in self.lines)


class _Frozen:
    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stopped: list[int] = []

    def __enter__(self) -> None:
        # Workers have process groups of their own, so the tree is walked; parents first, they make no more children.
        waiting = [self._pid]
        while waiting:
            pid = waiting.pop()
            self._signal(pid, signal.SIGSTOP)
            self._stopped.append(pid)
            try:
                waiting += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
            except OSError:
                continue  # It has ended.

    def __exit__(self, *_raised: object) -> None:
        for pid in self._stopped:
            self._signal(pid, signal.SIGCONT)

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # It has ended.
