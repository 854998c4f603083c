# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""A connection to a Ceph cluster through librados; a process may have any number of them, to any clusters."""

from __future__ import annotations

import ctypes
import errno
import functools
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._volume.ceph_calls import (
    INT64,
    NUMBER,
    POINTER,
    SIZE,
    TEXT,
    UINT64,
    CephError,
    Functions,
    checked,
    load,
    strings,
)

_FUNCTIONS: Functions = {
    "rados_create2": (NUMBER, (POINTER, TEXT, TEXT, UINT64)),
    "rados_conf_read_file": (NUMBER, (POINTER, TEXT)),
    "rados_conf_set": (NUMBER, (POINTER, TEXT, TEXT)),
    "rados_conf_get": (NUMBER, (POINTER, TEXT, TEXT, SIZE)),
    "rados_connect": (NUMBER, (POINTER,)),
    "rados_shutdown": (None, (POINTER,)),
    "rados_cluster_fsid": (NUMBER, (POINTER, TEXT, SIZE)),
    "rados_get_instance_id": (UINT64, (POINTER,)),
    "rados_pool_list": (NUMBER, (POINTER, TEXT, SIZE)),
    "rados_ioctx_create": (NUMBER, (POINTER, TEXT, POINTER)),
    "rados_ioctx_set_namespace": (None, (POINTER, TEXT)),
    "rados_ioctx_get_id": (INT64, (POINTER,)),
    "rados_ioctx_destroy": (None, (POINTER,)),
    "rados_notify2": (NUMBER, (POINTER, TEXT, TEXT, NUMBER, UINT64, POINTER, POINTER)),
}
_CONF_VALUE_BYTES = 4096


@functools.cache
def library() -> t.Any:
    return load("librados.so.2", _FUNCTIONS)


class Pool:
    """A pool, or a namespace in it, of a connected cluster."""

    def __init__(self, calls: t.Any, pointer: ctypes.c_void_p) -> None:
        self.pointer = pointer
        self._calls = calls

    @property
    def pool_id(self) -> int:
        return int(self._calls.rados_ioctx_get_id(self.pointer))

    def answers(self, object_name: str, timeout_s: float) -> bool:
        """Whether all who watch an object answer an empty message, which tells them to look at it again."""
        nothing = ctypes.c_char_p(None)
        result = self._calls.rados_notify2(self.pointer, object_name.encode(), nothing, 0, int(timeout_s * 1000), None, None)
        if result == -errno.ETIMEDOUT:
            return False
        checked("rados_notify2", result)
        return True

    def close(self) -> None:
        self._calls.rados_ioctx_destroy(self.pointer)


class Cluster:
    """A client of one cluster. Nothing is read but the files that are named, and nothing but the settings given counts above them."""

    def __init__(self, calls: t.Any, cluster_name: str, entity: str) -> None:
        self._calls = calls
        self._pointer = ctypes.c_void_p()
        checked("rados_create2", calls.rados_create2(ctypes.byref(self._pointer), cluster_name.encode(), entity.encode(), 0))

    def read_conf(self, path: str) -> None:
        checked("rados_conf_read_file", self._calls.rados_conf_read_file(self._pointer, path.encode()))

    def set(self, name: str, value: str) -> None:
        """A setting; its value may be a secret and is in no error."""
        checked(f"rados_conf_set {name}", self._calls.rados_conf_set(self._pointer, name.encode(), value.encode()))

    def get(self, name: str) -> str:
        buffer = ctypes.create_string_buffer(_CONF_VALUE_BYTES)
        checked(f"rados_conf_get {name}", self._calls.rados_conf_get(self._pointer, name.encode(), buffer, len(buffer)))
        return buffer.value.decode()

    def connect(self) -> None:
        checked("rados_connect", self._calls.rados_connect(self._pointer))

    @property
    def fsid(self) -> str:
        buffer = ctypes.create_string_buffer(64)
        checked("rados_cluster_fsid", self._calls.rados_cluster_fsid(self._pointer, buffer, len(buffer)))
        return buffer.value.decode()

    @property
    def instance_id(self) -> int:
        """The number by which the cluster knows this client."""
        return int(self._calls.rados_get_instance_id(self._pointer))

    def pool_names(self) -> list[str]:
        length = checked("rados_pool_list", self._calls.rados_pool_list(self._pointer, None, 0))
        # One that is made at this moment may not fit, and is left out.
        buffer = ctypes.create_string_buffer(length + 1)
        checked("rados_pool_list", self._calls.rados_pool_list(self._pointer, buffer, length))
        return strings(buffer.raw)

    def open_pool(self, name: str, namespace: str) -> Pool:
        pointer = ctypes.c_void_p()
        checked("rados_ioctx_create", self._calls.rados_ioctx_create(self._pointer, name.encode(), ctypes.byref(pointer)))
        if namespace:
            self._calls.rados_ioctx_set_namespace(pointer, namespace.encode())
        return Pool(self._calls, pointer)

    def close(self) -> None:
        """Its threads end."""
        self._calls.rados_shutdown(self._pointer)


__all__ = ("CephError", "Cluster", "Pool", "library")
