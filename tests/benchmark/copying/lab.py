# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab of this checkout, by its own command; LAB_ID chooses which one."""

from __future__ import annotations

import contextlib
import json
import subprocess
import typing as t
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
LAB = str(CHECKOUT / "tests" / "lab" / "lab")


def run(*argv: str | Path) -> str:
    done = subprocess.run([str(part) for part in argv], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


@contextlib.contextmanager
def lab_up(*arguments: str) -> t.Iterator[None]:
    """A lab that is up already stays."""
    status = json.loads(run(LAB, "status"))
    with contextlib.ExitStack() as stack:
        if not any(status[part] for part in ("storage", "hosts", "ceph", "guests")):
            stack.callback(run, LAB, "down")
        run(LAB, "up", *arguments)
        yield
