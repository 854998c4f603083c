# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Block devices over files, with the sectors that a test wants."""

from __future__ import annotations

import contextlib
import os
import subprocess
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest


def run(*command: str | Path) -> str:
    """What a command printed; its own words when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


@dataclass(frozen=True)
class LoopDevice:
    node: str
    file: Path

    @property
    def name(self) -> str:
        return os.path.basename(self.node)

    @property
    def allocated_bytes(self) -> int:
        """What the file behind it takes up."""
        run("sync", self.file)
        return int(run("du", "--block-size=1", self.file).split()[0])


class LoopDevices:
    """Makes them, and mounts; everything is taken down again in reverse."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._undo: list[tuple[str | Path, ...]] = []

    def make(self, size: int, *options: str, sector_bytes: int = 512, random: bool = True) -> LoopDevice:
        file = self.directory / f"behind{len(self._undo)}"
        with open("/dev/urandom" if random else "/dev/null", "rb") as source:
            file.write_bytes(source.read(size))
        os.truncate(file, size)
        return self.attach(file, *options, sector_bytes=sector_bytes)

    def attach(self, file: Path, *options: str, sector_bytes: int = 512) -> LoopDevice:
        node = run("losetup", "--find", "--show", "--sector-size", str(sector_bytes), *options, file)
        self._undo.append(("losetup", "--detach", node))
        return LoopDevice(node, file)

    def add_partition(self, device: LoopDevice, number: int, start_mib: int, size_mib: int) -> str:
        run("addpart", device.node, str(number), str(start_mib * 2048), str(size_mib * 2048))
        return f"{device.node}p{number}"

    def mount(self, node: str, kind: str = "ext4") -> Path:
        """A new file system on a device."""
        run(f"mkfs.{kind}", "-q", node)
        place = self.directory / f"mount{len(self._undo)}"
        place.mkdir()
        run("mount", node, place)
        # A failed test may still have a file open there.
        self._undo.append(("umount", "--lazy", place))
        return place

    def swap(self, node: str | Path) -> None:
        run("mkswap", node)
        run("swapon", node)
        self._undo.append(("swapoff", node))

    def clean_up(self) -> None:
        with contextlib.ExitStack() as stack:
            for command in self._undo:
                stack.callback(run, *command)


@pytest.fixture
def loop_devices(tmp_path: Path) -> t.Iterator[LoopDevices]:
    devices = LoopDevices(tmp_path)
    try:
        yield devices
    finally:
        devices.clean_up()


__all__ = ("LoopDevice", "LoopDevices", "loop_devices", "run")
