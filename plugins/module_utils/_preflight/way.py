# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The way from the source to the destination: libvirt's control channel, QEMU's data channel, and what the guest writes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import select
import socket
import time
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._command import run_command
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection, open_connection
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.domain import read_host
from ansible_collections.lunshift.migration.plugins.module_utils._migration import peers
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.host import read_text

_IP_RECVERR, _IPV6_RECVERR = 11, 25
_UNIT_OF_DIRTY_RATE_BYTES = 1024**2
_CALCULATED = 2
ROUTE_TIMEOUT_S = 5.0
_POLL_S = 0.1


def control_channel(uri: str, name: str, uuid: str | None, timeout_s: float, opener: peers.Opener = open_connection) -> dict[str, t.Any]:
    """What answers at the destination's address, asked as root of this host: with the credentials that libvirt's daemon has.

    ``as_daemon`` is false when this process has other credentials than the daemon; then its success proves nothing.
    """
    said: dict[str, t.Any] = {
        "as_daemon": os.geteuid() == 0,
        "reached": False,
        "hangs": False,
        "problem": None,
        "host": None,
        "domain": None,
    }
    try:
        connection = opener(uri, timeout_s)
        try:
            return {
                **said,
                "reached": True,
                "host": connection.call(lambda: read_host(connection)),
                "domain": peers.view(connection, name, uuid).to_dict(),
            }
        finally:
            connection.close()
    except MigrationError as exc:
        return {**said, "problem": str(exc), "hangs": bool(exc.details.get("timed_out"))}


def data_ports(host: str, ports: t.Sequence[int], timeout_s: float) -> dict[str, t.Any]:
    """Which ports of the destination answer, all asked at once.

    Nothing waits there before a migration, so the good answer is a reset by the destination itself. A firewall that
    refuses says so by ICMP, and one that drops says nothing.
    """
    said: dict[str, t.Any] = {"host": host, "address": None, "problem": None, "open": [], "blocked": [], "link_mib_per_s": None}
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as exc:
        return {**said, "problem": f"{platform.node()} cannot resolve {host}: {exc.strerror or exc}"}
    families = {str(where[0]): family for family, _kind, _protocol, _name, where in found}
    itself = [address for address in families if _is_loopback(address)]
    if itself:
        return {**said, "address": itself[0], "problem": f"{platform.node()} resolves {host} to {itself[0]}, which is itself"}
    answered: set[int] = set()
    # QEMU tries one address after the other, too.
    for address, family in families.items():
        answers = _knock(family, address, [port for port in ports if port not in answered], timeout_s)
        answered |= {port for port, open_ in answers.items() if open_}
    first = next(iter(families))
    return {
        **said,
        "address": first,
        "open": [port for port in ports if port in answered],
        "blocked": [port for port in ports if port not in answered],
        "link_mib_per_s": _link_mib_per_s(first),
    }


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _knock(family: int, address: str, ports: t.Sequence[int], timeout_s: float) -> dict[int, bool]:
    answers: dict[int, bool] = {}
    with contextlib.ExitStack() as sockets:
        waiting: dict[int, tuple[int, socket.socket]] = {}
        poller = select.poll()
        for port in ports:
            knocking = sockets.enter_context(socket.socket(family, socket.SOCK_STREAM))
            knocking.setblocking(False)
            level, option = (socket.IPPROTO_IPV6, _IPV6_RECVERR) if family == socket.AF_INET6 else (socket.IPPROTO_IP, _IP_RECVERR)
            knocking.setsockopt(level, option, 1)
            error = knocking.connect_ex((address, port))
            if error == errno.EINPROGRESS:
                waiting[knocking.fileno()] = (port, knocking)
                poller.register(knocking, select.POLLOUT)
            else:
                answers[port] = _answered(knocking, error)
        deadline_s = time.monotonic() + timeout_s
        while waiting and time.monotonic() < deadline_s:
            for descriptor, _event in poller.poll(max(1, int((deadline_s - time.monotonic()) * 1000))):
                poller.unregister(descriptor)
                port, knocking = waiting.pop(descriptor)
                # Before the error itself is read, which would clear what came with it.
                by_icmp = _has_icmp_error(knocking)
                answers[port] = not by_icmp and _answered(knocking, knocking.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        answers.update((port, False) for port, _knocking in waiting.values())
    return answers


def _answered(knocking: socket.socket, error: int) -> bool:
    return error == 0 or (error == errno.ECONNREFUSED and not _has_icmp_error(knocking))


def _has_icmp_error(knocking: socket.socket) -> bool:
    try:
        _data, messages, _flags, _sender = knocking.recvmsg(1, 512, socket.MSG_ERRQUEUE)
    except OSError:
        return False
    return bool(messages)


def _link_mib_per_s(address: str) -> int | None:
    """What the network device on the way could carry at most; None where it does not say (a bridge, for one)."""
    try:
        device = str(json.loads(run_command(["ip", "-j", "route", "get", address], ROUTE_TIMEOUT_S).stdout)[0]["dev"])
    except (ValueError, LookupError):
        return None
    speed = read_text("/", f"sys/class/net/{device}/speed").strip()
    if not re.fullmatch(r"[1-9][0-9]*", speed):
        return None
    return int(speed) * 1_000_000 // 8 // 1024**2


def dirty_rate(connection: Connection, handle: t.Any, seconds: int) -> dict[str, t.Any]:
    """How much of its memory the guest writes: QEMU samples pages for some seconds, which the guest does not notice."""
    api = connection.api
    try:
        connection.translate(handle.startDirtyRateCalc, seconds, 0)
        deadline_s = time.monotonic() + seconds + 5
        while time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
            [(_domain, found)] = connection.translate(connection.handle.domainListGetStats, [handle], api.VIR_DOMAIN_STATS_DIRTYRATE, 0)
            if found.get("dirtyrate.calc_status") == _CALCULATED:
                mib_per_s = found.get("dirtyrate.megabytes_per_second")
                return {"bytes_per_s": None if mib_per_s is None else int(mib_per_s) * _UNIT_OF_DIRTY_RATE_BYTES, "problem": None}
    except MigrationError as exc:
        return {"bytes_per_s": None, "problem": str(exc)}
    return {"bytes_per_s": None, "problem": "QEMU did not finish its calculation of the dirty rate"}


__all__ = ("control_channel", "data_ports", "dirty_rate")
