# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""Connection info of an RBD image: which image, where its cluster is, and as whom.

The shape is Cinder's: C({driver_volume_type: rbd, data: {name: pool/image, hosts, ports, cluster_name, auth_enabled,
auth_username, keyring}}). C(name) may have a namespace between pool and image, and a snapshot behind an C(@). C(keyring) is the
text of a keyring file. Beside C(data) may stand C(ceph: {conf_path, keyring_path, snapshot}), for what Cinder has no word.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import struct
import typing as t
from dataclasses import dataclass, field

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._keyring import keys_by_entity

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_CEPH_KEYS = ("conf_path", "keyring_path", "snapshot")
# What a key begins with: its type, when it was made (seconds, nanoseconds), and how long the secret is.
_KEY_HEADER = struct.Struct("<HIIH")


@dataclass(frozen=True)
class Monitor:
    """Where a monitor listens. Without a port it is looked for at the usual ones."""

    host: str
    port: int | None

    def __str__(self) -> str:
        """As C(mon_host) takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host


@dataclass(frozen=True)
class RbdConnection:
    """A parsed connection info. ``monitors`` may be empty when there is a ``conf_path``; ``key`` is the user's own."""

    pool: str
    namespace: str
    image: str
    snapshot: str | None
    monitors: tuple[Monitor, ...]
    cluster_name: str
    user: str
    has_cephx: bool
    key: str | None = field(repr=False)
    conf_path: str | None
    keyring_path: str | None

    @property
    def spec(self) -> str:
        """The image as people write it."""
        image = "/".join(filter(None, (self.pool, self.namespace, self.image)))
        return f"{image}@{self.snapshot}" if self.snapshot else image


def parse(where: str, connection_info: t.Mapping[str, t.Any]) -> RbdConnection:
    """Read one connection info; raises InputError that names every problem at once, and no secret."""
    data = connection_info.get("data")
    if not isinstance(data, t.Mapping):
        raise InputError([f"{where}connection info has no mapping 'data'"])
    problems: list[str] = []
    extra = _extra(connection_info.get("ceph"), problems)
    pool, namespace, image, snapshot = _name(data.get("name"), extra.get("snapshot"), problems)
    monitors = _monitors(data.get("hosts"), data.get("ports"), problems)
    if not (monitors or extra.get("conf_path") or problems):
        problems.append("hosts is missing; name the cluster's monitors, or a ceph.conf as ceph.conf_path")
    user = _word(data, "auth_username", "admin", problems)
    has_cephx = data.get("auth_enabled") is not False
    connection = RbdConnection(
        pool=pool,
        namespace=namespace,
        image=image,
        snapshot=snapshot,
        monitors=monitors,
        cluster_name=_word(data, "cluster_name", "ceph", problems),
        user=user,
        has_cephx=has_cephx,
        key=_key(data.get("keyring"), f"client.{user}", problems) if has_cephx else None,
        conf_path=extra.get("conf_path"),
        keyring_path=extra.get("keyring_path"),
    )
    if connection.key and connection.keyring_path:
        problems.append("there are both keyring and ceph.keyring_path; give one of them")
    if problems:
        raise InputError([f"{where}{problem}" for problem in problems])
    return connection


def _extra(value: t.Any, problems: list[str]) -> dict[str, str]:
    """What stands beside C(data)."""
    if value is None:
        return {}
    if not isinstance(value, t.Mapping):
        problems.append("'ceph' beside 'data' is no mapping")
        return {}
    unknown = sorted(str(key) for key in value if key not in _CEPH_KEYS)
    if unknown:
        problems.append(f"'ceph' has unknown keys: {', '.join(unknown)}; there are: {', '.join(_CEPH_KEYS)}")
    given = {key: str(value[key]) for key in _CEPH_KEYS if value.get(key)}
    for key in ("conf_path", "keyring_path"):
        if not given.get(key, "/").startswith("/"):
            problems.append(f"ceph.{key} {given[key]!r} is no absolute path")
    return given


def _name(value: t.Any, snapshot: str | None, problems: list[str]) -> tuple[str, str, str, str | None]:
    """Pool, namespace, image and snapshot."""
    spec, at_sign, named = str(value or "").partition("@")
    parts = spec.split("/")
    if not 2 <= len(parts) <= 3 or not all(parts) or (at_sign and not named):
        problems.append(f"name is {value!r}; it must be POOL/IMAGE or POOL/NAMESPACE/IMAGE, with @SNAPSHOT or without")
        return "", "", "", None
    if named and snapshot and named != snapshot:
        problems.append(f"name has the snapshot {named}, and ceph.snapshot is {snapshot}")
    return parts[0], parts[1] if len(parts) == 3 else "", parts[-1], named or snapshot


def _monitors(hosts: t.Any, ports: t.Any, problems: list[str]) -> tuple[Monitor, ...]:
    for name, value in (("hosts", hosts), ("ports", ports)):
        if value and not isinstance(value, (list, tuple)):
            problems.append(f"{name} is no list")
            return ()
    if ports and len(ports) != len(hosts or ()):
        problems.append("hosts and ports differ in length")
        return ()
    found = []
    for host, port in zip(hosts or (), ports or [None] * len(hosts or ())):
        number = str(port) if port is not None else ""
        if number and not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
            problems.append(f"port {port!r} of {host} is no port number")
            continue
        text = str(host).strip()
        address = _address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
        if address is None:
            problems.append(f"host {host!r} is no address")
            continue
        found.append(Monitor(address, int(number) if number else None))
    return tuple(found)


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        # A last label of digits alone is no host name, but a mistyped IPv4 address.
        is_name = _HOST_NAME.fullmatch(text) and not text.rpartition(".")[2].isdigit()
        return text if is_name else None


def _word(data: t.Mapping[str, t.Any], name: str, default: str, problems: list[str]) -> str:
    value = str(data.get(name) or default)
    if not _WORD.fullmatch(value):
        problems.append(f"{name} {value!r} has characters that Ceph does not allow there")
    elif name == "auth_username" and value.startswith("client."):
        problems.append(f"{name} is {value!r}; write it without 'client.'")
    return value


def _key(keyring: t.Any, entity: str, problems: list[str]) -> str | None:
    """The user's key out of a keyring's text. Whatever is wrong with it, nothing of it is told but names."""
    if not keyring:
        return None
    keys = keys_by_entity(str(keyring))
    key = keys.get(entity)
    if key is None:
        known = ", ".join(sorted(filter(None, keys))) or "none"
        problems.append(f"keyring has no key of {entity}; it must be the text of a keyring file; keys in it: {known}")
    elif not _is_key(key):
        problems.append(f"keyring has a key of {entity} that is none: it is not what 'ceph auth get-key' prints")
    return key


def _is_key(text: str) -> bool:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(raw) >= _KEY_HEADER.size and _KEY_HEADER.unpack_from(raw)[3] == len(raw) - _KEY_HEADER.size


__all__ = ("Monitor", "RbdConnection", "parse")
