# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""A volume behind iSCSI in user space, through libiscsi: no device on this host, no rights but to connect.

Nothing is cached here. A read is answered by the logical unit from whatever it holds, its write cache included, and that is the
storage. So reads need no FUA, not even those that verify: what they must not come from is the memory of this host.
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import IscsiConnection, IscsiPath
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import connector, libiscsi, probe
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import address_of
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import (
    UNKNOWN,
    Backend,
    Extent,
    Facts,
    VolumeError,
    VolumeIOError,
)
from ansible_collections.lunshift.migration.plugins.module_utils._volume.iscsi_lun import Lun, look
from ansible_collections.lunshift.migration.plugins.module_utils._volume.iscsi_sessions import SessionPool
from ansible_collections.lunshift.migration.plugins.module_utils._volume.iscsi_zeroing import Zeroing
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How
from ansible_collections.lunshift.migration.plugins.module_utils._volume.scsi_identity import name_behind_iscsi

_REQUEST_BYTES = 1 << 20
_REQUEST_MULTIPLE = 64 << 10
_REQUESTS = 8
# What is left unknown after an answer without sense, before the target is asked again.
_UNKNOWN_STEP_BYTES = 1 << 30

_Result = t.TypeVar("_Result")


def open_user(connection: IscsiConnection, how: How, *, load: t.Callable[[], t.Any] = libiscsi.load, root: str = "/") -> IscsiUserVolume:
    """Log in, and make sure that a volume is there which can be used as asked."""
    library = load()
    initiator_iqn = connection.libvirt.initiator_iqn or connector.initiator_name(root)
    if not initiator_iqn:
        raise VolumeError(
            "there is no initiator name that this user can read in /etc/iscsi/initiatorname.iscsi; give the one that the target lets in"
            " as initiator_iqn of 'libvirt' beside 'data' in the connection info",
            error_id="volume_unusable",
        )

    def log_in(way: IscsiPath) -> libiscsi.Session:
        # The library itself would wait for minutes.
        cause = probe.why_unreachable((way.address, way.port))
        if cause:
            raise libiscsi.PortalSilent(f"portal {way.portal}: {cause}", error_id="portal_silent")
        session = libiscsi.Session(library, way, initiator_iqn, connection.chap, how.timeout_s)
        session.open()
        return session

    session, way = _first_session(connection, log_in)
    try:
        lun = look(session, way)
        if how.writable and lun.is_write_protected(session):
            raise VolumeError(f"{lun.name} is write-protected; export it for writing to this host", error_id="volume_unusable")
    except BaseException:
        session.close()
        raise
    return IscsiUserVolume(lun, name_behind_iscsi(connection, lun.identity), session, functools.partial(log_in, way), how.timeout_s)


def _first_session(connection: IscsiConnection, log_in: t.Callable[[IscsiPath], libiscsi.Session]) -> tuple[libiscsi.Session, IscsiPath]:
    """By the first path on which somebody answers. A refusal is an answer."""
    causes = []
    for way in connection.paths:
        try:
            return log_in(way), way
        except libiscsi.PortalSilent as exc:
            causes.append(str(exc))
    first = connection.paths[0]
    raise VolumeError(
        f"no portal of LUN {first.lun} of {first.iqn} can be reached from this host ({'; '.join(causes)});"
        " check the storage network and the target",
        error_id="not_reachable",
    )


def _suitable(limit_bytes: int) -> int:
    """As much as a unit with this limit (0: none) takes at once; a multiple that suits the other side of a copy, if there is one."""
    if not limit_bytes or limit_bytes > _REQUEST_BYTES:
        return _REQUEST_BYTES
    return limit_bytes - limit_bytes % _REQUEST_MULTIPLE or limit_bytes


