# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is noted of a volume's migration decides what may be removed."""

from __future__ import annotations

import stat
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError, MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.journal import NOT_HASHED, Pair, open_journal
from ansible_collections.lunshift.migration.plugins.module_utils._volume.migration_record import (
    Copied,
    MigrationRecord,
    News,
    RecordStore,
    note,
    unfinished,
)

SIZE = 5 << 20
SOURCE, TARGET = {"driver_volume_type": "local", "data": {"device_path": "/dev/a"}}, {"driver_volume_type": "rbd", "data": {"name": "p/i"}}
FIRST = News(source=SOURCE, source_identity="source-1")


def journal_of(path: Path, *, finish: bool = True, digest: bytes = b"d" * 32) -> str | None:
    journal = open_journal(path, Pair("source-1", "target-1", SIZE, immutable=False))
    journal.begin(keep=False, compare=False)
    journal.note(0, 2, digest)
    journal.save(journal.take_notes())
    if finish:
        journal.finish()
    told = journal.tree_digest()
    journal.close()
    return told


def copied(path: Path, *, verified: str = "written", **how: t.Any) -> MigrationRecord:
    """A migration whose copy has come to its end."""
    digest = journal_of(path, **how)
    copy_made = Copied(SIZE, immutable=False, verified=verified, digest=digest, journal=str(path))
    return MigrationRecord("m1", SOURCE, "source-1", TARGET, "target-1", "made", copy_made)


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "volumes")


def test_what_is_noted_is_read_again(store: RecordStore, tmp_path: Path) -> None:
    assert note(store, "m1", News(), check_mode=False) == (None, None)
    note(store, "m1", FIRST, check_mode=False)
    note(store, "m1", News(target=TARGET, target_origin="unknown"), check_mode=False)
    before, after = note(store, "m1", News(target_identity="target-1", target_origin="made"), check_mode=False)
    assert before is not None and after is not None
    assert (before.target_origin, after.target_origin, after.target_identity) == ("unknown", "made", "target-1")
    found = store.load("m1")
    assert found is not None and found.created and (found.source, found.target, found.phase) == (SOURCE, TARGET, "begun")
    path = tmp_path / "volumes" / "m1.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert note(store, "m1", News(target_origin="made"), check_mode=False) == (found, found)
    store.remove("m1")
    assert store.load("m1") is None


def test_check_mode_says_what_would_be_noted_and_notes_nothing(store: RecordStore, tmp_path: Path) -> None:
    before, after = note(store, "m1", FIRST, check_mode=True)
    assert before is None and after is not None and after.source_identity == "source-1"
    assert not (tmp_path / "volumes").exists()


def test_a_migration_begins_with_its_source(store: RecordStore) -> None:
    with pytest.raises(MigrationError) as caught:
        note(store, "m1", News(phase="committing"), check_mode=True)
    assert caught.value.error_id == "volume_migration_unknown"


def test_before_there_is_a_target_the_source_may_be_another() -> None:
    record = MigrationRecord("m1", SOURCE, "source-1").with_news(News(source=TARGET, source_identity="source-2"))
    assert (record.source, record.source_identity) == (TARGET, "source-2")


def test_other_volumes_than_the_noted_ones_are_all_told_at_once() -> None:
    record = MigrationRecord("m1", SOURCE, "source-1", TARGET, "target-1", "found")
    with pytest.raises(MigrationError) as caught:
        record.with_news(News(source_identity="source-2", target_identity="target-2"))
    assert caught.value.error_id == "volume_migration_mismatch" and len(caught.value.details["problems"]) == 2
    # Another way to the same volumes is none.
    assert record.with_news(News(target=SOURCE, target_identity="target-1")).target == SOURCE


def test_a_target_that_was_never_seen_is_known_by_its_connection_info() -> None:
    record = MigrationRecord("m1", SOURCE, "source-1", TARGET, None, "made")
    assert record.with_news(News(target=TARGET)) == record
    with pytest.raises(MigrationError, match="another connection info"):
        record.with_news(News(target=SOURCE))


def test_a_verified_copy_may_be_committed(tmp_path: Path) -> None:
    record = copied(tmp_path / "journal")
    assert unfinished(record) == []
    committing = record.with_news(News(phase="committing"))
    committed = committing.with_news(News(phase="committing")).with_news(News(phase="committed"))
    assert committed.with_news(News(phase="committed")) == committed


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"verified": "none"}, "not verified"),
        ({"finish": False}, "copied to once more"),
    ],
)
def test_what_is_not_whole_or_not_verified_is_not_committed(tmp_path: Path, how: dict[str, t.Any], words: str) -> None:
    record = copied(tmp_path / "journal", **how)
    for phase in ("committing", "committed"):
        with pytest.raises(MigrationError, match=words) as caught:
            record.with_news(News(phase=phase))
        assert caught.value.error_id == "volume_migration_unfinished"


def test_a_later_copy_of_which_nothing_is_noted_is_seen_in_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    record = copied(path)
    journal_of(path, digest=NOT_HASHED)
    assert "once more" in unfinished(record)[0]
    path.unlink()
    assert "is gone" in unfinished(record)[0]
    path.write_bytes(b"x" * 4096)
    assert "damaged" in unfinished(record)[0]


def test_without_a_copy_nothing_is_committed() -> None:
    record = MigrationRecord("m1", SOURCE, "source-1", TARGET, "target-1", "made")
    with pytest.raises(MigrationError, match="no copy of it has come to its end"):
        record.with_news(News(phase="committing"))


@pytest.mark.parametrize(
    ("before", "after"), [("committed", "undoing"), ("committing", "begun"), ("undoing", "begun"), ("undoing", "committing")]
)
def test_there_is_no_way_back(tmp_path: Path, before: str, after: str) -> None:
    record = copied(tmp_path / "journal")
    for phase in {"committed": ("committing", "committed")}.get(before, (before,)):
        record = record.with_news(News(phase=phase))
    with pytest.raises(MigrationError) as caught:
        record.with_news(News(phase=after))
    assert caught.value.error_id == "volume_migration_phase"


def test_a_result_of_a_check_run_is_no_copy() -> None:
    with pytest.raises(InputError, match="digest"):
        Copied.from_result({"source": {"size_bytes": 1, "immutable": False}, "verified": "written"})


@pytest.mark.parametrize("text", ["{", '{"version": 2}', "[]", '{"version": 1}'])
def test_a_record_that_cannot_be_read_is_an_error(store: RecordStore, tmp_path: Path, text: str) -> None:
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes" / "m1.json").write_text(text, encoding="utf-8")
    with pytest.raises(MigrationError) as caught:
        store.load("m1")
    assert caught.value.error_id == "operation_record"


def test_an_id_is_a_file_name(store: RecordStore) -> None:
    with pytest.raises(MigrationError, match="cannot be used"):
        store.load("../m1")
