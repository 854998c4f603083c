# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Connection info: how one host reaches one volume, in the form that Cinder gives it.

The shape is C({driver_volume_type: iscsi, data: {target_portal, target_iqn, target_lun,
target_portals, target_iqns, target_luns, auth_method, auth_username, auth_password}}).
C(auth_username_in) and C(auth_password_in), with which the target proves itself in turn, are
named after open-iscsi's settings: Cinder has no word for them.
For QEMU's own initiator C(libvirt: {secret_uuid, secret_usage, initiator_iqn}) may stand
beside C(data).
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._keyring import keys_by_entity

DEFAULT_PORT = 3260
# SAM-5 flat and extended addressing: what Linux accepts as a LUN on its scan interface.
MAX_LUN = 0xFFFFFFFF
SECRET_KEYS = ("auth_password", "auth_password_in", "discovery_auth_password", "keyring")

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
# Looser than RFC 3720 about the date of an IQN: targets without one exist, and initiators log in to them.
_TARGET_NAME = re.compile(r"(iqn|eui|naa)\.[^\s/,]+")


@dataclass(frozen=True)
class IscsiPath:
    """One way to one LUN: portal, target and LUN number."""

    address: str
    port: int
    iqn: str
    lun: int

    @property
    def portal(self) -> str:
        """C(address:port), with brackets around an IPv6 address, as open-iscsi takes it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def by_path(self) -> str:
        """The name that udev gives the device (systemd's path_id; no brackets around IPv6)."""
        return f"/dev/disk/by-path/ip-{self.address}:{self.port}-iscsi-{self.iqn}-lun-{by_path_lun(self.lun)}"


@dataclass(frozen=True)
class Chap:
    """CHAP credentials. ``_in``: what the target has to prove itself with. Passwords never show in a representation."""

    username: str
    password: str = field(repr=False)
    username_in: str | None = None
    password_in: str | None = field(default=None, repr=False)

    @property
    def mutual(self) -> bool:
        return self.username_in is not None


@dataclass(frozen=True)
class LibvirtReference:
    """What a libiscsi disk needs from libvirt on its host; never a password."""

    secret_uuid: str | None = None
    secret_usage: str | None = None
    initiator_iqn: str | None = None


@dataclass(frozen=True)
class IscsiConnection:
    """A parsed connection info. ``paths`` has at least one entry, the first is the main one."""

    paths: tuple[IscsiPath, ...]
    chap: Chap | None
    libvirt: LibvirtReference


def by_path_lun(lun: int) -> str:
    """The LUN as systemd's path_id writes it: decimal, or hexadecimal from 256 on."""
    return str(lun) if lun < 256 else f"0x{_scsi_lun_bytes(lun):016x}"


def _scsi_lun_bytes(lun: int) -> int:
    """The 8-byte SAM LUN of Linux' 32-bit number (int_to_scsilun of the kernel)."""
    result = 0
    for index in range(4):
        result |= ((lun >> (16 * index)) & 0xFFFF) << (48 - 16 * index)
    return result


def parse_portal(portal: str) -> tuple[str, int]:
    """Split C(host:port), C([ipv6]:port) or a bare address; raises ValueError with a sentence."""
    text = portal.strip()
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"portal {portal!r} has no closing bracket after its IPv6 address")
        port_text = rest[1:]
    elif text.count(":") > 1:
        address, port_text = text, ""
    else:
        address, _colon, port_text = text.partition(":")
    if port_text and not (_is_number(port_text) and 0 < int(port_text) < 65536):
        raise ValueError(f"portal {portal!r} has no usable port number")
    try:
        address = str(ipaddress.ip_address(address))
    except ValueError:
        # A last label of digits alone is no host name, but a mistyped IPv4 address.
        if ":" in address or not _HOST_NAME.fullmatch(address) or _is_number(address.rpartition(".")[2]):
            raise ValueError(f"portal {portal!r} has no usable address") from None
    return address, int(port_text) if port_text else DEFAULT_PORT


def normal_address(address: str) -> str:
    """One spelling for every IPv6 address, for the kernel writes all zeros out, and people as they like; a host name stays."""
    try:
        return str(ipaddress.ip_address(address.strip("[]")))
    except ValueError:
        return address


def _is_number(text: str) -> bool:
    """Whether int() takes the text; isdigit() alone is also true for superscripts, which it refuses."""
    return text.isascii() and text.isdigit()


def parse(serial: str, connection_info: t.Mapping[str, t.Any]) -> IscsiConnection:
    """Read one connection info; raises InputError that names every problem at once."""
    return parse_at(f"volume {serial}: ", connection_info)


def parse_at(where: str, connection_info: t.Mapping[str, t.Any]) -> IscsiConnection:
    """The same; ``where`` is how each sentence begins."""
    data = connection_info.get("data")
    problems: list[str] = []
    driver = connection_info.get("driver_volume_type")
    if driver != "iscsi":
        problems.append(f"{where}driver_volume_type is {driver!r}, only 'iscsi' can be used here")
    if not isinstance(data, t.Mapping):
        problems.append(f"{where}connection info has no mapping 'data'")
        raise InputError(problems)
    paths = _paths(where, data, problems)
    chap = _chap(where, data, problems)
    reference = _libvirt_reference(where, connection_info.get("libvirt"), problems)
    if problems:
        raise InputError(problems)
    return IscsiConnection(paths=paths, chap=chap, libvirt=reference)


