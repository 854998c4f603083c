# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""iSCSI volumes: which of the two initiators opens one.

The connection info is Cinder's, with C(initiator) beside C(data): C(kernel), the default, attaches a device to this host, C(libiscsi)
logs in from this process.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import IscsiConnection, parse_at, redact
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import libiscsi
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.request import KERNEL, LIBISCSI
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import Backend
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How, Kind


@dataclass(frozen=True)
class IscsiRequest:
    """A parsed connection info. ``redacted_info`` is the same without secrets."""

    initiator: str
    connection: IscsiConnection
    redacted_info: t.Mapping[str, t.Any]


def _parse(where: str, connection_info: t.Mapping[str, t.Any]) -> IscsiRequest:
    problems: list[str] = []
    initiator = connection_info.get("initiator") or KERNEL
    if initiator not in (KERNEL, LIBISCSI):
        problems.append(f"{where}initiator is {initiator!r}; it must be {KERNEL} or {LIBISCSI}")
    try:
        connection = parse_at(where, connection_info)
    except InputError as exc:
        raise InputError([*problems, *exc.details["problems"]]) from exc
    if initiator == LIBISCSI:
        too_large = {path.lun for path in connection.paths if path.lun > libiscsi.MAX_LUN}
        problems += [f"{where}target_lun is {lun}; libiscsi cannot address a LUN above {libiscsi.MAX_LUN}" for lun in sorted(too_large)]
    if problems:
        raise InputError(problems)
    return IscsiRequest(str(initiator), connection, redact(connection_info))


def _open(request: IscsiRequest, how: How) -> Backend:
    # Imported when it is needed: the kernel's initiator takes longer to import than an empty volume to copy.
    if request.initiator == LIBISCSI:
        from ansible_collections.lunshift.migration.plugins.module_utils._volume import iscsi_user

        return iscsi_user.open_user(request.connection, how)
    from ansible_collections.lunshift.migration.plugins.module_utils._volume import iscsi_kernel

    return iscsi_kernel.open_kernel(request.connection, request.redacted_info, how)


ISCSI = Kind(parse=_parse, open=_open)

__all__ = ("ISCSI", "IscsiRequest")
