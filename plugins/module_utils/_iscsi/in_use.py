# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Who uses a disk: other block devices, mounts, swap and processes that hold it open."""

from __future__ import annotations

import math
import os
import re
import stat
import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.multipath import daemon_pid

_PROCESS_WAIT_S = 2.0
# Links in /proc/PID/fd that name no file. Not following them keeps this fast.
_NO_FILES = ("socket:", "pipe:", "anon_inode:", "/memfd:")


@dataclass(frozen=True)
class _User:
    """``wait_s``: how long it is waited for, because it may well go by itself."""

    device: str
    text: str
    wait_s: float = 0


def with_partitions(host: Host, device: str) -> list[str]:
    """A block device and what is a part of it: partitions, and kpartx's maps of a map's partitions."""
    parts = [name for name in host.names(f"/sys/class/block/{device}") if host.exists(f"/sys/class/block/{device}/{name}/partition")]
    maps = [name for name in host.names(f"/sys/class/block/{device}/holders") if _is_partition_map(host, name)]
    return [device, *parts, *maps]


def _is_partition_map(host: Host, device: str) -> bool:
    uuid = host.read(f"/sys/class/block/{device}/dm/uuid") or ""
    return uuid.startswith("part") and "-mpath-" in uuid


def users_of(
    host: Host, volumes: t.Mapping[str, t.Collection[str]], timeout_s: float, *, writers_only: bool = False
) -> dict[str, list[str]]:
    """The users of each volume's devices (kernel names), one sentence per user; nothing for a volume without any.

    ``writers_only``: processes that only read are no users.

    udev looks at a device whenever it appears, and when somebody who could write to it closes it. That is no use, but it
    is in the way for a moment, so it is waited for; and any other process for a short time, for it may be about to end.
    """
    found: dict[str, list[_User]] = {}
    if not volumes:
        # The walk over all processes costs more than everything else here.
        return {}

    start_s = host.clock_s()

    def settled() -> bool:
        nonlocal found
        found = _look(host, volumes, writers_only)
        waited_s = host.clock_s() - start_s
        return all(any(user.wait_s <= waited_s for user in users) for users in found.values())

    host.wait_for(settled, timeout_s)
    return {volume: [user.text for user in users] for volume, users in found.items()}


def _look(host: Host, volumes: t.Mapping[str, t.Collection[str]], writers_only: bool) -> dict[str, list[_User]]:
    devices = {device for names in volumes.values() for device in names}
    numbers = {number: name for name in devices for number in [host.read(f"/sys/class/block/{name}/dev")] if number}
    processes = _processes(host, numbers, devices, writers_only)
    users = [*_holders(host, devices), *_mounts(host, numbers), *_swaps(host, devices), *processes]
    by_volume = {volume: [user for user in users if user.device in names] for volume, names in volumes.items()}
    return {volume: found for volume, found in by_volume.items() if found}


def _holders(host: Host, devices: t.Collection[str]) -> t.Iterator[_User]:
    for name in sorted(devices):
        for holder in host.names(f"/sys/class/block/{name}/holders"):
            if holder not in devices:
                title = host.read(f"/sys/class/block/{holder}/dm/name")
                yield _User(name, f"{name} is part of {holder} ({title})" if title else f"{name} is part of {holder}")


def _mounts(host: Host, numbers: t.Mapping[str, str]) -> t.Iterator[_User]:
    for line in (host.read("/proc/self/mountinfo") or "").splitlines():
        fields = line.split(" ")
        if len(fields) > 4 and fields[2] in numbers:
            name = numbers[fields[2]]
            yield _User(name, f"{name} is mounted on {fields[4]}")


def _swaps(host: Host, devices: t.Collection[str]) -> t.Iterator[_User]:
    lines = (host.read("/proc/swaps") or "").splitlines()[1:]
    for name in (os.path.basename(host.resolve(line.split()[0])) for line in lines if line.strip()):
        if name in devices:
            yield _User(name, f"{name} is swap space")


def _processes(host: Host, numbers: t.Mapping[str, str], devices: t.Collection[str], writers_only: bool) -> t.Iterator[_User]:
    # multipathd keeps its paths open as long as they exist, to check them.
    no_users = (str(os.getpid()), daemon_pid(host))
    for pid in host.names("/proc"):
        if not pid.isdigit() or pid in no_users:
            continue
        opened = sorted({numbers[number] for number in _open_devices(host, pid, devices, writers_only) if number in numbers})
        for name in opened:
            yield _User(name, f"{name} is open in {process_title(host, pid)}", math.inf if _belongs_to_udev(host, pid) else _PROCESS_WAIT_S)


def _belongs_to_udev(host: Host, pid: str) -> bool:
    """Whether it is udevd, one of its workers, or a program that one of its rules runs."""
    for _generation in range(4):
        if "udev" in (host.read(f"/proc/{pid}/comm") or ""):
            return True
        # After the name, which is in brackets and may hold anything: state, parent.
        fields = (host.read(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
        if len(fields) < 2 or fields[1] in ("0", "1"):
            return False
        pid = fields[1]
    return False


def process_title(host: Host, pid: str) -> str:
    return f"process {pid} ({host.read(f'/proc/{pid}/comm') or 'unknown'})"


def may_write(host: Host, pid: str, descriptor: str) -> bool:
    """Whether a process opened a file for writing; also when that is not told."""
    found = re.search(r"^flags:\s*([0-7]+)", host.read(f"/proc/{pid}/fdinfo/{descriptor}") or "", re.MULTILINE)
    return found is None or int(found[1], 8) & os.O_ACCMODE != os.O_RDONLY


def _open_devices(host: Host, pid: str, devices: t.Collection[str], writers_only: bool) -> t.Iterator[str]:
    directory = f"/proc/{pid}/fd"
    for name in host.names(directory):
        path = host.at(f"{directory}/{name}")
        try:
            link = os.readlink(path)
            # Followed only where it can be a device node: a file on a dead network file system would block. libvirt gives
            # QEMU a /dev of its own, whose paths may read differently here, but whose nodes keep their names.
            if link.startswith(_NO_FILES) or not (link.startswith("/dev/") or os.path.basename(link.split(" (deleted)")[0]) in devices):
                continue
            status = os.stat(path)
        except OSError:
            continue
        if stat.S_ISBLK(status.st_mode) and not (writers_only and not may_write(host, pid, name)):
            yield f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


__all__ = ("may_write", "process_title", "users_of", "with_partitions")
