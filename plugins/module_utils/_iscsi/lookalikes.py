# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Disks that the kernel still takes for a volume which is not behind them any more.

Linux does not notice when an array takes a LUN away or gives its number to another volume. The old disk keeps the ids of
the volume that it was, and shares them with the real one.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.sg_inquiry import NoDiskError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.vpd import unit_serial_from_page80, wwid_from_page83


@dataclass(frozen=True)
class Lookalike:
    """``serial`` is the volume that the disk is no longer; ``behind`` says what is there instead."""

    disk: str
    serial: str
    behind: str

    def __str__(self) -> str:
        return (
            f"the kernel still takes {self.disk} for volume {self.serial}, but behind it is {self.behind}; it was left alone and is not"
            f" used for this volume. When nothing else uses it, remove it: echo 1 >/sys/block/{self.disk}/device/delete"
        )


def ids_on_record(host: Host, unit: str) -> tuple[str | None, str | None]:
    """WWID and unit serial as the kernel read them when it found the unit, whose directory in sysfs is given."""
    page83, page80 = host.read_bytes(f"{unit}/vpd_pg83"), host.read_bytes(f"{unit}/vpd_pg80")
    return wwid_from_page83(page83) if page83 else None, unit_serial_from_page80(page80) if page80 else None


def find_lookalikes(host: Host, volumes: t.Mapping[str, Identity], disks_of_volumes: t.Container[str]) -> list[Lookalike]:
    """The lookalikes of volumes (by serial) on this host. Only disks with the same ids on record are asked."""
    found = []
    for disk in host.names("/sys/class/block"):
        if not disk.startswith("sd") or disk in disks_of_volumes:
            continue
        recorded = ids_on_record(host, f"/sys/class/block/{disk}/device")
        serial = next((serial for serial, identity in volumes.items() if _shares_an_id(identity, recorded)), None)
        behind = _behind(host, disk, recorded) if serial is not None else None
        if serial is not None and behind is not None:
            found.append(Lookalike(disk, serial, behind))
    return found


def _shares_an_id(identity: Identity, recorded: tuple[str | None, str | None]) -> bool:
    """Ids that prove nothing do not count here either: every LUN of an array may have the same."""
    wwid, unit_serial = recorded
    return bool((identity.wwid_key and identity.wwid == wwid) or (identity.serial_key and identity.unit_serial == unit_serial))


def _behind(host: Host, disk: str, recorded: tuple[str | None, str | None]) -> str | None:
    """None when it is, or may be, what the kernel takes it for."""
    try:
        live = host.ask_unit(f"/dev/{disk}")
    except NoDiskError:
        return "no disk any more"
    except OSError:
        # No answer is no proof: it may be another volume with the same ids, whose session is down.
        return None
    return None if (live.wwid, live.unit_serial) == recorded else "another volume"


__all__ = ("Lookalike", "find_lookalikes", "ids_on_record")
