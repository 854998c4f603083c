# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Places where a volume can be: each makes one with a given content, and tells by other tools than ours what is in it."""

from __future__ import annotations

import abc
import itertools
import os
import subprocess
import typing as t
from pathlib import Path

from clusters import Cluster
from loop_devices import LoopDevices, run
from targets import Target

OBJECT_BYTES = 4 << 20


class Place(abc.ABC):
    """One volume, made with a content. ``thin``: whether zeros take no space there.

    ``last_object_bytes``: what Ceph counts for an object at the image's end that was there once: it becomes empty, but is not removed.
    """

    thin = True
    last_object_bytes = 0

    @abc.abstractmethod
    def info(self) -> dict[str, t.Any]:
        """Connection info."""

    @abc.abstractmethod
    def content(self) -> Path:
        """A file with what is in it now, as other tools read it."""

    @abc.abstractmethod
    def used_bytes(self) -> int:
        """What it takes up."""


class FileBehind(Place):
    """Everything that has a file of this machine behind it."""

    path: Path

    def content(self) -> Path:
        return self.path

    def used_bytes(self) -> int:
        run("sync", self.path)
        return int(run("du", "--block-size=1", self.path).split()[0])


class RawFile(FileBehind):
    def __init__(self, path: Path) -> None:
        self.path = path

    def info(self) -> dict[str, t.Any]:
        return {"driver_volume_type": "local", "data": {"device_path": str(self.path)}}


class Loop(FileBehind):
    def __init__(self, path: Path, devices: LoopDevices, sector_bytes: int = 512) -> None:
        self.path = path
        self._node = devices.attach(path, sector_bytes=sector_bytes).node

    def info(self) -> dict[str, t.Any]:
        return {"driver_volume_type": "local", "data": {"device_path": self._node}}

    def content(self) -> Path:
        # What the kernel has in memory for the device is not in the file yet.
        run("blockdev", "--flushbufs", self._node)
        return self.path


class UserSpaceIscsi(FileBehind):
    def __init__(self, path: Path, target: Target, *, thin: bool) -> None:
        self.path = path
        self.thin = thin
        self._target = target
        self._lun = target.add(path, thin=thin)

    def info(self) -> dict[str, t.Any]:
        return self._target.info(self._lun)


class Rbd(Place):
    def __init__(self, path: Path, cluster: Cluster, image: str) -> None:
        self._path = path
        self._cluster = cluster
        self._image = cluster.load(image, path)
        self.last_object_bytes = path.stat().st_size % OBJECT_BYTES

    def info(self) -> dict[str, t.Any]:
        return self._cluster.info(self._image)

    def content(self) -> Path:
        return self._cluster.export(self._image, self._path)

    def used_bytes(self) -> int:
        return self._cluster.used_bytes(self._image)


class Places:
    """Makes volumes of every kind, and files with contents."""

    KINDS = ("file", "loop", "iscsi_thin", "iscsi_thick", "ceph1", "ceph2")

    def __init__(self, directory: Path, devices: LoopDevices, target: Target, clusters: t.Mapping[str, Cluster]) -> None:
        self.directory = directory
        self._devices = devices
        self._target = target
        self._clusters = clusters
        self._numbers = itertools.count()

    def file(self, content: bytes, size: int) -> Path:
        """Without space for what is behind the content, and where the content is zero."""
        path = self.directory / f"volume{next(self._numbers)}.raw"
        path.write_bytes(content)
        os.truncate(path, size)
        run("fallocate", "--dig-holes", path)
        return path

    def adopt(self, path: Path) -> Place:
        """A raw file that is there already."""
        return RawFile(path)

    def make(self, kind: str, content: bytes, size: int) -> Place:
        path = self.file(content, size)
        if kind == "file":
            return RawFile(path)
        if kind == "loop":
            return Loop(path, self._devices)
        if kind.startswith("iscsi"):
            return UserSpaceIscsi(path, self._target, thin=kind == "iscsi_thin")
        return Rbd(path, self._clusters[kind], f"{self.directory.name}-{path.stem}")


def differences(one: Path, other: Path) -> str:
    """What cmp says; empty when both are the same to their ends."""
    done = subprocess.run(["cmp", str(one), str(other)], check=False, capture_output=True, text=True)
    return done.stdout + done.stderr


__all__ = ("Place", "Places", "differences")
