# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""A user-space iSCSI session through libiscsi, the library that QEMU uses: it makes no device on the host.

Commands are built here, and their data land in memory of ours or come from it, without a copy. While the library waits for the
target, other threads run.
"""

from __future__ import annotations

import contextlib
import ctypes
import secrets
import signal
import time
import types
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import Chap, IscsiPath
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.libiscsi_binding import (
    NO_DATA,
    READ_FROM_DEVICE,
    WRITE_TO_DEVICE,
    Data,
    Library,
    LibraryMissing,
    Task,
    load,
)

# The library writes a LUN into two bytes of the request; a larger number would silently reach another LUN.
MAX_LUN = 0xFFFF

_SESSION_NORMAL = 2
_HEADER_DIGEST_NONE_CRC32C = 1
_NO_LUN = -1
_STATUS_GOOD, _STATUS_CHECK_CONDITION, _STATUS_BUSY, _STATUS_TASK_SET_FULL = 0, 2, 8, 0x28
_STATUS_TEXTS = {
    _STATUS_BUSY: "it is busy",
    0x18: "another initiator holds a reservation of it; end that use first",
    _STATUS_TASK_SET_FULL: "it takes no more commands now",
}
# A new session reports a power-on or changed-data condition, sometimes one after the other.
_MAX_UNIT_ATTENTIONS = 10
# The library takes a signal while it waits for a broken session. Those that end the process may do that, others come after the command.
_ENDING_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT}
_HELD_SIGNALS = frozenset(signal.valid_signals() - _ENDING_SIGNALS)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0


class LoginError(MigrationError):
    """The session could not be made."""


class PortalSilent(MigrationError):
    """The portal took the connection, but nobody answered the login."""


class SessionLost(MigrationError):
    """The session broke off, or the target did not answer in time."""


class CommandError(MigrationError):
    """The LUN refused a command."""

    @property
    def is_unsupported(self) -> bool:
        """Whether the LUN does not know the command, or not in this form."""
        return "ILLEGAL_REQUEST" in str(self)


@contextlib.contextmanager
def _signals_held() -> t.Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Session:
    """A logged-in session to one portal of one target; a context manager. For one thread at a time.

    ``on_attention`` is called when the target says that something about it changed, before the command is sent again; what it
    raises goes out instead.
    """

    def __init__(self, library: Library, way: IscsiPath, initiator_iqn: str, chap: Chap | None, timeout_s: int) -> None:
        self._library = library
        self._way = way
        self._initiator_iqn = initiator_iqn
        self._chap = chap
        self._timeout_s = timeout_s
        self._context: t.Any = None
        self._lost = False
        self.on_attention: t.Callable[[], None] | None = None

    def __enter__(self) -> Session:
        self.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        self.close()

    def open(self) -> None:
        """Log in."""
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
        with _signals_held():
            failed = library.iscsi_full_connect_sync(context, self._way.portal.encode(), _NO_LUN)
        if failed:
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

    def close(self) -> None:
        """Log out, unless the session is lost. Takes no longer than a command."""
        if not self._lost:
            with _signals_held():
                self._lost = self._library.iscsi_logout_sync(self._context) != 0
        if not self._lost:
            self._library.iscsi_destroy_context(self._context)
        else:
            # Requests that were never answered still point at memory that is gone; freeing the context would write there.
            self._library.iscsi_disconnect(self._context)

    def command(self, lun: int, request: bytes, answer_bytes: int) -> bytes:
        """Send one command that reads; the answer is filled up with zeros to ``answer_bytes``."""
        buffer = ctypes.create_string_buffer(answer_bytes)
        self._run(lun, request, READ_FROM_DEVICE, ctypes.addressof(buffer), answer_bytes)
        return buffer.raw

    def read_into(self, lun: int, request: bytes, address: int, length: int) -> None:
        """Send one command whose answer fills the memory at ``address``; anything less is an error."""
        self._run(lun, request, READ_FROM_DEVICE, address, length, whole=True)

    def write_from(self, lun: int, request: bytes, address: int, length: int) -> None:
        """Send one command with the memory at ``address``; that the target takes less is an error."""
        self._run(lun, request, WRITE_TO_DEVICE, address, length, whole=True)

    def order(self, lun: int, request: bytes, data: bytes = b"", *, timeout_s: int | None = None) -> None:
        """Send one command that has no answer. ``timeout_s`` is for one that may take longer than others."""
        buffer = ctypes.create_string_buffer(data, len(data)) if data else None
        with self._patience(timeout_s):
            if buffer:
                self._run(lun, request, WRITE_TO_DEVICE, ctypes.addressof(buffer), len(data))
            else:
                self._run(lun, request, NO_DATA, 0, 0)

    @contextlib.contextmanager
    def _patience(self, timeout_s: int | None) -> t.Iterator[None]:
        if timeout_s is None:
            yield
            return
        usual_s, self._timeout_s = self._timeout_s, timeout_s
        self._library.iscsi_set_timeout(self._context, timeout_s)
        try:
            yield
        finally:
            self._timeout_s = usual_s
            self._library.iscsi_set_timeout(self._context, usual_s)

    def _run(self, lun: int, request: bytes, direction: int, address: int, length: int, *, whole: bool = False) -> None:
        """Send a command until the LUN has done or refused it."""
        deadline_s = time.monotonic() + self._timeout_s
        attentions, pause_s = 0, _FIRST_PAUSE_S
        while True:
            status, residual_bytes = self._send(lun, request, direction, address, length, whole=whole)
            if status == _STATUS_GOOD and not residual_bytes:
                return
            if status == _STATUS_GOOD:
                cause = f"{residual_bytes} of {length} bytes were not transferred"
            elif status == _STATUS_CHECK_CONDITION:
                cause = self._last_error()
            else:
                cause = _STATUS_TEXTS.get(status, f"SCSI status {status:#x}")
            if "UNIT_ATTENTION" in cause and attentions < _MAX_UNIT_ATTENTIONS:
                attentions += 1
                self._attend()
            elif status in (_STATUS_BUSY, _STATUS_TASK_SET_FULL) and time.monotonic() < deadline_s:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                raise CommandError(
                    f"LUN {lun} of {self._way.iqn} at portal {self._way.portal} refused SCSI command {request[0]:#04x}: {cause}",
                    error_id="scsi_command_failed",
                )

    def _attend(self) -> None:
        # What is asked then may meet a further unit attention, which says nothing new.
        asked, self.on_attention = self.on_attention, None
        try:
            if asked:
                asked()
        finally:
            self.on_attention = asked

    def _send(self, lun: int, request: bytes, direction: int, address: int, length: int, *, whole: bool) -> tuple[int, int]:
        """The SCSI status, and with ``whole`` how many bytes were not transferred."""
        library = self._library
        task = library.scsi_create_task(len(request), request, direction, length)
        data = None
        if direction == READ_FROM_DEVICE:
            library.scsi_task_add_data_in_buffer(task, length, address)
        elif direction == WRITE_TO_DEVICE:
            data = ctypes.byref(Data(length, address))
        with _signals_held():
            done = library.iscsi_scsi_command_sync(self._context, lun, task, data)
        # The first member of the task is its status; anything from 0x0f000000 on is the library's: no answer came.
        status = ctypes.cast(done, ctypes.POINTER(ctypes.c_int))[0] if done else -1
        if not 0 <= status <= 0xFF:
            self._lost = True
            cause = self._last_error()
            what = f"gave no answer within {self._timeout_s} s" if "timed out" in cause else "broke off the session"
            raise SessionLost(
                f"{self._way.iqn} at portal {self._way.portal} {what}: {cause}; check the target and the network to it",
                error_id="session_lost",
            )
        residual_bytes = 0
        if whole:
            head = ctypes.cast(done, ctypes.POINTER(Task)).contents
            residual_bytes = head.residual_bytes if head.residual_kind else 0
        library.scsi_free_scsi_task(done)
        return status, residual_bytes

    def _last_error(self) -> str:
        text = self._library.iscsi_get_error(self._context) or b""
        return str(text.decode("utf-8", "replace").strip()) or "no reason given"


__all__ = ("MAX_LUN", "CommandError", "Library", "LibraryMissing", "LoginError", "PortalSilent", "Session", "SessionLost", "load")
