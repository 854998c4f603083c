# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's two Ceph clusters, brought up once and taken down at the end. LAB_ID says which lab, 5 if it says nothing."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import typing as t
from pathlib import Path

import pytest

LAB = Path(__file__).resolve().parents[2] / "lab" / "lab"
LAB_ID = os.environ.get("LAB_ID", "5")
POOL = "volumes"


class Lab:
    def run(self, *arguments: str) -> str:
        env = {**os.environ, "LAB_ID": LAB_ID}
        done = subprocess.run([str(LAB), *arguments], check=False, capture_output=True, text=True, env=env, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class Cluster:
    """One cluster as its administrator sees it, through Ceph's own command."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.conf = lab.run("ceph", "conf", name)
        self.name = name

    def rbd(self, *arguments: str | Path) -> str:
        argv = ["rbd", "--conf", self.conf, *map(str, arguments)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"rbd {arguments}: {done.stderr}"
        return done.stdout

    def ceph(self, *arguments: str) -> None:
        subprocess.run(["ceph", "--conf", self.conf, *arguments], check=True, capture_output=True, timeout=60)

    @contextlib.contextmanager
    def watching(self, image: str) -> t.Iterator[None]:
        """Another client has the image open."""
        argv = ["rbd", "--conf", self.conf, "watch", f"{POOL}/{image}"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as watching:
            try:
                while "watcher=" not in self.rbd("status", f"{POOL}/{image}"):
                    time.sleep(0.1)
                yield
            finally:
                watching.communicate(b"\n", timeout=20)

    def create(self, image: str, size: int, *options: str) -> str:
        self.rbd("create", f"{POOL}/{image}", "--size", f"{size}B", *options)
        return image

    def load(self, image: str, path: Path, *options: str) -> str:
        """An image with a file's content, made by Ceph's own command."""
        self.rbd("import", path, f"{POOL}/{image}", *options)
        return image

    def export(self, image: str, path: Path) -> Path:
        path.unlink(missing_ok=True)
        self.rbd("export", f"{POOL}/{image}", path)
        return path

    def used_bytes(self, image: str) -> int:
        told = json.loads(self.rbd("du", "--format", "json", f"{POOL}/{image}"))
        return int(told["images"][-1]["used_size"])

    def info(self, image: str, *, ceph: dict[str, str] | None = None, **data: t.Any) -> dict[str, t.Any]:
        """Connection info for the client that may no more than librbd needs."""
        found = json.loads(self.lab.run("ceph", "info", self.name, image))
        found["data"].update(data)
        return {**found, **({"ceph": ceph} if ceph else {})}

    def key(self) -> str:
        return str(self.info("any")["data"]["keyring"].split("key = ")[1].split()[0])


@pytest.fixture(scope="session")
def ceph_lab() -> t.Iterator[Lab]:
    lab = Lab()
    status = json.loads(lab.run("status"))
    assert not (status["hosts"] or status["ceph"] or status["storage"]), (
        f"lab {LAB_ID} is in use; take it down, or choose another by LAB_ID"
    )
    try:
        lab.run("up", "ceph", "--in-file", "ceph2")
        yield lab
    finally:
        lab.run("down")


@pytest.fixture(scope="session")
def ceph1(ceph_lab: Lab) -> Cluster:
    """It keeps its data in memory."""
    return Cluster(ceph_lab, "ceph1")


@pytest.fixture(scope="session")
def ceph2(ceph_lab: Lab) -> Cluster:
    """It keeps its data in a file: its OSD can be killed."""
    return Cluster(ceph_lab, "ceph2")
