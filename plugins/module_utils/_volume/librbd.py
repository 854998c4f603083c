# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""An open RBD image through librbd: what the library offers, in Python's types, without a decision in it."""

from __future__ import annotations

import ctypes
import errno
import functools
import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._volume.ceph_calls import (
    INT64,
    NUMBER,
    POINTER,
    SIZE,
    SSIZE,
    TEXT,
    UINT64,
    CephError,
    Functions,
    checked,
    load,
    strings,
)
from ansible_collections.lunshift.migration.plugins.module_utils._volume.librados import Pool

FEATURE_EXCLUSIVE_LOCK = 1 << 2
FEATURE_FAST_DIFF = 1 << 4
FEATURE_JOURNALING = 1 << 6
FEATURE_MIGRATING = 1 << 9
FEATURE_NON_PRIMARY = 1 << 10
FEATURE_DIRTY_CACHE = 1 << 11
FLAG_FAST_DIFF_INVALID = 1 << 1

_LOCK_MODE_EXCLUSIVE = 0
_MIRROR_IMAGE_DISABLED = 2
_DIFF_CALLBACK = ctypes.CFUNCTYPE(NUMBER, UINT64, SIZE, NUMBER, POINTER)


class _Watcher(ctypes.Structure):
    _fields_ = [("addr", TEXT), ("id", INT64), ("cookie", UINT64)]


class _ImageSpec(ctypes.Structure):
    _fields_ = [("id", TEXT), ("name", TEXT)]


class _SnapshotInfo(ctypes.Structure):
    _fields_ = [("id", UINT64), ("size", UINT64), ("name", TEXT)]


class _MirrorInfo(ctypes.Structure):
    _fields_ = [("global_id", TEXT), ("state", NUMBER), ("primary", ctypes.c_bool)]


class _ImageInfo(ctypes.Structure):
    _fields_ = [
        ("size", UINT64),
        ("obj_size", UINT64),
        ("num_objs", UINT64),
        ("order", NUMBER),
        ("block_name_prefix", ctypes.c_char * 24),
        ("parent_pool", INT64),
        ("parent_name", ctypes.c_char * 96),
    ]


_FUNCTIONS: Functions = {
    "rbd_open": (NUMBER, (POINTER, TEXT, POINTER, TEXT)),
    "rbd_open_read_only": (NUMBER, (POINTER, TEXT, POINTER, TEXT)),
    "rbd_close": (NUMBER, (POINTER,)),
    "rbd_list2": (NUMBER, (POINTER, POINTER, POINTER)),
    "rbd_image_spec_list_cleanup": (None, (POINTER, SIZE)),
    "rbd_stat": (NUMBER, (POINTER, POINTER, SIZE)),
    "rbd_get_id": (NUMBER, (POINTER, TEXT, SIZE)),
    "rbd_get_features": (NUMBER, (POINTER, POINTER)),
    "rbd_get_flags": (NUMBER, (POINTER, POINTER)),
    "rbd_get_overlap": (NUMBER, (POINTER, POINTER)),
    "rbd_get_stripe_count": (NUMBER, (POINTER, POINTER)),
    "rbd_snap_list": (NUMBER, (POINTER, POINTER, POINTER)),
    "rbd_snap_list_end": (None, (POINTER,)),
    "rbd_watchers_list": (NUMBER, (POINTER, POINTER, POINTER)),
    "rbd_watchers_list_cleanup": (None, (POINTER, SIZE)),
    "rbd_list_lockers": (SSIZE, (POINTER, POINTER, TEXT, POINTER, TEXT, POINTER, TEXT, POINTER, TEXT, POINTER)),
    "rbd_mirror_image_get_info": (NUMBER, (POINTER, POINTER, SIZE)),
    "rbd_mirror_image_get_info_cleanup": (None, (POINTER,)),
    "rbd_lock_acquire": (NUMBER, (POINTER, NUMBER)),
    "rbd_lock_release": (NUMBER, (POINTER,)),
    "rbd_read": (SSIZE, (POINTER, UINT64, SIZE, POINTER)),
    "rbd_write": (SSIZE, (POINTER, UINT64, SIZE, POINTER)),
    "rbd_write_zeroes": (SSIZE, (POINTER, UINT64, SIZE, NUMBER, NUMBER)),
    "rbd_flush": (NUMBER, (POINTER,)),
    "rbd_invalidate_cache": (NUMBER, (POINTER,)),
    "rbd_diff_iterate2": (NUMBER, (POINTER, TEXT, UINT64, UINT64, ctypes.c_uint8, ctypes.c_uint8, _DIFF_CALLBACK, POINTER)),
}


