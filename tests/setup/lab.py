# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's life around tests: its packages, up, down, and what its users find in the environment."""

from __future__ import annotations

import contextlib
import subprocess
import time
import typing as t
from pathlib import Path

# The first time builds the root file system of the User-Mode Linux hosts.
UP_LIMIT_S = 1500.0
DOWN_LIMIT_S = 120.0


class LabError(Exception):
    """The lab did not come up."""


class Lab:
    """The lab that LAB_ID names, driven through its own command."""

    def __init__(self, checkout: Path, env: t.Mapping[str, str]) -> None:
        self._checkout = checkout
        self._env = dict(env)
        self._command = str(checkout / "tests" / "lab" / "lab")

    def install(self) -> None:
        """Its Debian packages, which tests beside the lab need as well."""
        packages = self._checkout / "tests" / "lab" / "packages.txt"
        if subprocess.run(
            [str(self._checkout / "tests" / "setup" / "debian.sh"), str(packages)], check=False, timeout=UP_LIMIT_S
        ).returncode:
            raise LabError("the lab's Debian packages are not there")

    def up(self, kinds: t.Sequence[str]) -> None:
        """Bring hosts of these kinds up, beside those that are up already."""
        self.install()
        print(f"== lab: up with {' and '.join(kinds)} hosts", flush=True)
        started_s = time.monotonic()
        command = [self._command, "up", *kinds]
        code = subprocess.run(command, cwd=self._checkout, env=self._env, check=False, timeout=UP_LIMIT_S).returncode
        if code:
            raise LabError(f"the lab did not come up with {' and '.join(kinds)} hosts: exit code {code}")
        print(f"   up, {time.monotonic() - started_s:.0f} s", flush=True)

    def down(self) -> int:
        print("== lab: down", flush=True)
        return subprocess.run([self._command, "down"], cwd=self._checkout, env=self._env, check=False, timeout=DOWN_LIMIT_S).returncode

    @contextlib.contextmanager
    def running(self, kinds: t.Sequence[str]) -> t.Iterator[None]:
        """The lab while the block runs; down afterwards whatever happened, also when only a part came up."""
        try:
            self.up(kinds)
            yield
        finally:
            self.down()

    def environment(self) -> dict[str, str]:
        """The process environment of those who use the running lab."""
        command = [self._command, "inventory"]
        answer = subprocess.run(command, cwd=self._checkout, env=self._env, check=True, timeout=60, stdout=subprocess.PIPE, text=True)
        return {**self._env, "LUNSHIFT_INVENTORY": answer.stdout.strip().splitlines()[-1], "LUNSHIFT_LAB": self._command}
