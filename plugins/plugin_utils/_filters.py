# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What every filter does around its pure function: plain types in, Ansible's error out."""

from __future__ import annotations

import functools
import typing as t
from collections.abc import Mapping, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError


def plain(value: t.Any) -> t.Any:
    """The same value without ansible-core's tagged and lazy types, which lxml and dataclasses do not expect."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return value


def as_filter(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    """Make a filter of a pure function: arguments become plain, MigrationError becomes AnsibleFilterError."""

    @functools.wraps(function)
    def wrapper(*args: t.Any, **kwargs: t.Any) -> t.Any:
        try:
            return function(*plain(args), **plain(kwargs))
        except MigrationError as exc:
            raise AnsibleFilterError(f"{exc.error_id}: {exc}") from exc

    return wrapper


__all__ = ("as_filter", "plain")
