# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""open_volume() and close_volume(): from connection info to a handle, and back.

A further backend is one file with a ``Kind`` in it, and a function here that imports it. What is not used is not imported, for that
would take longer than to copy an empty volume.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import VolumeHandle
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How, Kind


def _iscsi() -> Kind:
    from ansible_collections.lunshift.migration.plugins.module_utils._volume import iscsi

    return iscsi.ISCSI


def _local() -> Kind:
    from ansible_collections.lunshift.migration.plugins.module_utils._volume import block

    return block.LOCAL


def _rbd() -> Kind:
    from ansible_collections.lunshift.migration.plugins.module_utils._volume import rbd

    return rbd.RBD


_KINDS: dict[str, t.Callable[[], Kind]] = {"iscsi": _iscsi, "local": _local, "rbd": _rbd}


@dataclass(frozen=True)
class Request:
    """A parsed connection info that is known to be complete."""

    kind: Kind
    parsed: t.Any


def parse_volume(where: str, connection_info: t.Mapping[str, t.Any]) -> Request:
    """Read connection info without touching anything; raises InputError that names every problem."""
    driver = connection_info.get("driver_volume_type")
    get_kind = _KINDS.get(str(driver))
    if get_kind is None:
        raise InputError([f"{where}driver_volume_type is {driver!r}; it must be one of {', '.join(sorted(_KINDS))}"])
    kind = get_kind()
    return Request(kind, kind.parse(where, connection_info))


def open_volume(connection_info: t.Mapping[str, t.Any], how: How) -> VolumeHandle:
    """Open a volume; close_volume() gives back all that this took."""
    request = parse_volume("", connection_info)
    return VolumeHandle(request.kind.open(request.parsed, how), writable=how.writable)


def close_volume(handle: VolumeHandle) -> None:
    """Flush what was written and undo what opening did, also when flushing fails. A closed handle is left alone."""
    handle.close()


__all__ = ("How", "Kind", "Request", "close_volume", "open_volume", "parse_volume")
