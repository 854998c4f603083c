# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proof that a guest lost nothing: its consoles on all hosts against what is on the volumes."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import struct
import typing as t
import zlib
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 4096
MAX_SLOTS = 16384
MAGIC = b"LSLBLK1\0"
# Must be the same as struct block in guest/init.c.
_HEADER = struct.Struct("<8sQQQ24sI")
_CRC_OFFSET = _HEADER.size - 4
# virtio-blk hands at most this much of a serial to the guest.
_GUEST_SERIAL_BYTES = 20

# A line that a migration cut in two is on no host; a number that was cut must not count as another.
_ACKNOWLEDGED = re.compile(r"^RUN (\d+) (\d+)\r?\n", re.MULTILINE)
_MEMORY = re.compile(r"^MEM checks=(\d+) bad=(\d+)\r?\n", re.MULTILINE)
_TROUBLE = re.compile(r"^.*(?:CORRUPT|WERR|RERR|MEM no memory|BUG:|Oops|Kernel panic|segfault|Call Trace).*$", re.MULTILINE)
_FINGERPRINT_CHUNK_BYTES = 65536


@dataclass(frozen=True)
class Console:
    """What a guest said on one host."""

    acknowledged: dict[int, int]
    memory_checks: int
    memory_bad: int
    trouble: tuple[str, ...]


@dataclass(frozen=True)
class VolumeContent:
    """What one volume holds of one run. ``missing`` are numbers that were overwritten by nothing, yet are not there.

    ``foreign`` counts blocks that are neither the run's nor those of the image below.
    """

    last: int
    blocks: int
    missing: tuple[int, ...]
    foreign: int = 0


def fingerprint(path: Path) -> str:
    """A digest of a volume's content; holes and zeros are the same, so that reading a big empty one costs nothing."""
    digest = hashlib.sha256()
    zero = bytes(_FINGERPRINT_CHUNK_BYTES)
    with path.open("rb") as image:
        size = os.fstat(image.fileno()).st_size
        offset = 0
        while offset < size:
            try:
                offset = os.lseek(image.fileno(), offset, os.SEEK_DATA) // _FINGERPRINT_CHUNK_BYTES * _FINGERPRINT_CHUNK_BYTES
            except OSError:  # ENXIO: only a hole is left
                break
            chunk = os.pread(image.fileno(), _FINGERPRINT_CHUNK_BYTES, offset)
            if chunk != zero[: len(chunk)]:
                digest.update(struct.pack("<Q", offset) + chunk)
            offset += _FINGERPRINT_CHUNK_BYTES
    return f"{size}:{digest.hexdigest()}"


def read_console(path: Path) -> Console:
    text = path.read_bytes().decode(errors="replace") if path.exists() else ""
    memory = [(int(checks), int(bad)) for checks, bad in _MEMORY.findall(text)]
    return Console(
        acknowledged={int(number): int(time_ms) for number, time_ms in _ACKNOWLEDGED.findall(text)},
        memory_checks=memory[-1][0] if memory else 0,
        memory_bad=max((bad for _checks, bad in memory), default=0),
        trouble=tuple(line.strip() for line in _TROUBLE.findall(text)),
    )


