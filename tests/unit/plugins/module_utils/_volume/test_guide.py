# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The examples of the guide: its backend copies, its connection infos are read."""

from __future__ import annotations

import os
import random
import re
import textwrap
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.lunshift.migration.plugins.module_utils import _leased_job
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._volume import copy, opening
from ansible_collections.lunshift.migration.plugins.module_utils._volume.objections import Options
from ansible_collections.lunshift.migration.plugins.module_utils._volume.pieces import GRANULE_BYTES
from ansible_collections.lunshift.migration.plugins.module_utils._volume.supervisor import Controls

MIB = 1 << 20
GUIDE = Path(__file__).resolve().parents[5] / "docs" / "docsite" / "rst" / "guide_volume_migration.rst"
BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:    .*\n|\n)+)", re.MULTILINE)
KEYRING = "[client.migration]\n\tkey = AQBpZ2hqAAAAABAA1dFgzKr1nDBJbRzVUZTN0A==\n"


def blocks(language: str) -> list[str]:
    return [textwrap.dedent(text) for found, text in BLOCK.findall(GUIDE.read_text(encoding="utf-8")) if found == language]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    file, registration = blocks("python")
    namespace: dict[str, t.Any] = {"__name__": "reversed"}
    exec(compile(file, "reversed.py", "exec", dont_inherit=True), namespace)
    names = re.findall(r'"(\w+)": (_\w+)', registration)
    known = {kind: f"_{kind}" for kind in opening._KINDS}
    assert dict(names) == {**known, "reversed": "_reversed"}, "the guide shows the registration as it is"
    monkeypatch.setitem(opening._KINDS, "reversed", lambda: namespace["REVERSED"])


def info(path: Path, kind: str) -> dict[str, t.Any]:
    return {"driver_volume_type": kind, "data": {"path" if kind == "reversed" else "device_path": str(path)}}


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(("source_kind", "target_kind"), [("local", "reversed"), ("reversed", "local"), ("reversed", "reversed")])
def test_the_backend_of_the_guide_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source_kind: str, target_kind: str) -> None:
    monkeypatch.setattr(_leased_job, "JOBS", tmp_path / "jobs")
    monkeypatch.setattr(_leased_job, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(copy, "JOURNALS", tmp_path / "journals")
    source, target = tmp_path / "source", tmp_path / "target"
    # With a hole, and not as long as whole requests.
    content = random.Random(3).randbytes(5 * MIB) + bytes(6 * MIB) + random.Random(4).randbytes(MIB + 512)
    source.write_bytes(content)
    target.touch()
    os.truncate(target, len(content))
    request = copy.Request(
        info(source, source_kind), info(target, target_kind), Options(verify="full", source_quiesced=True), Controls(), "job1"
    )
    job = copy.VolumeCopy(request, print, lock_directory=str(tmp_path / "locks"))
    # The hole need not begin and end at granules.
    written = job.copy(check_mode=False)["counts"]["written_bytes"]
    assert 6 * MIB + 512 <= written <= 6 * MIB + 512 + 2 * GRANULE_BYTES
    assert target.read_bytes() == (content if source_kind == target_kind else content[::-1])
    assert not job.copy(check_mode=False)["changed"]


@pytest.mark.usefixtures("registered")
def test_its_problems_are_told_like_those_of_others() -> None:
    with pytest.raises(InputError, match="source: path is missing"):
        opening.parse_volume("source: ", {"driver_volume_type": "reversed"})


def connection_infos(value: t.Any) -> t.Iterator[dict[str, t.Any]]:
    if isinstance(value, dict):
        if "driver_volume_type" in value:
            yield value
        for part in value.values():
            yield from connection_infos(part)
    elif isinstance(value, list):
        for part in value:
            yield from connection_infos(part)


def test_every_connection_info_of_the_guide_is_read() -> None:
    found = [example for text in blocks("yaml") for example in connection_infos(yaml.safe_load(text))]
    assert {example["driver_volume_type"] for example in found} == {"iscsi", "local", "rbd"} and len(found) > 8
    for example in found:
        if "keyring" in example["data"]:
            example["data"]["keyring"] = KEYRING
        opening.parse_volume("", example)
