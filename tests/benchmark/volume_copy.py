# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How fast volumes are copied, beside the tools that could do it instead: each pair of backends, with several contents.

As root, by "make bench" (which installs what it needs) or by hand; LAB_ID chooses the lab whose Ceph is used. The results are kept after
each round of a cell, and a later run goes on where this one ended. Every tool's first copy in a cell is compared with its source by other
tools, outside of the time. Prints a table, writes it, the numbers and a picture into the directory, and ends with the line

    cells: N, at or below target: M

and with 0 only if both are the same. copying/targets.py has the targets, copying/plan.py the cells.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

from copying import plan, show
from copying.lab import CHECKOUT
from copying.measure import CommandFailed, Measured, measure
from copying.place import MIB, Place
from copying.plan import Cell, Run
from copying.results import Results, ResultsError
from copying.storage import Storage
from copying.targets import MIN_ROUNDS, Looked, Sample, Verdict, judge
from copying.tools import Command, Tools, missing_programs

# What a file system needs for itself, and what an OSD does not give back at once.
_FILES_RATIO, _LAB_RATIO = 1.02, 1.5
# A cell's next round takes as long as its last one; of the first one only this is known.
_FIRST_ROUND_MIB_PER_S = 100.0


def main() -> int:
    # Interruptions, too, for who starts this in the background may have had them ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    arguments = _arguments()
    cells = plan.all_cells(arguments.size_mib, cinder=arguments.cinder_python is not None)
    try:
        chosen = plan.select(cells, arguments.cells)
        _refuse(arguments, chosen)
        results = Results(arguments.results or arguments.directory / "volume_copy.json", _about(arguments))
        _measure(arguments, chosen, results)
    except (ResultsError, ValueError, CommandFailed) as exc:
        print(f"FAILED: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted: what was measured is kept", file=sys.stderr)
        return 130
    return _show(arguments, cells, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Copy volumes by this collection and by other tools, and compare.")
    parser.add_argument("--directory", type=Path, default=CHECKOUT / "tests" / "output" / "bench", help="for volumes and results")
    parser.add_argument("--results", type=Path, help="the file that is extended (default: volume_copy.json in the directory)")
    parser.add_argument("--cells", nargs="+", default=[], metavar="NAME", help="measure only these; block-rbd-random, or *-sparse")
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS)
    parser.add_argument("--limit-minutes", type=float, default=100.0, help="end before, with what is there")
    parser.add_argument("--size-mib", type=int, default=plan.STANDARD_MIB, help="of a volume; growth begins at a quarter of it")
    parser.add_argument("--cinder-python", help="the interpreter of an environment with Cinder; without it Cinder's loop is left out")
    return parser.parse_args()


def _refuse(arguments: argparse.Namespace, cells: t.Sequence[Cell]) -> None:
    """Everything that would fail later."""
    if os.geteuid():
        raise ValueError("loop devices need root")
    missing = missing_programs()
    if missing:
        raise ValueError(f"these programs are missing: {', '.join(missing)}; see tests/benchmark/packages.txt")
    arguments.directory.mkdir(parents=True, exist_ok=True)
    files_mib, lab_mib = plan.needed_mib(cells)
    needs: dict[int, float] = {}
    # The lab keeps its volumes in a directory of its own.
    for path, need_mib in ((arguments.directory, files_mib * _FILES_RATIO), (Path("/tmp"), lab_mib * _LAB_RATIO)):
        device = path.stat().st_dev
        needs[device] = needs.get(device, 0.0) + need_mib
        free_mib = shutil.disk_usage(path).free / MIB
        if free_mib < needs[device]:
            raise ValueError(f"{needs[device]:.0f} MiB are needed at {path}, and {free_mib:.0f} MiB are free")


def _about(arguments: argparse.Namespace) -> dict[str, t.Any]:
    """What must be the same for numbers to be put together."""
    utilities = CHECKOUT / "plugins" / "module_utils"
    code = hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(utilities.rglob("*.py"))))
    version = subprocess.run(["qemu-img", "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    with open("/proc/cpuinfo", encoding="ascii") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    return {
        "code": code.hexdigest(),
        "size_mib": arguments.size_mib,
        "cinder": arguments.cinder_python is not None,
        "machine": f"{os.cpu_count()} x {model}",
        "kernel": platform.release(),
        "qemu": version,
    }


def _measure(arguments: argparse.Namespace, cells: t.Sequence[Cell], results: Results) -> None:
    until = time.monotonic() + arguments.limit_minutes * 60
    last_s: dict[str, float] = {}
    storage = Storage(arguments.directory)
    try:
        tools = Tools(storage, arguments.directory, _collections_path(), arguments.cinder_python)
        for stage in plan.stages(cells):
            for number in range(arguments.rounds):
                for cell in stage:
                    if len(results.rounds(cell.name)) > number:
                        continue
                    started = time.monotonic()
                    guess_s = sum(run.content.size_mib for run in cell.runs) / _FIRST_ROUND_MIB_PER_S
                    if started + last_s.get(cell.name, guess_s) > until:
                        print(f"no time is left for {cell.name}", flush=True)
                        continue
                    _Round(storage, tools, results, cell, number).measure()
                    last_s[cell.name] = time.monotonic() - started
            storage.clear()
    finally:
        # A second interruption would leave loop devices behind.
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signal_number, signal.SIG_IGN)
        storage.close()


