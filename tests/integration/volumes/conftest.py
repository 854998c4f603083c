# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Volume handles on real parts: root, Debian's packages of the lab, and nothing left out. A missing part is a failure.

Each kind of part has a file of its own here with its fixtures; they are named below, one a line.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parents[1] / "setup"))

from paths import link_collection  # noqa: E402  (found through the lines above)

sys.path.insert(0, str(link_collection(HERE.parents[2])))

from clusters import ceph1, ceph2, ceph_lab  # noqa: E402
from loop_devices import loop_devices  # noqa: E402
from targets import iscsi_target  # noqa: E402

__all__ = ("ceph1", "ceph2", "ceph_lab", "iscsi_target", "loop_devices")
