# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Who uses a disk: other block devices, mounts, swap and processes that hold it open."""

from __future__ import annotations

import os
import stat
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host

# Links in /proc/PID/fd that name no file. Not following them keeps this fast.
_NO_FILES = ("socket:", "pipe:", "anon_inode:", "/memfd:")


def with_partitions(host: Host, device: str) -> list[str]:
    """A block device and what is a part of it: partitions, and kpartx's maps of a map's partitions."""
    parts = [name for name in host.names(f"/sys/class/block/{device}") if host.exists(f"/sys/class/block/{device}/{name}/partition")]
    maps = [name for name in host.names(f"/sys/class/block/{device}/holders") if _is_partition_map(host, name)]
    return [device, *parts, *maps]


def _is_partition_map(host: Host, device: str) -> bool:
    uuid = host.read(f"/sys/class/block/{device}/dm/uuid") or ""
    return uuid.startswith("part") and "-mpath-" in uuid


def users_of(host: Host, devices: t.Collection[str], own_holders: t.Collection[str] = ()) -> list[str]:
    """One sentence per user of these devices (kernel names); ``own_holders`` go with them and do not count."""
    numbers = {number: name for name in devices for number in [host.read(f"/sys/class/block/{name}/dev")] if number}
    own = {*devices, *own_holders}
    users = [
        f"{name} is part of {_device_name(host, holder)}"
        for name in devices
        for holder in host.names(f"/sys/class/block/{name}/holders")
        if holder not in own
    ]
    users += _mounts(host, numbers)
    users += _swaps(host, devices)
    users += _processes(host, numbers, devices)
    return users


def _device_name(host: Host, device: str) -> str:
    name = host.read(f"/sys/class/block/{device}/dm/name")
    return f"{device} ({name})" if name else device


def _mounts(host: Host, numbers: t.Mapping[str, str]) -> list[str]:
    found = []
    for line in (host.read("/proc/self/mountinfo") or "").splitlines():
        fields = line.split(" ")
        if len(fields) > 4 and fields[2] in numbers:
            found.append(f"{numbers[fields[2]]} is mounted on {fields[4]}")
    return found


def _swaps(host: Host, devices: t.Collection[str]) -> list[str]:
    lines = (host.read("/proc/swaps") or "").splitlines()[1:]
    names = (os.path.basename(host.resolve(line.split()[0])) for line in lines if line.strip())
    return [f"{name} is swap space" for name in names if name in devices]


def _processes(host: Host, numbers: t.Mapping[str, str], devices: t.Collection[str]) -> list[str]:
    own_pid = str(os.getpid())
    found = []
    for pid in host.names("/proc"):
        if not pid.isdigit() or pid == own_pid:
            continue
        opened = sorted({numbers[number] for number in _open_devices(host, pid, devices) if number in numbers})
        if opened:
            found.append(f"{', '.join(opened)} is open in process {pid} ({host.read(f'/proc/{pid}/comm') or 'unknown'})")
    return found


def _open_devices(host: Host, pid: str, devices: t.Collection[str]) -> t.Iterator[str]:
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
        if stat.S_ISBLK(status.st_mode):
            yield f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


__all__ = ("users_of", "with_partitions")
