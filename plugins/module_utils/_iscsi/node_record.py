# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""open-iscsi's node record of one portal and target: a file of settings, mode 0600.

iscsiadm takes a CHAP password only as an argument, which every user of the host can read
while it runs. So settings are written into the record itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import typing as t
from dataclasses import replace

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import Chap
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.session import Target, plain_address

# Debian keeps them below /etc, RHEL below /var/lib.
_DATABASES = ("/etc/iscsi/nodes", "/var/lib/iscsi/nodes")
_INTERFACE = "default"
_END = "# END RECORD"
SCAN = "node.session.scan"
STARTUP = "node.startup"
LOGIN_TRIES = "node.session.initial_login_retry_max"
LOGIN_TIMEOUT = "node.conn[0].timeo.login_timeout"


def find(host: Host, target: Target) -> str | None:
    """The record's file: C(ADDRESS,PORT) while the portal group is unknown, C(ADDRESS,PORT,TPGT/default) after a discovery."""
    for directory, name in _records(host, target):
        place = f"{directory}/{name}"
        candidate = f"{place}/{_INTERFACE}" if os.path.isdir(host.at(place)) else place
        if host.exists(candidate):
            return candidate
    return None


def as_recorded(host: Host, target: Target) -> Target:
    """The target with its address as the record spells it: iscsiadm finds an IPv6 address by no other spelling."""
    for _directory, name in _records(host, target):
        return replace(target, address=name.partition(",")[0])
    return target


def _records(host: Host, target: Target) -> t.Iterator[tuple[str, str]]:
    wanted = [plain_address(target.address), str(target.port)]
    for database in _DATABASES:
        directory = f"{database}/{target.iqn}"
        for name in host.names(directory):
            address, *rest = name.split(",")
            if [plain_address(address), *rest[:1]] == wanted:
                yield directory, name


def settings(host: Host, record: str, names: t.Iterable[str]) -> dict[str, str]:
    """The named settings that the record has."""
    wanted = set(names)
    found: dict[str, str] = {}
    for line in (host.read(record) or "").splitlines():
        name, equals, value = line.partition("=")
        if equals and name.strip() in wanted:
            found[name.strip()] = value.strip()
    return found


def chap_settings(chap: Chap | None) -> dict[str, str]:
    if chap is None:
        return {}
    values = {"authmethod": "CHAP", "username": chap.username, "password": chap.password}
    if chap.mutual:
        values.update(username_in=str(chap.username_in), password_in=str(chap.password_in))
    return {f"node.session.auth.{name}": value for name, value in values.items()}


def change(host: Host, record: str, values: t.Mapping[str, str]) -> None:
    """Set values in the record; its other lines stay as they are."""
    text = host.read(record)
    if text is None:
        raise MigrationError(f"node record {record} cannot be read; check its mode and that this runs as root", error_id="node_record")
    _replace(host, record, edited(text, values))


def put_back(host: Host, record: str, text: str) -> None:
    """The record as it was before a change."""
    _replace(host, record, text + "\n")


def edited(text: str, values: t.Mapping[str, str]) -> str:
    """The record with the values set; every other line as it was."""
    left = dict(values)
    lines: list[str] = []
    for line in text.splitlines():
        name = line.partition("=")[0].strip()
        if line.strip() == _END:
            lines += [f"{missing} = {value}" for missing, value in left.items()]
            left = {}
        lines.append(f"{name} = {left.pop(name)}" if name in left else line)
    lines += [f"{missing} = {value}" for missing, value in left.items()]
    return "\n".join(lines) + "\n"


def _replace(host: Host, record: str, text: str) -> None:
    # Beside the database, not in it: open-iscsi takes every file in there for a record, and fails on a strange one.
    directory = re.sub(r"/nodes/.*", "", record)
    temporary = host.at(f"{directory}/.lunshift-{os.getpid()}-{abs(hash(record)):x}")
    try:
        _write(temporary, text, os.O_CREAT | os.O_EXCL)
        os.replace(temporary, host.at(record))
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        # The database is a file system of its own.
        _write(host.at(record), text)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _write(path: str, text: str, flags: int = 0) -> None:
    """One write and then the end of the file, so that the content is never absent."""
    content = text.encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
    try:
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = (
    "LOGIN_TIMEOUT",
    "LOGIN_TRIES",
    "SCAN",
    "STARTUP",
    "as_recorded",
    "change",
    "chap_settings",
    "edited",
    "find",
    "put_back",
    "settings",
)
