# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's verdict must notice each kind of damage: tests that pass because of it are worth no more than it is."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from lunshift_lab import verify

RUN = "00000000000000ab"
SERIAL = "91eefb6e-6c95-5da6-b1df-d7fd268e419f"
SLOTS = 16


def block(number: int, *, slot: int | None = None, run: int = 0xAB, serial: str = SERIAL, damaged: bool = False) -> bytes:
    fields = (verify.MAGIC, run, number, number % SLOTS if slot is None else slot, serial[:20].encode())
    content = verify._HEADER.pack(*fields, 0).ljust(verify.BLOCK_BYTES, b"x")
    crc = zlib.crc32(content) ^ (1 if damaged else 0)
    return verify._HEADER.pack(*fields, crc).ljust(verify.BLOCK_BYTES, b"x")


def volume(path: Path, numbers: list[int], changed: dict[int, bytes] | None = None) -> Path:
    """A volume as it is after these numbers were written one after the other."""
    image = path / "volume.img"
    with image.open("wb") as file:
        file.truncate(SLOTS * verify.BLOCK_BYTES)
        for number in numbers:
            file.seek(number % SLOTS * verify.BLOCK_BYTES)
            file.write((changed or {}).get(number, block(number)))
    return image


@pytest.mark.parametrize("last", [1, SLOTS - 1, SLOTS, SLOTS + 1, 3 * SLOTS + 5])
def test_a_whole_volume_has_no_gap(tmp_path: Path, last: int) -> None:
    content = verify.read_volume(volume(tmp_path, list(range(1, last + 1))), RUN, SERIAL)
    assert content == verify.VolumeContent(last=last, blocks=min(last, SLOTS), missing=())


def test_an_empty_volume_has_nothing(tmp_path: Path) -> None:
    assert verify.read_volume(volume(tmp_path, []), RUN, SERIAL) == verify.VolumeContent(last=0, blocks=0, missing=())


@pytest.mark.parametrize(
    "damage",
    [
        block(38, damaged=True),
        block(38, run=0xAC),
        block(38, serial="292738b2-bece-586a-b223-d2acc251ec15"),
        block(38, slot=7),
        block(38 - SLOTS),
        bytes(verify.BLOCK_BYTES),
    ],
    ids=["checksum", "other run", "other volume", "other place", "lost write", "zeros"],
)
def test_every_damage_is_a_gap(tmp_path: Path, damage: bytes) -> None:
    content = verify.read_volume(volume(tmp_path, list(range(1, 41)), {38: damage}), RUN, SERIAL)
    assert (content.last, content.missing) == (40, (38,))


def console(tmp_path: Path, text: str) -> verify.Console:
    path = tmp_path / "console.log"
    path.write_text(text)
    return verify.read_console(path)


def test_a_console_tells_only_whole_lines(tmp_path: Path) -> None:
    said = console(tmp_path, "0 99\r\nMEM checks=5 bad=0\r\nRUN 7 700\r\nRUN 8 720\nRUN 9 7")
    assert said == verify.Console(acknowledged={7: 700, 8: 720}, memory_checks=5, memory_bad=0, trouble=())


@pytest.mark.parametrize("line", ["CORRUPT vda wrong=serial number=3 count=1", "WERR vda seq=3 put=-1 errno=5", "[ 1.0] BUG: bad page"])
def test_trouble_on_the_console_is_found(tmp_path: Path, line: str) -> None:
    assert console(tmp_path, f"RUN 1 20\r\n{line}\r\n").trouble == (line,)


def said(first: int, last: int, **changes: object) -> verify.Console:
    values = {"acknowledged": {n: 20 * n for n in range(first, last + 1)}, "memory_checks": 10, "memory_bad": 0, "trouble": ()}
    return verify.Console(**{**values, **changes})  # type: ignore[arg-type]


def judge(**changes: object) -> dict[str, object]:
    values = {
        "consoles": {"hosta": said(1, 20), "hostb": said(21, 40)},
        "volumes": {"vol1": verify.VolumeContent(last=40, blocks=16, missing=())},
        "others_unchanged": {"vol2": True},
    }
    return verify.judge(**{**values, **changes})  # type: ignore[arg-type]


def test_a_guest_that_lost_nothing_is_good() -> None:
    verdict = judge()
    assert verdict["ok"] and verdict["problems"] == []
    assert verdict["last_acknowledged"] == 40
    assert verdict["longest_pause_ms"] == 20


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"volumes": {"vol1": verify.VolumeContent(last=38, blocks=16, missing=())}}, "2 writes are lost"),
        ({"volumes": {"vol1": verify.VolumeContent(last=41, blocks=16, missing=(30, 31))}}, "2 numbers from 30 to 31"),
        ({"consoles": {"hosta": said(1, 40, trouble=("WERR vda",))}}, "said on hosta: WERR vda"),
        ({"consoles": {"hosta": said(1, 40, memory_bad=1)}}, "1 bad of 10 checks"),
        ({"consoles": {"hosta": said(1, 40, memory_checks=0)}}, "0 bad of 0 checks"),
        ({"consoles": {}}, "acknowledged nothing"),
        ({"others_unchanged": {"vol2": False}}, "vol2 belongs to no guest, and changed"),
    ],
)
def test_each_loss_is_a_problem(changes: dict[str, object], problem: str) -> None:
    verdict = judge(**changes)
    assert not verdict["ok"]
    assert any(problem in text for text in verdict["problems"])  # type: ignore[attr-defined]


def test_a_fingerprint_sees_content_and_size_but_not_holes(tmp_path: Path) -> None:
    def made(name: str, size: int, data: bytes, offset: int) -> str:
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
            file.seek(offset)
            file.write(data)
        return verify.fingerprint(tmp_path / name)

    empty = made("empty", 1 << 20, b"", 0)
    assert made("zeros", 1 << 20, bytes(8192), 65536) == empty
    assert len({empty, made("bigger", 2 << 20, b"", 0), made("one", 1 << 20, b"a", 70000), made("moved", 1 << 20, b"a", 140000)}) == 4


def test_blocks_from_a_wrong_image_below_are_counted(tmp_path: Path) -> None:
    below = tmp_path / "below.img"
    below.write_bytes(b"b" * (SLOTS - 2) * verify.BLOCK_BYTES)
    image = volume(tmp_path, [3, 4])
    own = image.read_bytes()
    parts = [own[number * verify.BLOCK_BYTES : (number + 1) * verify.BLOCK_BYTES] if number in (3, 4) else b"" for number in range(SLOTS)]
    right = b"".join(part or (b"b" if slot < SLOTS - 2 else b"\0") * verify.BLOCK_BYTES for slot, part in enumerate(parts))
    image.write_bytes(right)
    assert verify.foreign_blocks(image, below, RUN, SERIAL) == 0
    image.write_bytes(b"w" * verify.BLOCK_BYTES + right[verify.BLOCK_BYTES :])
    assert verify.foreign_blocks(image, below, RUN, SERIAL) == 1
    content = verify.VolumeContent(last=4, blocks=2, missing=(), foreign=1)
    verdict = verify.judge({}, {"top": content}, {})
    assert "volume top has 1 blocks that are not those of the image below it" in verdict["problems"]