@functools.cache
def library() -> t.Any:
    """rbd_write_zeroes came with Ceph 15."""
    return load("librbd.so.1", _FUNCTIONS, optional=("rbd_write_zeroes", "rbd_mirror_image_get_info_cleanup"))


@dataclass(frozen=True)
class Watcher:
    """A client that has an image open for writing. ``client_id`` is its number in the cluster."""

    client_id: int
    address: str


@dataclass(frozen=True)
class Locker:
    """A client that holds an image's lock; ``cookie`` is what it called it."""

    client_id: int
    address: str
    cookie: str


@dataclass(frozen=True)
class Snapshot:
    snapshot_id: int
    name: str


def image_names(calls: t.Any, pool: Pool) -> list[str]:
    images, count = _list(_ImageSpec, lambda array, size: calls.rbd_list2(pool.pointer, array, size), "rbd_list2")
    names = [images[index].name.decode() for index in range(count)]
    calls.rbd_image_spec_list_cleanup(images, count)
    return names


def _list(entry: t.Any, call: t.Callable[[t.Any, t.Any], int], name: str) -> tuple[t.Any, int]:
    """An array that the library fills, after telling how long it must be; and how many entries it has."""
    size = ctypes.c_size_t(16)
    while True:
        array = (entry * max(size.value, 1))()
        result = call(array, ctypes.byref(size))
        if result != -errno.ERANGE:
            checked(name, result)
            return array, size.value


