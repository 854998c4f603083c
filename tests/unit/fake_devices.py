# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Block devices in a directory, in sysfs' layout."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host

BOOT_ID = "/proc/sys/kernel/random/boot_id"


class FakeDevices(Host):
    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.put(BOOT_ID, "boot-1")

    def put(self, path: str, text: str) -> None:
        file = Path(self.at(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n", encoding="utf-8")

    def add(self, name: str, path: str, **files: str) -> None:
        """A device at C(/sys/devices/path), with the texts of its files."""
        directory = f"/sys/devices/{path}"
        Path(self.at(directory)).mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            self.put(f"{directory}/{file}", text)
        links = [f"/sys/class/block/{name}", *([f"/sys/dev/block/{files['dev']}"] if "dev" in files else [])]
        for link in links:
            Path(self.at(link)).parent.mkdir(parents=True, exist_ok=True)
            Path(self.at(link)).symlink_to(self.at(directory))

    def add_partition(self, disk: str, number: int, **files: str) -> None:
        name = f"{disk}p{number}" if disk[-1].isdigit() else f"{disk}{number}"
        directory = self.resolve(f"/sys/class/block/{disk}")[len("/sys/devices/") :]
        self.add(name, f"{directory}/{name}", partition=str(number), **files)


__all__ = ("BOOT_ID", "FakeDevices")
