# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is copied from and to: loop devices, LUNs of a private tgtd, images of the lab's Ceph, and LUNs of a host with a kernel initiator.

A source is one file, which a loop device and a LUN may share, and an image. A target is made anew, empty, for each run.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import typing as t
from pathlib import Path

from copying.kernel_host import KernelHost
from copying.lab import CHECKOUT, LAB, lab_up, run
from copying.place import MIB, Place, write_content
from copying.plan import BLOCK, ISCSI, KERNEL, RBD, Content

sys.path.insert(0, str(CHECKOUT / "tests" / "integration" / "volumes"))

from targets import Target

CLUSTER, POOL, CLIENT = "ceph1", "volumes", "lab"
FEATURES = "layering,exclusive-lock,object-map,fast-diff,deep-flatten"


class Storage:
    """All volumes of a benchmark; close() removes them, and ends what was started for them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._tgt: Target | None = None
        self._ceph: Ceph | None = None
        self._kernel: KernelHost | None = None
        self._sources: dict[tuple[str, Content], contextlib.ExitStack] = {}
        self._places: dict[tuple[str, Content], Place] = {}
        self._target = contextlib.ExitStack()

    def close(self) -> None:
        with self._stack:
            self.clear()

    def servers(self) -> list[int]:
        """The processes that serve volumes."""
        return [*([self._tgt.pid] if self._tgt else []), *(self._ceph.pids() if self._ceph else [])]

    @property
    def ceph(self) -> Ceph:
        if self._ceph is None:
            self._ceph = self._stack.enter_context(Ceph.up())
        return self._ceph

    @property
    def kernel(self) -> KernelHost:
        if self._kernel is None:
            self._kernel = self._stack.enter_context(KernelHost.up())
        return self._kernel

    # --- sources ---

    def source(self, kind: str, content: Content) -> Place:
        """Made when it is asked for first, and kept."""
        key = (kind, content)
        if key not in self._places:
            with contextlib.ExitStack() as made:
                self._places[key] = self._make_source(kind, content, made)
                self._sources[key] = made.pop_all()
        return self._places[key]

    def clear(self) -> None:
        """Remove all volumes, for the next stage needs the space."""
        with contextlib.ExitStack() as going:
            for path in self._directory.glob("source-*.raw"):
                going.callback(path.unlink)
            for made in (*self._sources.values(), self._target):
                going.push(made)
            self._sources.clear()
            self._places.clear()

    def _make_source(self, kind: str, content: Content, made: contextlib.ExitStack) -> Place:
        if kind == KERNEL:
            return self.kernel.source(content, made)
        path = self._directory / f"source-{content.name}.raw"
        if not path.exists():
            print(f"making {path.name}", flush=True)
            write_content(path, content)
        if kind == RBD:
            return self.ceph.place(f"source-{content.name}", content.size_mib, made, imported=path)
        if kind == BLOCK:
            return self._loop(path, content.size_mib, made, read_only=True)
        return self._lun(path, content.size_mib, made, readonly=1)

    # --- targets ---

    def target(self, kind: str, size_mib: int) -> Place:
        """A new one, empty; the one before is removed."""
        self.remove_target()
        if kind == RBD:
            return self.ceph.place("target", size_mib, self._target)
        if kind == KERNEL:
            return self.kernel.target(size_mib, self._target)
        path = self._directory / f"target-{kind}.raw"
        self._target.callback(path.unlink, missing_ok=True)
        with path.open("wb") as file:
            file.truncate(size_mib * MIB)
        return (self._loop if kind == BLOCK else self._lun)(path, size_mib, self._target)

    def remove_target(self) -> None:
        self._target.close()

    def beside(self) -> Path:
        """Where a tool may write that makes its target itself."""
        path = self._directory / "target-beside.raw"
        self._target.callback(path.unlink, missing_ok=True)
        return path

    def _loop(self, path: Path, size_mib: int, made: contextlib.ExitStack, *, read_only: bool = False) -> Place:
        options = ["--read-only"] if read_only else []
        device = run("losetup", "--find", "--show", "--direct-io=on", *options, path).strip()
        made.callback(run, "losetup", "--detach", device)
        info = {"driver_volume_type": "local", "data": {"device_path": device}}
        return Place(BLOCK, info, device, size_mib, path=path, device=device)

    def _lun(self, path: Path, size_mib: int, made: contextlib.ExitStack, **params: t.Any) -> Place:
        if self._tgt is None:
            target = Target(self._directory)
            self._stack.callback(target.stop)
            target.start()
            self._tgt = target
        lun = self._tgt.add(path, thin=True, **params)
        made.callback(self._tgt.remove, lun)
        where = f"iscsi://{self._tgt.address}:{self._tgt.port}/{self._tgt.iqn}/{lun}"
        return Place(ISCSI, self._tgt.info(lun), where, size_mib, path=path)

    # --- before and after a run ---

    def settle(self, *places: Place) -> None:
        """Nothing of the volumes is in the page cache, or still on its way to the disk."""
        for place in places:
            paths = [place.path, place.device]
            if place.kind == KERNEL:
                # Its device is the host's.
                self.kernel.settle(place)
                paths = [place.path]
            for path in map(str, filter(None, paths)):
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)

    def allocated_mib(self, place: Place) -> float:
        if place.path:
            return place.path.stat().st_blocks * 512 / MIB
        return self.ceph.used_mib(place.image)


class Ceph:
    """The lab's first cluster, with its data in a file."""

    def __init__(self) -> None:
        self._conf = Path(run(LAB, "ceph", "conf", CLUSTER).strip())
        self.options = ["--conf", str(self._conf), "--id", CLIENT]

    @classmethod
    @contextlib.contextmanager
    def up(cls) -> t.Iterator[Ceph]:
        with lab_up("ceph", "--in-file", CLUSTER):
            yield cls()

    @property
    def conf(self) -> str:
        return str(self._conf)

    def pids(self) -> list[int]:
        return [int((self._conf.parent / f"{daemon}.pid").read_text().split()[0]) for daemon in ("mon.a", "osd.0")]

    def rbd(self, *arguments: str | Path) -> str:
        return run("rbd", *self.options, *arguments)

    def place(self, image: str, size_mib: int, made: contextlib.ExitStack, *, imported: Path | None = None) -> Place:
        made.callback(self.remove, image)
        if imported:
            self.rbd("import", "--no-progress", "--image-feature", FEATURES, imported, f"{POOL}/{image}")
        else:
            self.rbd("create", "--size", f"{size_mib}M", "--image-feature", FEATURES, f"{POOL}/{image}")
        info = json.loads(run(LAB, "ceph", "info", CLUSTER, image))
        return Place(RBD, info, f"rbd:{POOL}/{image}:id={CLIENT}:conf={self._conf}", size_mib, image=image)

    def remove(self, image: str) -> None:
        if image in json.loads(self.rbd("ls", "--format", "json", POOL)):
            self.rbd("rm", "--no-progress", f"{POOL}/{image}")

    def used_mib(self, image: str) -> float:
        told = json.loads(self.rbd("du", "--exact", "--format", "json", f"{POOL}/{image}"))
        return float(told["images"][0]["used_size"]) / MIB
