# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils import _durable


def test_a_file_is_replaced_with_its_mode_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "note"
    path.write_text("old")
    path.chmod(0o644)
    _durable.replace_file(str(path), "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note"
    path.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(_durable.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        _durable.replace_file(str(path), "new")
    assert path.read_text() == "old"


def test_removing_says_whether_there_was_one(tmp_path: Path) -> None:
    path = tmp_path / "note"
    path.write_text("old")
    assert _durable.remove_file(str(path))
    assert not path.exists()
    assert not _durable.remove_file(str(path))
