# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy from every kind of volume to every other one, as cmp sees it."""

from __future__ import annotations

import random
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils import _leased_job
from ansible_collections.lunshift.migration.plugins.module_utils._volume import copy as copy_module
from ansible_collections.lunshift.migration.plugins.module_utils._volume.copy import Request, VolumeCopy
from ansible_collections.lunshift.migration.plugins.module_utils._volume.objections import Options
from ansible_collections.lunshift.migration.plugins.module_utils._volume.pieces import GRANULE_BYTES
from ansible_collections.lunshift.migration.plugins.module_utils._volume.supervisor import Controls
from clusters import Cluster
from loop_devices import LoopDevices
from places import Place, Places, differences
from targets import Target

MIB = 1 << 20
# Whole sectors, and nothing more: no chunk, object or extent ends there.
SIZE = 21 * MIB + 5 * 4096
# Every kind on either side, and Ceph and iSCSI in both directions; the others take their time.
SHORT = [
    ("file", "loop"),
    ("loop", "ceph1"),
    ("ceph1", "iscsi_thin"),
    ("iscsi_thin", "ceph2"),
    ("ceph2", "iscsi_thick"),
    ("iscsi_thick", "file"),
]
PAIRS = [
    pytest.param(source, target, marks=[] if (source, target) in SHORT else [pytest.mark.long])
    for source in Places.KINDS
    for target in Places.KINDS
]


@pytest.fixture
def places(
    tmp_path: Path, loop_devices: LoopDevices, iscsi_target: Target, ceph1: Cluster, ceph2: Cluster, monkeypatch: pytest.MonkeyPatch
) -> Places:
    monkeypatch.setattr(_leased_job, "JOBS", tmp_path / "run" / "jobs")
    monkeypatch.setattr(copy_module, "JOURNALS", tmp_path / "journals")
    return Places(tmp_path, loop_devices, iscsi_target, {"ceph1": ceph1, "ceph2": ceph2})


def copied(source: Place, target: Place, directory: Path, **options: t.Any) -> dict[str, t.Any]:
    request = Request(source.info(), target.info(), Options(source_quiesced=True, **options), Controls(), "pair", timeout_s=20)
    return VolumeCopy(request, warn=pytest.fail, lock_directory=str(directory / "locks")).copy(check_mode=False)


def random_content(size: int = SIZE) -> bytes:
    return random.Random(size).randbytes(size)


def sparse_content() -> bytes:
    """A quarter of it is data: whole objects, single granules, and single sectors."""
    content = bytearray(SIZE)
    for offset, length in ((0, 3 * MIB), (5 * MIB, 65536), (5 * MIB + 2 * 65536, 65536), (9 * MIB + 512, 512), (SIZE - 2 * MIB, 2 * MIB)):
        content[offset : offset + length] = random_content(length)
    return bytes(content)


@pytest.mark.parametrize(("source_kind", "target_kind"), PAIRS)
def test_every_pair(places: Places, source_kind: str, target_kind: str) -> None:
    """Random, sparse and empty volumes onto an empty, a dirty and a larger target: identical, thin, and done only once."""
    for content, before, more in (
        (random_content(), b"", 0),
        (sparse_content(), b"", 0),
        (sparse_content(), random_content(SIZE), 0),
        (b"", random_content(SIZE), 0),
        (sparse_content(), random_content(SIZE), 5 * MIB),
    ):
        source = places.make(source_kind, content, SIZE)
        target = places.make(target_kind, before, SIZE + more)
        expected = places.file(content, SIZE + more)
        result = copied(source, target, places.directory, overwrite=bool(before))
        assert differences(target.content(), expected) == ""
        assert result["counts"]["verified_bytes"] == SIZE and result["changed"] is bool(content or before)
        if target.thin:
            # Zeros of less than a granule are not looked for; other tools may have found them.
            as_thin_as = places.make(target_kind, content, SIZE + more)
            assert target.used_bytes() <= as_thin_as.used_bytes() + 8 * GRANULE_BYTES + target.last_object_bytes
        again = copied(source, target, places.directory)
        assert not again["changed"] and again["digest"] == result["digest"]
        assert differences(source.content(), places.file(content, SIZE)) == ""
