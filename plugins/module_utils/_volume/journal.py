# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""What of a copy is done: a file that survives the copy, and that a later run goes on from.

Its first page says which two volumes it is about. Every further one holds a digest for each of 127 chunks of the volume and ends
with a checksum over them::

    0       JSON: version, source and target identity, size_bytes, immutable, finished, compare; filled up with spaces, its SHA-256
    4096    127 x 32 bytes, then 32 bytes SHA-256 of those and of the page's number
    8192    ...

The digest of a chunk that was never done is all zeros, which is also what a hole of the file reads as. A page that was torn has
another checksum, and its chunks count as not done; the first page has to be whole.
After the copy the file is its manifest: with it a second run knows that the target is this source's copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import typing as t
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError

CHUNK_BYTES = 4 << 20
DIGEST_BYTES = 32
NOT_DONE = bytes(DIGEST_BYTES)
# Done, but nobody asked for its digest.
NOT_HASHED = b"\xff" * DIGEST_BYTES

_VERSION = 1
_PAGE_BYTES = 4096
_PER_PAGE = (_PAGE_BYTES - DIGEST_BYTES) // DIGEST_BYTES
# How many pages are kept in memory: workers are near to each other.
_KEPT_PAGES = 16


@dataclass(frozen=True)
class Pair:
    """What a journal is bound to. ``immutable``: the source is a snapshot, so that what was read of it once stays true."""

    source: str
    target: str
    size_bytes: int
    immutable: bool

    @property
    def chunks(self) -> int:
        return -(-self.size_bytes // CHUNK_BYTES)

    def chunk_length(self, index: int) -> int:
        return min(CHUNK_BYTES, self.size_bytes - index * CHUNK_BYTES)


class JournalError(MigrationError):
    """The journal cannot be used, or is about other volumes."""


# First chunk, number of chunks, the digest of each.
Note = tuple[int, int, bytes]


@dataclass(frozen=True)
class Before:
    """What earlier runs left. ``usable``: their digests are about these chunks. ``compare``: begun on a target that was like the source."""

    finished: bool
    compare: bool
    usable: bool


class Journal:
    """The journal of one copy. ``before`` is None when no earlier run copied this source to this target, nor began to.

    digest(), note() and forget() may be called by several threads; the rest is for one.
    """

    def __init__(self, path: Path, pair: Pair, descriptor: int | None, before: Before | None) -> None:
        self.path = path
        self.pair = pair
        self.before = before
        self.damaged_pages = 0
        self._usable = before is not None and before.usable
        self._descriptor = descriptor
        self._notes: list[Note] = []
        self._pages: dict[int, bytearray] = {}
        self._compare = False
        self._lock = threading.Lock()

    def digest(self, index: int) -> bytes:
        """Of a chunk as the last save left it."""
        if not self._usable:
            return NOT_DONE
        page, start = index // _PER_PAGE, index % _PER_PAGE * DIGEST_BYTES
        with self._lock:
            return bytes(self._page(page)[start : start + DIGEST_BYTES])

    def note(self, first: int, count: int, digest: bytes) -> None:
        """Chunks that are done; in the file after the next save."""
        with self._lock:
            self._notes.append((first, count, digest))

    def take_notes(self) -> list[Note]:
        """What was noted since the last time. The target is to be flushed before this is saved."""
        with self._lock:
            notes, self._notes = self._notes, []
        return notes

    def save(self, notes: t.Sequence[Note]) -> None:
        """On stable storage when this returns."""
        if self._descriptor is None or not notes:
            return
        for first, count, digest in notes:
            for number in range(first // _PER_PAGE, (first + count - 1) // _PER_PAGE + 1):
                start = max(first, number * _PER_PAGE)
                here = min(first + count, (number + 1) * _PER_PAGE) - start
                place = start % _PER_PAGE * DIGEST_BYTES
                with self._lock:
                    page = self._page(number)
                    page[place : place + here * DIGEST_BYTES] = digest * here
                    self._write(_sealed(number, page), (number + 1) * _PAGE_BYTES)
        os.fsync(self._descriptor)

    def forget(self, index: int) -> None:
        """The chunk is about to be written again: from now on, also after a crash, it is not done."""
        self.save([(index, 1, NOT_DONE)])

    def begin(self, *, keep: bool, compare: bool) -> None:
        """A copy is under way from now on; of an earlier one the digests stay only if they are to be kept."""
        if not (keep and self._usable) and self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            self._pages.clear()
        self._usable = True
        self._compare = compare
        self._write_header(finished=False)

    def finish(self) -> None:
        """The copy is whole."""
        self._write_header(finished=True)

    def tree_digest(self) -> str | None:
        """SHA-256 over the digests of all chunks, in order; None when one of them is not known."""
        tree = hashlib.sha256()
        for index in range(self.pair.chunks):
            digest = self.digest(index)
            if digest in (NOT_DONE, NOT_HASHED):
                return None
            tree.update(digest)
        return tree.hexdigest()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write_header(self, *, finished: bool) -> None:
        if self._descriptor is None:
            return
        text = json.dumps({"version": _VERSION, **asdict(self.pair), "finished": finished, "compare": self._compare}).encode()
        body = text.ljust(_PAGE_BYTES - DIGEST_BYTES)
        self._write(body + hashlib.sha256(body).digest(), 0)
        os.fsync(self._descriptor)

    def _write(self, page: bytes, offset: int) -> None:
        if self._descriptor is None or os.pwrite(self._descriptor, page, offset) != len(page):
            raise JournalError(f"journal {self.path} cannot be written to its end; is its file system full?", error_id="journal_unusable")

    def _page(self, number: int) -> bytearray:
        """The digests of one page; those of a page that is not whole are not known."""
        page = self._pages.get(number)
        if page is None:
            page = self._read(number)
            while len(self._pages) >= _KEPT_PAGES:
                self._pages.pop(next(iter(self._pages)))
            self._pages[number] = page
        return page

    def _read(self, number: int) -> bytearray:
        raw = os.pread(self._descriptor, _PAGE_BYTES, (number + 1) * _PAGE_BYTES) if self._descriptor is not None and self._usable else b""
        body = bytearray(raw[: _PER_PAGE * DIGEST_BYTES])
        if len(raw) == _PAGE_BYTES and _sealed(number, body) == raw:
            return body
        if any(raw):
            self.damaged_pages += 1
        return bytearray(_PER_PAGE * DIGEST_BYTES)


def _sealed(number: int, body: bytes | bytearray) -> bytes:
    return bytes(body) + hashlib.sha256(number.to_bytes(8, "big") + body).digest()


def open_journal(path: Path, pair: Pair, *, read_only: bool = False) -> Journal:
    """The journal at ``path``, new when there is none; raises JournalError for one of other volumes, or one that cannot be read.

    Read-only, nothing is written, and no file is made.
    """
    try:
        if not read_only:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return Journal(path, pair, None, None)
    except OSError as exc:
        raise JournalError(f"journal {path} cannot be opened: {exc.strerror}", error_id="journal_unusable") from exc
    with contextlib.ExitStack() as on_error:
        on_error.callback(os.close, descriptor)
        raw = os.pread(descriptor, _PAGE_BYTES, 0)
        found, before = _parse_header(path, raw) if raw else (pair, None)
        _refuse_others(path, found, pair)
        if before and found.size_bytes != pair.size_bytes:
            # The chunks are others now, but the target is still this source's copy.
            before = Before(finished=False, compare=True, usable=False)
        journal = Journal(path, pair, descriptor, before)
        on_error.pop_all()
    return journal


def _parse_header(path: Path, raw: bytes) -> tuple[Pair, Before]:
    body, seal = raw[: _PAGE_BYTES - DIGEST_BYTES], raw[_PAGE_BYTES - DIGEST_BYTES :]
    try:
        if hashlib.sha256(body).digest() != seal:
            raise ValueError("its checksum is wrong")
        values = json.loads(body)
        if values.pop("version") != _VERSION:
            raise ValueError("another version of this collection wrote it")
        before = Before(finished=bool(values.pop("finished")), compare=bool(values.pop("compare")), usable=True)
        return Pair(**values), before
    except (ValueError, KeyError, TypeError) as exc:
        raise JournalError(
            f"journal {path} is damaged or no journal at all ({exc}); remove the file or name another: what the target holds"
            " is then looked at as if nothing was known of it",
            error_id="journal_damaged",
            journal=str(path),
        ) from exc


def _refuse_others(path: Path, found: Pair, pair: Pair) -> None:
    differences = [
        f"its {side} is {there}, not {here}"
        for side, there, here in (("source", found.source, pair.source), ("target", found.target, pair.target))
        if there != here
    ]
    if differences:
        raise JournalError(
            f"journal {path} is about other volumes: {' and '.join(differences)}; name another journal, or remove it when that copy"
            " is no longer needed",
            error_id="journal_mismatch",
            journal=str(path),
        )


__all__ = ("CHUNK_BYTES", "DIGEST_BYTES", "NOT_DONE", "NOT_HASHED", "Before", "Journal", "JournalError", "Note", "Pair", "open_journal")
