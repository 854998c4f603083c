# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Opening a block device or a raw file so that nobody else changes it meanwhile, and saying who does.

The kernel gives a block device to one exclusive user, and mounts, swap, LVM, md and multipath are such users. A process that merely
writes to it is none, and must be looked for. A file has no such owner: whether it is open for writing is asked by a lease, which the
kernel grants by its own count, whoever the writers are (loop devices, other containers); copies exclude each other by a lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import struct
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.in_use import (
    may_write,
    process_title,
    users_of,
    with_partitions,
)
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import VolumeError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.mounts import mount_of

# What is about to end by itself is waited for.
_SHORT_WAIT_S = 2.0
# The process namespace of the host itself has this number (PROC_PID_INIT_INO of the kernel).
_ALL_PROCESSES = "pid:[4026531836]"
# Kinds of file systems that one host alone can mount.
_LOCAL_FILE_SYSTEMS = ("bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "tmpfs", "vfat", "xfs", "zfs")
_REMOTE_DEVICE = re.compile(r"/session\d+/|/rport-|/(nbd|rbd|drbd)\d+(p\d+)?(/|$)")


def overlapping(host: Host, device: str) -> list[str]:
    """The block devices whose users use this one too: its partitions, or the disk that it is a partition of."""
    return [*with_partitions(host, device), *filter(None, [whole_disk(host, device)])]


def whole_disk(host: Host, device: str) -> str | None:
    """The disk that a device is a partition of."""
    if not host.exists(f"/sys/class/block/{device}/partition"):
        return None
    return os.path.basename(os.path.dirname(host.resolve(f"/sys/class/block/{device}")))


def can_unmap(host: Host, device: str) -> bool:
    """Whether a device gives the space of zeroed ranges back."""
    queue = f"/sys/class/block/{whole_disk(host, device) or device}/queue"
    return all((host.read(f"{queue}/{name}") or "0") != "0" for name in ("discard_max_bytes", "write_zeroes_max_bytes"))


def open_device(host: Host, path: str, device: str, name: str, *, writable: bool, timeout_s: float) -> int:
    """A descriptor past the page cache. Raises VolumeError that names every user, OSError for all else."""
    flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC
    devices = {device: overlapping(host, device)}
    opened: list[int] = []

    def try_to_open() -> bool:
        try:
            opened.append(os.open(path, flags))
        except OSError as exc:
            if exc.errno != errno.EBUSY:
                raise
        return bool(opened)

    if not try_to_open():
        users = users_of(host, devices, timeout_s).get(device)
        # multipathd and udev take a new device for a moment.
        if users or not host.wait_for(try_to_open, min(timeout_s, _SHORT_WAIT_S)):
            raise in_use(name, users or [_hidden_owner(device)])
    (descriptor,) = opened
    try:
        writers = users_of(host, devices, timeout_s, writers_only=True).get(device)
        if writers:
            raise in_use(name, writers)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def in_use(name: str, users: t.Sequence[str]) -> VolumeError:
    return VolumeError(
        f"{name} is in use: {'; '.join(users)}; end that use first", error_id="volume_in_use", volume=name, users=list(users)
    )


def _hidden_owner(device: str) -> str:
    return (
        f"{device} is held exclusively, by this run itself (is it the source and the target?), by a mount that is not seen from here"
        " (another container, a file system of several devices) or by a kernel service"
    )


def users_of_device(host: Host, device: str) -> list[str] | None:
    """Who else may change an open device. None when it cannot be known: other hosts reach it, or not all processes are seen."""
    found = users_of(host, {device: overlapping(host, device)}, 0, writers_only=True).get(device, [])
    return found or ([] if _sees_all_processes(host) and not _others_reach(host, device) else None)


def _others_reach(host: Host, device: str) -> bool:
    """Whether a device, or one that it stands on, comes over a network."""
    base = f"/sys/class/block/{device}"
    if _REMOTE_DEVICE.search(host.resolve(base)) or any(transport != "pcie" for transport in _nvme_transports(host, device)):
        return True
    backing_file = host.read(f"{base}/loop/backing_file")
    if backing_file and not _is_local_file(host, backing_file):
        return True
    below = [*host.names(f"{base}/slaves"), *filter(None, [whole_disk(host, device)])]
    return any(_others_reach(host, other) for other in below)


def _nvme_transports(host: Host, device: str) -> t.Iterator[str]:
    """Of a namespace's controller, or of all controllers of its subsystem."""
    base = f"/sys/class/block/{device}/device"
    for directory in (base, *(f"{base}/{name}" for name in host.names(base) if re.fullmatch(r"nvme\d+", name))):
        transport = host.read(f"{directory}/transport")
        if transport:
            yield transport


def _is_local_file(host: Host, path: str) -> bool:
    mount = mount_of(host, path)
    return mount is not None and mount.kind in _LOCAL_FILE_SYSTEMS


def _sees_all_processes(host: Host) -> bool:
    try:
        return os.geteuid() == 0 and os.readlink(host.at("/proc/self/ns/pid")) == _ALL_PROCESSES
    except OSError:
        return False


def open_file(host: Host, path: str, name: str, *, writable: bool) -> int:
    """A buffered, locked descriptor. Raises VolumeError that names every user, OSError for all else."""
    users: list[str] = []
    probe = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:

        def is_free() -> bool:
            nonlocal users
            users = _file_writers(host, path, probe)
            if writable:
                # One that only reads, too, would not expect that what it reads changes.
                users = users or list(_kernel_users(host, path, os.fstat(probe)))
            return not users

        if not host.wait_for(is_free, _SHORT_WAIT_S):
            raise in_use(name, users)
        # By the descriptor: the path may lead to another file by now.
        descriptor = os.open(f"/proc/self/fd/{probe}", (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    finally:
        os.close(probe)
    try:
        if not _lock(descriptor, exclusive=writable):
            users = list(_processes_with(host, path, os.fstat(descriptor), writers_only=False, but=os.getpid()))
            raise in_use(name, users or ["another copy or a virtual machine has locked it"])
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def users_of_file(host: Host, path: str, descriptor: int, *, writable: bool) -> list[str] | None:
    """Who else may change an open file. None when it cannot be known: other hosts reach it, or not all processes are seen."""
    if writable:
        # A lease is of no use, for the kernel would count this process too.
        found = [
            *_kernel_users(host, path, os.fstat(descriptor)),
            *_processes_with(host, path, os.fstat(descriptor), writers_only=True, but=os.getpid()),
        ]
        is_sure = _sees_all_processes(host)
    else:
        found = _file_writers(host, path, descriptor)
        is_sure = _has_writers(descriptor) is not None or _sees_all_processes(host)
    return found or ([] if is_sure and _is_local_file(host, f"/proc/self/fd/{descriptor}") else None)


def _file_writers(host: Host, path: str, descriptor: int) -> list[str]:
    """Everybody that has a file open for writing; ``descriptor`` was opened for reading."""
    has_writers = _has_writers(descriptor)
    if has_writers is False:
        return []
    status = os.fstat(descriptor)
    found = [*_kernel_users(host, path, status), *_processes_with(host, path, status, writers_only=True, but=None)]
    if has_writers and not found:
        return ["it is open for writing in another container or in the kernel"]
    return found


def _has_writers(descriptor: int) -> bool | None:
    """Whether anybody has the file open for writing; None where the file system, or its owner, does not let that be asked.

    The kernel grants a lease for reading only while nobody does. It is given back at once. Who opens the file for writing in between
    waits for that, and this process gets a signal that is ignored.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as exc:
        return True if exc.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _lock(descriptor: int, *, exclusive: bool) -> bool:
    """Lock the whole file for as long as it is open; False when somebody else's lock is in the way.

    Locks of the open file, not of the process: those of QEMU are of this kind, so it keeps off what is copied, and the other way round.
    """
    kind = fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))
    except OSError as exc:
        # A file system without locks: nothing can be done about it.
        return exc.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def _kernel_users(host: Host, path: str, status: os.stat_result) -> t.Iterator[str]:
    """Loop devices and swap space on a file."""
    title = os.path.basename(path)
    for device in host.names("/sys/class/block"):
        backing_file = host.read(f"/sys/class/block/{device}/loop/backing_file")
        if backing_file and _is_same_file(backing_file, status):
            yield f"{title} is behind {device}"
    for line in (host.read("/proc/swaps") or "").splitlines()[1:]:
        if line.strip() and _is_same_file(line.split()[0], status):
            yield f"{title} is swap space"


def _is_same_file(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False


def _processes_with(host: Host, path: str, status: os.stat_result, *, writers_only: bool, but: int | None) -> t.Iterator[str]:
    title = os.path.basename(os.path.realpath(path))
    for pid in host.names("/proc"):
        if not pid.isdigit() or pid == str(but):
            continue
        for descriptor in host.names(f"/proc/{pid}/fd"):
            # Followed only where it can be this file: one on a dead network file system would block.
            link = f"/proc/{pid}/fd/{descriptor}"
            if _links_to(host, link, title, status) and not (writers_only and not may_write(host, pid, descriptor)):
                yield f"{title} is open {'for writing ' if writers_only else ''}in {process_title(host, pid)}"
                break


def _links_to(host: Host, link: str, title: str, status: os.stat_result) -> bool:
    try:
        return os.path.basename(os.readlink(host.at(link))) == title and os.path.samestat(os.stat(host.at(link)), status)
    except OSError:
        return False


__all__ = ("can_unmap", "in_use", "open_device", "open_file", "overlapping", "users_of_device", "users_of_file", "whole_disk")
