# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One volume and the ways to it, and what is written into a source."""

from __future__ import annotations

import os
import random
import typing as t
from dataclasses import dataclass
from pathlib import Path

from copying.plan import Content

MIB = 1 << 20
# A sparse volume's data comes in pieces of 64 KiB to 4 MiB, such as file systems leave them.
_PIECE_KIB = (64, 4096)
_SEED = 4


@dataclass(frozen=True)
class Place:
    """One volume, and the ways to it. ``path`` is of the file behind it (none behind an image); ``device`` of its loop device."""

    kind: str
    info: t.Mapping[str, t.Any]
    qemu: str
    size_mib: int
    path: Path | None = None
    device: str = ""
    image: str = ""


def write_content(path: Path, content: Content) -> None:
    """A file with ``data_mib`` of random data, spread over its whole size."""
    chance = random.Random(_SEED)
    size, left = content.size_mib * MIB, content.data_mib * MIB
    with path.open("wb") as file:
        file.truncate(size)
        if content.data_mib == content.size_mib:
            for _number in range(content.size_mib):
                file.write(os.urandom(MIB))
            left = 0
        offset = 0
        while left:
            length = min(chance.randint(*(number // 64 for number in _PIECE_KIB)) * (64 << 10), left)
            file.seek(offset)
            file.write(os.urandom(length))
            left -= length
            # As much of the holes as is due: at the end no data is left, and no room.
            holes = size - offset - length - left
            offset += length + (int(holes * length / (left + length)) // 4096 * 4096 if left else 0)
        os.fsync(file.fileno())
