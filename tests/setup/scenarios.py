# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Molecule scenarios on the lab. A file "lab" in a scenario's directory names the kinds of hosts that it needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from checks import Toolbox
from lab import Lab, LabError
from steps import Report

SCENARIO_LIMIT_S = 900.0


def scenario_names(checkout: Path) -> list[str]:
    return sorted(path.parent.name for path in (checkout / "extensions" / "molecule").glob("*/molecule.yml"))


def run_scenario(box: Toolbox, lab: Lab, name: str) -> int:
    """One scenario with its output on the screen."""
    try:
        with lab.running(_lab_kinds(box.checkout, name)):
            command = _command(box, name)
            return subprocess.run(command, cwd=box.checkout, env=lab.environment(), check=False).returncode
    except LabError as exc:
        print(f"FAILED: {exc}", flush=True)
        return 1


def run_scenarios(report: Report, box: Toolbox, lab: Lab) -> None:
    """All scenarios in one lab; one that fails does not stop the others."""
    names = scenario_names(box.checkout)
    kinds = sorted({kind for name in names for kind in _lab_kinds(box.checkout, name)})
    try:
        with lab.running(kinds):
            for name in names:
                report.step("molecule", name, _command(box, name), cwd=box.checkout, env=lab.environment(), timeout_s=SCENARIO_LIMIT_S)
    except (LabError, OSError, subprocess.SubprocessError) as exc:
        report.fail("molecule", "the lab", str(exc))


def _command(box: Toolbox, name: str) -> list[str]:
    return [box.tool("molecule"), "test", "-s", name]


def _lab_kinds(checkout: Path, name: str) -> list[str]:
    return (checkout / "extensions" / "molecule" / name / "lab").read_text(encoding="ascii").split()
