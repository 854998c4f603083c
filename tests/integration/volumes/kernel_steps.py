# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What test_iscsi_kernel.py has done inside a host with a kernel initiator: steps by name, what was found as JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host  # noqa: E402
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.volumes import Call, restore  # noqa: E402
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import aligned_buffer, is_equal  # noqa: E402
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import VolumeError, VolumeHandle  # noqa: E402
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How  # noqa: E402
from ansible_collections.lunshift.migration.plugins.module_utils._volume.opening import close_volume, open_volume  # noqa: E402

MIB = 1 << 20
OPERATION = "kernel-test"


def made() -> dict[str, int]:
    """Sessions, SCSI disks, maps, node records and operation records of this host."""
    counts = {
        "sessions": "ls -d /sys/class/iscsi_session/session*",
        "disks": "ls -d /sys/block/sd*",
        "maps": "grep -l ^mpath- /sys/block/dm-*/dm/uuid",
        "nodes": "find /etc/iscsi/nodes -type f",
        "records": "find /var/lib/lunshift-migration/operations -type f",
    }
    return {
        name: len(subprocess.run(command, shell=True, check=False, capture_output=True, text=True).stdout.split())
        for name, command in counts.items()
    }


def opened(number: int, *, writable: bool = False, **more: t.Any) -> VolumeHandle:
    info = json.loads((HERE / f"volume{number}.json").read_text())
    return open_volume({**info, **more}, How(writable=writable, operation_id=OPERATION))


def copy() -> t.Iterator[t.Any]:
    """Both sides through the kernel; the other initiator looks at what was written."""
    yield made()
    target, source = opened(1, writable=True), opened(2)
    yield made()
    view = aligned_buffer(MIB)
    view[:] = b"0123456789abcdef" * (MIB // 16)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: target.write_from(view, number * MIB), range(8)))
    target.zero(2 * MIB, MIB)
    target.flush()
    other = opened(1, initiator="libiscsi")
    seen = aligned_buffer(MIB)
    other.read_into(seen, MIB)
    yield {"same identity": other.facts.identity == target.facts.identity, "same data": is_equal(view, seen)}
    close_volume(other)
    try:
        opened(1, writable=True)
    except VolumeError as exc:
        yield exc.error_id
    close_volume(target)
    yield made()
    close_volume(source)
    yield made()


def close_at_once() -> t.Iterator[t.Any]:
    for _round in range(4):
        close_volume(opened(1, writable=True))
    yield made()


def die() -> t.Iterator[t.Any]:
    handle = opened(1, writable=True)
    yield made()
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    close_volume(handle)


def again() -> t.Iterator[t.Any]:
    yield made()
    close_volume(opened(1))
    yield made()


def sweep() -> t.Iterator[t.Any]:
    yield made()
    restore(Call(Host(), check_mode=False, timeout_s=30, operation_id=OPERATION))
    yield made()


if __name__ == "__main__":
    for found in globals()[sys.argv[1]]():
        print(json.dumps(found))
