# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host with a kernel initiator that lives in a directory, and targets that answer it.

Only what the code under test reads is there, in the layout of a real 6.1 kernel. Time is counted, not waited for.
"""

from __future__ import annotations

import os
import shutil
import threading
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.lunshift.migration.plugins.module_utils._command import CommandResult
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.probe import Answer
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.request import parse_requests
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.sg_inquiry import NoDiskError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.volumes import (
    Call,
    Outcome,
    attach_volumes,
    detach_volumes,
    restore,
)
from ansible_collections.lunshift.migration.plugins.module_utils._operation import RecordStore

PORTAL = "192.0.2.10:3260"
IQN = "iqn.2026-11.example:hostb"
BOOT_ID = "boot-1"


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test can catch it by accident."""


@dataclass
class FakeTarget:
    """What one portal of one target offers: LUNs by the kernel's number."""

    luns: dict[int, Identity] = field(default_factory=dict)
    password: str | None = None
    reachable: bool = True


def identity(number: int, size_mib: int = 64) -> Identity:
    return Identity(
        wwid=f"naa.6{number:031x}",
        unit_serial=f"SN{number:04d}",
        vendor="LAB",
        model="VOL",
        size_bytes=size_mib << 20,
        logical_block_bytes=512,
        physical_block_bytes=4096,
    )


def connection_info(lun: int, portal: str = PORTAL, iqn: str = IQN, password: str | None = None) -> dict[str, t.Any]:
    data: dict[str, t.Any] = {"target_portal": portal, "target_iqn": iqn, "target_lun": lun}
    if password:
        data.update(auth_method="CHAP", auth_username="user", auth_password=password)
    return {"driver_volume_type": "iscsi", "data": data}


def volume(serial: str, lun: int, **kwargs: t.Any) -> dict[str, t.Any]:
    expected = kwargs.pop("expected", None)
    return {
        "serial": serial,
        "connection_info": connection_info(lun, **kwargs),
        "expected_identity": expected.to_dict() if expected else None,
    }


def page80(unit: Identity) -> bytes:
    serial = (unit.unit_serial or "").encode()
    return bytes([0, 0x80, 0, len(serial)]) + serial


def page83(unit: Identity) -> bytes:
    name = bytes.fromhex((unit.wwid or "").partition(".")[2])
    return bytes([0, 0x83, 0, 4 + len(name), 0x01, 0x03, 0, len(name)]) + name


