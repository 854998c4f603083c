# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Fingerprints of the volumes asked for and of everything beside them that this host sees.

A volume's blocks prove something only when no other volume has the same at the same places, so all are read there.
"""

from __future__ import annotations

import os
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import fingerprint, probe
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.pool import run_bounded
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.sysfs import Lun

# For one reading of all attached LUNs; a device that queues requests for ever must not hold up the play.
TOTAL_TIMEOUT_S = 60


@dataclass(frozen=True)
class Samples:
    """Fingerprints and what went wrong, by name: a serial, or the node of a LUN that is none of the volumes."""

    fingerprints: dict[str, fingerprint.Fingerprint]
    problems: dict[str, str]


def take(
    asked_sizes_bytes: t.Iterable[int],
    attached: t.Mapping[str, Lun],
    questions: t.Sequence[probe.Question],
    identities: t.Mapping[str, Identity],
    *,
    root: str = "/",
    read_by_session: t.Callable[..., t.Mapping[str, probe.Answer]] = probe.read_samples,
    pause: t.Callable[[float], None] = time.sleep,
) -> Samples:
    """Sample ``attached`` LUNs by their devices and the volumes of ``questions`` by sessions, twice.

    The blocks are those that the sizes of the volumes asked for lead to.
    """
    where = sorted({offset for size in asked_sizes_bytes for offset in fingerprint.offsets(size)})
    if not where:
        return Samples({}, {})

    def read_all() -> dict[str, probe.Answer]:
        devices = run_bounded(
            list(attached),
            lambda name: _read_device(attached[name], where, root),
            deadline=time.monotonic() + TOTAL_TIMEOUT_S,
            late=probe.Answer(problem=f"the device could not be sampled within {TOTAL_TIMEOUT_S} s"),
        )
        return {**devices, **read_by_session(questions, where, identities)}

    first = read_all()
    pause(fingerprint.PAUSE_S)
    second = read_all()
    fingerprints: dict[str, fingerprint.Fingerprint] = {}
    problems: dict[str, str] = {}
    for name, before in first.items():
        after = second[name]
        problem = before.problem or after.problem
        if problem:
            problems[name] = problem
        elif before.sample is not None and after.sample is not None:
            fingerprints[name] = fingerprint.combine(before.sample, after.sample)
    return Samples(fingerprints, problems)


def _read_device(lun: Lun, where: t.Sequence[int], root: str) -> probe.Answer:
    usable = [path.node for path in lun.paths if path.usable]
    if not usable:
        return probe.Answer(problem=f"{lun.node} cannot be sampled: none of its paths is usable")
    device = lun.multipath.device if lun.multipath else f"/dev/{usable[0]}"
    try:
        with fingerprint.DirectReader(os.path.join(root, device.lstrip("/"))) as read:
            return probe.Answer(sample=fingerprint.read_sample(read, where, lun.identity.size_bytes))
    except OSError as exc:
        return probe.Answer(problem=f"{device} cannot be sampled: {exc.strerror or exc}")


__all__ = ("Samples", "take")
