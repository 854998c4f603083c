# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The shared library libiscsi: its functions with their types, and what is known of its structures.

Only functions that every version since 1.15 has are there; of the structures no more than load() makes sure of.
"""

from __future__ import annotations

import ctypes
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError

PACKAGES = "libiscsi7 (Debian 12, Ubuntu), libiscsi (Red Hat and SUSE families)"
NO_DATA, READ_FROM_DEVICE, WRITE_TO_DEVICE = 0, 1, 2

_SONAME_VERSIONS = range(7, 16)


class LibraryMissing(MigrationError):
    """libiscsi cannot be loaded on this host."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"libiscsi cannot be loaded here ({cause}), so targets cannot be asked without attaching; install {PACKAGES} on this host",
            error_id="libiscsi_missing",
        )


class Task(ctypes.Structure):
    """The beginning of the library's C(struct scsi_task)."""

    _fields_ = (
        ("status", ctypes.c_int),
        ("request_bytes", ctypes.c_int),
        ("direction", ctypes.c_int),
        ("data_bytes", ctypes.c_int),
        ("request", ctypes.c_ubyte * 16),
        ("residual_kind", ctypes.c_int),
        ("residual_bytes", ctypes.c_size_t),
    )


class Data(ctypes.Structure):
    """The library's C(struct iscsi_data): what goes to the target."""

    _fields_ = (("size", ctypes.c_size_t), ("data", ctypes.c_void_p))


class Library:
    """The shared library with the types of the functions used here."""

    def __init__(self, shared_object: t.Any) -> None:
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        for name, result, arguments in (
            ("iscsi_create_context", pointer, (text,)),
            ("iscsi_set_targetname", number, (pointer, text)),
            ("iscsi_set_session_type", number, (pointer, number)),
            ("iscsi_set_header_digest", number, (pointer, number)),
            ("iscsi_set_isid_random", number, (pointer, ctypes.c_uint32, ctypes.c_uint32)),
            ("iscsi_set_timeout", number, (pointer, number)),
            ("iscsi_set_noautoreconnect", None, (pointer, number)),
            ("iscsi_set_initiator_username_pwd", number, (pointer, text, text)),
            ("iscsi_set_target_username_pwd", number, (pointer, text, text)),
            ("iscsi_full_connect_sync", number, (pointer, text, number)),
            ("iscsi_get_error", text, (pointer,)),
            ("iscsi_logout_sync", number, (pointer,)),
            ("iscsi_disconnect", number, (pointer,)),
            ("iscsi_destroy_context", number, (pointer,)),
            ("scsi_create_task", pointer, (number, text, number, number)),
            ("scsi_task_add_data_in_buffer", number, (pointer, number, pointer)),
            ("iscsi_scsi_command_sync", pointer, (pointer, number, pointer, pointer)),
            ("scsi_free_scsi_task", None, (pointer,)),
        ):
            function = getattr(shared_object, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> t.Any:
        raise AttributeError(name)  # For type checkers: every function is set by the constructor.


def load() -> Library:
    """Find the library by its names; raises LibraryMissing."""
    cause = "no shared library of that name was found"
    for version in reversed(_SONAME_VERSIONS):
        try:
            library = Library(ctypes.CDLL(f"libiscsi.so.{version}"))
        except OSError:
            continue
        except AttributeError as exc:
            cause = f"libiscsi.so.{version} lacks a function: {exc}"
            continue
        if _is_known_layout(library):
            return library
        cause = f"libiscsi.so.{version} has another struct scsi_task than every version that is known"
    raise LibraryMissing(cause)


def _is_known_layout(library: Library) -> bool:
    """Whether a task begins as it always did. What follows the request tells of data that did not come."""
    request = bytes(range(0x10, 0x20))
    task = library.scsi_create_task(len(request), request, WRITE_TO_DEVICE, 0x12345)
    head = ctypes.cast(task, ctypes.POINTER(Task)).contents
    seen = head.request_bytes, head.direction, head.data_bytes, bytes(head.request), head.residual_kind, head.residual_bytes
    library.scsi_free_scsi_task(task)
    return seen == (len(request), WRITE_TO_DEVICE, 0x12345, request, 0, 0)


__all__ = ("NO_DATA", "READ_FROM_DEVICE", "WRITE_TO_DEVICE", "Data", "Library", "LibraryMissing", "Task", "load")
