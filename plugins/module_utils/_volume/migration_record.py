# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""What the migration of one volume has done so far, written on the host that copies: with it a later run goes on, commits or rolls back.

It says above all whether the target was made by this migration, for only then a rollback may remove it, and which two volumes were
copied when and how, for only then a commit may remove the source. It holds no secret.
"""

from __future__ import annotations

import json
import time
import typing as t
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ansible_collections.lunshift.migration.plugins.module_utils._durable import remove_file, replace_file
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError, MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._operation import checked_id
from ansible_collections.lunshift.migration.plugins.module_utils._volume.journal import JournalError, Pair, open_journal

RECORDS = Path("/var/lib/lunshift-migration/volumes")
# Whose the target is. UNKNOWN: a run was making it, and ended before it said so.
UNKNOWN, MADE, FOUND = ORIGINS = ("unknown", "made", "found")
# UNDOING: the target that was made is being removed.
BEGUN, UNDOING, COMMITTING, COMMITTED = PHASES = ("begun", "undoing", "committing", "committed")
# What may follow each.
_NEXT = {BEGUN: PHASES, UNDOING: (UNDOING,), COMMITTING: (COMMITTING, COMMITTED), COMMITTED: (COMMITTED,)}
_VERSION = 1
Info = t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Copied:
    """What the last copy said that came to its end."""

    size_bytes: int
    immutable: bool
    verified: str
    digest: str | None
    journal: str

    @classmethod
    def from_result(cls, result: Info) -> Copied:
        """Out of what volume_copy returns."""
        try:
            source = result["source"]
            return cls(source["size_bytes"], source["immutable"], result["verified"], result["digest"], result["journal"])
        except (KeyError, TypeError) as exc:
            raise InputError([f"copied is not what volume_copy returns after a copy: {exc} is missing in it"]) from exc


@dataclass(frozen=True)
class News:
    """What one step has found out or done; None for what it has not. Connection infos are without secrets."""

    source: Info | None = None
    source_identity: str | None = None
    target: Info | None = None
    target_identity: str | None = None
    target_origin: str | None = None
    copied: Copied | None = None
    phase: str | None = None


@dataclass(frozen=True)
class MigrationRecord:
    """One migration. Connection infos are without secrets; ``created`` is in UTC."""

    operation_id: str
    source: Info
    source_identity: str
    target: Info | None = None
    target_identity: str | None = None
    target_origin: str | None = None
    copied: Copied | None = None
    phase: str = BEGUN
    created: str | None = None

    def with_news(self, news: News) -> MigrationRecord:
        """Raises MigrationError when they are about other volumes, or when the source would be given up too early."""
        self._refuse_others(news)
        known = {name: value for name, value in vars(news).items() if value is not None}
        after = replace(self, **known)
        if after.phase not in _NEXT[self.phase]:
            raise MigrationError(
                f"migration {self.operation_id} is {self.phase}, which nothing can take back", error_id="volume_migration_phase"
            )
        if after.phase in (COMMITTING, COMMITTED):
            self._require_finished()
        return after

    def _require_finished(self) -> None:
        reasons = unfinished(self)
        if reasons:
            raise MigrationError(
                f"migration {self.operation_id} cannot be committed, and its source is kept: {'; '.join(reasons)}",
                error_id="volume_migration_unfinished",
                problems=reasons,
            )

    def _refuse_others(self, news: News) -> None:
        if self.target_origin is None:
            # Nothing depends on it yet.
            return
        problems = [
            f"its {side} is {noted}, and not {seen}"
            for side, noted, seen in (
                ("source", self.source_identity, news.source_identity),
                ("target", self.target_identity, news.target_identity),
            )
            if None not in (noted, seen) and noted != seen
        ]
        # Before it could be looked at, the target has no other name.
        if self.target_identity is None and self.target_origin in (UNKNOWN, MADE) and None not in (self.target, news.target):
            problems += ["its target is reached by another connection info"] if self.target != news.target else []
        if problems:
            raise MigrationError(
                f"migration {self.operation_id} is about other volumes: {' and '.join(problems)}; take another operation id, or roll that"
                " migration back first",
                error_id="volume_migration_mismatch",
                problems=problems,
            )


def unfinished(record: MigrationRecord) -> list[str]:
    """Why the target is not known to be the source's verified copy; empty when it is."""
    copied = record.copied
    if record.phase == COMMITTED:
        return []
    if copied is None or record.target_identity is None:
        return ["no copy of it has come to its end; run the migration again"]
    if copied.verified == "none":
        return ["its copy was not verified; run the migration again with another verify"]
    pair = Pair(record.source_identity, record.target_identity, copied.size_bytes, copied.immutable)
    try:
        journal = open_journal(Path(copied.journal), pair, read_only=True)
    except JournalError as exc:
        return [str(exc)]
    try:
        if journal.before is None:
            return [f"the journal of its copy, {copied.journal}, is gone; run the migration again"]
        if not journal.before.finished or journal.tree_digest() != copied.digest:
            return ["its target was copied to once more, and that copy did not end, or not within this migration; run the migration again"]
    finally:
        journal.close()
    return []


class RecordStore:
    """The records of this host, one file each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, operation_id: str) -> MigrationRecord | None:
        path = self._path(operation_id)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("version") != _VERSION:
                raise ValueError("another version of this collection wrote it")
            copied = values.pop("copied")
            return MigrationRecord(**values, copied=Copied(**copied) if copied else None)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise MigrationError(
                f"record {path} cannot be used: {exc}; see for yourself what became of its volumes, then remove the file",
                error_id="operation_record",
            ) from exc

    def save(self, record: MigrationRecord) -> None:
        """On disk before this returns."""
        path = self._path(record.operation_id)
        record = replace(record, created=record.created or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(str(path), json.dumps({"version": _VERSION, **asdict(record)}, indent=1, sort_keys=True))
        except OSError as exc:
            raise MigrationError(f"record {path} cannot be written: {exc.strerror}; set become: true", error_id="operation_record") from exc

    def remove(self, operation_id: str) -> None:
        remove_file(str(self._path(operation_id)))

    def _path(self, operation_id: str) -> Path:
        return self._directory / f"{checked_id(operation_id)}.json"


def note(store: RecordStore, operation_id: str, news: News, *, check_mode: bool) -> tuple[MigrationRecord | None, MigrationRecord | None]:
    """The record before and after. Without any news it is only read."""
    before = store.load(operation_id)
    if news == News():
        return before, before
    if before is not None:
        after = before.with_news(news)
    elif news.source is not None and news.source_identity is not None:
        after = MigrationRecord(operation_id, news.source, news.source_identity).with_news(news)
    else:
        raise MigrationError(
            f"no migration {operation_id} is noted on this host: it was never begun here, or rolled back",
            error_id="volume_migration_unknown",
        )
    if after != before and not check_mode:
        store.save(after)
    return before, after


__all__ = (
    "FOUND",
    "MADE",
    "ORIGINS",
    "PHASES",
    "RECORDS",
    "UNKNOWN",
    "Copied",
    "MigrationRecord",
    "News",
    "RecordStore",
    "note",
    "unfinished",
)
