# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run rows of the fault matrix, one after the other, and write what they gave: tests/output/faults.md and .json.

Each row: the role runs as an operator runs it, the fault strikes at its moment, and afterwards only tools of others are asked.
Then the fault is mended, and the same command has to finish the job. The guest stays between rows, and so each moves it on.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
import typing as t
from dataclasses import asdict
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(CHECKOUT / "tests" / "lab"))

from lunshift_lab import context, faults, guest, hosts, storage, verify  # noqa: E402
from lunshift_lab.context import Lab, LabError  # noqa: E402
from observe import has_job, holds, state  # noqa: E402
from play import Play  # noqa: E402
from rows import ABSENT, KINDS, NO_ANSWER, Result, Row, TableError, filled_in, load, lost_writes, markdown, select  # noqa: E402

OUTPUT = CHECKOUT / "tests" / "output"
GUEST = "matrix"
# The other volumes belong to nobody, and must not change.
VOLUMES = ("vol1", "vol3")
ANOTHER_UUID = "11111111-2222-4333-8444-555555555555"
VNC_PASSWORD = "secret-m"  # noqa: S105 - a guest of the lab; libvirt allows eight characters
# Slow enough for a fault to strike in the middle, and for the move to end soon.
BANDWIDTH_MIB = 16
LEASE_S = 10
PLAY_LIMIT_S = 300.0
PHASE_LIMIT_S = 240.0
# For what libvirt does by itself: a destination gives a guest up when its connection is lost, a daemon starts.
SETTLE_S = 40.0
# Outcomes after which nothing changes by itself any more, and the role has told at which task it failed.
DECIDED = ("stayed", "unknown", "still_moving", "running_on_both", "paused_on_source", "paused_on_destination")


