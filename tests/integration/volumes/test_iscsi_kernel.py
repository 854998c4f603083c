# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iSCSI volumes through a real kernel's initiator, in a User-Mode Linux host of the lab after the one that has the Ceph clusters."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]
LAB_ID = str((int(os.environ.get("LAB_ID", "5")) + 1) % 10)
HOST = "uml1"
MIB = 1 << 20
NOTHING = {"sessions": 0, "disks": 0, "maps": 0, "nodes": 0, "records": 0}


def lab(*arguments: str, code: int = 0) -> str:
    env = {**os.environ, "LAB_ID": LAB_ID}
    argv = [str(CHECKOUT / "tests" / "lab" / "lab"), *arguments]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def shared() -> t.Iterator[Path]:
    """A directory of this machine that the host sees, with the collection in it."""
    status = json.loads(lab("status"))
    assert not (status["hosts"] or status["ceph"] or status["storage"]), f"lab {LAB_ID} is in use; take it down"
    try:
        lab("up", "uml")
        directory = Path(f"/tmp/lunshift-lab-{LAB_ID}/share/volumes")
        collection = directory / "ansible_collections" / "lunshift" / "migration"
        shutil.copytree(CHECKOUT / "plugins", collection / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HERE / "kernel_steps.py", directory)
        yield directory
    finally:
        lab("down")


@pytest.fixture(params=["one path", "two paths and CHAP"])
def volumes(shared: Path, request: pytest.FixtureRequest) -> t.Iterator[Path]:
    ways = ["--portal", "first", "--portal", "second", "--chap", "copier", "--chap-in", "array"]
    lab("access", HOST, *(ways if request.param != "one path" else []))
    for number in (1, 2):
        (shared / f"volume{number}.json").write_text(lab("export", HOST, f"vol{number}"))
    yield shared
    for number in (1, 2):
        lab("unexport", HOST, f"vol{number}")


def steps(shared: Path, name: str, code: int = 0) -> list[t.Any]:
    return [json.loads(line) for line in lab("exec", HOST, "--", "python3", str(shared / "kernel_steps.py"), name, code=code).splitlines()]


def test_volumes_of_the_kernel(volumes: Path) -> None:
    paths = len(json.loads((volumes / "volume1.json").read_text())["data"].get("target_portals", [1]))
    maps = int(paths > 1)
    behind = Path(lab("volume", "path", "vol1").strip())

    # Two sides that share a session: whoever closes last ends it.
    both = {"sessions": paths, "disks": 2 * paths, "maps": 2 * maps, "nodes": paths, "records": 1}
    one = {**both, "disks": paths, "maps": maps}
    found = steps(volumes, "copy")
    assert found == [NOTHING, both, {"same identity": True, "same data": True}, "volume_in_use", one, NOTHING]
    with open(behind, "rb") as stream:
        content = stream.read(8 * MIB)
    piece = b"0123456789abcdef" * (MIB // 16)
    assert [content[start : start + MIB] == piece for start in range(0, 8 * MIB, MIB)] == [True, True, False, True, True, True, True, True]
    assert content[2 * MIB : 3 * MIB] == bytes(MIB)

    # udev looks into what a writer closed.
    assert steps(volumes, "close_at_once") == [NOTHING]

    # A killed run: the next one of the operation ends what it left, or a sweep does.
    for end in ("again", "sweep"):
        assert steps(volumes, "die", code=255) == [one]
        assert steps(volumes, end) == [one, NOTHING]
