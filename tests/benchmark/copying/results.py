# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file of results: extended round by round, so that a benchmark may be ended at any time and goes on later."""

from __future__ import annotations

import json
import os
import typing as t
from dataclasses import asdict
from pathlib import Path

from copying.targets import Looked, Round, Sample


class ResultsError(Exception):
    """The file cannot be used for this benchmark."""


class Results:
    """``about`` says what was measured with what; numbers of different things are never put together."""

    def __init__(self, path: Path, about: t.Mapping[str, t.Any]) -> None:
        self._path = path
        self._content: dict[str, t.Any] = {"about": dict(about), "rounds": [], "looked": {}}
        if path.exists():
            self._content = _read(path)
            before = self._content["about"]
            changed = sorted(key for key in {*before, *about} if before.get(key) != about.get(key))
            if changed:
                raise ResultsError(f"{path} has results of another {' and '.join(changed)}; remove it, or name another file by --results")

    def rounds(self, cell: str) -> list[Round]:
        return [{key: Sample(**sample) for key, sample in one["runs"].items()} for one in self._content["rounds"] if one["cell"] == cell]

    def looked(self, cell: str) -> dict[str, Looked]:
        return {key: Looked(**found) for key, found in self._content["looked"].get(cell, {}).items()}

    def add_look(self, cell: str, key: str, found: Looked) -> None:
        self._content["looked"].setdefault(cell, {})[key] = asdict(found)
        self._save()

    def add_round(self, cell: str, samples: Round, more: t.Mapping[str, t.Any]) -> None:
        """A whole round of one cell; ``more`` is what nobody is judged by."""
        runs = {key: asdict(sample) for key, sample in samples.items()}
        self._content["rounds"].append({"cell": cell, "runs": runs, "more": dict(more)})
        self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(self._content, indent=1) + "\n")
        os.replace(beside, self._path)


def _read(path: Path) -> dict[str, t.Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as exc:
        raise ResultsError(f"{path} is no file of results: {exc}; remove it, or name another file by --results") from exc
    if not isinstance(content, dict) or content.keys() != {"about", "rounds", "looked"}:
        raise ResultsError(f"{path} is no file of results; remove it, or name another file by --results")
    return content
