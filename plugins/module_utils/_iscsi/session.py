# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Sessions and their logical units, looked up by portal, target and LUN.

Only the asked ones are read: no walk over the LUNs of a session, so that the time does
not grow with what else the target offers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import IscsiPath, normal_address
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host

_SESSIONS = "/sys/class/iscsi_session"
_PLACE = re.compile(r"^(?P<base>.*/host(?P<host>\d+)/session(?P<sid>\d+))/iscsi_session/")
# Array controllers, enclosures and well-known units: every scan of the whole target brings them, no volume hides behind them.
_NO_VOLUME_TYPES = frozenset({"12", "13", "30", "31"})
_FLAT_ADDRESSING = 0x4000


@dataclass(frozen=True)
class Target:
    """One portal of one target: what a session is made with and a lock is held on."""

    address: str
    port: int
    iqn: str

    @property
    def portal(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def __str__(self) -> str:
        return f"{self.iqn} at {self.portal}"


@dataclass(frozen=True)
class Session:
    """A session of the kernel's initiator.

    ``base`` is its directory in sysfs, ``address`` and ``port`` are what it was made with; udev names devices by them.
    """

    sid: int
    address: str
    port: int
    host_number: int
    target_id: int
    state: str
    base: str

    @property
    def logged_in(self) -> bool:
        return self.state == "LOGGED_IN"


@dataclass(frozen=True)
class Unit:
    """A logical unit that the kernel knows. ``lun`` is the kernel's number, ``base`` the directory in sysfs."""

    lun: int
    base: str


def target_of(path: IscsiPath) -> Target:
    return Target(address=path.address, port=path.port, iqn=path.iqn)


def sessions_of(host: Host, target: Target) -> list[Session]:
    """The sessions of one portal of one target, oldest first."""
    found = (_session(host, name, target) for name in host.names(_SESSIONS))
    return sorted((session for session in found if session), key=lambda session: session.sid)


def _session(host: Host, name: str, target: Target) -> Session | None:
    directory = f"{_SESSIONS}/{name}"
    if host.read(f"{directory}/targetname") != target.iqn:
        return None
    place = _PLACE.match(host.resolve(directory) + "/")
    if not place:
        return None
    portals = _portals(host, place["base"], place["sid"])
    if (plain_address(target.address), target.port) not in [(plain_address(address), port) for address, port in portals]:
        return None
    address, port = portals[0]
    return Session(
        sid=int(place["sid"]),
        address=address,
        port=port,
        host_number=int(place["host"]),
        target_id=int(host.read(f"{directory}/target_id") or 0),
        state=host.read(f"{directory}/state") or "",
        base=place["base"],
    )


def _portals(host: Host, base: str, sid: str) -> list[tuple[str, int]]:
    """What the session was made with, and what it is connected to: that differs for a host name and after a login redirect."""
    connection = f"{base}/connection{sid}:0/iscsi_connection/connection{sid}:0"
    portals = []
    for prefix in ("persistent_", ""):
        address, port = host.read(f"{connection}/{prefix}address"), host.read(f"{connection}/{prefix}port")
        if address and port and port.isdigit():
            portals.append((address.strip("[]"), int(port)))
    return portals


def plain_address(address: str) -> str:
    """The one spelling for comparisons: an IPv6 address has many, and open-iscsi keeps the one that it was given."""
    return normal_address(address).lower()


def kernel_luns(lun: int) -> tuple[int, ...]:
    """The numbers under which Linux may know a LUN, the likely one first.

    From 256 on a LUN needs flat addressing (SAM-5 4.7.7.3), which Linux keeps as a part of the
    number: LUN 271 is 16655. A few arrays use the plain two bytes instead.
    """
    return (lun,) if lun < 256 or lun >= _FLAT_ADDRESSING else (lun | _FLAT_ADDRESSING, lun)


def by_path_of(session: Session, target: Target, unit: Unit) -> str:
    """The name that udev gives the unit's disk."""
    return IscsiPath(address=session.address, port=session.port, iqn=target.iqn, lun=unit.lun).by_path


def unit_of(host: Host, session: Session, lun: int) -> Unit | None:
    """The unit with this LUN on a session, if the kernel knows it."""
    place = f"{session.host_number}:0:{session.target_id}"
    for number in kernel_luns(lun):
        base = f"{session.base}/target{place}/{place}:{number}"
        if host.exists(base):
            return Unit(lun=number, base=base)
    return None


def volumes_on(host: Host, session: Session) -> list[str]:
    """The H:C:T:L names of every volume that the session carries."""
    place = f"{session.host_number}:0:{session.target_id}"
    directory = f"{session.base}/target{place}"
    return [
        name
        for name in host.names(directory)
        if name.startswith(f"{place}:") and host.read(f"{directory}/{name}/type") not in _NO_VOLUME_TYPES
    ]


def disk_of(host: Host, unit: Unit) -> str | None:
    """The kernel name of the unit's disk (sdX), None while it has none."""
    names = host.names(f"{unit.base}/block")
    return names[0] if names else None


__all__ = (
    "Session",
    "Target",
    "Unit",
    "by_path_of",
    "disk_of",
    "kernel_luns",
    "plain_address",
    "sessions_of",
    "target_of",
    "unit_of",
    "volumes_on",
)
