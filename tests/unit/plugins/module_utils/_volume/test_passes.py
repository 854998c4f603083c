# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The copy over volumes in memory: what is written, what is left alone, and what a run after another one does."""

from __future__ import annotations

import hashlib
import random
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import VolumeError, VolumeHandle, VolumeIOError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.journal import CHUNK_BYTES, Journal, Pair, open_journal
from ansible_collections.lunshift.migration.plugins.module_utils._volume.objections import Options
from ansible_collections.lunshift.migration.plugins.module_utils._volume.passes import Passes
from ansible_collections.lunshift.migration.plugins.module_utils._volume.transfer import TargetNotEmpty, Transfer
from ansible_collections.lunshift.migration.tests.unit.fake_volume import MemoryBackend

C = CHUNK_BYTES
KIB64 = 65536


def mixed(seed: int, size: int) -> bytes:
    """Data, zeros within a chunk, and chunks without any data."""
    chance = random.Random(seed)
    content = bytearray()
    while len(content) < size:
        length = chance.choice((512, KIB64, C // 4, C))
        content += bytes(length) if chance.random() < 0.5 else chance.randbytes(512) * (length // 512)
    return bytes(content[:size])


class Bench:
    """A source, a target, and a journal that stays between runs."""

    def __init__(self, path: Path, source: MemoryBackend, target: MemoryBackend) -> None:
        self.path = path / "journal"
        self.source = source
        self.target = target
        self.passes: Passes | None = None
        self.phases: list[str] = []
        self.stop_in = ""
        for side, backend in (("source", source), ("target", target)):
            backend.facts = replace(backend.facts, identity=side, name=side)

    def run(self, **options: t.Any) -> dict[str, int]:
        for backend in (self.source, self.target):
            backend.calls.clear()
        pair = Pair("source", "target", len(self.source.content), self.source.facts.immutable)
        journal = open_journal(self.path, pair)
        try:
            source, target = VolumeHandle(self.source, writable=False), VolumeHandle(self.target, writable=True)
            self.passes = Passes(source, target, journal, Options(**options), self.look)
            self.passes.survey()
            self.passes.copy()
            self.passes.verify()
            self.digest = journal.tree_digest()
            return self.passes.tally.counts()
        finally:
            journal.close()

    def look(self, phase: str) -> None:
        self.phases.append(phase)
        if phase == self.stop_in:
            raise KeyboardInterrupt

    def is_identical(self) -> bool:
        size = len(self.source.content)
        return self.target.content[:size] == self.source.content and not any(self.target.content[size:])


def joint_digest(digests: t.Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"".join(digests)).digest()


@pytest.mark.parametrize("verify", ["none", "written", "full"])
@pytest.mark.parametrize("thin", [True, False])
@pytest.mark.parametrize("dirty", [True, False])
@pytest.mark.parametrize("odd", [0, 512, 4096 * 3])
def test_the_target_is_the_source_whatever_it_was(tmp_path: Path, verify: str, thin: bool, dirty: bool, odd: int) -> None:
    content = mixed(odd + 1, 5 * C + odd)
    before = mixed(99, len(content)) if dirty else bytes(len(content))
    bench = Bench(tmp_path, MemoryBackend(content, thin=thin), MemoryBackend(before, thin=thin))
    counts = bench.run(verify=verify, overwrite=dirty)
    assert bench.is_identical()
    assert bench.target.flushed
    assert counts["verified_bytes"] == (0 if verify == "none" else len(content))
    chunks = [content[start : start + C] for start in range(0, len(content), C)]
    blocks = [[chunk[start : start + 65536] for start in range(0, len(chunk), 65536)] for chunk in chunks]
    digest = joint_digest(joint_digest(hashlib.sha256(block).digest() for block in several) for several in blocks).hex()
    assert bench.digest == (None if verify == "none" else digest)


@pytest.mark.parametrize("source_block", [512, 4096])
@pytest.mark.parametrize("target_block", [512, 4096])
@pytest.mark.parametrize("more", [0, 4096, 3 * C + 4096])
@pytest.mark.parametrize("thin", [True, False])
def test_what_is_behind_the_source_s_end_is_zero(tmp_path: Path, source_block: int, target_block: int, more: int, thin: bool) -> None:
    content = mixed(7, 2 * C + 4096 * 5 + 512 * (source_block == 512))
    end = -(-len(content) // target_block) * target_block + more
    target = MemoryBackend(b"\xaa" * end, block=target_block, thin=thin)
    bench = Bench(tmp_path, MemoryBackend(content, block=source_block), target)
    bench.run(overwrite=True)
    assert bench.is_identical()


def test_holes_are_neither_read_nor_written_when_the_target_is_known_to_be_zero(tmp_path: Path) -> None:
    content = bytes(10 * C) + b"x" * 512 + bytes(2 * C)
    bench = Bench(tmp_path, MemoryBackend(content, thin=True), MemoryBackend(bytes(len(content)), thin=True))
    counts = bench.run(verify="none")
    assert bench.source.done("read") == [(10 * C, KIB64)]
    assert bench.target.done("write") == [(10 * C, KIB64)] and not bench.target.done("zero")
    assert counts["read_bytes"] == KIB64 and counts["skipped_bytes"] == len(content) - KIB64


def test_holes_become_zero_on_a_target_that_nobody_knows(tmp_path: Path) -> None:
    content = bytes(3 * C)
    bench = Bench(tmp_path, MemoryBackend(content, thin=True), MemoryBackend(b"\xff" * len(content)))
    counts = bench.run(verify="none", overwrite=True)
    assert bench.is_identical() and not bench.source.done("read") and not bench.target.done("write")
    assert counts["zeroed_bytes"] == len(content)


def test_zeros_within_the_data_are_given_back_where_the_target_can(tmp_path: Path) -> None:
    content = b"x" * KIB64 + bytes(KIB64) + b"y" * KIB64
    bench = Bench(tmp_path, MemoryBackend(content), MemoryBackend(b"\xff" * len(content), can_unmap=True))
    bench.run(verify="none", overwrite=True)
    assert bench.is_identical() and bench.target.done("zero") == [(KIB64, KIB64)]


def test_one_write_is_enough_where_zeros_give_nothing_back(tmp_path: Path) -> None:
    content = b"x" * KIB64 + bytes(KIB64) + b"y" * KIB64
    bench = Bench(tmp_path, MemoryBackend(content), MemoryBackend(b"\xff" * len(content)))
    bench.run(verify="none", overwrite=True)
    assert bench.target.done("write") == [(0, len(content))]


@pytest.mark.parametrize("thin", [True, False])
def test_a_target_that_is_not_empty_is_refused_before_anything_is_written(tmp_path: Path, thin: bool) -> None:
    before = bytearray(4 * C)
    before[3 * C + 700] = 1
    bench = Bench(tmp_path, MemoryBackend(mixed(1, 4 * C)), MemoryBackend(bytes(before), thin=thin))
    with pytest.raises(TargetNotEmpty, match="target is not empty: at offset 12582912") as caught:
        bench.run()
    assert caught.value.error_id == "target_not_empty" and caught.value.details["offset"] == 3 * C
    assert bench.target.content == before and not bench.target.done("write") and not bench.target.done("zero")


def test_data_behind_the_source_s_end_is_data_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MemoryBackend(bytes(C)), MemoryBackend(bytes(2 * C) + b"x" * 512))
    with pytest.raises(TargetNotEmpty, match="behind the source's end"):
        bench.run()


def test_a_target_with_a_part_of_the_source_is_gone_on_with(tmp_path: Path) -> None:
    content = mixed(3, 6 * C)
    bench = Bench(tmp_path, MemoryBackend(content), MemoryBackend(content[: 3 * C] + bytes(3 * C)))
    counts = bench.run(verify="none")
    assert bench.is_identical() and not [offset for offset, _length in bench.target.done("write") if offset < 3 * C]
    assert counts["unchanged_bytes"] > 0


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("verify", ["none", "written", "full"])
def test_a_second_run_changes_nothing(tmp_path: Path, overwrite: bool, verify: str) -> None:
    content = mixed(4, 5 * C + 512)
    bench = Bench(tmp_path, MemoryBackend(content), MemoryBackend(bytes(len(content))))
    bench.run(verify=verify)
    digest = bench.digest
    counts = bench.run(verify=verify, overwrite=overwrite)
    assert counts["written_bytes"] == counts["zeroed_bytes"] == 0
    assert not bench.target.done("write") and not bench.target.done("zero")
    assert bench.digest == digest


@pytest.mark.parametrize("overwrite", [True, False])
def test_after_a_small_change_only_that_is_copied(tmp_path: Path, overwrite: bool) -> None:
    content = mixed(5, 8 * C)
    bench = Bench(tmp_path, MemoryBackend(content), MemoryBackend(bytes(len(content))))
    bench.run()
    bench.source.content[5 * C : 5 * C + 512] = b"n" * 512
    counts = bench.run(overwrite=overwrite)
    assert bench.is_identical()
    assert counts["written_bytes"] <= 1 << 20 and bench.target.done("write")[0][0] == 5 * C


def test_a_target_that_was_used_since_is_not_overwritten(tmp_path: Path) -> None:
    content = mixed(6, 4 * C)
    bench = Bench(tmp_path, MemoryBackend(content), MemoryBackend(bytes(len(content))))
    bench.run()
    bench.target.content[C + 5 : C + 9] = b"mine"
    with pytest.raises(TargetNotEmpty):
        bench.run()
    assert bytes(bench.target.content[C + 5 : C + 9]) == b"mine"
    bench.run(overwrite=True)
    assert bench.is_identical()


@pytest.mark.parametrize("verify", ["none", "written"])
@pytest.mark.parametrize("fail_in", ["read", "write"])
def test_after_a_failure_the_copy_goes_on(tmp_path: Path, verify: str, fail_in: str) -> None:
    content = mixed(8, 12 * C).replace(bytes(512), b"d" * 512)
    source, target = MemoryBackend(content, requests=1), MemoryBackend(bytes(len(content)), thin=True, requests=1)
    bench = Bench(tmp_path, source, target)
    failing = source if fail_in == "read" else target
    failing.fail[fail_in] = 7 * C + 100 * 512
    with pytest.raises(VolumeIOError, match="it is made to fail") as caught:
        bench.run(verify=verify)
    assert caught.value.details["volume"] == ("source" if fail_in == "read" else "target")
    failing.fail.clear()
    counts = bench.run(verify=verify)
    assert bench.is_identical() and bench.passes and bench.passes.resumes
    # Nothing was saved before the failure but by the checkpoints, of which a short copy has none: it is all compared.
    assert counts["written_bytes"] + counts["unchanged_bytes"] + counts["skipped_bytes"] == len(content)


def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, **facts: t.Any) -> Bench:
    """A copy that was ended when the first half was done and saved."""
    bench = Bench(tmp_path, MemoryBackend(content, requests=1, **facts), MemoryBackend(bytes(len(content)), requests=1))
    half = len(content) // C // 2
    copied = 0
    original = Transfer.copy

    def copy(self: Transfer, work: t.Any) -> None:
        nonlocal copied
        original(self, work)
        copied += 1
        if copied == half:
            assert bench.passes
            bench.passes._checkpoint()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Transfer, "copy", copy)
        with pytest.raises(KeyboardInterrupt):
            bench.run()
    assert bench.target.content != bench.source.content
    return bench


def test_what_was_saved_is_not_written_again_but_read_from_a_source_that_may_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = mixed(9, 10 * C).replace(bytes(512), b"d" * 512)
    bench = interrupted(tmp_path, monkeypatch, content)
    counts = bench.run()
    assert bench.is_identical() and min(offset for offset, _length in bench.target.done("write")) >= 5 * C
    assert min(offset for offset, _length in bench.source.done("read")) == 0
    assert counts["skipped_bytes"] == 5 * C and counts["verified_bytes"] == len(content)


def test_a_source_that_changed_in_between_is_copied_again_where_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = mixed(9, 10 * C).replace(bytes(512), b"d" * 512)
    bench = interrupted(tmp_path, monkeypatch, content)
    bench.source.content[2 * C + 512 : 2 * C + 1024] = b"c" * 512
    bench.run()
    assert bench.is_identical() and bench.target.done("write")[0][0] == 2 * C


def test_of_a_snapshot_nothing_is_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = mixed(9, 10 * C).replace(bytes(512), b"d" * 512)
    bench = interrupted(tmp_path, monkeypatch, content, immutable=True)
    bench.run()
    assert bench.is_identical() and min(offset for offset, _length in bench.source.done("read")) == 5 * C


def test_a_chunk_that_is_written_again_does_not_count_as_done_until_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source changes, is copied again in part, and changes back: what the target holds is neither."""
    content = mixed(9, 4 * C).replace(bytes(512), b"d" * 512)
    bench = interrupted(tmp_path, monkeypatch, content)
    bench.source.content[0:C] = b"e" * C
    bench.target.fail["write"] = C // 2
    with pytest.raises(VolumeIOError):
        bench.run()
    bench.target.fail.clear()
    bench.source.content[:] = content
    bench.run(verify="none")
    assert bench.is_identical()


def test_what_the_target_lost_is_located_and_repaired(tmp_path: Path) -> None:
    content = mixed(11, 6 * C).replace(bytes(512), b"d" * 512)

    class Losing(MemoryBackend):
        def drop_caches(self) -> None:
            if not any(action == "drop_caches" for action, _offset, _length in self.calls):
                self.content[3 * C + 5] ^= 1
            super().drop_caches()

    for verify in ("written", "full"):
        bench = Bench(tmp_path / verify, MemoryBackend(content), Losing(bytes(len(content))))
        counts = bench.run(verify=verify)
        assert bench.is_identical() and counts["repaired_bytes"] == C
        assert "repairing" in bench.phases


@pytest.mark.parametrize("verify", ["none", "written"])
def test_a_target_that_loses_data_again_is_an_error_that_names_the_place(tmp_path: Path, verify: str) -> None:
    content = mixed(11, 6 * C).replace(bytes(512), b"d" * 512)

    class Broken(MemoryBackend):
        def drop_caches(self) -> None:
            self.content[3 * C + 5] ^= 1

    bench = Bench(tmp_path, MemoryBackend(content), Broken(bytes(len(content))))
    with pytest.raises(VolumeError, match="1 chunks of 4 MiB differ, at the offsets 12582912;") as caught:
        bench.run()
    assert caught.value.error_id == "verification_failed"
    # A later run believes neither that the copy was finished nor that this place was done.
    bench.target.__class__ = MemoryBackend
    bench.run(verify=verify)
    assert bench.is_identical()


def test_the_journal_says_nothing_that_was_not_flushed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Flushing(MemoryBackend):
        def flush(self) -> None:
            order.append("flush")
            super().flush()

    save, finish = Journal.save, Journal.finish
    monkeypatch.setattr(Journal, "save", lambda self, notes: (order.append("save") if notes else None, save(self, notes))[1])
    monkeypatch.setattr(Journal, "finish", lambda self: (order.append("finish"), finish(self))[1])
    bench = Bench(tmp_path, MemoryBackend(mixed(12, 3 * C)), Flushing(bytes(3 * C)))
    bench.run(verify="none")
    assert order == ["flush", "save", "finish"]


@pytest.mark.parametrize(("options", "walks"), [({}, 2), ({"overwrite": True}, 2), ({"verify": "none"}, 1)])
def test_extents_are_asked_for_once_and_again_only_of_what_was_written(tmp_path: Path, options: dict[str, t.Any], walks: int) -> None:
    bench = Bench(tmp_path, MemoryBackend(mixed(5, 6 * C), thin=True), MemoryBackend(bytes(6 * C), thin=True))
    asked: list[str] = []
    for side, backend in (("source", bench.source), ("target", bench.target)):
        backend.extents = counted(asked, side, backend.extents)  # type: ignore[method-assign]
    bench.run(**options)
    assert bench.is_identical() and asked.count("source") == 1 and asked.count("target") == walks


def counted(asked: list[str], side: str, extents: t.Callable[[int, int], t.Iterator[t.Any]]) -> t.Callable[[int, int], t.Iterator[t.Any]]:
    def ask(offset: int, length: int) -> t.Iterator[t.Any]:
        asked.append(side)
        return extents(offset, length)

    return ask


@pytest.mark.parametrize(("verify", "parts"), [("none", 3), ("written", 6), ("full", 8)])
def test_the_estimate_knows_the_limit_and_what_is_read_again(tmp_path: Path, verify: str, parts: int) -> None:
    content = random.Random(3).randbytes(2 * C) + bytes(2 * C) + random.Random(4).randbytes(C)
    source = VolumeHandle(MemoryBackend(content, thin=True), writable=False)
    target = VolumeHandle(MemoryBackend(bytes(5 * C), thin=True), writable=False)
    journal = open_journal(tmp_path / "journal", Pair("source", "target", 5 * C, False), read_only=True)
    passes = Passes(source, target, journal, Options(verify=verify, bandwidth_mib=4), lambda _phase: None)
    passes.survey()
    # 4 MiB each, at 4 MiB/s.
    assert passes.estimate_s(passes.to_copy_bytes()) == parts
    assert passes.estimate_s(0) == 0
    journal.close()


def test_an_end_from_outside_is_an_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path, MemoryBackend(mixed(13, 3 * C)), MemoryBackend(bytes(3 * C)))
    bench.stop_in = "copying"
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    assert not bench.target.done("write")


@pytest.mark.parametrize("seed", range(12))
def test_any_two_runs_end_identical(tmp_path: Path, seed: int) -> None:
    """Whatever is in the way of the first one, and whatever changes in between."""
    chance = random.Random(seed)
    size = chance.randrange(1, 6) * C + 512 * chance.randrange(3)
    end = size + chance.choice((0, 512, 2 * C))
    source = MemoryBackend(mixed(seed, size), thin=chance.random() < 0.5, request_bytes=chance.choice((KIB64, 1 << 20, C)))
    target = MemoryBackend(mixed(seed + 50, end), thin=chance.random() < 0.5, can_unmap=chance.random() < 0.5)
    bench = Bench(tmp_path, source, target)
    failing = chance.choice((source, target))
    failing.fail[chance.choice(("read", "write", "zero"))] = chance.randrange(size)
    try:
        bench.run(overwrite=True, verify=chance.choice(("none", "written", "full")))
    except VolumeIOError:
        pass
    failing.fail.clear()
    for _change in range(chance.randrange(4)):
        place = chance.randrange(size // 512) * 512
        source.content[place : place + 512] = bytes(512) if chance.random() < 0.5 else b"z" * 512
    bench.run(overwrite=True, verify=chance.choice(("none", "written", "full")))
    assert bench.is_identical()
