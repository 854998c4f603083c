# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How each tool is told to copy one volume to another. All of them flush before they end."""

from __future__ import annotations

import json
import shutil
import typing as t
from dataclasses import dataclass
from pathlib import Path

from copying import plan
from copying.place import Place
from copying.storage import CLIENT, FEATURES, POOL, Storage

HERE = Path(__file__).resolve().parent
# What a module of Ansible runs by on a Debian host.
_PYTHON = "/usr/bin/python3"
_QEMU = ["-f", "raw"]


@dataclass(frozen=True)
class Command:
    """``stdin`` may hold secrets, argv does not. ``made`` is where the copy is, if the tool made its target itself."""

    argv: t.Sequence[str]
    stdin: str | None = None
    made: Path | None = None


class Tools:
    """``cinder`` is the interpreter of an environment with Cinder, where there is one."""

    def __init__(self, storage: Storage, directory: Path, collections_path: str, cinder: str | None) -> None:
        self._storage = storage
        self._directory = directory
        self._collections_path = collections_path
        self._cinder = cinder

    def command(self, tool: str, source: Place, target: Place) -> Command:
        return _COMMANDS[tool](self, source, target)

    def ours(self, source: Place, target: Place, verify: str) -> Command:
        kernel = source.kind == plan.KERNEL
        # From an earlier run it would know the volumes.
        journal = (self._storage.kernel.programs if kernel else self._directory) / "journal"
        journal.unlink(missing_ok=True)
        given = {
            "collections_path": str(self._storage.kernel.programs) if kernel else self._collections_path,
            "source": source.info,
            "target": target.info,
            "verify": verify,
            "journal": str(journal),
        }
        program = (self._storage.kernel.programs / "copying" if kernel else HERE) / "ours.py"
        return Command([_PYTHON, str(program)], stdin=json.dumps(given))

    def qemu_img(self, source: Place, target: Place) -> Command:
        caches = ["-t", "none", "-T", "none"]
        return Command(["qemu-img", "convert", "-n", "-W", "-m", "16", *caches, *_QEMU, "-O", "raw", source.qemu, target.qemu])

    def nbdcopy(self, source: Place, target: Place) -> Command:
        return Command(["nbdcopy", "--flush", "--", *_nbd(source, read_only=True), *_nbd(target, read_only=False)])

    def dd(self, source: Place, target: Place, block: str) -> Command:
        how = ["iflag=direct", "oflag=direct", "conv=fdatasync,notrunc", "status=none"]
        return Command(["dd", f"bs={block}", *how, f"if={source.device}", f"of={target.device}"])

    def rbd_import(self, source: Place, target: Place) -> Command:
        """It makes the image itself."""
        ceph = self._storage.ceph
        ceph.remove(target.image)
        where = ["--image-feature", FEATURES, source.device, f"{POOL}/{target.image}"]
        return Command(["rbd", *ceph.options, "import", "--no-progress", *where])

    def rbd_export(self, source: Place, _target: Place) -> Command:
        """It refuses whatever exists, so it gets a file beside; and it does not flush."""
        made = self._storage.beside()
        export = ["rbd", *self._storage.ceph.options, "export", "--no-progress", f"{POOL}/{source.image}", str(made)]
        return Command(["sh", "-c", '"$@" && sync "$0"', str(made), *export], made=made)

    def cinder(self, source: Place, target: Place) -> Command:
        if not self._cinder:
            raise ValueError("there is no environment with Cinder")
        ends = {"source": source.device or source.image, "target": target.device or target.image}
        images = [name for name, place in (("source", source), ("target", target)) if place.kind == plan.RBD]
        how = {"conf": self._storage.ceph.conf, "client": CLIENT, "pool": POOL, "size_mib": source.size_mib}
        return Command([self._cinder, str(HERE / "cinder_copy.py")], stdin=json.dumps({**ends, "images": images, **how}))

    @staticmethod
    def compare(source: Place, target: Place, made: Path | None) -> list[str]:
        where = str(made) if made else target.qemu
        return ["qemu-img", "compare", "-T", "none", *_QEMU, "-F", "raw", source.qemu, where]


def _nbd(place: Place, *, read_only: bool) -> list[str]:
    """It opens a device by itself; for the rest it needs a server."""
    if place.device:
        return [place.device]
    options = ["--read-only"] if read_only else ["--discard=unmap"]
    return ["[", "qemu-nbd", "--shared=4", *_QEMU, "--cache=none", *options, place.qemu, "]"]


_COMMANDS: dict[str, t.Callable[[Tools, Place, Place], Command]] = {
    plan.OURS: lambda tools, source, target: tools.ours(source, target, "none"),
    plan.OURS_VERIFIED: lambda tools, source, target: tools.ours(source, target, "written"),
    plan.QEMU_IMG: Tools.qemu_img,
    plan.NBDCOPY: Tools.nbdcopy,
    plan.DD_1M: lambda tools, source, target: tools.dd(source, target, "1M"),
    plan.DD_4M: lambda tools, source, target: tools.dd(source, target, "4M"),
    plan.RBD_IMPORT: Tools.rbd_import,
    plan.RBD_EXPORT: Tools.rbd_export,
    plan.CINDER: Tools.cinder,
}


def missing_programs() -> list[str]:
    """Of those that are run by name."""
    names = ("qemu-img", "qemu-nbd", "nbdcopy", "dd", "cmp", "rbd", "tgtd", "tgtadm", "losetup")
    return [name for name in names if not shutil.which(name)]
