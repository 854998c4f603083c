# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The one error that the collection's logic raises."""

from __future__ import annotations

import typing as t


class MigrationError(Exception):
    """Something that the operator has to know, with a stable id to act on.

    The message names host or object, cause and remedy. ``details`` are plain JSON
    types without secrets; modules return them beside ``msg`` and ``error_id``.
    """

    def __init__(self, message: str, *, error_id: str, **details: t.Any) -> None:
        super().__init__(message)
        self.error_id = error_id
        self.details = details


class InputError(MigrationError):
    """Input that cannot be used; all problems at once, one sentence each."""

    def __init__(self, problems: t.Sequence[str], *, error_id: str = "invalid_input", **details: t.Any) -> None:
        super().__init__("; ".join(problems), error_id=error_id, problems=list(problems), **details)


__all__ = ("InputError", "MigrationError")
