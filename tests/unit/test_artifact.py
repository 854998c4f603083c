# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection as users get it: built, installed from the file, and found by Ansible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _ansible(command: str, *arguments: str, cwd: Path, collections_path: Path) -> str:
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections_path), "ANSIBLE_HOME": str(cwd / "home")}
    environment.pop("PYTHONPATH")  # leads to the checkout
    result = subprocess.run(
        [sys.executable, "-m", "ansible", command, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collections path with the built artifact."""
    work = tmp_path_factory.mktemp("artifact")
    copy = work / "checkout"
    subprocess.run([sys.executable, str(ROOT / "tests" / "setup" / "checks.py"), str(ROOT), str(copy)], check=True, timeout=60)
    collections = work / "collections"
    _ansible("galaxy", "collection", "build", str(copy), "--output-path", str(work), cwd=work, collections_path=collections)
    (artifact,) = work.glob("lunshift-migration-*.tar.gz")
    _ansible("galaxy", "collection", "install", str(artifact), "--offline", "-p", str(collections), cwd=work, collections_path=collections)
    return collections


def test_only_what_users_need_is_inside(installed: Path) -> None:
    root = installed / "ansible_collections" / "lunshift" / "migration"
    needed = {
        "FILES.json",
        "MANIFEST.json",
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "meta",
        "plugins",
        "roles",
        "playbooks",
        "docs",
        "changelogs",
    }
    assert {path.name for path in root.iterdir()} == needed


@pytest.mark.parametrize("kind", ["module", "filter"])
def test_documentation_of_every_plugin_is_found(installed: Path, kind: str, tmp_path: Path) -> None:
    directory = ROOT / "plugins" / {"module": "modules"}.get(kind, kind)
    names = {f"lunshift.migration.{path.stem}" for path in directory.glob("*.py") if not path.stem.startswith("_")}
    found = json.loads(_ansible("doc", "-t", kind, "-l", "-j", "lunshift.migration", cwd=tmp_path, collections_path=installed))
    assert set(found) == names
    for name in names:
        assert "version_added" in _ansible("doc", "-t", kind, "-j", name, cwd=tmp_path, collections_path=installed)
