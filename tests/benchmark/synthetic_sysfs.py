# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A directory tree that looks like the sysfs, /proc and /dev of a host with iSCSI sessions.

The form follows what real hosts showed (kernel 6.1, open-iscsi 2.1.8, tgt 1.0.85, multipath-tools 0.9.4).
"""

from __future__ import annotations

import os
from pathlib import Path

SECTOR = 512
INQUIRY = b"\x00\x00\x05\x02\x3d\x00\x00\x02" + b"LUNSHIFT" + b"VOLUME".ljust(16) + b"0001"


def page83(wwid: str, relative: int = 1) -> bytes:
    """The device identification page of tgtd: a T10 name, a locally assigned NAA, the NAA that names the LUN."""
    t10 = b"\x02\x01\x00\x24" + b"IET     00010001".ljust(36, b"\0")
    local = b"\x01\x03\x00\x08" + (0x3000000200000000 + relative).to_bytes(8, "big")
    naa = b"\x01\x03\x00\x10" + bytes.fromhex(wwid)
    body = t10 + local + naa
    return b"\x00\x83" + len(body).to_bytes(2, "big") + body


def page80(serial: str) -> bytes:
    """The unit serial number page of tgtd: right-aligned in 36 bytes."""
    return b"\x00\x80\x00\x24" + serial.encode().rjust(36)


def node_name(number: int) -> str:
    """sda, sdb, ... sdz, sdaa, ..."""
    name = ""
    while number >= 0:
        number, letter = divmod(number, 26)
        name = chr(ord("a") + letter) + name
        number -= 1
    return f"sd{name}"


class SyntheticSysfs:
    """Builds the tree below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sessions: dict[int, tuple[int, str, str]] = {}
        for directory in ("dev/disk/by-path", "dev/disk/by-id", "sys/class/block", "sys/dev/block", "proc/self", "proc/net"):
            (root / directory).mkdir(parents=True, exist_ok=True)

    def write(self, path: str, content: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    def link(self, path: str, target: str) -> None:
        """A relative link to ``target``, which is a path below the root."""
        link = self.root / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(self.root / target, link.parent))

    def add_session(
        self, sid: int, iqn: str, address: str = "192.0.2.10", *, port: int = 3260, state: str = "LOGGED_IN", now: str | None = None
    ) -> None:
        """``now`` is the address that the session is connected to at the moment, when that differs."""
        host = sid + 1
        self._sessions[sid] = (host, iqn, f"{address}:{port}")
        session = f"sys/devices/platform/host{host}/session{sid}/iscsi_session/session{sid}"
        for name, value in (("targetname", iqn), ("state", state), ("tpgt", "1"), ("ifacename", "default"), ("username", "(null)")):
            self.write(f"{session}/{name}", f"{value}\n")
        self.link(f"sys/class/iscsi_session/session{sid}", session)
        connection = f"sys/devices/platform/host{host}/session{sid}/connection{sid}:0/iscsi_connection/connection{sid}:0"
        for name, value in (
            ("persistent_address", address),
            ("persistent_port", str(port)),
            ("address", now or address),
            ("port", str(port)),
        ):
            self.write(f"{connection}/{name}", f"{value}\n")
        self.link(f"sys/class/iscsi_connection/connection{sid}:0", connection)

    def add_lun(
        self,
        node: str,
        sid: int,
        lun: int,
        *,
        wwid: str = "6000000000000000000000000000abcd",
        serial: str = "unit-1",
        size_bytes: int = 64 << 20,
        state: str = "running",
        by_path: str | None = None,
    ) -> None:
        """``by_path`` is the LUN as udev writes it, for numbers from 256 on."""
        host, iqn, portal = self._sessions[sid]
        device = f"sys/devices/platform/host{host}/session{sid}/target{host}:0:0/{host}:0:0:{lun}"
        block = f"{device}/block/{node}"
        self.write(f"{device}/state", f"{state}\n")
        self.write(f"{device}/inquiry", INQUIRY)
        self.write(f"{device}/vpd_pg83", page83(wwid, lun))
        self.write(f"{device}/vpd_pg80", page80(serial))
        self.write(f"{block}/size", f"{size_bytes // SECTOR}\n")
        self.write(f"{block}/queue/logical_block_size", "512\n")
        self.write(f"{block}/queue/physical_block_size", "4096\n")
        self.link(f"{block}/device", device)
        self.link(f"sys/class/block/{node}", block)
        self.write(f"dev/{node}", b"")
        self.link(f"dev/disk/by-path/ip-{portal}-iscsi-{iqn}-lun-{by_path or lun}", f"dev/{node}")
        self.link(f"dev/disk/by-id/scsi-3{wwid}-{node}", f"dev/{node}")

    def add_partition(self, node: str, number: int) -> None:
        block = os.path.realpath(self.root / "sys/class/block" / node)
        partition = f"{os.path.relpath(block, self.root)}/{node}{number}"
        (self.root / partition).mkdir(parents=True)
        self.link(f"sys/class/block/{node}{number}", partition)

    def add_virtual(self, name: str, on: list[str]) -> str:
        """A device that is made of others, such as md0; returns its directory."""
        block = f"sys/devices/virtual/block/{name}"
        (self.root / block / "slaves").mkdir(parents=True)
        self.link(f"sys/class/block/{name}", block)
        for node in on:
            self.link(f"{block}/slaves/{node}", f"sys/class/block/{node}")
        return block

    def add_dm(self, name: str, uuid: str, label: str, on: list[str]) -> None:
        """A device-mapper device ``name`` (dm-0) on other devices."""
        block = self.add_virtual(name, on)
        self.write(f"{block}/dm/uuid", f"{uuid}\n")
        self.write(f"{block}/dm/name", f"{label}\n")
        self.write(f"dev/{name}", b"")
        self.link(f"dev/disk/by-id/dm-uuid-{uuid}", f"dev/{name}")

    def mount(self, node: str, where: str) -> None:
        mounts = self.root / "proc/self/mountinfo"
        lines = mounts.read_text() if mounts.exists() else ""
        number = f"8:{lines.count(chr(10))}"
        mounts.write_text(f"{lines}29 1 {number} / {where} rw - ext4 /dev/{node} rw\n")
        self.link(f"sys/dev/block/{number}", f"sys/class/block/{node}")


def with_luns(root: Path, count: int, *, sessions: int = 4) -> SyntheticSysfs:
    """A host with ``count`` LUNs over some sessions, as a benchmark wants it."""
    tree = SyntheticSysfs(root)
    for sid in range(1, sessions + 1):
        tree.add_session(sid, f"iqn.2026-11.org.example:target-{sid}", f"192.0.2.{sid}")
    for number in range(count):
        sid, lun = number % sessions + 1, number // sessions
        by_path = str(lun) if lun < 256 else f"0x{lun:04x}000000000000"
        tree.add_lun(node_name(number), sid, lun, wwid=f"{number + 0x60 * 2**120:032x}", serial=f"unit-{number}", by_path=by_path)
    return tree
