# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make the checkout importable as ``ansible_collections.lunshift.migration``.

Python and Ansible look for a collection in a directory ``ansible_collections/lunshift/migration``. A
checkout may lie anywhere, so a symbolic link in the cache directory gives it that name.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests" / "setup"))

from paths import link_collection  # noqa: E402  (found through the line above)

COLLECTIONS_PATH = link_collection(CHECKOUT)
sys.path.insert(0, str(COLLECTIONS_PATH))

# For the child processes of tests: ansible-doc, ansible-playbook, a module run by itself.
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(COLLECTIONS_PATH)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(COLLECTIONS_PATH), os.environ.get("PYTHONPATH")]))