class IscsiUserVolume(Backend):
    """An open LUN. ``log_in`` makes a further session to it."""

    def __init__(
        self, lun: Lun, identity: str, session: libiscsi.Session, log_in: t.Callable[[], libiscsi.Session], timeout_s: int
    ) -> None:
        self._lun = lun
        self._log_in = log_in
        self._timeout_s = timeout_s
        self._request_bytes = _suitable(lun.limits.transfer * lun.block_bytes)
        self._zeroing = Zeroing(lun, self._request_bytes)
        self._tells_status = lun.reads_zeros
        self._sessions = SessionPool(self._watched(session), self._further_session, lun.ping, _REQUESTS)
        self.facts = Facts(
            name=lun.name,
            identity=identity,
            size_bytes=lun.identity.size_bytes,
            logical_block_bytes=lun.block_bytes,
            physical_block_bytes=lun.identity.physical_block_bytes,
            request_bytes=self._request_bytes,
            requests=_REQUESTS,
            can_unmap=self._zeroing.can_unmap,
        )

    def read_into(self, view: memoryview, offset: int) -> None:
        for start, length in self._requests(len(view)):
            address = address_of(view[start : start + length])
            self._run(
                "read", offset + start, length, functools.partial(self._lun.read, offset=offset + start, address=address, length=length)
            )

    def write_from(self, view: memoryview, offset: int) -> None:
        for start, length in self._requests(len(view)):
            address = address_of(view[start : start + length])
            self._run(
                "write", offset + start, length, functools.partial(self._lun.write, offset=offset + start, address=address, length=length)
            )

    def zero(self, offset: int, length: int) -> None:
        block = self._lun.block_bytes
        for lba, count, may_unmap in self._zeroing.pieces(offset, length):
            work = functools.partial(self._zeroing.zero, lba=lba, count=count, may_unmap=may_unmap)
            self._run("zero", lba * block, count * block, work)

    def extents(self, offset: int, length: int) -> t.Iterator[Extent]:
        position, end = offset, offset + length
        while position < end:
            found = self._statuses(position, end - position)
            for extent in found:
                yield Extent(position, min(extent.end, end) - position, extent.kind)
                position = min(extent.end, end)
                if position == end:
                    return
            if not found:
                step = min(_UNKNOWN_STEP_BYTES if self._tells_status else length, end - position)
                yield Extent(position, step, UNKNOWN)
                position += step

    def flush(self) -> None:
        # One session is enough, for the cache is the unit's. Not every target tells that a LUN number went to another volume; nothing
        # is called done before that was asked.
        def flush(session: libiscsi.Session) -> None:
            self._lun.prove(session)
            self._lun.flush(session)

        self._run("flush", 0, self.facts.size_bytes, flush)

    def drop_caches(self) -> None:
        """There are none; see the head of this file."""

    def users(self) -> list[str] | None:
        """A target does not tell an initiator who else is logged in."""
        return None

    def close(self) -> None:
        self._sessions.close(self._timeout_s)

    def _statuses(self, offset: int, length: int) -> list[Extent]:
        if not self._tells_status:
            return []
        try:
            return self._run("get the status of", offset, length, lambda session: list(self._lun.statuses(session, offset)))
        except VolumeIOError as exc:
            if not isinstance(exc.__cause__, libiscsi.CommandError):
                raise
            self._tells_status = False
            return []

    def _requests(self, length: int) -> t.Iterator[tuple[int, int]]:
        for start in range(0, length, self._request_bytes):
            yield start, min(self._request_bytes, length - start)

    def _run(self, action: str, offset: int, length: int, work: t.Callable[[libiscsi.Session], _Result]) -> _Result:
        try:
            return self._sessions.run(work)
        except MigrationError as exc:
            raise VolumeIOError(action, self.facts.name, offset, length, str(exc)) from exc

    def _further_session(self) -> libiscsi.Session:
        session = self._log_in()
        try:
            self._lun.prove(session)
        except BaseException:
            session.close()
            raise
        return self._watched(session)

    def _watched(self, session: libiscsi.Session) -> libiscsi.Session:
        """The LUN number may go to another volume while it is open; the target tells of a change by a unit attention."""
        session.on_attention = functools.partial(self._lun.prove, session)
        return session


__all__ = ("IscsiUserVolume", "open_user")
