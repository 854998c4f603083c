# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fault matrix as data: rows of the table, which of them to run, and the table of results. Pure."""

from __future__ import annotations

import string
import typing as t
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import yaml

KINDS = {"libiscsi": ("hosta", "hostb"), "kernel": ("uml1", "uml2")}
NO_ANSWER = "no answer"
ABSENT = "absent"


class TableError(Exception):
    """The table itself is wrong."""


@dataclass(frozen=True)
class Row:
    """One fault for one kind of initiator; the head of matrix.yaml says what each word means."""

    id: str
    fault: str
    kind: str
    when: str
    says: str = ""
    do: tuple[str, ...] = ()
    at: str = "Move | Migrate"
    vars: t.Mapping[str, t.Any] = field(default_factory=dict)
    outcome: str = "stayed"
    source: str = "running"
    destination: str = ABSENT
    undone: bool = True
    suspect: bool = False
    struck: str = ""
    repair: tuple[str, ...] = ()
    fresh: bool = False
    core: bool = False

    @property
    def title(self) -> str:
        return f"{self.id}/{self.kind}"


@dataclass
class Result:
    """What one row gave. ``problems`` is empty when everything was as the row says."""

    row: Row
    outcome: str = "none"
    source: str = ""
    destination: str = ""
    lost_writes: int | None = None
    leftovers: tuple[str, ...] = ()
    decided_s: float | None = None
    rerun: str = "not run"
    elapsed_s: float = 0.0
    problems: list[str] = field(default_factory=list)


def load(path: Path) -> list[Row]:
    """Every row for each of its kinds."""
    rows: list[Row] = []
    known = {item.name for item in fields(Row)} - {"kind"} | {"kinds", *KINDS}
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        strange = sorted(set(entry) - known)
        if strange:
            raise TableError(f"{entry.get('id')}: {', '.join(strange)} means nothing; words are {', '.join(sorted(known))}")
        for kind in entry.get("kinds", list(KINDS)):
            common = {key: value for key, value in entry.items() if key not in ("kinds", "core", *KINDS)}
            # What differs for one kind stands under its name.
            given = {**common, **entry.get(kind, {}), "kind": kind, "core": kind in entry.get("core", ())}
            words: dict[str, t.Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
            rows.append(Row(**words))
    _check(rows)
    return rows


def _check(rows: t.Sequence[Row]) -> None:
    titles = [row.title for row in rows]
    twice = sorted({title for title in titles if titles.count(title) > 1})
    if twice:
        raise TableError(f"twice in the table: {', '.join(twice)}")
    for row in rows:
        if row.kind not in KINDS:
            raise TableError(f"{row.id}: {row.kind} is no kind of initiator; there are: {', '.join(KINDS)}")
        if not (row.says or row.struck or "kill" in row.do):
            raise TableError(f"{row.id} has neither 'says' nor 'struck': nothing would prove that the fault struck")


def select(rows: t.Sequence[Row], wanted: str) -> list[Row]:
    """C(core), C(all), or words, each an id, a kind or ID/KIND."""
    if wanted == "all":
        return list(rows)
    if wanted == "core":
        return [row for row in rows if row.core]
    chosen: list[Row] = []
    for word in wanted.split():
        found = [row for row in rows if word in (row.id, row.kind, row.title)]
        if not found:
            raise TableError(f"there is no row {word}; there are: {', '.join(row.title for row in rows)}")
        chosen += [row for row in found if row not in chosen]
    return chosen


def filled_in(row: Row, words: t.Mapping[str, str]) -> Row:
    """The row with $source, $destination and the other words of this run in its commands and variables."""

    def fill(value: t.Any) -> t.Any:
        if isinstance(value, str):
            return string.Template(value).safe_substitute(words)
        if isinstance(value, dict):
            return {fill(key): fill(item) for key, item in value.items()}
        return [fill(item) for item in value] if isinstance(value, list) else value

    return replace(
        row,
        do=tuple(fill(command) for command in row.do),
        repair=tuple(fill(command) for command in row.repair),
        vars=fill(dict(row.vars)),
        says=fill(row.says),
    )


def lost_writes(verdict: t.Mapping[str, t.Any]) -> int:
    """How many acknowledged numbers are not on the volumes, after "lab guest check"."""
    volumes: t.Sequence[t.Mapping[str, int]] = list(verdict["volumes"].values())
    return sum(max(0, verdict["last_acknowledged"] - volume["last"]) + volume["missing"] for volume in volumes)


HEAD = ("fault", "initiator", "strikes", "outcome", "source", "destination", "lost writes", "left behind", "decided after", "run again", "")


def markdown(results: t.Sequence[Result]) -> str:
    """The table for people; the last column is empty where everything is as the matrix says."""
    lines = ["| " + " | ".join(HEAD) + " |", "| " + " | ".join("---" for _word in HEAD) + " |"]
    for result in results:
        cells = (
            result.row.fault,
            result.row.kind,
            result.row.when,
            result.outcome,
            result.source,
            result.destination,
            "?" if result.lost_writes is None else str(result.lost_writes),
            "; ".join(result.leftovers) or "nothing",
            "" if result.decided_s is None else f"{result.decided_s:.1f} s",
            result.rerun,
            "; ".join(result.problems)[:300],
        )
        lines.append("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
