# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A private iSCSI target on the loopback: tgtd of its own, with files behind its LUNs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import typing as t
from pathlib import Path

import pytest

INITIATOR = "iqn.2026-11.org.example:copy"
_PORTS = range(23260, 23300)
_START_TIMEOUT_S = 20


class Target:
    """One target. LUN 0 is tgt's controller; volumes count from 1."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.iqn = "iqn.2026-11.org.example:target"
        self.address, self.port = "127.0.0.1", _free_port()
        # It names a socket in /var/run/tgtd; other daemons have other numbers.
        self._control = str(self.port - 23000)
        # More of tgtd's own, such as ",nop_interval=1,nop_count=2".
        self.options = ""
        self._luns = 0
        self._added: list[tuple[Path, dict[str, t.Any]]] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        portal = f"portal={self.address}:{self.port}{self.options}"
        with open(self.directory / "tgtd.log", "ab") as log:
            self._process = subprocess.Popen(
                ["tgtd", "-f", "-C", self._control, "-t", "8", "--iscsi", portal], stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < deadline, (self.directory / "tgtd.log").read_text()
            time.sleep(0.05)
        self.admin("target", "new", "--targetname", self.iqn)
        self.admin("target", "bind", "--initiator-address", "ALL")

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def _answers(self) -> bool:
        shown = subprocess.run(["tgtadm", "-C", self._control, "--op", "show", "--mode", "system"], check=False, capture_output=True)
        return shown.returncode == 0

    def admin(self, mode: str, operation: str, *arguments: str) -> str:
        argv = ["tgtadm", "-C", self._control, "--lld", "iscsi", "--mode", mode, "--op", operation, "--tid", "1", *arguments]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
        return done.stdout

    def add(self, path: Path, *, block: int = 512, thin: bool = False, **params: t.Any) -> int:
        """Export a file; its LUN. ``params`` are tgtadm's own, such as readonly=1 or scsi_id."""
        self._luns += 1
        self._added.append((path, {"block": block, "thin": thin, **params}))
        self.admin("logicalunit", "new", "--lun", str(self._luns), "-b", str(path), "--bstype", "rdwr", "--blocksize", str(block))
        params = {"thin_provisioning": int(thin), **params}
        self.set(self._luns, **params)
        return self._luns

    def set(self, lun: int, **params: t.Any) -> None:
        for name, value in params.items():
            self.admin("logicalunit", "update", "--lun", str(lun), "--params", f"{name}={value}")

    def remove(self, lun: int) -> None:
        self.admin("logicalunit", "delete", "--lun", str(lun))

    def replace(self, lun: int, path: Path, **params: t.Any) -> None:
        """Give the number to another file."""
        self.remove(lun)
        self._luns = lun - 1
        self.add(path, **params)

    def account(self, user: str, password: str, *, outgoing: bool = False) -> None:
        """From now on an initiator has to know it; ``outgoing``: the target proves itself by it."""
        argv = ["tgtadm", "-C", self._control, "--lld", "iscsi", "--mode", "account", "--op", "new", "--user", user, "--password", password]
        subprocess.run(argv, check=True)
        self.admin("account", "bind", "--user", user, *(["--outgoing"] if outgoing else []))

    def sessions(self) -> int:
        return self.admin("conn", "show").count("Session:")

    def info(self, lun: int, **more: t.Any) -> dict[str, t.Any]:
        """Connection info; ``data`` of ``more`` is added to its data."""
        data = {"target_portal": f"{self.address}:{self.port}", "target_iqn": self.iqn, "target_lun": lun, **more.pop("data", {})}
        own = {"initiator": "libiscsi", "libvirt": {"initiator_iqn": INITIATOR}}
        return {"driver_volume_type": "iscsi", "data": data, **own, **more}

    def pause(self) -> None:
        """It answers nothing any more, and keeps its connections."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a power cut would."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def start_again(self) -> None:
        """After it was killed, with the LUNs that it had."""
        added, self._added, self._luns = self._added, [], 0
        self.start()
        for path, params in added:
            self.add(path, **params)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self.kill()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"/var/run/tgtd/socket.{self._control}.lock")


def _free_port() -> int:
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no port of {_PORTS} is free")


@pytest.fixture
def iscsi_target(tmp_path: Path) -> t.Iterator[Target]:
    target = Target(tmp_path)
    try:
        target.start()
        yield target
    finally:
        target.stop()
