# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._volume.journal import (
    CHUNK_BYTES,
    NOT_DONE,
    NOT_HASHED,
    JournalError,
    Pair,
    open_journal,
)

PAIR = Pair(source="rbd:1", target="block:2", size_bytes=300 * CHUNK_BYTES - 5, immutable=False)


def digest(index: int) -> bytes:
    return hashlib.sha256(str(index).encode()).digest()


def written(path: Path, pair: Pair = PAIR, *, finished: bool = False, compare: bool = False) -> None:
    journal = open_journal(path, pair)
    journal.begin(keep=False, compare=compare)
    journal.note(0, 1, digest(0))
    journal.note(120, 140, digest(1))
    journal.note(299, 1, NOT_HASHED)
    journal.save(journal.take_notes())
    if finished:
        journal.finish()
    journal.close()


def test_a_new_journal_knows_nothing(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "deep" / "journal", PAIR)
    assert journal.before is None and journal.digest(0) == NOT_DONE
    assert (tmp_path / "deep" / "journal").stat().st_mode & 0o777 == 0o600


def test_a_later_run_knows_what_was_saved_and_nothing_else(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    journal = open_journal(tmp_path / "journal", PAIR)
    assert journal.before and not journal.before.finished and not journal.before.compare
    found = [journal.digest(index) for index in range(PAIR.chunks)]
    assert found[0] == digest(0) and found[299] == NOT_HASHED
    assert found[120:260] == [digest(1)] * 140
    assert set(found[1:120]) | set(found[260:299]) == {NOT_DONE}


def test_notes_that_were_not_saved_are_not_there(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    journal = open_journal(tmp_path / "journal", PAIR)
    journal.begin(keep=True, compare=False)
    journal.note(5, 1, digest(5))
    journal.close()
    assert open_journal(tmp_path / "journal", PAIR).digest(5) == NOT_DONE
    assert open_journal(tmp_path / "journal", PAIR).digest(0) == digest(0)


def test_what_is_forgotten_is_not_done_any_more(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    journal = open_journal(tmp_path / "journal", PAIR)
    journal.begin(keep=True, compare=False)
    journal.forget(0)
    journal.close()
    assert open_journal(tmp_path / "journal", PAIR).digest(0) == NOT_DONE


def test_beginning_anew_forgets_all(tmp_path: Path) -> None:
    written(tmp_path / "journal", finished=True)
    journal = open_journal(tmp_path / "journal", PAIR)
    assert journal.before and journal.before.finished
    journal.begin(keep=False, compare=True)
    journal.close()
    journal = open_journal(tmp_path / "journal", PAIR)
    assert journal.before and not journal.before.finished and journal.before.compare
    assert {journal.digest(index) for index in range(PAIR.chunks)} == {NOT_DONE}


@pytest.mark.parametrize("where", [4096, 8191, 8000])
def test_a_torn_page_is_not_believed_and_the_others_are(tmp_path: Path, where: int) -> None:
    written(tmp_path / "journal")
    raw = bytearray((tmp_path / "journal").read_bytes())
    raw[where] ^= 1
    (tmp_path / "journal").write_bytes(raw)
    journal = open_journal(tmp_path / "journal", PAIR)
    assert {journal.digest(index) for index in range(127)} == {NOT_DONE}
    assert journal.digest(127) == digest(1)
    assert journal.damaged_pages == 1


def test_a_page_in_another_page_s_place_is_not_believed(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    raw = bytearray((tmp_path / "journal").read_bytes())
    raw[4096:8192] = raw[8192:12288]
    (tmp_path / "journal").write_bytes(raw)
    assert open_journal(tmp_path / "journal", PAIR).digest(0) == NOT_DONE


@pytest.mark.parametrize("content", [b"x", b"x" * 5000, bytes(4096)])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal").write_bytes(content)
    with pytest.raises(JournalError) as caught:
        open_journal(tmp_path / "journal", PAIR)
    assert caught.value.error_id == "journal_damaged"
    assert (tmp_path / "journal").read_bytes() == content


@pytest.mark.parametrize(("key", "words"), [("source", "its source is rbd:1, not other"), ("target", "its target is block:2, not other")])
def test_a_journal_of_other_volumes_is_refused(tmp_path: Path, key: str, words: str) -> None:
    written(tmp_path / "journal")
    with pytest.raises(JournalError, match=words) as caught:
        open_journal(tmp_path / "journal", replace(PAIR, **{key: "other"}))
    assert caught.value.error_id == "journal_mismatch"


def test_a_volume_of_another_size_has_other_chunks_but_is_known(tmp_path: Path) -> None:
    written(tmp_path / "journal", finished=True)
    journal = open_journal(tmp_path / "journal", replace(PAIR, size_bytes=PAIR.size_bytes + CHUNK_BYTES))
    assert journal.before and not journal.before.usable and not journal.before.finished
    assert journal.digest(0) == NOT_DONE
    journal.begin(keep=True, compare=True)
    assert journal.digest(0) == NOT_DONE


def test_looking_makes_no_file(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "journal", PAIR, read_only=True)
    assert journal.before is None and journal.digest(3) == NOT_DONE
    assert not list(tmp_path.iterdir())


def test_the_digest_of_all_is_made_of_every_chunk_s(tmp_path: Path) -> None:
    pair = replace(PAIR, size_bytes=2 * CHUNK_BYTES)
    journal = open_journal(tmp_path / "journal", pair)
    journal.begin(keep=False, compare=False)
    journal.save([(0, 1, digest(0))])
    assert journal.tree_digest() is None
    journal.save([(1, 1, NOT_HASHED)])
    assert journal.tree_digest() is None
    journal.save([(1, 1, digest(1))])
    assert journal.tree_digest() == hashlib.sha256(digest(0) + digest(1)).hexdigest()


def test_few_pages_stay_in_memory(tmp_path: Path) -> None:
    pair = replace(PAIR, size_bytes=100_000 * CHUNK_BYTES)
    journal = open_journal(tmp_path / "journal", pair)
    journal.begin(keep=False, compare=False)
    journal.save([(0, 100_000, digest(7))])
    assert {journal.digest(index) for index in range(0, 100_000, 50)} == {digest(7)}
    assert len(journal._pages) <= 16