class Matrix:
    """The rows of one kind of initiator, on its two hosts."""

    def __init__(self, lab: Lab, kind: str, log_dir: Path) -> None:
        self.lab = lab
        self.kind = kind
        self.log_dir = log_dir
        self.source, self.destination = KINDS[kind]
        # Whether the guest is known to be on the source alone, with all of its writes.
        self.whole = False

    def prepare(self) -> None:
        """A guest on the source that writes to two volumes, and hosts without any fault."""
        self.end()
        guest.start(
            self.lab,
            self.source,
            GUEST,
            [f"{volume}:{self.kind}" for volume in VOLUMES],
            memory_mib=None,
            ram_mib=guest.DEFAULT_RAM_MIB,
            dirty_mib=guest.DEFAULT_DIRTY_MIB,
            vnc_password=VNC_PASSWORD,
            has_os=True,
        )

    def end(self) -> None:
        """No fault, no guest, and no record of what was attached for it: nobody detaches what the lab takes away."""
        faults.clear(self.lab)
        guest.destroy(self.lab, GUEST)
        for host in KINDS[self.kind]:
            hosts.output_of(self.lab, host, ["sh", "-c", "mkdir -p $0 && find $0 -type f -delete", "/var/lib/lunshift-migration"])

    def run(self, row: Row) -> Result:
        """One row; on return the guest is whole again on ``self.source``, which may be another host than before."""
        started_s = time.monotonic()
        row = filled_in(row, self._words())
        result = Result(row)
        self.whole = False
        try:
            self._strike_and_look(row, result)
            self._mend_and_run_again(row, result)
        except (LabError, TableError, subprocess.SubprocessError, OSError) as exc:
            result.problems.append(str(exc))
        if row.fresh or row.suspect or not self.whole:
            # What a row spoiled must not spoil the next.
            self.source, self.destination = KINDS[self.kind]
            self.prepare()
        result.elapsed_s = time.monotonic() - started_s
        return result

    def _words(self) -> dict[str, str]:
        volumes = storage.volumes(self.lab)
        serials = {f"serial{number}": volumes[f"vol{number}"].serial for number in range(1, 5)}
        bare = "<domain type='qemu'><name>{}</name><uuid>{}</uuid><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>"
        own_uuid = guest.load(self.lab, GUEST).uuid
        return {
            "itself": bare.format(GUEST, own_uuid),
            "another": bare.format(GUEST, ANOTHER_UUID),
            "source": self.source,
            "destination": self.destination,
            "source_address": self.lab.address_of(self.source),
            "destination_address": self.lab.address_of(self.destination),
            "guest": GUEST,
            "volume1": VOLUMES[0],
            "volume2": VOLUMES[1],
            **serials,
        }

    def _strike_and_look(self, row: Row, result: Result) -> None:
        before = {host: holds(self.lab, host) for host in (self.source, self.destination)}
        background: list[subprocess.Popen[str]] = []
        if row.when == "before":
            self._strike(row, None)
        slow = {"live_migrate_bandwidth_mib": BANDWIDTH_MIB} if row.when == "migrating" else {}
        play = self._play({**slow, **row.vars}, f"{row.id}-{row.kind}")
        struck_s = play.started_s
        try:
            if row.when != "before":
                if not self._wait_for_phase(play, row.when):
                    play.wait(PLAY_LIMIT_S)
                    result.problems.append(f"the role never came to {row.when!r}: {play.last_task()}; {play.words()[-600:]}")
                    return
                with contextlib.nullcontext() if row.when == "migrating" else play.frozen():
                    background += self._strike(row, play)
                struck_s = time.monotonic()
                for command in background:
                    command.wait(PHASE_LIMIT_S)
                if row.struck == "job" and not has_job(self.lab, self.source, GUEST):
                    result.problems.append("the fault did not strike: the copying was over before the fault was")
            code = play.wait(PLAY_LIMIT_S)
        finally:
            if play.running:
                play.kill()
        result.problems += self._told(row, play, code)
        dropped = faults.show(self.lab)["dropped"]
        result.outcome = (play.outcomes() or ["no change" if code else "moved"])[-1]
        if play.killed:
            result.outcome = "killed"
        self._look(row, result, before)
        result.decided_s = (time.monotonic() if play.killed else t.cast(float, play.ended_s)) - struck_s
        if row.struck == "dropped" and not any(sum(counts) for counts in dropped.values()):
            result.problems.append(f"the fault did not strike: {dropped}")
        if result.outcome != row.outcome:
            result.problems.append(f"outcome {result.outcome}, not {row.outcome}")

    def _wait_for_phase(self, play: Play, when: str) -> bool:
        if when != "migrating":
            return play.wait_for_task(when, PHASE_LIMIT_S)
        deadline_s = time.monotonic() + PHASE_LIMIT_S
        while play.running and time.monotonic() < deadline_s:
            if has_job(self.lab, self.source, GUEST):
                return True
            time.sleep(0.05)
        return False

    def _strike(self, row: Row, play: Play | None) -> list[subprocess.Popen[str]]:
        """Make the fault; gives the commands of those that end by themselves after a while."""
        background = []
        for words in row.do:
            if words == "kill":
                t.cast(Play, play).kill()
            elif " --for " in words:
                background.append(subprocess.Popen([_lab_command(), *shlex.split(words)], text=True))
            else:
                self._lab(words)
        return background

    def _told(self, row: Row, play: Play, code: int | None) -> list[str]:
        """What the role said, against what the row says that it has to say."""
        problems = []
        said = play.words()
        if play.killed and "kill" not in row.do:
            problems.append(f"the role did not end within {PLAY_LIMIT_S:g} s: {play.last_task()}")
        if not play.killed and (code == 0) != (row.outcome == "moved" and not row.suspect):
            problems.append(f"exit code {code}")
        if not re.search(row.says, said):
            problems.append(f"the role did not say {row.says!r}, but: {_end_of(said)}")
        if row.outcome in DECIDED and row.at not in (at := play.failed_at()):
            problems.append(f"it failed at {at!r}, not at {row.at!r}")
        if VNC_PASSWORD in said:
            problems.append("the VNC password is in the role's output")
        return problems

    def _look(self, row: Row, result: Result, before: dict[str, frozenset[str]]) -> None:
        expected = {self.source: row.source, self.destination: row.destination}
        found = self._states(expected, 0.0 if row.outcome in ("stayed", "moved", "no change") else SETTLE_S)
        result.source, result.destination = found[self.source], found[self.destination]
        for host, word in expected.items():
            if found[host] != word:
                result.problems.append(f"{GUEST} is {found[host]} on {host}, not {word}")
        cleaned = self.source if row.outcome == "moved" else self.destination
        after = self._holdings(cleaned if row.undone else None, before[cleaned] if row.outcome != "moved" else frozenset())
        if row.outcome == "moved":
            result.leftovers = tuple(sorted(after[self.source]))
        else:
            result.leftovers = tuple(sorted(after[self.destination] - before[self.destination]))
            missing = [entry for host in after for entry in sorted(before[host] - after[host])]
            gained = sorted(after[self.source] - before[self.source])
            if row.undone and (missing or gained):
                result.problems.append(f"not as before: without {', '.join(missing) or 'nothing'}, with {', '.join(gained) or 'nothing'}")
        if row.undone and result.leftovers:
            result.problems.append(f"left behind: {', '.join(result.leftovers)}")
        self._judge_writes(row, result)

    def _holdings(self, cleaned: str | None, expected: frozenset[str]) -> dict[str, frozenset[str]]:
        """What both hosts have. On the host that has to be clean, a target needs its time to give up a connection that went silent."""
        deadline_s = time.monotonic() + SETTLE_S
        while True:
            found = {host: holds(self.lab, host) for host in (self.source, self.destination)}
            silent = [entry for entry in found.get(cleaned or "", frozenset()) - expected if entry.startswith("logged in from")]
            if not silent or time.monotonic() > deadline_s:
                return found
            time.sleep(1)

    def _states(self, expected: t.Mapping[str, str], patience_s: float) -> dict[str, str]:
        deadline_s = time.monotonic() + patience_s
        while True:
            found = {host: state(self.lab, host, GUEST) for host in expected}
            if found == dict(expected) or time.monotonic() > deadline_s:
                return found
            time.sleep(0.3)

    def _judge_writes(self, row: Row, result: Result) -> None:
        verdict = guest.check(self.lab, GUEST)
        result.lost_writes = max(result.lost_writes or 0, lost_writes(verdict))
        if not verdict["ok"] and not row.suspect:
            result.problems += verdict["problems"]

    def _mend_and_run_again(self, row: Row, result: Result) -> None:
        faults.clear(self.lab)
        for words in row.repair:
            self._lab(words)
        if row.outcome != "moved":
            if NO_ANSWER in (row.source, row.destination):
                # Daemons come back one after the other, and the destination's has to give its half of the guest up.
                self._states({self.source: "running", self.destination: ABSENT}, SETTLE_S)
            play = self._play({}, f"{row.id}-{row.kind}-again")
            code = play.wait(PLAY_LIMIT_S)
            result.rerun = "moved" if code == 0 else f"exit code {code}"
            if code != 0:
                result.problems.append(f"the same command again: {_end_of(play.words())}")
                return
        else:
            result.rerun = "not needed"
        before = len(result.problems)
        self._moved(row, result)
        self.whole = len(result.problems) == before
        self.source, self.destination = self.destination, self.source

    def _moved(self, row: Row, result: Result) -> None:
        """After all of it: one guest, on the destination, alive, and nothing of it on the source."""
        expected = {self.source: ABSENT, self.destination: "running"}
        found = self._states(expected, 0.0)
        if found != expected:
            result.problems.append(f"in the end {GUEST} is {found}")
        left = self._holdings(self.source, frozenset())[self.source]
        if left:
            result.problems.append(f"in the end {self.source} has {', '.join(sorted(left))}")
        console = self.lab.console_dir(self.destination) / f"console-{GUEST}.log"
        last = max(verify.read_console(console).acknowledged, default=0)
        deadline_s = time.monotonic() + SETTLE_S
        while max(verify.read_console(console).acknowledged, default=0) <= last:
            if time.monotonic() > deadline_s:
                result.problems.append(f"in the end the guest writes nothing; its last number is {last}")
                break
            time.sleep(0.2)
        self._judge_writes(row, result)

    def _play(self, variables: t.Mapping[str, t.Any], name: str) -> Play:
        given = {"live_migrate_lease_s": LEASE_S, **variables}
        self.log_dir.mkdir(parents=True, exist_ok=True)
        return Play(self.source, self.destination, GUEST, given, self.log_dir / f"{name}.log")

    def _lab(self, words: str) -> None:
        done = subprocess.run([_lab_command(), *shlex.split(words)], capture_output=True, text=True, timeout=PHASE_LIMIT_S, check=False)
        if done.returncode:
            raise LabError(f"lab {words}: {(done.stderr or done.stdout).strip()}")