def _columns(where: str, data: t.Mapping[str, t.Any], problems: list[str]) -> list[list[t.Any]]:
    """Portals, target names and LUNs, from the lists or from the single values; empty when they do not go together."""
    columns: list[list[t.Any]] = []
    for plural, single in (("target_portals", "target_portal"), ("target_iqns", "target_iqn"), ("target_luns", "target_lun")):
        value = data.get(plural)
        if value and not isinstance(value, (list, tuple)):
            problems.append(f"{where}{plural} is no list")
            return []
        column = list(value) if value else [data.get(single)]
        if None in column:
            problems.append(f"{where}{plural} has an empty entry" if value else f"{where}{single} is missing")
        columns.append(column)
    if len({len(column) for column in columns}) != 1:
        problems.append(f"{where}target_portals, target_iqns and target_luns differ in length")
        return []
    return columns


def _paths(where: str, data: t.Mapping[str, t.Any], problems: list[str]) -> tuple[IscsiPath, ...]:
    paths: list[IscsiPath] = []
    for portal, iqn, lun in zip(*_columns(where, data, problems)):
        if None in (portal, iqn, lun):
            continue
        try:
            address, port = parse_portal(str(portal))
        except ValueError as exc:
            problems.append(f"{where}{exc}")
            continue
        if not _TARGET_NAME.fullmatch(str(iqn)):
            problems.append(f"{where}target_iqn {iqn!r} is no iSCSI name")
            continue
        if isinstance(lun, bool) or not _is_number(str(lun)) or int(lun) > MAX_LUN:
            problems.append(f"{where}target_lun {lun!r} is no LUN number")
            continue
        path = IscsiPath(address=address, port=port, iqn=str(iqn), lun=int(lun))
        if path not in paths:
            paths.append(path)
    return tuple(paths)


def _chap(where: str, data: t.Mapping[str, t.Any], problems: list[str]) -> Chap | None:
    method = data.get("auth_method")
    username_in, password_in = data.get("auth_username_in") or None, data.get("auth_password_in") or None
    if method in (None, "", "None"):
        if username_in or password_in:
            problems.append(f"{where}auth_username_in and auth_password_in count only with auth_method CHAP")
        return None
    if method != "CHAP":
        problems.append(f"{where}auth_method {method!r} is not known, only CHAP is")
        return None
    username, password = data.get("auth_username"), data.get("auth_password")
    if not username or not password:
        problems.append(f"{where}auth_method is CHAP, but auth_username or auth_password is missing")
        return None
    if bool(username_in) != bool(password_in):
        problems.append(f"{where}auth_username_in and auth_password_in go together, but one of them is missing")
        return None
    if password_in is not None and str(password_in) == str(password):
        # RFC 7143, 12.1.3; whoever knows one of them could play both parts.
        problems.append(f"{where}auth_password_in is the same as auth_password, which CHAP forbids; give the target a secret of its own")
        return None
    if any(character in f"{username}{password}{username_in}{password_in}" for character in "\r\n\0"):
        # They are written into a line-based node record.
        problems.append(f"{where}auth_username, auth_password or one of those for the other direction holds a line break")
        return None
    back = {"username_in": str(username_in), "password_in": str(password_in)} if username_in else {}
    return Chap(username=str(username), password=str(password), **back)


def no_mutual_chap(serial: str) -> str:
    """The sentence for a volume of libiscsi, which sends the target no challenge."""
    return (
        f"volume {serial}: auth_username_in asks that the target proves itself, which QEMU's own initiator cannot check;"
        " use the kernel's initiator, or leave auth_username_in and auth_password_in out where QEMU opens the volume"
    )


def _libvirt_reference(where: str, value: t.Any, problems: list[str]) -> LibvirtReference:
    if value is None:
        return LibvirtReference()
    if not isinstance(value, t.Mapping):
        problems.append(f"{where}'libvirt' beside 'data' is no mapping")
        return LibvirtReference()
    known = ("secret_uuid", "secret_usage", "initiator_iqn")
    unknown = sorted(set(value) - set(known))
    if unknown:
        problems.append(f"{where}'libvirt' has unknown keys: {', '.join(unknown)}")
    if value.get("secret_uuid") and value.get("secret_usage"):
        problems.append(f"{where}'libvirt' names the secret by both secret_uuid and secret_usage")
    return LibvirtReference(**{key: str(value[key]) for key in known if value.get(key)})


def secrets_of(connection_info: t.Any) -> set[str]:
    """Every secret in a connection info, for masking. Takes any shape, for it runs before validation."""
    found: set[str] = set()
    if isinstance(connection_info, t.Mapping):
        for key, value in connection_info.items():
            if key in SECRET_KEYS and value:
                found.add(str(value))
                # A keyring is a text with names and keys; what has to be hidden wherever it stands are the keys.
                found.update(keys_by_entity(str(value)).values() if key == "keyring" else ())
            else:
                found |= secrets_of(value)
    elif isinstance(connection_info, (list, tuple)):
        for value in connection_info:
            found |= secrets_of(value)
    return found


def redact(connection_info: t.Any) -> t.Any:
    """The same structure without secrets, in plain types; what records, results and filters may hold."""
    if isinstance(connection_info, t.Mapping):
        return {str(key): redact(value) for key, value in connection_info.items() if key not in SECRET_KEYS}
    if isinstance(connection_info, (list, tuple)):
        return [redact(value) for value in connection_info]
    return connection_info


__all__ = (
    "Chap",
    "IscsiConnection",
    "IscsiPath",
    "LibvirtReference",
    "by_path_lun",
    "no_mutual_chap",
    "normal_address",
    "parse",
    "parse_at",
    "parse_portal",
    "redact",
    "secrets_of",
)
