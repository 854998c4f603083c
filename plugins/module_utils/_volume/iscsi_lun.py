# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""A logical unit behind an open session: what it is, and what one command of the block kind does to it."""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import IscsiPath
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import block_commands, probe
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.libiscsi import CommandError, Session
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import DATA, UNKNOWN, ZERO, Extent, VolumeError

# A target may have minutes of writing in its cache.
_FLUSH_TIMEOUT_S = 600
_MODE_PAGES = (0x3F, 0x08)
_KINDS = {
    block_commands.MAPPED: DATA,
    block_commands.DEALLOCATED: ZERO,
    block_commands.ANCHORED: ZERO,
    block_commands.WRITTEN: DATA,
}


@dataclass(frozen=True)
class Lun:
    """What is known of it after the login.

    ``reads_zeros``: a block without space reads as zeros. Without that promise neither its status nor UNMAP tells of zeros.
    """

    way: IscsiPath
    identity: Identity
    limits: block_commands.Limits
    provisioning: block_commands.Provisioning
    reads_zeros: bool

    @property
    def name(self) -> str:
        return f"LUN {self.way.lun} of {self.way.iqn} at portal {self.way.portal}"

    @property
    def block_bytes(self) -> int:
        return self.identity.logical_block_bytes

    def read(self, session: Session, offset: int, address: int, length: int) -> None:
        request = block_commands.read16(offset // self.block_bytes, length // self.block_bytes)
        session.read_into(self.way.lun, request, address, length)

    def write(self, session: Session, offset: int, address: int, length: int) -> None:
        request = block_commands.write16(offset // self.block_bytes, length // self.block_bytes)
        session.write_from(self.way.lun, request, address, length)

    def flush(self, session: Session) -> None:
        """All that any session wrote. A unit without a write cache need not know the commands."""
        for request in (block_commands.synchronize_cache16(), block_commands.synchronize_cache10()):
            try:
                session.order(self.way.lun, request, timeout_s=_FLUSH_TIMEOUT_S)
                return
            except CommandError as exc:
                if not exc.is_unsupported:
                    raise
                refusal = exc
        if self._has_write_cache(session):
            raise refusal

    def statuses(self, session: Session, offset: int) -> t.Iterator[Extent]:
        """As much as one answer tells of what begins at ``offset``, without a gap; nothing if the answer makes no sense."""
        lba = offset // self.block_bytes
        answer = session.command(self.way.lun, block_commands.get_lba_status(lba), block_commands.LBA_STATUS_BYTES)
        for found in block_commands.parse_lba_status(answer):
            end = found.lba + found.count
            if not found.lba <= lba < end:
                return
            yield Extent(lba * self.block_bytes, (end - lba) * self.block_bytes, _KINDS.get(found.status, UNKNOWN))
            lba = end

    def ping(self, session: Session) -> None:
        session.order(self.way.lun, block_commands.test_unit_ready())

    def prove(self, session: Session) -> None:
        """Raise unless the unit behind a session is still this one."""
        answer = probe.identify(session, self.way)
        if answer.identity == self.identity:
            return
        cause = answer.problem
        if answer.identity:
            before, now = asdict(self.identity), asdict(answer.identity)
            cause = "; ".join(f"{key} is {now[key]!r}, it was {before[key]!r}" for key in before if now[key] != before[key])
        raise VolumeError(f"{self.name} is no longer what was opened: {cause}; look at the target's export", error_id="identity_mismatch")

    def is_write_protected(self, session: Session) -> bool:
        """A unit that tells nothing is taken for writable: its refusal of the first write says the same."""
        for page in _MODE_PAGES:
            try:
                return block_commands.is_write_protected(self._mode(session, page))
            except CommandError:
                continue
        return False

    def _has_write_cache(self, session: Session) -> bool:
        try:
            return block_commands.has_write_cache(self._mode(session, block_commands.CACHING_PAGE))
        except CommandError:
            return False

    def _mode(self, session: Session, page: int) -> bytes:
        return session.command(self.way.lun, block_commands.mode_sense6(page), block_commands.MODE_BYTES)


def look(session: Session, way: IscsiPath) -> Lun:
    """Ask for everything; raises VolumeError when it is no volume."""
    answer = probe.identify(session, way)
    capacity = probe.read_capacity(session, way.lun) if answer.identity else None
    # An empty unit has no last block; targets answer with the number before 0.
    if not answer.identity or not capacity or capacity.size_bytes > 1 << 63:
        no_size = f"LUN {way.lun} of {way.iqn} at portal {way.portal} has no size; give it one on the target"
        raise VolumeError(answer.problem or no_size, error_id="volume_unusable")
    return Lun(
        way=way,
        identity=answer.identity,
        limits=block_commands.parse_limits(probe.vpd_page(session, way.lun, 0xB0)),
        provisioning=block_commands.parse_provisioning(probe.vpd_page(session, way.lun, 0xB2)),
        reads_zeros=capacity.is_thin and capacity.reads_zeros,
    )


__all__ = ("Lun", "look")
