# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What a storage provider and a migration have to know of this host; read from files, without any command."""

from __future__ import annotations

import os
import re
import socket
import sys
import typing as t

# An address for documentation (RFC 5737): what is asked for is the route to it, no packet is sent.
_ANYWHERE = ("192.0.2.1", 3260)
_LISTEN = re.compile(r"^\s*(vnc|spice)_listen\s*=\s*[\"']([^\"']+)[\"']", re.MULTILINE)
_INITIATOR_NAME = re.compile(r"^\s*InitiatorName\s*=\s*(\S+)", re.MULTILINE)
_FIB_LOCAL = re.compile(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL")


def initiator_name(root: str = "/") -> str | None:
    """The name of the kernel's initiator, or None when the host has none (or only root may read it)."""
    match = _INITIATOR_NAME.search(_read(root, "etc/iscsi/initiatorname.iscsi"))
    return match[1] if match else None


def graphics_listen_addrs(root: str = "/") -> dict[str, str]:
    """Where libvirt lets VNC and SPICE listen on this host unless a domain says otherwise."""
    configured = dict(_LISTEN.findall(_read(root, "etc/libvirt/qemu.conf")))
    return {kind: configured.get(kind, "127.0.0.1") for kind in ("vnc", "spice")}


def addresses(root: str = "/") -> list[str]:
    """Every address of the host that is good for more than one link."""
    found = dict.fromkeys(_FIB_LOCAL.findall(_read(root, "proc/net/fib_trie")))
    ipv4 = [address for address in found if not address.startswith("127.")]
    ipv6 = []
    for line in _read(root, "proc/net/if_inet6").splitlines():
        raw, _index, _prefix, scope = line.split()[:4]
        if scope == "00":  # Global; 10 is the loopback, 20 one link.
            ipv6.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(raw)))
    return ipv4 + ipv6


def connector(portals: t.Iterable[tuple[str, int]] = (), root: str = "/") -> dict[str, t.Any]:
    """What Cinder's C(initialize_connection) and C(attachment update) want to know, in the form of os-brick."""
    return {
        "initiator": initiator_name(root),
        "ip": _address_towards([*portals, _ANYWHERE]) or next(iter(addresses(root)), None),
        "host": socket.gethostname(),
        "multipath": _multipathd_runs(root),
        "platform": os.uname().machine,
        "os_type": sys.platform,
        "do_local_attach": False,
    }


def _address_towards(portals: t.Iterable[tuple[str, int]]) -> str | None:
    """The host's own address on the way to the first portal that has a route."""
    for address, port in portals:
        if not re.fullmatch(r"[0-9a-fA-F.:]+", address):
            continue  # A name would have to be looked up.
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as unconnected:
                unconnected.connect((address, port))
                return str(unconnected.getsockname()[0])
        except OSError:
            continue
    return None


def _multipathd_runs(root: str) -> bool:
    """Whether the daemon that builds maps is there: its pid file names a process of that name."""
    pid = _read(root, "run/multipathd.pid").strip()
    return pid.isdecimal() and _read(root, f"proc/{pid}/comm").strip() == "multipathd"


def _read(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


__all__ = ("addresses", "connector", "graphics_listen_addrs", "initiator_name")
