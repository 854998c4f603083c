# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the tests keep what outlives a run: outside the checkout, so that the next clone finds it too."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path


def cache_dir() -> Path:
    """The cache directory of the project, made when it is missing."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = Path(os.environ.get("LUNSHIFT_CACHE") or os.path.join(base, "lunshift-migration"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def link_collection(checkout: Path) -> Path:
    """Give the checkout its collection name by a symbolic link; returns the collections path that holds it.

    Each checkout has a link of its own: two of them may be tested at the same time.
    """
    name = hashlib.sha256(os.fsencode(checkout)).hexdigest()[:12]
    collections_path = cache_dir() / "trees" / name
    link = collections_path / "ansible_collections" / "lunshift" / "migration"
    link.parent.mkdir(parents=True, exist_ok=True)
    # An earlier run may have made it, or a worker of this one.
    with contextlib.suppress(FileExistsError):
        link.symlink_to(checkout, target_is_directory=True)
    return collections_path
