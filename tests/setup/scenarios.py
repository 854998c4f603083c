# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Molecule scenarios on the lab. A file "lab" in a scenario's directory names the kinds of hosts that it needs.

A scenario with a file "test-all-only" is no part of "make test".
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from checks import Toolbox
from lab import Lab, LabError
from steps import Report

SCENARIO_LIMIT_S = 1800.0
# With every row of the fault matrix.
LONG_SCENARIO_LIMIT_S = 4800.0


def scenario_names(checkout: Path) -> list[str]:
    return sorted(path.parent.name for path in (checkout / "extensions" / "molecule").glob("*/molecule.yml"))


def run_scenario(box: Toolbox, lab: Lab, name: str) -> int:
    """One scenario with its output on the screen."""
    with lab.running(_lab_kinds(box.checkout, name)):
        return subprocess.run(_command(box, name), cwd=box.checkout, env=lab.environment(), check=False).returncode


def run_scenarios(report: Report, box: Toolbox, lab: Lab, *, everything: bool) -> None:
    """All scenarios in one lab; one that fails does not stop the others."""
    names = [name for name in scenario_names(box.checkout) if everything or not _is_for_test_all(box.checkout, name)]
    limit_s = LONG_SCENARIO_LIMIT_S if everything else SCENARIO_LIMIT_S
    needed = {name: _lab_kinds(box.checkout, name) for name in names}
    try:
        up = _bring_up(report, lab, sorted({kind for kinds in needed.values() for kind in kinds}))
        for name in names:
            missing = sorted(set(needed[name]) - up)
            if missing:
                report.fail("molecule", name, f"it needs {' and '.join(missing)} hosts, and the lab has none")
            elif not report.step("molecule", name, _command(box, name), cwd=box.checkout, env=lab.environment(), timeout_s=limit_s):
                # What a failed scenario left must not fail the next one.
                lab.down()
                up = _bring_up(report, lab, sorted(up))
    except (OSError, subprocess.SubprocessError) as exc:
        report.fail("molecule", "the lab", str(exc))
    finally:
        lab.down()


def _bring_up(report: Report, lab: Lab, kinds: list[str]) -> set[str]:
    """Each kind by itself: without one of them the scenarios of the other can run."""
    up: set[str] = set()
    for kind in kinds:
        try:
            lab.up([kind])
            up.add(kind)
        except (LabError, subprocess.SubprocessError) as exc:
            report.fail("molecule", f"the lab's {kind} hosts", str(exc))
    return up


def _command(box: Toolbox, name: str) -> list[str]:
    # Molecule remembers that a scenario was prepared, also after a run that was killed, and would not prepare it again.
    words = '"$0" reset -s "$1" && exec "$0" test --no-command-borders -s "$1"'
    return ["sh", "-c", words, box.tool("molecule"), name]


def _is_for_test_all(checkout: Path, name: str) -> bool:
    return (checkout / "extensions" / "molecule" / name / "test-all-only").exists()


def _lab_kinds(checkout: Path, name: str) -> list[str]:
    return (checkout / "extensions" / "molecule" / name / "lab").read_text(encoding="ascii").split()
