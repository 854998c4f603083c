# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interpreters of this machine, and the virtual environments that the checks run in."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from paths import cache_dir

HERE = Path(__file__).resolve().parent
DEBIAN_PYTHON = Path("/usr/bin/python3")
# Only names that resolve on any Debian: shims of version managers (pyenv) stay out of the way.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def find_python(*versions: str) -> Path | None:
    """The first interpreter of these versions ("3.13") that really runs and can make virtual environments."""
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    for version in versions:
        in_path = shutil.which(f"python{version}")
        candidates = [in_path] if in_path else []
        candidates += sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python{version}"), reverse=True)
        for candidate in candidates:
            found = _real_interpreter(candidate, version)
            if found:
                return found
    return None


def _real_interpreter(candidate: str, version: str) -> Path | None:
    """Ask the interpreter itself: a shim may be dead, or lead to another version."""
    code = "import ensurepip, ssl, sys, venv; print('%d.%d' % sys.version_info[:2], sys.executable)"
    try:
        answer = subprocess.run([candidate, "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    return Path(answer[1]) if len(answer) == 2 and answer[0] == version else None


def environment(name: str, python: Path) -> Path:
    """The virtual environment for requirements-NAME.txt, made when it is missing; returns its directory.

    The directory is named after everything that goes into it, so a change makes a new one.
    """
    requirements = HERE / f"requirements-{name}.txt"
    version = subprocess.run([str(python), "-VV"], capture_output=True, text=True, timeout=30, check=True).stdout
    constraints = HERE / "constraints.txt"
    content = b"\0".join([requirements.read_bytes(), constraints.read_bytes(), os.fsencode(python.resolve()), version.encode()])
    venv = cache_dir() / "venvs" / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    venv.parent.mkdir(parents=True, exist_ok=True)
    complete = venv / "complete"
    with open(f"{venv}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            print(f"Making the virtual environment {venv}", flush=True)
            shutil.rmtree(venv, ignore_errors=True)
            subprocess.run([str(python), "-m", "venv", str(venv)], check=True, timeout=300)
            pip = [str(venv / "bin" / "pip"), "install", "-qq", "--disable-pip-version-check"]
            subprocess.run([*pip, "-r", str(requirements)], check=True, timeout=1200)
            complete.touch()
    return venv


def ansible_utilities(venv: Path) -> Path:
    """A directory to import the ansible package of an environment from, by an interpreter that has no ansible-core."""
    directory = cache_dir() / "ansible-utilities" / venv.name
    directory.mkdir(parents=True, exist_ok=True)
    (package,) = venv.glob("lib/python3.*/site-packages/ansible")
    with contextlib.suppress(FileExistsError):
        (directory / "ansible").symlink_to(package)
    return directory


def tool_environment(venv: Path, collections_path: Path, pythons: list[Path]) -> dict[str, str]:
    """The process environment for Ansible's tools; ``pythons`` can be found by them as pythonX.Y."""
    links = cache_dir() / "pythons"
    links.mkdir(exist_ok=True)
    for python in pythons:
        link = links / _versioned_name(python)
        if not link.is_symlink() or link.resolve() != python.resolve():
            link.unlink(missing_ok=True)
            link.symlink_to(python)
    return {
        **os.environ,
        "PATH": f"{venv / 'bin'}:{links}:{SYSTEM_PATH}",
        "VIRTUAL_ENV": str(venv),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(collections_path),
        "ANSIBLE_HOME": str(cache_dir() / "ansible-home"),
        # A play that matches no host is an error: otherwise a test on an empty inventory passes.
        "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
    }


def _versioned_name(python: Path) -> str:
    code = "import sys; print('python%d.%d' % sys.version_info[:2])"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout.strip()
