# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The emulator of the lab gives each guest a memory size that QEMU 7.2 migrates without damage."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from lunshift_lab import guest_kit

SAFE_REMAINDER_BYTES = 65536
DANGEROUS_MULTIPLE_BYTES = 262144


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The emulator, with a program in QEMU's place that prints its arguments."""
    directory = tmp_path_factory.mktemp("emulator")
    printer = directory / "printer"
    printer.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    printer.chmod(0o755)
    command = [*guest_kit.COMPILER, f'-DQEMU="{printer}"', "-o", directory / "emulator", guest_kit.SOURCES / "emulator.c"]
    subprocess.run(command, check=True)
    return directory / "emulator"


def arguments_of(emulator: Path, *arguments: str) -> list[str]:
    return subprocess.run([emulator, *arguments], check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("128", "size=131136k"),
        ("size=131072k", "size=131136k"),
        ("size=131072k,slots=4,maxmem=1048576k", "size=131136k,slots=4,maxmem=1048576k"),
        ("size=128M", "size=131136k"),
        ("1G", "size=1048640k"),
    ],
)
def test_memory_grows_by_64_kib(emulator: Path, given: str, expected: str) -> None:
    assert arguments_of(emulator, "-S", "-m", given, "-smp", "1") == ["-S", "-m", expected, "-smp", "1"]


def test_the_memory_backend_grows_alike(emulator: Path) -> None:
    given = '{"qom-type":"memory-backend-ram","id":"pc.ram","size":134217728,"x":1}'
    expected = given.replace("134217728", str(134217728 + SAFE_REMAINDER_BYTES))
    assert arguments_of(emulator, "-object", given) == ["-object", expected]
    assert (134217728 + SAFE_REMAINDER_BYTES) % DANGEROUS_MULTIPLE_BYTES == SAFE_REMAINDER_BYTES


def test_nothing_else_changes(emulator: Path) -> None:
    given = ["-name", "guest=m,debug-threads=on", "-object", '{"qom-type":"secret","id":"s","size":1}', "-append", "-m 5", "--version"]
    assert arguments_of(emulator, *given) == given
