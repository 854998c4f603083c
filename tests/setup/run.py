# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The make targets: demo, test, check, molecule NAME, lab-up, lab-down."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from checks import Toolbox, sanity, static_checks, unit_tests
from environments import DEBIAN_PYTHON, environment, find_python
from lab import Lab
from paths import link_collection
from scenarios import run_scenario, run_scenarios, scenario_names
from steps import Report

CHECKOUT = Path(__file__).resolve().parents[2]
# Continuous integration ends a run after 90 minutes; this one ends by itself before, with its summary.
TEST_LIMIT_S = 80 * 60.0


def main(arguments: list[str]) -> int:
    # So that "finally" takes the lab down after every way of being ended but SIGKILL.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)
    command, *rest = arguments or ["help"]
    commands = {"demo": demo, "test": test, "check": check, "molecule": molecule, "lab-up": lab_up, "lab-down": lab_down}
    if command not in commands:
        print(f"Unknown command {command}: one of {', '.join(commands)}", file=sys.stderr)
        return 2
    try:
        return commands[command](*rest)
    except KeyboardInterrupt:
        print("Interrupted", file=sys.stderr)
        return 130


def check() -> int:
    report = _report()
    main_box, newest_box = _boxes(report)
    _check(report, main_box, newest_box)
    return report.summary()


def test() -> int:
    started_s = time.monotonic()
    report = _report()
    main_box, newest_box = _boxes(report)
    _check(report, main_box, newest_box)
    sanity(report, main_box)
    if newest_box:
        sanity(report, newest_box)
    run_scenarios(report, main_box, Lab(CHECKOUT, main_box.env))
    code = report.summary()
    # The line that counts the tests stays the last one.
    print(f"make test took {(time.monotonic() - started_s) / 60:.1f} minutes", file=sys.stderr, flush=True)
    return code


def molecule(name: str) -> int:
    if name not in scenario_names(CHECKOUT):
        print(f"There is no scenario {name}: one of {', '.join(scenario_names(CHECKOUT))}", file=sys.stderr)
        return 2
    box = _main_box(_report())
    return run_scenario(box, Lab(CHECKOUT, box.env), name)


def demo() -> int:
    """The main job once, in the lab; tests/demo/run shows it."""
    box = _main_box(_report())
    lab = Lab(CHECKOUT, box.env)
    with lab.running(["uml", "namespace"]):
        return subprocess.run([str(CHECKOUT / "tests" / "demo" / "run")], cwd=CHECKOUT, env=lab.environment(), check=False).returncode


def lab_up() -> int:
    return Lab(CHECKOUT, _main_box(_report()).env).up(["namespace", "uml"])


def lab_down() -> int:
    return Lab(CHECKOUT, _main_box(_report()).env).down()


def _check(report: Report, main_box: Toolbox, newest_box: Toolbox | None) -> None:
    static_checks(report, main_box)
    for box in filter(None, (main_box, newest_box)):
        unit_tests(report, box)


def _report() -> Report:
    return Report(log_dir=CHECKOUT / "tests" / "output" / "logs", deadline_s=time.monotonic() + TEST_LIMIT_S)


def _boxes(report: Report) -> tuple[Toolbox, Toolbox | None]:
    """The main environment, and that of the newest ansible-core where an interpreter for it is found."""
    main_box = _main_box(report)
    newest = find_python("3.13", "3.12")
    if newest is None:
        report.skip("sanity and unit tests on ansible-core 2.21", "no Python 3.12 or 3.13 on this machine")
        return main_box, None
    pythons = [newest, *_managed_pythons(None)]
    newest_box = Toolbox("ansible-core-2.21", environment("newest", newest), CHECKOUT, main_box.collections_path, pythons)
    return main_box, newest_box


def _main_box(report: Report) -> Toolbox:
    pythons = [DEBIAN_PYTHON, *_managed_pythons(report)]
    return Toolbox("ansible-core-2.19", environment("main", DEBIAN_PYTHON), CHECKOUT, link_collection(CHECKOUT), pythons)


def _managed_pythons(report: Report | None) -> list[Path]:
    """Python 3.9, the oldest on managed hosts: modules are compiled and imported with it."""
    oldest = find_python("3.9")
    if oldest is None and report is not None:
        report.skip("compile and import of modules on Python 3.9", "no Python 3.9 on this machine")
    return [oldest] if oldest else []


def _interrupted(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
