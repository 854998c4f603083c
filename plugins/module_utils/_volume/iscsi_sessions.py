# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""A bounded number of sessions to one LUN, each of them for one command at a time.

One that broke off is not replaced: what the target did with its last command is not known, nor whether it restarted and lost what its
cache held. Nobody gets a session from then on. So that none breaks off for want of use, as targets ask whether an initiator is still
there and libiscsi answers only while a command runs, idle ones send a command now and then.
"""

from __future__ import annotations

import threading
import time
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.libiscsi import CommandError, LoginError, Session, SessionLost
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.pool import run_bounded

# Targets wait for an answer for 15 seconds or more.
_PING_S = 5.0

_Result = t.TypeVar("_Result")


class SessionPool:
    """Begins with one open session; ``log_in`` makes a further one when all are busy, ``ping`` sends the least of commands."""

    def __init__(self, first: Session, log_in: t.Callable[[], Session], ping: t.Callable[[Session], None], limit: int) -> None:
        self._log_in = log_in
        self._ping = ping
        self._limit = limit
        self._made = 1
        # The one that was used last is used first, so that an idle copy needs no more than one.
        self._idle = [(first, time.monotonic())]
        self._cause: str | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._pinging = threading.Thread(target=self._ping_idle, daemon=True)
        self._pinging.start()

    def run(self, work: t.Callable[[Session], _Result]) -> _Result:
        """Call ``work`` with a session of its own. A refused command is no harm to the session, anything else ends the pool."""
        session = self._borrow()
        try:
            result = work(session)
        except CommandError:
            self._give_back(session)
            raise
        except BaseException as exc:
            self._fail(exc)
            session.close()
            raise
        self._give_back(session)
        return result

    def close(self, timeout_s: float) -> None:
        """Log out of all sessions, side by side. One that is busy is logged out by its thread; one that hangs is left behind."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._closed = True
            self._ended.set()
            going, self._idle = [session for session, _since in self._idle], []
            self._changed.notify_all()
        run_bounded(going, Session.close, deadline=deadline, late=None)
        self._pinging.join(max(0.0, deadline - time.monotonic()))

    def _borrow(self) -> Session:
        while True:
            with self._changed:
                while not self._idle and self._made >= self._limit and not self._cause and not self._closed:
                    self._changed.wait()
                if self._closed:
                    raise SessionLost("the volume is closed", error_id="session_lost")
                if self._cause:
                    raise SessionLost(f"given up, for another request failed: {self._cause}", error_id="session_lost")
                if self._idle:
                    return self._idle.pop()[0]
                self._made += 1
            session = self._make()
            if session:
                return session

    def _make(self) -> Session | None:
        """A further session; None when the target lets no more in, so that there are as many as there are."""
        try:
            return self._log_in()
        except LoginError:
            with self._changed:
                self._made -= 1
                self._limit = max(1, self._made)
                self._changed.notify_all()
            return None
        except BaseException as exc:
            self._fail(exc)
            raise

    def _give_back(self, session: Session) -> None:
        with self._changed:
            closed = self._closed
            if not closed:
                self._idle.append((session, time.monotonic()))
                self._changed.notify()
        if closed:
            session.close()

    def _ping_idle(self) -> None:
        while not self._ended.wait(_PING_S):
            before = time.monotonic() - _PING_S / 2
            session = self._resting(before)
            while session:
                try:
                    self._ping(session)
                except CommandError:
                    # The unit is not ready or the like; somebody was there to say so.
                    pass
                except Exception as exc:  # noqa: BLE001  (whoever comes next for a session is told)
                    self._fail(exc)
                    session.close()
                    return
                self._give_back(session)
                session = self._resting(before)

    def _resting(self, before: float) -> Session | None:
        """Take a session that nobody used since then."""
        with self._changed:
            if self._idle and self._idle[0][1] <= before:
                return self._idle.pop(0)[0]
        return None

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._made -= 1
            self._ended.set()
            self._cause = self._cause or (str(error) if isinstance(error, MigrationError) else repr(error))
            self._changed.notify_all()


__all__ = ("SessionPool",)