class Image:
    """An open image; any number of threads may use it at once."""

    def __init__(self, calls: t.Any, pool: Pool, name: str, snapshot: str | None, *, writable: bool) -> None:
        self._calls = calls
        self._pointer = ctypes.c_void_p()
        function = "rbd_open" if writable else "rbd_open_read_only"
        at = snapshot.encode() if snapshot else None
        checked(function, getattr(calls, function)(pool.pointer, name.encode(), ctypes.byref(self._pointer), at))

    # --- what it is ---

    def sizes(self) -> tuple[int, int]:
        """Of the image, and of the objects that it consists of."""
        info = _ImageInfo()
        checked("rbd_stat", self._calls.rbd_stat(self._pointer, ctypes.byref(info), ctypes.sizeof(info)))
        return info.size, info.obj_size

    def image_id(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        checked("rbd_get_id", self._calls.rbd_get_id(self._pointer, buffer, len(buffer)))
        return buffer.value.decode()

    def features(self) -> int:
        return self._number("rbd_get_features")

    def flags(self) -> int:
        return self._number("rbd_get_flags")

    def parent_overlap_bytes(self) -> int:
        """How much of it shows a parent's data where it has none of its own."""
        return self._number("rbd_get_overlap")

    def stripe_count(self) -> int:
        return self._number("rbd_get_stripe_count")

    def _number(self, function: str) -> int:
        number = ctypes.c_uint64()
        checked(function, getattr(self._calls, function)(self._pointer, ctypes.byref(number)))
        return number.value

    def snapshots(self) -> list[Snapshot]:
        size = NUMBER(16)
        while True:
            array = (_SnapshotInfo * max(size.value, 1))()
            count = self._calls.rbd_snap_list(self._pointer, array, ctypes.byref(size))
            if count != -errno.ERANGE:
                break
        found = [Snapshot(entry.id, entry.name.decode()) for entry in array[: checked("rbd_snap_list", count)]]
        if found:
            self._calls.rbd_snap_list_end(array)
        return found

    def is_mirrored(self) -> bool:
        info = _MirrorInfo()
        checked(
            "rbd_mirror_image_get_info",
            self._calls.rbd_mirror_image_get_info(self._pointer, ctypes.byref(info), ctypes.sizeof(info)),
        )
        # Its text is not freed where the library is too old to have a function for that; it is a few bytes.
        if self._calls.rbd_mirror_image_get_info_cleanup:
            self._calls.rbd_mirror_image_get_info_cleanup(ctypes.byref(info))
        return bool(info.state != _MIRROR_IMAGE_DISABLED)

    # --- who uses it ---

    def watchers(self) -> list[Watcher]:
        array, count = _list(_Watcher, lambda array, size: self._calls.rbd_watchers_list(self._pointer, array, size), "rbd_watchers_list")
        found = [Watcher(array[index].id, array[index].addr.decode()) for index in range(count)]
        self._calls.rbd_watchers_list_cleanup(array, count)
        return found

    def lockers(self) -> list[Locker]:
        exclusive, sizes = NUMBER(), [SIZE(1024) for _buffer in range(4)]
        while True:
            buffers = [ctypes.create_string_buffer(size.value) for size in sizes]
            pairs = [part for buffer, size in zip(buffers, sizes) for part in (buffer, ctypes.byref(size))]
            result = self._calls.rbd_list_lockers(self._pointer, ctypes.byref(exclusive), *pairs)
            if result != -errno.ERANGE:
                break
        if checked("rbd_list_lockers", result) == 0:
            return []
        _tag, clients, cookies, addresses = (strings(buffer.raw) for buffer in buffers)
        return [Locker(int(client.rpartition(".")[2]), address, cookie) for client, cookie, address in zip(clients, cookies, addresses)]

    def acquire_lock(self) -> None:
        checked("rbd_lock_acquire", self._calls.rbd_lock_acquire(self._pointer, _LOCK_MODE_EXCLUSIVE))

    def release_lock(self) -> None:
        checked("rbd_lock_release", self._calls.rbd_lock_release(self._pointer))

    # --- what it holds ---

    @property
    def can_write_zeroes(self) -> bool:
        return self._calls.rbd_write_zeroes is not None

    def read(self, offset: int, length: int, address: int) -> int:
        return checked("rbd_read", self._calls.rbd_read(self._pointer, offset, length, address))

    def write(self, offset: int, length: int, address: int) -> int:
        return checked("rbd_write", self._calls.rbd_write(self._pointer, offset, length, address))

    def write_zeroes(self, offset: int, length: int) -> int:
        return checked("rbd_write_zeroes", self._calls.rbd_write_zeroes(self._pointer, offset, length, 0, 0))

    def flush(self) -> None:
        checked("rbd_flush", self._calls.rbd_flush(self._pointer))

    def invalidate_cache(self) -> None:
        checked("rbd_invalidate_cache", self._calls.rbd_invalidate_cache(self._pointer))

    def differences_to_nothing(self, offset: int, length: int, *, whole_objects: bool) -> list[tuple[int, int, bool]]:
        """Ranges of the image and its parents as (offset, length, whether there is data); what is left out never had any."""
        found: list[tuple[int, int, bool]] = []
        failure: list[BaseException] = []

        def note(start: int, size: int, exists: int, _argument: t.Any) -> int:
            try:
                found.append((start, size, bool(exists)))
            except BaseException as exc:  # noqa: BLE001 - it must not vanish in the library
                failure.append(exc)
                return -errno.ECANCELED
            return 0

        # The name keeps the callback alive as long as the library may call it.
        callback = _DIFF_CALLBACK(note)
        result = self._calls.rbd_diff_iterate2(self._pointer, None, offset, length, 1, int(whole_objects), callback, None)
        if failure:
            raise failure[0]
        checked("rbd_diff_iterate2", result)
        return found

    def close(self) -> None:
        checked("rbd_close", self._calls.rbd_close(self._pointer))


__all__ = (
    "FEATURE_DIRTY_CACHE",
    "FEATURE_EXCLUSIVE_LOCK",
    "FEATURE_FAST_DIFF",
    "FEATURE_JOURNALING",
    "FEATURE_MIGRATING",
    "FEATURE_NON_PRIMARY",
    "FLAG_FAST_DIFF_INVALID",
    "CephError",
    "Image",
    "Locker",
    "Snapshot",
    "Watcher",
    "image_names",
    "library",
)
