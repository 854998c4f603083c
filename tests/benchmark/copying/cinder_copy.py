# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cinder's own copy_volume, with os-brick's handle for an image and a path for a device. Runs in an environment with Cinder.

Reads what to copy from standard input.
"""

from __future__ import annotations

import json
import sys
import typing as t

sys.path.append("/usr/lib/python3/dist-packages")

from cinder.volume import volume_utils
from os_brick.initiator import linuxrbd
from oslo_concurrency import processutils


def execute(*command: str, **options: t.Any) -> t.Any:
    """As root, so without Cinder's wrapper."""
    options.pop("run_as_root", None)
    options.pop("root_helper", None)
    return processutils.execute(*command, **options)


def opened(given: dict[str, t.Any], end: str) -> t.Any:
    if end not in given["images"]:
        return given[end]
    client = linuxrbd.RBDClient(given["client"], given["pool"], conffile=given["conf"])
    volume = linuxrbd.RBDVolume(client, given[end])
    return linuxrbd.RBDVolumeIOWrapper(linuxrbd.RBDImageMetadata(volume, given["pool"], given["client"], given["conf"]))


def main() -> None:
    given = json.load(sys.stdin)
    ends = [opened(given, end) for end in ("source", "target")]
    volume_utils.copy_volume(*ends, given["size_mib"], "1M", sync=True, execute=execute, sparse=False)
    for end in ends:
        if not isinstance(end, str):
            end.flush()
            end._rbd_volume.image.close()
            end._rbd_volume.image.client.disconnect()


main()
