# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""Making, changing and removing RBD images through librbd, in Python's types, without a decision in it."""

from __future__ import annotations

import ctypes
import functools
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._volume.ceph_calls import (
    NUMBER,
    POINTER,
    TEXT,
    UINT64,
    CephError,
    Functions,
    checked,
    load,
)
from ansible_collections.lunshift.migration.plugins.module_utils._volume.librados import Pool
from ansible_collections.lunshift.migration.plugins.module_utils._volume.librbd import Image, library

_OPTION_FEATURES = 1

_FUNCTIONS: Functions = {
    "rbd_image_options_create": (None, (POINTER,)),
    "rbd_image_options_set_uint64": (NUMBER, (POINTER, NUMBER, UINT64)),
    "rbd_image_options_destroy": (None, (POINTER,)),
    "rbd_create4": (NUMBER, (POINTER, TEXT, UINT64, POINTER)),
    "rbd_remove": (NUMBER, (POINTER, TEXT)),
    "rbd_resize2": (NUMBER, (POINTER, UINT64, ctypes.c_bool, POINTER, POINTER)),
    "rbd_update_features": (NUMBER, (POINTER, UINT64, ctypes.c_uint8)),
    "rbd_snap_create": (NUMBER, (POINTER, TEXT)),
    "rbd_snap_remove": (NUMBER, (POINTER, TEXT)),
    "rbd_snap_is_protected": (NUMBER, (POINTER, TEXT, POINTER)),
}


@functools.cache
def admin_library() -> t.Any:
    return load("librbd.so.1", _FUNCTIONS)


def create_image(pool: Pool, name: str, size_bytes: int, features: int | None) -> None:
    """With None as features the cluster's own default counts."""
    calls, options = admin_library(), ctypes.c_void_p()
    calls.rbd_image_options_create(ctypes.byref(options))
    try:
        if features is not None:
            checked("rbd_image_options_set_uint64", calls.rbd_image_options_set_uint64(options, _OPTION_FEATURES, features))
        checked("rbd_create4", calls.rbd_create4(pool.pointer, name.encode(), size_bytes, options))
    finally:
        calls.rbd_image_options_destroy(options)


def remove_image(pool: Pool, name: str) -> None:
    """Refused by the library while it has watchers or snapshots."""
    checked("rbd_remove", admin_library().rbd_remove(pool.pointer, name.encode()))


class ManagedImage(Image):
    """An open image that can be changed; opened for writing, but by nobody's lock."""

    def __init__(self, pool: Pool, name: str, *, writable: bool) -> None:
        super().__init__(library(), pool, name, None, writable=writable)
        self._admin = admin_library()

    def grow(self, size_bytes: int) -> None:
        checked("rbd_resize2", self._admin.rbd_resize2(self._pointer, size_bytes, False, None, None))

    def set_features(self, features: int, *, enabled: bool) -> None:
        checked("rbd_update_features", self._admin.rbd_update_features(self._pointer, features, int(enabled)))

    def create_snapshot(self, name: str) -> None:
        checked("rbd_snap_create", self._admin.rbd_snap_create(self._pointer, name.encode()))

    def remove_snapshot(self, name: str) -> None:
        checked("rbd_snap_remove", self._admin.rbd_snap_remove(self._pointer, name.encode()))

    def is_protected(self, snapshot: str) -> bool:
        """Whether the snapshot is protected, for clones stand on it."""
        number = ctypes.c_int()
        checked("rbd_snap_is_protected", self._admin.rbd_snap_is_protected(self._pointer, snapshot.encode(), ctypes.byref(number)))
        return bool(number.value)


__all__ = ("CephError", "ManagedImage", "create_image", "remove_image")
