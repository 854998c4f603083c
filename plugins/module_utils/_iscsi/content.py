# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Whether samples of content show that two devices are one volume. Pure."""

from __future__ import annotations

import typing as t

# So many blocks that are not zero, that differ from each other, and that no other volume has at the same place.
ENOUGH_BLOCKS = 8

DIFFERS = "differs"
PROVES = "proves"
SAYS_NOTHING = "says_nothing"

# Offset -> digests in the order in which they were read; None stands for a block of zeros.
Fingerprint = t.Mapping[t.Any, t.Sequence[t.Optional[str]]]


def compare_fingerprints(source: Fingerprint, destination: Fingerprint, others: t.Sequence[Fingerprint]) -> str:
    """Returns ``differs``, ``proves`` or ``says_nothing``.

    The guest goes on writing, so a block counts only when all its readings on a host agree; and the source has to be read
    before and after the destination, or else a block that changed in between looks like another volume's.
    ``others`` are the fingerprints of every other volume that either host sees: a block that one of them has, or was not
    read from, at that place proves nothing.
    """
    here, there = _steady(source), _steady(destination)
    common = [offset for offset in here if offset in there]
    if any(here[offset] != there[offset] for offset in common):
        return DIFFERS
    elsewhere = [{str(offset): set(digests) for offset, digests in other.items()} for other in others]
    proving = {
        here[offset]
        for offset in common
        if here[offset] is not None and all(offset in other and here[offset] not in other[offset] for other in elsewhere)
    }
    return PROVES if len(proving) >= ENOUGH_BLOCKS else SAYS_NOTHING


def join_readings(readings: t.Sequence[Fingerprint]) -> dict[str, list[str | None]]:
    """One fingerprint of several of the same volume, in the order of time; a block has to be in each of them."""
    joined: dict[str, list[str | None]] = {}
    for offset in readings[0] if readings else ():
        if all(offset in reading for reading in readings):
            joined[str(offset)] = [digest for reading in readings for digest in reading[offset]]
    return joined


def _steady(fingerprint: Fingerprint) -> dict[str, str | None]:
    """Blocks that were read twice or more, and always the same. Offsets come from JSON as text."""
    return {str(offset): digests[0] for offset, digests in fingerprint.items() if len(digests) > 1 and len(set(digests)) == 1}


__all__ = ("DIFFERS", "ENOUGH_BLOCKS", "PROVES", "SAYS_NOTHING", "Fingerprint", "compare_fingerprints", "join_readings")
