# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run one command after the other, bounded in time, and say at the end what passed, failed and did not run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import typing as t
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

TAIL_LINES = 80
# What the tools call a failure at the start of a line. The summary repeats it, for who sees only the end of a long output.
REASON = re.compile(r"(fatal: |\[ERROR\]|ERROR: |FAILED |E   )")
REASONS, REASON_LENGTH = 6, 700
# Logs are read as text.
NO_COLOR = {"NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "PY_COLORS": "0", "TERM": "dumb"}
# Time that is kept free for taking the lab down and for the summary.
RESERVE_S = 120.0


@dataclass(frozen=True)
class Counts:
    """How many tests of a step passed, failed and were skipped."""

    passed: int
    failed: int
    skipped: int = 0


@dataclass(frozen=True)
class Result:
    kind: str
    name: str
    counts: Counts
    elapsed_s: float
    reasons: t.Sequence[str] = ()


@dataclass
class Report:
    """What happened so far. ``limit_s`` bounds all steps together."""

    log_dir: Path
    limit_s: float
    started_s: float = field(default_factory=time.monotonic)
    results: list[Result] = field(default_factory=list)
    not_run: list[tuple[str, str]] = field(default_factory=list)

    def skip(self, name: str, why: str) -> None:
        """A check that cannot run here."""
        print(f"NOT RUN: {name} ({why})", flush=True)
        self.not_run.append((name, why))

    def fail(self, kind: str, name: str, why: str) -> None:
        """Something that stands in the way of tests: it counts as one that failed."""
        print(f"FAILED: {kind}: {name}: {why}", flush=True)
        self.results.append(Result(kind, name, Counts(passed=0, failed=1), 0.0))

    def step(
        self,
        kind: str,
        name: str,
        command: t.Sequence[str],
        *,
        cwd: Path,
        env: t.Mapping[str, str],
        timeout_s: float,
        count: t.Callable[[], Counts] | None = None,
    ) -> bool:
        """Run one command; its output goes to a log, and its end to the screen when it fails."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        log = self.log_dir / f"{re.sub('[^a-z0-9.]+', '-', f'{kind} {name}'.lower())}.log"
        limit_s = min(timeout_s, self.started_s + self.limit_s - RESERVE_S - time.monotonic())
        print(f"== {kind}: {name}", flush=True)
        started_s = time.monotonic()
        with open(log, "wb") as output:
            problem = _run(command, cwd, env, limit_s, output) if limit_s > 0 else "no time left"
        elapsed_s = time.monotonic() - started_s
        counts = count() if count else Counts(passed=0, failed=0)
        if problem and not counts.failed:
            counts = Counts(counts.passed, 1, counts.skipped)
        elif not count:
            counts = Counts(passed=1, failed=0)
        elif not problem and not counts.passed:
            problem, counts = "it ran no test", Counts(0, 1, counts.skipped)
        if counts.failed and not problem:
            problem = f"{counts.failed} tests failed"
        self.results.append(Result(kind, name, counts, elapsed_s, _reasons(log) if problem else ()))
        if problem:
            print(_tail(log))
            print(f"   FAILED: {name}: {problem}, after {elapsed_s:.0f} s (whole output: {log})", flush=True)
        else:
            print(f"   ok, {counts.passed} passed, {elapsed_s:.0f} s", flush=True)
        return not problem

    def summary(self) -> int:
        """Print the end of a run; returns the exit code. A run without a test has failed."""
        print("\n== Summary")
        for result in self.results:
            counts = result.counts
            word = "FAILED" if counts.failed else "ok"
            skipped = f", {counts.skipped} skipped" if counts.skipped else ""
            print(
                f"{word:6}  {result.kind}: {result.name}: {counts.passed} passed, {counts.failed} failed{skipped}, {result.elapsed_s:.0f} s"
            )
            for reason in result.reasons:
                print(f"        {reason}")
        for kind in dict.fromkeys(result.kind for result in self.results):
            of_kind = [result.counts for result in self.results if result.kind == kind]
            print(f"{kind}: {sum(counts.passed for counts in of_kind)} passed, {sum(counts.failed for counts in of_kind)} failed")
        for name, why in self.not_run:
            print(f"NOT RUN: {name} ({why})")
        print(f"Took {(time.monotonic() - self.started_s) / 60:.1f} minutes")
        passed = sum(result.counts.passed for result in self.results)
        failed = sum(result.counts.failed for result in self.results)
        print(f"{passed} passed, {failed} failed", flush=True)
        return 0 if passed and not failed else 1


def junit_counts(*paths: Path) -> Counts:
    """Count the test cases in JUnit reports. A report that is missing or broken counts nothing."""
    passed = failed = skipped = 0
    for path in paths:
        try:
            cases = list(ET.parse(path).iter("testcase"))
        except (OSError, ET.ParseError):
            continue
        for case in cases:
            outcome = {child.tag for child in case}
            failed += bool(outcome & {"failure", "error"})
            skipped += "skipped" in outcome
            passed += not outcome & {"failure", "error", "skipped"}
    return Counts(passed, failed, skipped)


def _run(command: t.Sequence[str], cwd: Path, env: t.Mapping[str, str], timeout_s: float, output: t.IO[bytes]) -> str | None:
    """Run a command in a process group of its own; returns what went wrong."""
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**env, **NO_COLOR},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as exc:
        return f"cannot start {command[0]}: {exc.strerror}"
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return f"not finished within {timeout_s:.0f} s"
    finally:
        _end_group(process)
    return f"exit code {code}" if code else None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what the command left running, also when this run is interrupted."""
    for sign, wait_s in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, sign)
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            continue


def _tail(log: Path) -> str:
    return "\n".join(_lines(log)[-TAIL_LINES:])


def _reasons(log: Path) -> list[str]:
    return [line.strip()[:REASON_LENGTH] for line in _lines(log) if REASON.match(line)][-REASONS:]


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8", errors="replace").splitlines()
