# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What one disk's source becomes on the destination, checked before anything is written into XML."""

from __future__ import annotations

import posixpath
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import no_mutual_chap, parse
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError

# libiscsi sends the number as the first two bytes of the SCSI address.
_MAX_LIBISCSI_LUN = 0xFFFF
_NOT_IN_A_NAME = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class BlockDestination:
    """A device that the host's kernel has."""

    path: str

    @property
    def same_as(self) -> frozenset[str]:
        """Names by which two disks on one device can be recognised."""
        return frozenset((self.path,))


@dataclass(frozen=True)
class IscsiDestination:
    """A LUN that QEMU opens itself."""

    address: str
    port: int
    iqn: str
    lun: int
    by_paths: tuple[str, ...]
    username: str | None
    secret_uuid: str | None
    secret_usage: str | None
    initiator_iqn: str | None

    @property
    def same_as(self) -> frozenset[str]:
        """Names by which two disks on one device can be recognised."""
        return frozenset(self.by_paths)


Destination = t.Union[BlockDestination, IscsiDestination]


def destination(name: str, value: t.Any) -> Destination:
    """Read one value of a device map; raises InputError with every problem of it."""
    if isinstance(value, str):
        return _block(name, value)
    if isinstance(value, t.Mapping):
        return _iscsi(name, value)
    raise InputError([f"{name} is mapped to {type(value).__name__}: give a device path or connection info"])


def _block(name: str, path: str) -> BlockDestination:
    device = path[len("/dev/") :] if path.startswith("/dev/") else ""
    if not device or posixpath.normpath(path) != path or _NOT_IN_A_NAME.search(path):
        raise InputError([f"{name} is mapped to {path!r}: give the absolute path of a device below /dev, without '..' or white space"])
    return BlockDestination(path)


def _iscsi(name: str, connection_info: t.Mapping[str, t.Any]) -> IscsiDestination:
    connection = parse(name, without_password(connection_info))
    path, reference = connection.paths[0], connection.libvirt
    problems: list[str] = []
    if path.lun > _MAX_LIBISCSI_LUN:
        problems.append(f"volume {name}: target_lun {path.lun} is beyond what QEMU's own initiator can address; use the kernel's")
    if connection.chap and connection.chap.mutual:
        problems.append(no_mutual_chap(name))
    if connection.chap and not (reference.secret_uuid or reference.secret_usage):
        problems.append(
            f"volume {name}: its target wants CHAP, and 'libvirt' beside 'data' names no secret;"
            " define a libvirt secret of type iscsi on the destination and give its secret_usage or secret_uuid"
        )
    result = IscsiDestination(
        address=path.address,
        port=path.port,
        iqn=path.iqn,
        lun=path.lun,
        by_paths=tuple(way.by_path for way in connection.paths),
        username=connection.chap.username if connection.chap else None,
        secret_uuid=reference.secret_uuid if connection.chap else None,
        secret_usage=reference.secret_usage if connection.chap else None,
        initiator_iqn=reference.initiator_iqn,
    )
    for what in ("iqn", "username", "secret_uuid", "secret_usage", "initiator_iqn"):
        text = getattr(result, what)
        if text and _NOT_IN_A_NAME.search(text.replace(" ", "")):
            problems.append(f"volume {name}: {what} holds a character that cannot be written into XML")
    if problems:
        raise InputError(problems)
    return result


def without_password(connection_info: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """XML refers to a secret of libvirt, so redacted connection info is as good here, and no password is looked at."""
    data = connection_info.get("data")
    if isinstance(data, t.Mapping) and data.get("auth_method") == "CHAP":
        other_direction = {"auth_password_in": "(not needed either)"} if data.get("auth_username_in") else {}
        data = {**data, "auth_password": "(not needed)", **other_direction}
    return {**connection_info, "data": data}


__all__ = ("BlockDestination", "Destination", "IscsiDestination", "destination", "without_password")