def read_volume(path: Path, run: str, serial: str) -> VolumeContent:
    """Every number that must still be on the volume, whether or not the guest is still writing."""
    with path.open("rb") as image:
        slots = min(os.fstat(image.fileno()).st_size // BLOCK_BYTES, MAX_SLOTS)

        def number_in(slot: int) -> int:
            return _number(os.pread(image.fileno(), BLOCK_BYTES, slot * BLOCK_BYTES), slot, slots, int(run, 16), serial)

        numbers = [number_in(slot) for slot in range(slots)]
        last = max(numbers, default=0)
        missing = []
        for expected in range(max(1, last - slots + 1), last + 1):
            slot = expected % slots
            # A running guest may have been writing this very slot when it was read, so it gets a second look.
            if numbers[slot] < expected and number_in(slot) < expected:
                missing.append(expected)
    return VolumeContent(last=last, blocks=sum(number > 0 for number in numbers), missing=tuple(missing))


def foreign_blocks(path: Path, below: Path, run: str, serial: str) -> int:
    """Blocks that the run did not write, and that are not what the image below has there: QEMU filled them from elsewhere."""
    found = 0
    with path.open("rb") as image, below.open("rb") as base:
        slots = min(os.fstat(image.fileno()).st_size // BLOCK_BYTES, MAX_SLOTS)
        for slot in range(slots):
            block = os.pread(image.fileno(), BLOCK_BYTES, slot * BLOCK_BYTES)
            if block != os.pread(base.fileno(), BLOCK_BYTES, slot * BLOCK_BYTES).ljust(BLOCK_BYTES, b"\0"):
                found += not _number(block, slot, slots, int(run, 16), serial)
    return found


def _number(block: bytes, slot: int, slots: int, run: int, serial: str) -> int:
    """The number of a sound block of this run, volume and place; 0 for anything else."""
    magic, block_run, number, block_slot, block_serial, crc = _HEADER.unpack_from(block)
    if magic != MAGIC or block_run != run or block_slot != slot or number % slots != slot:
        return 0
    if block_serial.rstrip(b"\0").decode(errors="replace") != serial[:_GUEST_SERIAL_BYTES]:
        return 0
    sound = block[:_CRC_OFFSET] + bytes(4) + block[_CRC_OFFSET + 4 :]
    return int(number) if zlib.crc32(sound) == crc else 0


def judge(consoles: dict[str, Console], volumes: dict[str, VolumeContent], others_unchanged: dict[str, bool]) -> dict[str, t.Any]:
    """The verdict, with all that is wrong."""
    acknowledged: dict[int, int] = {}
    for console in consoles.values():
        acknowledged.update(console.acknowledged)
    last = max(acknowledged, default=0)
    checks, bad = sum(c.memory_checks for c in consoles.values()), sum(c.memory_bad for c in consoles.values())
    problems = []
    if not acknowledged:
        problems.append("the guest acknowledged nothing")
    for name, content in volumes.items():
        if content.last < last:
            problems.append(f"volume {name} ends at {content.last}, but {last} was acknowledged: {last - content.last} writes are lost")
        if content.missing:
            problems.append(f"volume {name} has gaps: {len(content.missing)} numbers from {content.missing[0]} to {content.missing[-1]}")
        if content.foreign:
            problems.append(f"volume {name} has {content.foreign} blocks that are not those of the image below it")
    for host, console in consoles.items():
        if console.trouble:
            problems.append(f"the guest said on {host}: {console.trouble[0]} ({len(console.trouble)} such lines)")
    if bad or not checks:
        problems.append(f"the guest's memory: {bad} bad of {checks} checks")
    problems += [f"volume {name} belongs to no guest, and changed" for name, unchanged in others_unchanged.items() if not unchanged]
    return {
        "ok": not problems,
        "problems": problems,
        "last_acknowledged": last,
        "acknowledged": {
            host: {"first": min(c.acknowledged), "last": max(c.acknowledged), "count": len(c.acknowledged)}
            for host, c in consoles.items()
            if c.acknowledged
        },
        "longest_pause_ms": _longest_pause_ms(acknowledged),
        "memory": {"checks": checks, "bad": bad},
        "volumes": {
            name: {"last": content.last, "blocks": content.blocks, "missing": len(content.missing)} for name, content in volumes.items()
        },
        "other_volumes": {name: "unchanged" if unchanged else "changed" for name, unchanged in others_unchanged.items()},
    }


def _longest_pause_ms(acknowledged: dict[int, int]) -> int:
    """By the guest's own clock, which stands still while the guest does not run."""
    times = [acknowledged[number] for number in sorted(acknowledged)]
    return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0)
