# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""How Ceph's C libraries are called: loaded when first needed, their failures as CephError."""

from __future__ import annotations

import ctypes
import os
import types
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import VolumeError

PACKAGES = "librbd1 and librados2 (Debian, Ubuntu, Red Hat and SUSE families)"

POINTER, TEXT, NUMBER, SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
UINT64, INT64, SSIZE = ctypes.c_uint64, ctypes.c_int64, ctypes.c_ssize_t

# A function's result and its arguments.
Functions = t.Mapping[str, tuple[t.Any, tuple[t.Any, ...]]]


class CephError(Exception):
    """A call failed. ``code`` is a number of errno, and ``cause`` says it in words."""

    def __init__(self, call: str, code: int) -> None:
        self.code = code
        self.cause = os.strerror(code)
        super().__init__(f"{call}: {self.cause}")


def load(soname: str, functions: Functions, optional: t.Collection[str] = ()) -> t.Any:
    """The functions of a shared library with their types; an optional one that it lacks is None."""
    try:
        shared_object = ctypes.CDLL(soname)
        declared = types.SimpleNamespace()
        for name, (result, arguments) in functions.items():
            function = getattr(shared_object, name, None) if name in optional else getattr(shared_object, name)
            if function is not None:
                function.restype, function.argtypes = result, arguments
            setattr(declared, name, function)
    except (OSError, AttributeError) as exc:
        raise VolumeError(
            f"{soname} cannot be used here ({exc}), and without it no RBD image can be opened; install {PACKAGES} on this host",
            error_id="librbd_missing",
        ) from None
    return declared


def checked(call: str, result: int) -> int:
    """What a call gave; a negative number is an error."""
    if result < 0:
        raise CephError(call, -result)
    return result


def strings(buffer: bytes) -> list[str]:
    """Strings that end with a zero byte, one after the other; an empty one, or the buffer's end, is the end."""
    return [text.decode(errors="replace") for text in buffer.split(b"\0\0", 1)[0].split(b"\0") if text]


__all__ = (
    "INT64",
    "NUMBER",
    "PACKAGES",
    "POINTER",
    "SIZE",
    "SSIZE",
    "TEXT",
    "UINT64",
    "CephError",
    "Functions",
    "checked",
    "load",
    "strings",
)
