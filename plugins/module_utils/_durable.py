# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Small files that are right after the power was cut at any moment. Their directory has to exist."""

from __future__ import annotations

import os


def replace_file(path: str, text: str, mode: int = 0o600) -> None:
    """On disk before this returns; whoever reads sees the old file or the new one, as a whole."""
    temporary = f"{path}.{os.getpid()}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
    _sync_directory_of(path)


def remove_file(path: str) -> bool:
    """Whether there was one. It does not come back."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    _sync_directory_of(path)
    return True


def _sync_directory_of(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ("remove_file", "replace_file")