class _Round:
    """One round of one cell: all of its runs, or nothing."""

    def __init__(self, storage: Storage, tools: Tools, results: Results, cell: Cell, number: int) -> None:
        self._storage = storage
        self._tools = tools
        self._results = results
        self._cell = cell
        self._number = number
        self._samples: dict[str, Sample] = {}
        self._more: dict[str, t.Any] = {}

    def measure(self) -> None:
        before = [{key: sample.wall_s for key, sample in one.items()} for one in self._results.rounds(self._cell.name)]
        looked = self._results.looked(self._cell.name)
        for run in plan.runs_of_round(self._cell, self._number, before):
            self._run(run, look=run.key not in looked)
        self._results.add_round(self._cell.name, self._samples, self._more)

    def _run(self, run: Run, *, look: bool) -> None:
        storage, cell = self._storage, self._cell
        source = storage.source(cell.source, run.content)
        target = storage.target(cell.target, run.content.size_mib)
        command = self._tools.command(run.tool, source, target)
        storage.settle(source, target)
        measured = self._measure(command.argv, stdin=command.stdin)
        told = json.loads(measured.output) if run.tool in (plan.OURS, plan.OURS_VERIFIED) else {}
        compare_s = self._compare_s(source, target) if run.tool == plan.QEMU_IMG else None
        cpu_s = measured.client_cpu_s + measured.servers_cpu_s
        sample = Sample(measured.wall_s, cpu_s, told.get("rss_mib", measured.rss_mib), compare_s)
        self._samples[run.key] = sample
        self._more[run.key] = {
            "client_cpu_s": measured.client_cpu_s,
            "servers_cpu_s": measured.servers_cpu_s,
            "machine_cpu_s": measured.machine_cpu_s,
            **told,
        }
        rest = f", engine {told['engine_s']:.2f} s" if told else ""
        words = f"{sample.wall_s:.2f} s, CPU {cpu_s:.2f} s, {sample.rss_mib:.0f} MiB{rest}"
        print(f"{cell.name} round {self._number + 1}: {run.key}: {words}", flush=True)
        if look:
            self._look(run, source, target, command)
        storage.remove_target()

    def _compare_s(self, source: Place, target: Place) -> float:
        return self._measure(Tools.compare(source, target, None)).wall_s

    def _measure(self, argv: t.Sequence[str], *, stdin: str | None = None) -> Measured:
        if self._cell.source == plan.KERNEL:
            return self._storage.kernel.measure(argv, stdin=stdin)
        return measure(argv, self._storage.servers(), stdin=stdin)

    def _look(self, run: Run, source: Place, target: Place, command: Command) -> None:
        """Whether it is a copy, says qemu-img of what the servers serve, and cmp of the files behind them."""
        compare = Tools.compare(source, target, command.made)
        commands = [self._storage.kernel.command(compare) if self._cell.source == plan.KERNEL else compare]
        path = command.made or target.path
        if source.path and path:
            self._storage.settle(target)
            commands.append(["cmp", str(source.path), str(path)])
        answers = [subprocess.run(argv, check=False, capture_output=True, text=True) for argv in commands]
        failed = [answer for answer in answers if answer.returncode > 1]
        if failed:
            raise CommandFailed(f"{' '.join(failed[0].args)} ended with {failed[0].returncode}: {failed[0].stderr}")
        identical = not any(answer.returncode for answer in answers)
        if not identical:
            print(f"{self._cell.name}: {run.key} MADE A WRONG COPY", flush=True)
        allocated = command.made.stat().st_blocks * 512 / MIB if command.made else self._storage.allocated_mib(target)
        self._results.add_look(self._cell.name, run.key, Looked(identical, allocated))


def _collections_path() -> str:
    sys.path.insert(0, str(CHECKOUT / "tests" / "setup"))
    from paths import link_collection

    return str(link_collection(CHECKOUT))


def _show(arguments: argparse.Namespace, cells: t.Sequence[Cell], results: Results) -> int:
    verdicts: list[Verdict] = []
    for cell in cells:
        verdicts.append(judge(cell, arguments.size_mib, results.rounds(cell.name), results.looked(cell.name)))
    title = f"Copying volumes of {arguments.size_mib} MiB"
    text = f"{show.table(verdicts)}\n{show.details(verdicts)}"
    (arguments.directory / "volume_copy.md").write_text(text)
    (arguments.directory / "volume_copy.svg").write_text(show.picture(verdicts, title))
    print(show.table(verdicts))
    print(show.last_line(verdicts))
    return 0 if all(verdict.passed for verdict in verdicts) else 1


def _interrupted(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main())
