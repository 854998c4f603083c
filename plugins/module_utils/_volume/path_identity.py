# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Which volume it is that lies at a path: one text for every name of it, and after a restart too.

A name like /dev/sdb says nothing of the kind. What has nothing better is bound to this run of the host: after a restart it counts
as another volume.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import struct
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.vpd import unit_serial_from_page80
from ansible_collections.lunshift.migration.plugins.module_utils._volume.mounts import mount_of
from ansible_collections.lunshift.migration.plugins.module_utils._volume.path_use import whole_disk
from ansible_collections.lunshift.migration.plugins.module_utils._volume.scsi_identity import own_name

_LOOP_GET_STATUS64 = 0x4C05
_LOOP_STATUS = struct.Struct("5Q192x")
_FS_IOC_GETFSUUID = 0x80111500  # Linux 6.9
_AT_EMPTY_PATH = 0x1000
_HANDLE_BYTES = 128
_HANDLE = struct.Struct("Ii")
# File systems whose server names a file in the same way for ever.
_STEADY_NETWORK_FILE_SYSTEMS = ("ceph", "nfs", "nfs4")

_LIBC = ctypes.CDLL(None, use_errno=True)


def device_at(host: Host, path: str) -> str:
    """The kernel's name of the block device that a path leads to."""
    number = host.node_number(path)
    return os.path.basename(host.resolve(f"/sys/dev/block/{number}"))


def of_device(host: Host, device: str) -> str:
    """The identity of a block device, by its kernel name."""
    base = f"/sys/class/block/{device}"
    disk = whole_disk(host, device)
    if disk:
        return f"{of_device(host, disk)}-part{host.read(f'{base}/partition')}"
    return (
        _of_map(host.read(f"{base}/dm/uuid"))
        or _of_array(host.read(f"{base}/md/uuid"))
        or _of_loop(host, device)
        or _of_disk(host, base)
        or _of_this_run(host, f"{device}:{_generation(host, base)}")
    )


def _of_map(uuid: str | None) -> str | None:
    """device-mapper's own name for it: C(LVM-...), C(CRYPT-...), or that of the disk that all paths lead to."""
    if not uuid or "-devnode_" in uuid:
        # kpartx on what has no name either.
        return None
    multipath = re.fullmatch(r"(part\d+-)?mpath-(.+)", uuid)
    if not multipath:
        return f"dm:{uuid}"
    part = f"-{multipath[1][:-1]}" if multipath[1] else ""
    return f"wwid:{multipath[2]}{part}"


def _of_array(uuid: str | None) -> str | None:
    return f"md:{uuid}" if uuid else None


@dataclass(frozen=True)
class _Backing:
    """What is behind a loop device. ``device`` is the number of a block device, 0 for a file."""

    file_system: int
    inode: int
    device: int
    offset: int
    size_limit: int


def _loop_backing(host: Host, device: str) -> _Backing | None:
    """Asked of the device: the path in sysfs may mean another file here, or none any more."""
    try:
        descriptor = os.open(host.at(f"/dev/{device}"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _Backing(*_LOOP_STATUS.unpack(fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_LOOP_STATUS.size))))
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _of_loop(host: Host, device: str) -> str | None:
    """What is behind it, so that a file and a loop device over it count as one volume."""
    path = host.read(f"/sys/class/block/{device}/loop/backing_file")
    backing = _loop_backing(host, device) if path else None
    if not path or not backing:
        return None
    part = f"+{backing.offset}+{backing.size_limit}" if backing.offset or backing.size_limit else ""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if backing.device and status.st_rdev == backing.device:
            return of_device(host, device_at(host, path)) + part
        if (status.st_dev, status.st_ino) == (backing.file_system, backing.inode):
            return of_file(host, descriptor) + part
    finally:
        os.close(descriptor)
    return None


def _of_disk(host: Host, base: str) -> str | None:
    """The name that a disk was made with, where it is one that no other disk has."""
    page80 = host.read_bytes(f"{base}/device/vpd_pg80")
    told = Identity.from_dict(
        {
            # SCSI has it below the device, NVMe at the disk.
            "wwid": host.read(f"{base}/device/wwid") or host.read(f"{base}/wwid"),
            "unit_serial": unit_serial_from_page80(page80) if page80 else None,
            "vendor": host.read(f"{base}/device/vendor"),
            "model": host.read(f"{base}/device/model"),
        }
    )
    # virtio-blk: what the virtual machine's definition says.
    serial = host.read(f"{base}/serial")
    return own_name(told) or (f"serial:virtio:{serial}" if serial else None)


def _of_this_run(host: Host, text: str) -> str:
    return f"boot:{host.read('/proc/sys/kernel/random/boot_id')}:{text}"


def _generation(host: Host, base: str) -> str:
    """Another one when the same name goes to another disk."""
    return host.read(f"{base}/diskseq") or str(os.stat(host.at(base)).st_ino)


def of_file(host: Host, descriptor: int) -> str:
    """The file's number in its file system, with what tells it from an earlier file with that number; not its path."""
    handle = _handle(descriptor)
    file_system = _file_system(host, descriptor)
    number = handle or f"inode:{os.fstat(descriptor).st_ino}"
    if file_system:
        return f"file:{file_system}:{number}"
    return _of_this_run(host, f"file:{os.fstat(descriptor).st_dev}:{number}")


def _file_system(host: Host, descriptor: int) -> str | None:
    """The device that it is on, its UUID, or the server's name; None when nothing of that will be the same after a restart."""
    number = os.fstat(descriptor).st_dev
    node = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}"
    device = of_device(host, os.path.basename(host.resolve(node))) if host.exists(node) else None
    if device and not device.startswith("boot:"):
        return device
    with contextlib.suppress(OSError):
        answer = fcntl.ioctl(descriptor, _FS_IOC_GETFSUUID, bytes(17))
        return f"uuid:{answer[1 : 1 + answer[0]].hex()}"
    mount = mount_of(host, f"/proc/self/fd/{descriptor}")
    return f"{mount.kind}:{mount.source}" if mount and mount.kind in _STEADY_NETWORK_FILE_SYSTEMS else None


def _handle(descriptor: int) -> str | None:
    """The name by which a file server would know it: inode and generation. None where the file system has no such names."""
    answer = ctypes.create_string_buffer(_HANDLE.pack(_HANDLE_BYTES, 0), _HANDLE.size + _HANDLE_BYTES)
    mount_id = ctypes.c_int()
    if _LIBC.name_to_handle_at(descriptor, b"", answer, ctypes.byref(mount_id), _AT_EMPTY_PATH):
        return None
    length, kind = _HANDLE.unpack_from(answer)
    return f"{kind}:{answer.raw[_HANDLE.size : _HANDLE.size + length].hex()}"


__all__ = ("device_at", "of_device", "of_file")