def _lab_command() -> str:
    return str(CHECKOUT / "tests" / "lab" / "lab")


def _end_of(said: str) -> str:
    """The last error of a play, which tells the outcome."""
    return said[said.rfind("[ERROR]") :][:1200]


def main(arguments: list[str]) -> int:
    lab = context.from_environment()
    wanted = " ".join(arguments) or os.environ.get("LUNSHIFT_FAULTS") or "core"
    chosen = select(load(Path(__file__).with_name("matrix.yaml")), wanted)
    missing = sorted({host for row in chosen for host in KINDS[row.kind] if not hosts.is_up(lab, host)})
    if missing:
        raise LabError(f"{', '.join(missing)} are not up")
    results: list[Result] = []
    for kind in KINDS:
        for result in _run_kind(lab, kind, [row for row in chosen if row.kind == kind]):
            results.append(result)
            # After each row: a run that is ended early keeps what it has found.
            _write(results)
            word = "ok" if not result.problems else "FAILED: " + "; ".join(result.problems)
            print(f"{result.row.title}: {result.outcome}, run again: {result.rerun}, {result.elapsed_s:.0f} s: {word}", flush=True)
    print(markdown(results))
    return 0 if len(results) == len(chosen) and not any(result.problems for result in results) else 1


def _run_kind(lab: Lab, kind: str, rows: list[Row]) -> t.Iterator[Result]:
    if rows:
        matrix = Matrix(lab, kind, OUTPUT / "logs" / "faults")
        matrix.prepare()
        for row in rows:
            yield matrix.run(row)
        matrix.end()


def _write(results: list[Result]) -> None:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "faults.json").write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")
    (OUTPUT / "faults.md").write_text(markdown(results), encoding="utf-8")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (LabError, TableError) as exc:
        sys.exit(f"faults: {exc}")