class FakeHost(Host):
    """Reacts to what is written and run as kernel, udev, iscsid and multipathd do."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.targets: dict[tuple[str, str], FakeTarget] = {}
        self.commands: list[list[str]] = []
        self.steps: list[str] = []
        self.kill_at: int | None = None
        self.kill_after = False
        self.udev = True
        self.multipathd = False
        # With find_multipaths strict a map is made only of what stands in the file of WWIDs.
        self.strict = False
        self.busy: set[str] = set()
        # Disks that give no answer.
        self.silent: set[str] = set()
        self.flushed: list[str] = []
        self.now_s = 1000.0
        self._planned: list[tuple[float, t.Callable[[], object]]] = []
        self._next = 0
        self._one_at_a_time = threading.Lock()
        self._disks: dict[str, tuple[FakeTarget, int, str]] = {}
        self._put("/proc/sys/kernel/random/boot_id", BOOT_ID)
        Path(self.at("/run/systemd/system")).mkdir(parents=True, exist_ok=True)
        self._put("/proc/swaps", "Filename Type Size Used Priority")
        self._put("/proc/self/mountinfo", "")

    # What tests arrange and look at.

    def add_target(self, *units: tuple[int, Identity], portal: str = PORTAL, iqn: str = IQN, password: str | None = None) -> FakeTarget:
        target = FakeTarget(luns=dict(units), password=password)
        self.targets[portal, iqn] = target
        return target

    def disks(self) -> list[str]:
        return sorted(self._disks)

    def sessions(self) -> list[str]:
        return self.names("/sys/class/iscsi_session")

    def records(self) -> list[str]:
        database = Path(self.root, "etc/iscsi/nodes")
        return sorted(str(path.relative_to(database)) for path in database.rglob("*") if path.is_file())

    def record_text(self) -> str:
        return "".join(Path(self.root, "etc/iscsi/nodes", name).read_text() for name in self.records())

    def clean(self) -> bool:
        return not (self.disks() or self.sessions() or self.records() or self.names("/dev/disk/by-path"))

    def start_multipathd(self) -> None:
        self.multipathd = True
        self._put("/run/multipathd.pid", "77")
        self._put("/proc/77/comm", "multipathd")

    def open_in_process(self, pid: int, disk: str) -> None:
        self._put(f"/proc/{pid}/comm", "qemu-system-x86")
        directory = Path(self.at(f"/proc/{pid}/fd"))
        directory.mkdir(parents=True)
        (directory / "11").symlink_to(f"/dev/{disk}")

    def close_in_process(self, pid: int) -> None:
        shutil.rmtree(self.at(f"/proc/{pid}/fd"))

    def mount(self, disk: str, place: str) -> None:
        number = self.read(f"/sys/class/block/{disk}/dev")
        self._put("/proc/self/mountinfo", f"30 1 {number} / {place} rw - ext4 /dev/{disk} rw\n")

    def at_second(self, at_s: float, action: t.Callable[[], object]) -> None:
        """Have something happen while the code under test waits."""
        self._planned.append((at_s, action))

    # Host's own interface.

    def run(self, argv: t.Sequence[str], timeout_s: float) -> CommandResult:
        self.commands.append(list(argv))
        return self._step(" ".join(argv), lambda: self._run(list(argv)))

    def write(self, path: str, text: str) -> None:
        if not Path(self.at(path)).exists():
            raise FileNotFoundError(path)
        self._step(f"{path} <- {text}", lambda: self._kernel(path, text))

    def has_command(self, name: str) -> bool:
        return True

    def clock_s(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        for at_s, action in [planned for planned in self._planned if planned[0] <= self.now_s]:
            self._planned.remove((at_s, action))
            action()

    def ask_unit(self, node: str) -> Identity:
        target, lun, _by_path = self._disks[os.path.basename(node)]
        if os.path.basename(node) in self.silent:
            raise OSError(5, "Input/output error")
        if lun not in target.luns:
            raise NoDiskError(f"{node} has no disk behind it any more")
        return target.luns[lun]

    def node_number(self, node: str) -> str | None:
        return self.read(f"/sys/class/block/{os.path.basename(node)}/dev") if self.exists(node) else None

    def read_first_block(self, node: str) -> None:
        name = os.path.basename(node)
        self.ask_unit(self.names(f"/sys/class/block/{name}/slaves")[0] if name.startswith("dm-") else node)

    def flush(self, node: str) -> None:
        if os.path.basename(node) in self.busy:
            raise OSError(16, "Device or resource busy")
        self.flushed.append(node)

    # How the fake works.

    def _step(self, name: str, action: t.Callable[[], t.Any]) -> t.Any:
        with self._one_at_a_time:
            return self._do_step(name, action)

    def _do_step(self, name: str, action: t.Callable[[], t.Any]) -> t.Any:
        self.steps.append(name)
        kill = self.kill_at == len(self.steps)
        if kill and not self.kill_after:
            raise Killed(name)
        result = action()
        if kill:
            raise Killed(name)
        return result

    def _put(self, path: str, content: str | bytes) -> None:
        file = Path(self.at(path))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def _link(self, path: str, to: str) -> None:
        link = Path(self.at(path))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(self.at(to), link.parent))

    def _run(self, argv: list[str]) -> CommandResult:
        if argv[0] == "multipath":
            return self._remove_map(argv[2]) if argv[1] == "-f" else self._change_wwids(*argv[1:])
        if argv[0] == "multipathd":
            return self._resize_map(argv[3]) if argv[1] == "resize" else CommandResult(0, "\n".join(self._disks), "")
        if argv[:3] == ["iscsiadm", "-m", "session"]:
            return self._logout(argv[4])
        iqn, portal = argv[argv.index("-T") + 1], argv[argv.index("-p") + 1]
        record = Path(self.at(f"/etc/iscsi/nodes/{iqn}/{portal.rpartition(':')[0].strip('[]')},{portal.rpartition(':')[2]}"))
        if argv[-1] == "new":
            self._put(
                str(record)[len(self.root) :], "# BEGIN RECORD 2.1.8\nnode.startup = automatic\nnode.session.scan = auto\n# END RECORD\n"
            )
            return CommandResult(0, "", "")
        if argv[-1] == "delete":
            if not record.exists():
                return CommandResult(21, "", "iscsiadm: No records found")
            record.unlink()
            return CommandResult(0, "", "")
        return self._login(portal, iqn, record)

    def _login(self, portal: str, iqn: str, record: Path) -> CommandResult:
        target = self.targets.get((portal, iqn))
        if not record.exists():
            return CommandResult(21, "", "iscsiadm: No records found")
        if target is None or not target.reachable:
            self.now_s += 15
            return CommandResult(8, "", "iscsiadm: initiator reported error (8 - connection timed out)")
        if target.password and f"node.session.auth.password = {target.password}\n" not in record.read_text():
            return CommandResult(24, "", "iscsiadm: initiator reported error (24 - iSCSI login failed due to authorization failure)")
        number = self.add_session(portal, iqn)
        if "node.session.scan = auto" in record.read_text():
            for lun in target.luns:
                self._add_disk(number, lun)
        return CommandResult(0, "", "")

    def add_session(self, portal: str = PORTAL, iqn: str = IQN, state: str = "LOGGED_IN") -> int:
        number, self._next = self._next, self._next + 1
        address, _colon, port = portal.rpartition(":")
        base = f"/sys/devices/platform/host{number}/session{number}"
        for name, value in (("targetname", iqn), ("target_id", "0"), ("state", state)):
            self._put(f"{base}/iscsi_session/session{number}/{name}", value + "\n")
        connection = f"{base}/connection{number}:0/iscsi_connection/connection{number}:0"
        for prefix in ("", "persistent_"):
            self._put(f"{connection}/{prefix}address", address.strip("[]"))
            self._put(f"{connection}/{prefix}port", port)
        self._link(f"/sys/class/iscsi_session/session{number}", f"{base}/iscsi_session/session{number}")
        self._put(f"/sys/class/scsi_host/host{number}/scan", "")
        return number

    def _logout(self, sid: str) -> CommandResult:
        link = Path(self.at(f"/sys/class/iscsi_session/session{sid}"))
        if not link.is_symlink():
            return CommandResult(22, "", "iscsiadm: Could not get session info")
        for disk in list(self._disks):
            if f"/session{sid}/" in os.path.realpath(self.at(f"/sys/class/block/{disk}/device")):
                self._remove_disk(disk)
        link.unlink()
        shutil.rmtree(self.at(f"/sys/devices/platform/host{sid}"))
        return CommandResult(0, "", "")

    def _kernel(self, path: str, text: str) -> None:
        if path.endswith("/scan"):
            number = int(path.split("/")[-2][len("host") :])
            self._add_disk(number, int(text.split()[2]))
            return
        disk = self.names(os.path.dirname(path) + "/block")[0]
        if path.endswith("/delete"):
            self._remove_disk(disk)
        elif path.endswith("/rescan"):
            self._put(f"/sys/class/block/{disk}/size", str(self.ask_unit(f"/dev/{disk}").size_bytes // 512))

    def _add_disk(self, number: int, lun: int) -> None:
        session = f"/sys/class/iscsi_session/session{number}"
        base = f"/sys/devices/platform/host{number}/session{number}"
        connection = f"{base}/connection{number}:0/iscsi_connection/connection{number}:0"
        address, port, iqn = (self.read(path) or "" for path in (f"{connection}/address", f"{connection}/port", f"{session}/targetname"))
        portal = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        target = self.targets[portal, iqn]
        unit = f"{base}/target{number}:0:0/{number}:0:0:{lun}"
        if lun not in target.luns or self.exists(unit):
            return
        letter = next(letter for letter in "abcdefghijklmnopqrstuvwxyz" if f"sd{letter}" not in self._disks)
        disk = f"sd{letter}"
        known = target.luns[lun]
        for name, value in (("type", "0"), ("state", "running"), ("delete", ""), ("rescan", "")):
            self._put(f"{unit}/{name}", value)
        self._put(f"{unit}/vpd_pg80", page80(known))
        self._put(f"{unit}/vpd_pg83", page83(known))
        block = f"{unit}/block/{disk}"
        self._put(f"{block}/size", str(known.size_bytes // 512))
        self._put(f"{block}/dev", f"8:{16 * (ord(letter) - ord('a'))}")
        Path(self.at(f"{block}/holders")).mkdir()
        self._link(f"{block}/device", unit)
        self._link(f"/sys/class/block/{disk}", block)
        self._put(f"/dev/{disk}", "")
        shown = f"0x{lun:04x}000000000000" if lun > 255 else str(lun)
        by_path = f"/dev/disk/by-path/ip-{address}:{port}-iscsi-{iqn}-lun-{shown}"
        if self.udev and not self.exists(by_path):
            self._link(by_path, f"/dev/{disk}")
        self._disks[disk] = (target, lun, by_path)
        if self.multipathd:
            self._add_to_map(disk, known)

    def _remove_disk(self, disk: str) -> None:
        _target, _lun, by_path = self._disks.pop(disk)
        unit = os.path.realpath(self.at(f"/sys/class/block/{disk}/device"))
        for device in self.map_devices():
            Path(self.at(f"/sys/class/block/{device}/slaves/{disk}")).unlink(missing_ok=True)
        shutil.rmtree(unit)
        Path(self.at(f"/sys/class/block/{disk}")).unlink()
        Path(self.at(f"/dev/{disk}")).unlink()
        if self.exists(by_path) and self.resolve(by_path) == f"/dev/{disk}":
            Path(self.at(by_path)).unlink()

    def _add_to_map(self, disk: str, unit: Identity) -> None:
        """One map per WWID: with find_multipaths strict of what is remembered, else from the second path on."""
        # Of a stale disk multipathd knows no more than the kernel.
        same = [name for name in self._disks if self.read_bytes(f"/sys/class/block/{name}/device/vpd_pg83") == page83(unit)]
        wwid = f"3{(unit.wwid or '').partition('.')[2]}"
        if wwid not in self.wwids():
            if self.strict or len(same) < 2:
                return
            self._change_wwids("-a", wwid)
        device = next((name for name in self.map_devices() if self.read(f"/sys/class/block/{name}/dm/uuid") == f"mpath-{wwid}"), None)
        device = device or f"dm-{len(self.map_devices())}"
        base = f"/sys/class/block/{device}"
        self._put(f"{base}/dm/uuid", f"mpath-{wwid}")
        self._put(f"{base}/dm/name", f"mpath{chr(ord('a') + int(device[3:]))}")
        self._put(f"{base}/size", str(unit.size_bytes // 512))
        self._put(f"{base}/dev", f"254:{device[3:]}")
        for name in same:
            self._put(f"{base}/slaves/{name}", "")
            self._put(f"/sys/class/block/{name}/holders/{device}", "")
        self._put(f"/dev/{device}", "")
        by_id = f"/dev/disk/by-id/dm-uuid-mpath-{wwid}"
        if not self.exists(by_id):
            self._link(by_id, f"/dev/{device}")

    def map_devices(self) -> list[str]:
        return [name for name in self.names("/sys/class/block") if name.startswith("dm-")]

    def wwids(self) -> list[str]:
        """The WWIDs that multipath remembers."""
        return [line.strip("/") for line in (self.read("/etc/multipath/wwids") or "").splitlines() if line.startswith("/")]

    def _change_wwids(self, flag: str, wwid: str) -> CommandResult:
        kept = [line for line in (self.read("/etc/multipath/wwids") or "").splitlines() if line != f"/{wwid}/"]
        self._put("/etc/multipath/wwids", "\n".join([*kept, f"/{wwid}/" if flag == "-a" else f"#{wwid}/"]) + "\n")
        return CommandResult(0, "", "")

    def _resize_map(self, name: str) -> CommandResult:
        device = next(device for device in self.map_devices() if self.read(f"/sys/class/block/{device}/dm/name") == name)
        disk = self.names(f"/sys/class/block/{device}/slaves")[0]
        self._put(f"/sys/class/block/{device}/size", self.read(f"/sys/class/block/{disk}/size") or "")
        return CommandResult(0, "ok\n", "")

    def _remove_map(self, name: str) -> CommandResult:
        for device in self.map_devices():
            base = f"/sys/class/block/{device}"
            if self.read(f"{base}/dm/name") != name:
                continue
            for disk in self.names(f"{base}/slaves"):
                Path(self.at(f"/sys/class/block/{disk}/holders/{device}")).unlink()
            Path(self.at(f"/dev/disk/by-id/dm-uuid-{self.read(f'{base}/dm/uuid')}")).unlink(missing_ok=True)
            shutil.rmtree(self.at(base))
            Path(self.at(f"/dev/{device}")).unlink(missing_ok=True)
        return CommandResult(0, "", "")


class Bench:
    """One fake host with a record store and locks."""

    def __init__(self, root: Path) -> None:
        (root / "host").mkdir()
        self.host = FakeHost(root / "host")
        self.records = RecordStore(str(root / "records"))
        self.root = root
        self.asked: list[str] = []
        self.answers: dict[str, Answer] = {}

    def call(self, check: bool = False, operation_id: str | None = "op1", timeout_s: float = 10, at_boot: bool | None = None) -> Call:
        return Call(self.host, check, timeout_s, operation_id, self.records, str(self.root / "locks"), at_boot)

    def attach(self, *volumes: dict[str, t.Any], **kwargs: t.Any) -> Outcome:
        return attach_volumes(self.call(**kwargs), parse_requests(volumes), self.ask)

    def detach(self, *volumes: dict[str, t.Any], **kwargs: t.Any) -> Outcome:
        return detach_volumes(self.call(**kwargs), parse_requests(volumes))

    def restore(self, **kwargs: t.Any) -> Outcome:
        return restore(self.call(**kwargs))

    def ask(self, questions: t.Sequence[t.Any]) -> dict[str, Answer]:
        self.asked += [question.serial for question in questions]
        return {question.serial: self.answers.get(question.serial, Answer(problem="nobody answers")) for question in questions}
