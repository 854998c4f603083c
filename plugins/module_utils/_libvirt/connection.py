# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""A connection to libvirt whose calls end in bounded time.

libvirt itself has no time limits: a daemon that hangs blocks a new connection for ever, and keepalive
messages do not help before the connection stands. So whatever is asked of libvirt is asked in a thread
of its own, and who asked waits no longer than it wants to.
"""

from __future__ import annotations

import importlib
import platform
import queue
import sys
import threading
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError

# How often, and how many times without an answer, before libvirt gives a connection up. libvirt's own
# servers use the same numbers.
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 5
CLOSE_TIMEOUT_S = 2.0

Result = t.TypeVar("Result")


class LibvirtError(MigrationError):
    """What libvirt said, with its code and the part of libvirt that said it."""

    def __init__(self, message: str, code: int, domain: int, where: str = "libvirt") -> None:
        self.said = message
        self.code = code
        super().__init__(f"{where}: {message}", error_id="libvirt_error", libvirt={"message": message, "code": code, "domain": domain})


def load_api() -> t.Any:
    """libvirt's Python binding. It has no types, so it stays Any, and this is the one place that imports it."""
    try:
        api = importlib.import_module("libvirt")
    except ImportError as exc:
        raise MigrationError(
            f"{platform.node()}: {sys.executable} cannot import libvirt ({exc}). Install the distribution's package python3-libvirt on"
            " this host, and let ansible_python_interpreter name the interpreter that the package is for (usually /usr/bin/python3)",
            error_id="missing_library",
        ) from exc
    # Errors are raised as exceptions; without this the binding prints each of them to stderr too.
    api.registerErrorHandler(lambda _context, _error: None, None)
    return api


def bounded(function: t.Callable[[], Result], timeout_s: float, unreachable: str) -> Result:
    """Call ``function`` in a thread; MigrationError C(libvirt_unreachable) when it takes longer than ``timeout_s``.

    A call that hangs cannot be ended, only left behind: its thread is a daemon and ends with the process.
    """
    answers: queue.SimpleQueue[tuple[bool, t.Any]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put((True, function()))
        except Exception as exc:  # noqa: BLE001 (raised again where the answer is read)
            answers.put((False, exc))

    threading.Thread(target=ask, daemon=True).start()
    try:
        succeeded, answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise MigrationError(
            f"{unreachable} did not answer within {timeout_s:g} s", error_id="libvirt_unreachable", timed_out=True
        ) from None
    if not succeeded:
        raise answer
    return t.cast(Result, answer)


class Connection:
    """An open connection. ``handle`` is libvirt's own object."""

    def __init__(self, api: t.Any, handle: t.Any, uri: str, timeout_s: float) -> None:
        self.api = api
        self.handle = handle
        self.uri = uri
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return f"libvirt at {self.uri} (asked from {platform.node()})"

    def call(self, function: t.Callable[..., Result], *args: t.Any, timeout_s: float | None = None) -> Result:
        """One call of libvirt, in bounded time; raises LibvirtError."""
        return bounded(lambda: self.translate(function, *args), timeout_s or self.timeout_s, str(self))

    def translate(self, function: t.Callable[..., Result], *args: t.Any) -> Result:
        """The call itself, with libvirt's exception turned into ours."""
        try:
            return function(*args)
        except self.api.libvirtError as exc:
            raise LibvirtError(str(exc), int(exc.get_error_code() or 0), int(exc.get_error_domain() or 0), str(self)) from exc

    def find(self, name: str | None, uuid: str | None) -> t.Any:
        """libvirt's domain object, or None when there is no such domain."""
        try:
            return self.translate(self.handle.lookupByUUIDString, uuid) if uuid else self.translate(self.handle.lookupByName, name)
        except LibvirtError as exc:
            if exc.code == self.api.VIR_ERR_NO_DOMAIN:
                return None
            raise

    def close(self) -> None:
        """Closing asks the daemon too, so it may hang like everything else."""
        try:
            bounded(self.handle.close, CLOSE_TIMEOUT_S, str(self))
        except (MigrationError, self.api.libvirtError):
            return


_event_loop_lock = threading.Lock()
_event_loop_runs = False


def _run_event_loop(api: t.Any) -> None:
    """Keepalive messages and events need libvirt's event loop, which has to exist before the connection."""
    global _event_loop_runs
    with _event_loop_lock:
        if _event_loop_runs:
            return
        _event_loop_runs = True
    api.virEventRegisterDefaultImpl()

    def loop() -> None:
        while True:
            api.virEventRunDefaultImpl()

    threading.Thread(target=loop, daemon=True).start()


def open_connection(uri: str, timeout_s: float, *, watch: bool = False, api: t.Any = None) -> Connection:
    """Open ``uri`` in bounded time. With ``watch`` events arrive, and a dead daemon is noticed in the middle of a call."""
    api = api or load_api()
    if watch:
        _run_event_loop(api)
    where = f"libvirt at {uri} (asked from {platform.node()})"
    try:
        handle = bounded(lambda: api.open(uri), timeout_s, where)
    except api.libvirtError as exc:
        raise MigrationError(
            f"{where} cannot be reached: {exc}. Check that its daemon runs and listens there, and that this user may use it",
            error_id="libvirt_unreachable",
        ) from exc
    connection = Connection(api, handle, uri, timeout_s)
    if watch:
        try:
            handle.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
        except api.libvirtError:
            pass  # Not every driver has it; every call is bounded without it.
    return connection


__all__ = ("Connection", "LibvirtError", "bounded", "load_api", "open_connection")
