# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._migration import source_process
from ansible_collections.lunshift.migration.plugins.module_utils._migration.source_process import SourceProcess

UUID = "11111111-2222-4333-8444-555555555555"
Emulator = t.Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture()
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Emulator]:
    """Starts a process that has a UUID among its words, as an emulator has it, and whose number libvirt would have written down."""
    monkeypatch.setattr(source_process, "PID_FILES", tmp_path)
    started = []

    def start(uuid: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", "input()", "-uuid", uuid], stdin=subprocess.PIPE)
        started.append(process)
        # The kernel starts a program before it shows the program's words.
        while not Path(f"/proc/{process.pid}/cmdline").read_bytes():
            time.sleep(0.001)
        (tmp_path / "web1.pid").write_text(f"{process.pid}\n", encoding="ascii")
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_end_of_the_process_is_told(emulator: Emulator) -> None:
    process = emulator(UUID)
    found = SourceProcess.find("web1", UUID)
    assert found is not None
    assert not found.has_ended(0.05)
    process.kill()
    assert found.has_ended(10)
    found.close()


def test_another_process_with_the_number_is_not_taken_for_it(emulator: Emulator) -> None:
    emulator("99999999-2222-4333-8444-555555555555")
    assert SourceProcess.find("web1", UUID) is None


def test_a_process_that_has_ended_before_is_not_taken_for_it(emulator: Emulator) -> None:
    process = emulator(UUID)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert SourceProcess.find("web1", UUID) is None


def test_a_number_that_changes_hands_in_between_is_noticed(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    former = emulator(UUID)
    descriptor = os.pidfd_open(former.pid)
    former.kill()
    former.wait()
    emulator(UUID)
    monkeypatch.setattr(os, "pidfd_open", lambda _pid: descriptor)
    assert SourceProcess.find("web1", UUID) is None


@pytest.mark.parametrize("content", ["", "no number", "4194305"])
def test_where_there_is_no_such_process_nothing_is_found(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_process, "PID_FILES", tmp_path)
    assert SourceProcess.find("web1", UUID) is None
    (tmp_path / "web1.pid").write_text(content, encoding="ascii")
    assert SourceProcess.find("web1", UUID) is None


def test_an_old_kernel_is_done_without(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_implemented(_pid: int) -> int:
        raise OSError(38, "Function not implemented")

    emulator(UUID)
    monkeypatch.setattr(os, "pidfd_open", not_implemented)
    assert SourceProcess.find("web1", UUID) is None
    monkeypatch.delattr(os, "pidfd_open")
    assert SourceProcess.find("web1", UUID) is None
