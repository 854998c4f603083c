# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole instance: up, and down without a trace."""

from __future__ import annotations

import contextlib
import fcntl
import platform
import shutil
import typing as t
from pathlib import Path

from . import ceph, faults, guest_kit, hosts, network, process, storage
from .context import Lab, LabError

PACKAGES = Path(__file__).resolve().parent.parent / "packages.txt"


# What can be brought up.
KINDS = (*hosts.KINDS, ceph.KIND)


def up(lab: Lab, kinds: t.Sequence[str], *, ceph_in_files: t.Collection[str] = ()) -> None:
    """Hosts of these kinds and their storage, and Ceph; what is up already stays as it is."""
    require_packages()
    host_kinds = [name for name in kinds if name in hosts.KINDS]
    with _alone(lab):
        if host_kinds:
            guest_kit.ensure(lab)
        network.ensure_bridge(lab)
        if host_kinds:
            storage.up(lab)
        for name in host_kinds:
            hosts.KINDS[name].up(lab)
        if ceph.KIND in kinds:
            ceph.up(lab, ceph_in_files)


def down(lab: Lab) -> None:
    """Everything ends, in spite of any one step's failure; only what would not end keeps its record."""
    if not lab.state_dir.exists():
        return
    problems = []
    with _alone(lab):
        steps = [kind.down for kind in hosts.KINDS.values()]
        for step in (*steps, ceph.down, storage.down, faults.remove_rules, network.remove_bridge):
            try:
                step(lab)
            except LabError as exc:
                problems.append(str(exc))
        if problems:
            raise LabError("; ".join(problems))
        shutil.rmtree(lab.state_dir)


def require_packages() -> None:
    """One error that names every Debian package that is missing."""
    wanted = [line.strip() for line in PACKAGES.read_text().splitlines() if line.strip()]
    status = process.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted], check=False)
    installed = {line.split()[0] for line in status.splitlines() if line.endswith(" installed")}
    missing = [name for name in wanted if name not in installed]
    if missing:
        raise LabError(f"Debian packages are missing on {platform.node()}: apt-get install {' '.join(missing)}")


@contextlib.contextmanager
def _alone(lab: Lab) -> t.Iterator[None]:
    """Two ups at once would start everything twice."""
    path = lab.state_dir / "lock"
    while True:
        lab.state_dir.mkdir(parents=True, exist_ok=True)
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # A down that held it before has removed it: then it locks nothing.
            if path.exists() and path.samefile(f"/proc/self/fd/{lock.fileno()}"):
                yield
                return
