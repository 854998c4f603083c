# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The make targets: demo, test, test-all, check, bench, molecule NAME, lab-up, lab-down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import typing as t
from dataclasses import replace
from pathlib import Path

from checks import Toolbox, integration_tests, oldest_unit_tests, sanity, static_checks, unit_tests
from environments import DEBIAN_PYTHON, environment, find_python
from lab import Lab, LabError
from paths import link_collection
from scenarios import run_scenario, run_scenarios, scenario_names
from steps import Report

CHECKOUT = Path(__file__).resolve().parents[2]
# Continuous integration ends a run after 90 minutes; this one ends by itself before, with its summary.
TEST_LIMIT_S = 80 * 60.0
TEST_ALL_LIMIT_S = 150 * 60.0
# Beside Debian's: the oldest on managed hosts, and those of newer controllers. Used where they are found.
OTHER_PYTHONS = ("3.9", "3.12", "3.13")


def main(arguments: list[str]) -> int:
    # So that "finally" takes the lab down after every way of being ended but SIGKILL.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    command, *rest = arguments or ["help"]
    commands: dict[str, t.Callable[..., int]] = {
        "demo": demo,
        "test": test,
        "test-all": test_all,
        "check": check,
        "bench": bench,
        "molecule": molecule,
        "lab-up": lab_up,
        "lab-down": lab_down,
    }
    if command not in commands:
        print(f"Unknown command {command}: one of {', '.join(commands)}", file=sys.stderr)
        return 2
    try:
        return commands[command](*rest)
    except LabError as exc:
        print(f"FAILED: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return 130


def check() -> int:
    report = _report(TEST_LIMIT_S)
    _check(report, _boxes(report))
    return report.summary()


def test() -> int:
    return _test(TEST_LIMIT_S, everything=False)


def test_all() -> int:
    """What "make test" runs, all rows of the fault matrix instead of its core, and the scenarios that take long."""
    return _test(TEST_ALL_LIMIT_S, everything=True)


def _test(limit_s: float, *, everything: bool) -> int:
    report = _report(limit_s)
    boxes = _boxes(report)
    _check(report, boxes)
    for box in boxes:
        sanity(report, box)
    lab = Lab(CHECKOUT, {**boxes[0].env, "LUNSHIFT_FAULTS": "all" if everything else "core"})
    try:
        lab.install()
        integration_tests(report, boxes[0], everything=everything)
    except LabError as exc:
        report.fail("integration", "volumes", str(exc))
    run_scenarios(report, boxes[0], lab, everything=everything)
    return report.summary()


def molecule(name: str) -> int:
    if name not in scenario_names(CHECKOUT):
        print(f"There is no scenario {name}: one of {', '.join(scenario_names(CHECKOUT))}", file=sys.stderr)
        return 2
    box = _main_box()
    return run_scenario(box, Lab(CHECKOUT, box.env), name)


def demo() -> int:
    """The main job once, in the lab; tests/demo/run shows it."""
    box = _main_box()
    lab = Lab(CHECKOUT, box.env)
    with lab.running(["uml", "namespace"]):
        return subprocess.run([str(CHECKOUT / "tests" / "demo" / "run")], cwd=CHECKOUT, env=lab.environment(), check=False).returncode


def bench(*arguments: str) -> int:
    """Volume copies beside other tools; goes on where an earlier run ended, and takes its options."""
    lists = [CHECKOUT / "tests" / name / "packages.txt" for name in ("lab", "benchmark")]
    if subprocess.run([CHECKOUT / "tests" / "setup" / "debian.sh", *lists], check=False).returncode:
        raise LabError("the benchmark's Debian packages are not there")
    box = _main_box()
    try:
        cinder = environment("cinder", DEBIAN_PYTHON)
    except subprocess.CalledProcessError as exc:
        raise LabError("Cinder cannot be installed; without its loop: tests/benchmark/volume_copy.py by hand") from exc
    program = [box.tool("python"), str(CHECKOUT / "tests" / "benchmark" / "volume_copy.py")]
    # Whoever interrupts it means the benchmark, which then removes its volumes.
    os.execve(program[0], [*program, "--cinder-python", str(cinder / "bin" / "python"), *arguments], box.env)


def lab_up() -> int:
    Lab(CHECKOUT, _main_box().env).up(["namespace", "uml"])
    return 0


def lab_down() -> int:
    return Lab(CHECKOUT, _main_box().env).down()


def _check(report: Report, boxes: list[Toolbox]) -> None:
    static_checks(report, boxes[0])
    for box in boxes:
        unit_tests(report, box)
    oldest = find_python("3.9")
    if oldest:
        oldest_unit_tests(report, boxes[0], environment("oldest", oldest))


def _report(limit_s: float) -> Report:
    return Report(log_dir=CHECKOUT / "tests" / "output" / "logs", limit_s=limit_s)


def _boxes(report: Report) -> list[Toolbox]:
    """The main environment, and that of the newest ansible-core where an interpreter for it is found."""
    found = {version: find_python(version) for version in OTHER_PYTHONS}
    for version, python in found.items():
        if python is None:
            report.skip(f"checks on Python {version}", f"no Python {version} on this machine")
    others = [python for python in found.values() if python]
    main_box = replace(_main_box(), pythons=[DEBIAN_PYTHON, *others])
    newest = found["3.13"] or found["3.12"]
    if newest is None:
        report.skip("sanity and unit tests on ansible-core 2.21", "it needs Python 3.12 or 3.13, and neither is on this machine")
        return [main_box]
    return [main_box, replace(main_box, label="ansible-core-2.21", venv=environment("newest", newest), pythons=others)]


def _main_box() -> Toolbox:
    return Toolbox("ansible-core-2.19", environment("main", DEBIAN_PYTHON), CHECKOUT, link_collection(CHECKOUT), [DEBIAN_PYTHON])


def _interrupted(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
