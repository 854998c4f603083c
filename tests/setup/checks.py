# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Static checks, unit tests and ansible-test sanity."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import typing as t
from dataclasses import dataclass
from pathlib import Path

from environments import ansible_utilities, tool_environment
from paths import cache_dir
from steps import Counts, Report, junit_counts

# ansible-lint takes four minutes on a busy machine.
STEP_LIMIT_S = 900.0
INTEGRATION_LIMIT_S = 1800.0
SANITY_LIMIT_S = 1200.0

# ansible-test downloads pip for each of its own environments; Python brings one along.
GET_PIP = """\
import ensurepip


def main():
    ensurepip.bootstrap()


if __name__ == "__main__":
    main()
"""


@dataclass(frozen=True)
class Toolbox:
    """One virtual environment with one ansible-core, and what it can test."""

    label: str
    venv: Path
    checkout: Path
    collections_path: Path
    pythons: list[Path]

    @property
    def env(self) -> dict[str, str]:
        return tool_environment(self.venv, self.collections_path, self.pythons)

    def tool(self, name: str) -> str:
        return str(self.venv / "bin" / name)


def static_checks(report: Report, box: Toolbox) -> None:
    """Everything that reads the tree without running its code."""
    files = _tracked(box.checkout)
    shell = [name for name in files if _is_shell(box.checkout / name)]
    yaml = [name for name in files if name.endswith((".yml", ".yaml"))]
    mypy = [box.tool("mypy"), "--config-file", "pyproject.toml", "--cache-dir", str(cache_dir() / "mypy")]
    antsibull_docs = [box.tool("antsibull-docs"), "lint-collection-docs"]
    commands: list[tuple[str, list[str]]] = [
        ("ruff check", [box.tool("ruff"), "check", "."]),
        ("ruff format", [box.tool("ruff"), "format", "--check", "--diff", "."]),
        ("mypy of the plugins", [*mypy, "-p", "ansible_collections.lunshift.migration.plugins"]),
        ("mypy of the lab", [*mypy, "-p", "lunshift_lab"]),
        ("mypy of the make targets", [*mypy, *_python_files(files, "tests/setup/")]),
        ("mypy of the volume benchmark", [*mypy, "-p", "copying"]),
        ("mypy of the scenarios", [*mypy, *_python_files(files, "extensions/")]),
        ("shellcheck", ["shellcheck", "--external-sources", *shell]),
        ("yamllint", [box.tool("yamllint"), "--strict", *yaml]),
        ("antsibull-changelog lint", [box.tool("antsibull-changelog"), "lint"]),
        ("antsibull-docs lint", [*antsibull_docs, "--plugin-docs", "--validate-collection-refs=self", "."]),
        ("ansible-lint", [box.tool("ansible-lint"), "--offline", "--profile", "production", "--strict"]),
    ]
    env = {
        **box.env,
        "MYPYPATH": f"{box.collections_path}:tests/setup:tests/lab:tests/benchmark:tests/integration/volumes:extensions/molecule/faults",
    }
    for name, command in commands:
        report.step("static", name, command, cwd=box.checkout, env=env, timeout_s=STEP_LIMIT_S)


def unit_tests(report: Report, box: Toolbox) -> None:
    coverage = ["--cov", "--cov-report=term"] if (box.venv / "bin" / "coverage").exists() else []
    _pytest(report, box.label, box.venv, ["tests/unit", *coverage], box.checkout, box.env)


def oldest_unit_tests(report: Report, box: Toolbox, oldest: Path) -> None:
    """The logic that runs on managed hosts, on the oldest Python that they may have."""
    paths = [str(ansible_utilities(box.venv)), os.environ.get("PYTHONPATH", "")]
    env = {**box.env, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    _pytest(report, "python-3.9", oldest, ["tests/unit/plugins/module_utils"], box.checkout, env)


def integration_tests(report: Report, box: Toolbox, *, everything: bool) -> None:
    """Code on real storage of this machine; one after the other, for they share it."""
    chosen = ["tests/integration", *([] if everything else ["-m", "not long"])]
    _pytest(report, "volumes", box.venv, chosen, box.checkout, box.env, kind="integration", limit_s=INTEGRATION_LIMIT_S)


def _pytest(
    report: Report,
    label: str,
    venv: Path,
    arguments: list[str],
    checkout: Path,
    env: t.Mapping[str, str],
    *,
    kind: str = "unit",
    limit_s: float = STEP_LIMIT_S,
) -> None:
    junit = report.log_dir / f"{kind}-{label}.xml"
    junit.unlink(missing_ok=True)
    workers = ["-n", "2"] if kind == "unit" else []
    command = [str(venv / "bin" / "python"), "-m", "pytest", "-q", *workers, "-p", "no:cacheprovider", f"--junitxml={junit}", *arguments]
    report.step(kind, label, command, cwd=checkout, env=env, timeout_s=limit_s, count=lambda: junit_counts(junit))


def sanity(report: Report, box: Toolbox) -> None:
    """ansible-test sanity on a copy of the tree: it does not follow the symbolic link to the checkout."""
    collections_path = cache_dir() / "sanity" / f"{box.collections_path.name}-{box.label}"
    copy = collections_path / "ansible_collections" / "lunshift" / "migration"
    copy_tree(box.checkout, copy)
    home = cache_dir() / "sanity-home"
    for version in ("24_2", "25_2"):  # ansible-core 2.19; 2.20 and 2.21
        path = home / ".ansible" / "test" / "cache" / f"get_pip_{version}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GET_PIP, encoding="ascii")
    # PowerShell's linter is not among Debian's packages; nothing here is written in it. Shell scripts: see static_checks.
    command = [box.tool("ansible-test"), "sanity", "--local", "--requirements", "--junit", "--color", "no"]
    command += ["--skip-test", "pslint", "--skip-test", "shellcheck"]
    env = {**box.env, "HOME": str(home), "ANSIBLE_COLLECTIONS_PATH": str(collections_path)}
    env.pop("ANSIBLE_HOME")
    junit_dir = copy / "tests" / "output" / "junit"
    report.step("sanity", box.label, command, cwd=copy, env=env, timeout_s=SANITY_LIMIT_S, count=lambda: _sanity_counts(junit_dir))


def _sanity_counts(junit_dir: Path) -> Counts:
    return junit_counts(*junit_dir.glob("*.xml"))


def copy_tree(checkout: Path, target: Path) -> None:
    """Copy what git knows or would know (no caches, no ignored files), and nothing else."""
    shutil.rmtree(target, ignore_errors=True)
    for name in _tracked(checkout):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(checkout / name, target / name, follow_symlinks=False)


def _tracked(checkout: Path) -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    output = subprocess.run(command, cwd=checkout, capture_output=True, check=True, timeout=60).stdout
    names = sorted(name for name in output.decode().split("\0") if name)
    return [name for name in names if (checkout / name).is_file()]


def _is_shell(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.readline(64).startswith((b"#!/bin/bash", b"#!/bin/sh", b"#!/usr/bin/env bash"))


def _python_files(files: t.Sequence[str], prefix: str) -> list[str]:
    return [name for name in files if name.startswith(prefix) and name.endswith(".py")]


if __name__ == "__main__":
    # For the tests: copy_tree CHECKOUT TARGET
    copy_tree(Path(sys.argv[1]), Path(sys.argv[2]))
