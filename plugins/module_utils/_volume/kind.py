# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What a backend gives to be found by its connection info, and what it is told when it opens a volume."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import Backend


@dataclass(frozen=True)
class How:
    """How a volume is opened. ``operation_id`` names the record of what had to be attached for it."""

    writable: bool = False
    operation_id: str | None = None
    timeout_s: int = 30


@dataclass(frozen=True)
class Kind:
    """One kind of volume. ``parse`` takes (where, connection info) and raises InputError with every problem at once, each
    sentence beginning with ``where``; its result goes to ``open``, which takes it and how to open it."""

    parse: t.Callable[[str, t.Mapping[str, t.Any]], t.Any]
    open: t.Callable[[t.Any, How], Backend]


__all__ = ("How", "Kind")
