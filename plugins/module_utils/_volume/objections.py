# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""Whether one volume may be copied onto another. Pure: facts and options in, every objection at once out."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import Facts, VolumeError

VERIFICATIONS = ("none", "written", "full")


@dataclass(frozen=True)
class Options:
    """What the operator chose. 0 MiB/s is no limit."""

    overwrite: bool = False
    verify: str = "written"
    source_quiesced: bool = False
    allow_sector_size_change: bool = False
    bandwidth_mib: int = 0

    @property
    def hashing(self) -> bool:
        return self.verify != "none"


@dataclass(frozen=True)
class Objection:
    """``reason`` does not change with the wording."""

    reason: str
    message: str


class CopyRefused(VolumeError):
    """Nothing was changed."""

    def __init__(self, objections: t.Sequence[Objection]) -> None:
        super().__init__(
            "; ".join(objection.message for objection in objections),
            error_id="copy_refused",
            problems=[objection.message for objection in objections],
            reasons=[objection.reason for objection in objections],
        )


def objections(
    source: Facts, target: Facts, source_users: t.Sequence[str] | None, target_users: t.Sequence[str] | None, options: Options
) -> list[Objection]:
    """``*_users`` as the handles give them: None where nobody can know."""
    found = []
    if source.identity == target.identity:
        found.append(Objection("same_volume", f"source and target are the same volume, {source.name}"))
    if target.size_bytes < source.size_bytes:
        found.append(
            Objection(
                "target_too_small",
                f"{target.name} has {target.size_bytes} bytes, {source.size_bytes - target.size_bytes} less than {source.name}; make it at"
                f" least {source.size_bytes} bytes large",
            )
        )
    if source.logical_block_bytes != target.logical_block_bytes and not options.allow_sector_size_change:
        found.append(
            Objection(
                "sector_size",
                f"{source.name} has sectors of {source.logical_block_bytes} bytes and {target.name} of {target.logical_block_bytes}: a"
                " guest finds its partitions by sector numbers, so that it would not boot from an identical copy; use a target with the"
                " same sectors, or say allow_sector_size_change: true where nothing counts in sectors",
            )
        )
    if source_users:
        found.append(
            Objection(
                "source_in_use",
                f"{source.name} is in use ({'; '.join(source_users)}), so that it may change while it is read; stop what uses it, or copy a"
                " snapshot",
            )
        )
    if source_users is None and not source.immutable and not options.source_quiesced:
        found.append(
            Objection(
                "source_use_unknown",
                f"nobody can tell from here whether something else writes to {source.name}; make sure that nothing does, and say"
                " source_quiesced: true",
            )
        )
    if target_users:
        found.append(Objection("target_in_use", f"{target.name} is in use ({'; '.join(target_users)}); stop what uses it"))
    return found


def problems_of(options: Options) -> list[str]:
    """What is wrong with the values themselves."""
    found = []
    if options.verify not in VERIFICATIONS:
        found.append(f"verify {options.verify!r} is none of {', '.join(VERIFICATIONS)}")
    if options.bandwidth_mib < 0:
        found.append(f"bandwidth_mib must not be negative (it is {options.bandwidth_mib})")
    return found


__all__ = ("VERIFICATIONS", "CopyRefused", "Objection", "Options", "objections", "problems_of")
