# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""A user-space iSCSI session through libiscsi, the library that QEMU uses: it makes no device on the host.

Commands are built here and their data land in buffers of ours, so that nothing depends on the layout of the
library's structures; only functions that every version since 1.15 has are called.
"""

from __future__ import annotations

import ctypes
import secrets
import types
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import Chap, IscsiPath
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError

PACKAGES = "libiscsi7 (Debian 12, Ubuntu), libiscsi (Red Hat and SUSE families)"
# The library writes a LUN into two bytes of the request; a larger number would silently reach another LUN.
MAX_LUN = 0xFFFF

_SONAME_VERSIONS = range(7, 16)
_SESSION_NORMAL = 2
_HEADER_DIGEST_NONE_CRC32C = 1
_NO_LUN = -1
_READ_FROM_DEVICE = 1
_STATUS_GOOD, _STATUS_CHECK_CONDITION = 0, 2
# A new session reports a power-on or changed-data condition, sometimes one after the other.
_MAX_UNIT_ATTENTIONS = 10


class LibraryMissing(MigrationError):
    """libiscsi cannot be loaded on this host."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"libiscsi cannot be loaded here ({cause}), so targets cannot be asked without attaching; install {PACKAGES} on this host",
            error_id="libiscsi_missing",
        )


class LoginError(MigrationError):
    """The session could not be made."""


class PortalSilent(MigrationError):
    """The portal took the connection, but nobody answered the login."""


class SessionLost(MigrationError):
    """The session broke off, or the target did not answer in time."""


class CommandError(MigrationError):
    """The LUN refused a command."""


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
            return Library(ctypes.CDLL(f"libiscsi.so.{version}"))
        except OSError:
            continue
        except AttributeError as exc:
            cause = f"libiscsi.so.{version} lacks a function: {exc}"
    raise LibraryMissing(cause)


class Session:
    """A logged-in session to one portal of one target; a context manager. For one thread at a time."""

    def __init__(self, library: Library, way: IscsiPath, initiator_iqn: str, chap: Chap | None, timeout_s: int) -> None:
        self._library = library
        self._way = way
        self._initiator_iqn = initiator_iqn
        self._chap = chap
        self._timeout_s = timeout_s
        self._context: t.Any = None
        self._lost = False

    def __enter__(self) -> Session:
        library = self._library
        self._context = context = library.iscsi_create_context(self._initiator_iqn.encode())
        if not context:
            raise LoginError(f"libiscsi takes no initiator name {self._initiator_iqn!r}", error_id="login_failed")
        library.iscsi_set_targetname(context, self._way.iqn.encode())
        library.iscsi_set_session_type(context, _SESSION_NORMAL)
        library.iscsi_set_header_digest(context, _HEADER_DIGEST_NONE_CRC32C)
        # Two sessions with the same initiator name and the same ISID push each other out. QEMU's have the qualifier 0,
        # so with another one this session can never end that of a running guest.
        library.iscsi_set_isid_random(context, secrets.randbits(24), 1 + secrets.randbelow(0xFFFF))
        library.iscsi_set_timeout(context, self._timeout_s)
        library.iscsi_set_noautoreconnect(context, 1)
        if self._chap:
            library.iscsi_set_initiator_username_pwd(context, self._chap.username.encode(), self._chap.password.encode())
            if self._chap.mutual:
                library.iscsi_set_target_username_pwd(context, str(self._chap.username_in).encode(), str(self._chap.password_in).encode())
        # No LUN is named here, so a missing one does not spoil the session for the others.
        if library.iscsi_full_connect_sync(context, self._way.portal.encode(), _NO_LUN):
            cause = self._last_error()
            library.iscsi_destroy_context(context)
            if "timed out" in cause:
                raise PortalSilent(
                    f"portal {self._way.portal} takes connections, but did not answer a login to {self._way.iqn} within"
                    f" {self._timeout_s} s; check the target",
                    error_id="portal_silent",
                )
            credentials = " and the CHAP credentials"
            if not self._chap:
                credentials = "; if it asks for CHAP, give auth_username and auth_password in the volume's connection info"
            raise LoginError(
                f"cannot log in to {self._way.iqn} at portal {self._way.portal} as initiator {self._initiator_iqn}"
                f"{' with CHAP user ' + self._chap.username if self._chap else ' without CHAP'}: {cause};"
                f" ask for the export to this host, or check the target's access list{credentials}",
                error_id="login_failed",
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        if not self._lost and self._library.iscsi_logout_sync(self._context) == 0:
            self._library.iscsi_destroy_context(self._context)
        else:
            # Requests that were never answered still point at memory that is gone; freeing the context would write there.
            self._library.iscsi_disconnect(self._context)

    def command(self, lun: int, request: bytes, answer_bytes: int) -> bytes:
        """Send one command that reads; the answer is filled up with zeros to ``answer_bytes``."""
        cause = ""
        for _attempt in range(_MAX_UNIT_ATTENTIONS):
            status, data = self._send(lun, request, answer_bytes)
            if status == _STATUS_GOOD:
                return data
            cause = self._last_error() if status == _STATUS_CHECK_CONDITION else f"SCSI status {status:#x}"
            if "UNIT_ATTENTION" not in cause:
                break
        raise CommandError(
            f"LUN {lun} of {self._way.iqn} at portal {self._way.portal} refused SCSI command {request[0]:#04x}: {cause}",
            error_id="scsi_command_failed",
        )

    def _send(self, lun: int, request: bytes, answer_bytes: int) -> tuple[int, bytes]:
        library = self._library
        buffer = ctypes.create_string_buffer(answer_bytes)
        task = library.scsi_create_task(len(request), request, _READ_FROM_DEVICE, answer_bytes)
        library.scsi_task_add_data_in_buffer(task, answer_bytes, ctypes.cast(buffer, ctypes.c_void_p))
        done = library.iscsi_scsi_command_sync(self._context, lun, task, None)
        # The first member of the task is its status; anything from 0x0f000000 on is the library's: no answer came.
        status = ctypes.cast(done, ctypes.POINTER(ctypes.c_int))[0] if done else -1
        if not 0 <= status <= 0xFF:
            self._lost = True
            raise SessionLost(
                f"{self._way.iqn} at portal {self._way.portal} gave no answer within {self._timeout_s} s: {self._last_error()};"
                " check the target and the network to it",
                error_id="session_lost",
            )
        library.scsi_free_scsi_task(done)
        return status, buffer.raw

    def _last_error(self) -> str:
        text = self._library.iscsi_get_error(self._context) or b""
        return str(text.decode("utf-8", "replace").strip()) or "no reason given"


__all__ = ("MAX_LUN", "CommandError", "Library", "LibraryMissing", "LoginError", "PortalSilent", "Session", "SessionLost", "load")
