# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""LUNs behind a kernel's initiator: in a User-Mode Linux host of the lab, where every tool runs as well.

They are attached before, for all tools alike.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import typing as t
from dataclasses import replace
from pathlib import Path

from copying.lab import CHECKOUT, LAB, lab_up, run
from copying.measure import CommandFailed, Measured, cpu_of
from copying.place import Place, write_content
from copying.plan import KERNEL, Content

HOST = "uml1"
HERE = Path(__file__).resolve().parent
_PROGRAMS = ("__init__.py", "measure.py", "inside.py", "ours.py")
_TIMEOUT_S = 1800.0


class KernelHost:
    """The host; ``programs`` is a directory that it sees, with the collection and what runs in it."""

    def __init__(self) -> None:
        state = Path(run(LAB, "inventory").strip()).parent
        self.programs = state / "share" / "benchmark"
        self._tgtd = int((state / "storage" / HOST / "pid").read_text().split()[0])
        plugins = self.programs / "ansible_collections" / "lunshift" / "migration" / "plugins"
        shutil.copytree(CHECKOUT / "plugins", plugins, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        (self.programs / "copying").mkdir(exist_ok=True)
        for name in _PROGRAMS:
            shutil.copy(HERE / name, self.programs / "copying")

    @classmethod
    @contextlib.contextmanager
    def up(cls) -> t.Iterator[KernelHost]:
        with lab_up("uml"):
            yield cls()

    def source(self, content: Content, made: contextlib.ExitStack) -> Place:
        place = self._lun(f"source-{content.name}", content.size_mib, made)
        write_content(t.cast(Path, place.path), content)
        return place

    def target(self, size_mib: int, made: contextlib.ExitStack) -> Place:
        return self._lun("target", size_mib, made)

    def settle(self, place: Place) -> None:
        """Nothing of it is in the page cache of the host."""
        self.execute("blockdev", "--flushbufs", place.device)

    @staticmethod
    def command(argv: t.Sequence[str]) -> list[str]:
        """What runs a command in the host."""
        return [LAB, "exec", HOST, "--", *argv]

    def execute(self, *argv: str) -> str:
        return run(*self.command(argv))

    def measure(self, argv: t.Sequence[str], *, stdin: str | None = None) -> Measured:
        """Run a command in the host. Time, memory and CPU are the host's own; the target daemon's CPU is this machine's."""
        before_s = cpu_of([self._tgtd])
        done = subprocess.run(
            self.command(["python3", str(self.programs / "copying" / "inside.py")]),
            input=json.dumps({"argv": list(argv), "stdin": stdin}),
            check=False,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )
        if done.returncode:
            raise CommandFailed(f"{HOST}: {done.stderr.strip()}")
        return replace(Measured(**json.loads(done.stdout)), servers_cpu_s=cpu_of([self._tgtd]) - before_s)

    def _lun(self, name: str, size_mib: int, made: contextlib.ExitStack) -> Place:
        volume = f"bench-{name}"
        run(LAB, "volume", "create", volume, str(size_mib), "--thin")
        made.callback(run, LAB, "volume", "delete", volume)
        info = json.loads(run(LAB, "export", HOST, volume))
        made.callback(run, LAB, "unexport", HOST, volume)
        data = info["data"]
        device = f"/dev/disk/by-path/ip-{data['target_portal']}-iscsi-{data['target_iqn']}-lun-{data['target_lun']}"
        self._attach(data)
        made.callback(self._detach, device)
        path = Path(run(LAB, "volume", "path", volume).strip())
        return Place(KERNEL, info, device, size_mib, path=path, device=device)

    def _attach(self, data: t.Mapping[str, t.Any]) -> None:
        node = ["iscsiadm", "-m", "node", "-T", data["target_iqn"], "-p", data["target_portal"]]
        if data["target_iqn"] in self.execute("sh", "-c", "cat /sys/class/iscsi_session/*/targetname 2>/dev/null; true"):
            self.execute(*node, "--rescan")
        else:
            self.execute(*node, "-o", "new")
            self.execute(*node, "--login")
        self.execute("udevadm", "settle")

    def _detach(self, device: str) -> None:
        self.execute("sh", "-c", 'echo 1 > "/sys/block/$(basename "$(readlink -f "$0")")/device/delete"', device)
