# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults on purpose: the network, the storage and the daemons of a host fail as they do in a machine room.

Each lasts until ``clear``, which undoes all of them, or for a number of seconds. Packets are dropped on the bridge, so it
is the same for every kind of host; what control (this machine) itself sends to a host passes, but for a link that is down.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
import typing as t

from . import hosts, namespace_hosts, network, process, storage, uml_hosts
from .context import HOSTS, NAMESPACE_HOSTS, UML_HOSTS, Lab, LabError

# What libvirt uses: QEMU's own stream, and the destination's daemon. With names that say what they are good for.
PORTS = {"data": "49152-49215", "control": "16509"}
# A reply of libvirtd that is longer holds a description of the domain; keepalives and bare answers are shorter.
LONG_REPLY_BYTES = 200
# By then the guest's memory is being copied: every reply before the last one has been sent.
MOVING_KIB = 1024
ANSWER_S = 60.0


def block(lab: Lab, host: str, ports: str) -> None:
    """Drop what other hosts send to these TCP ports of a host, and what it answers."""
    ports = PORTS.get(ports, ports)
    port = lab.interface_of(host)
    _drop(
        lab,
        f"block-{host}-{ports}",
        [f'oifname "{port}" tcp dport {ports} counter drop', f'iifname "{port}" tcp sport {ports} counter drop'],
    )


def lose_finish_reply(lab: Lab, host: str) -> None:
    """Lose what this host, a destination, says at the end of a migration, and its daemon's connections with it.

    Armed before the migration starts: it strikes by itself, at the first long reply after the memory began to move.
    """
    port, control = lab.interface_of(host), PORTS["control"]
    _drop(
        lab,
        f"finish-{host}",
        [
            f'ether saddr @cut iifname "{port}" tcp sport {control} counter drop',
            f'ether daddr @cut oifname "{port}" tcp dport {control} counter drop',
            f'oifname "{port}" tcp dport {PORTS["data"]} quota over {MOVING_KIB} kbytes add @moving {{ ether daddr }}',
            f'ether saddr @moving iifname "{port}" tcp sport {control} meta length > {LONG_REPLY_BYTES}'
            " add @cut { ether saddr } counter drop",
        ],
        sets=("moving", "cut"),
    )


def link_down(lab: Lab, host: str) -> None:
    """The host is off every network: other hosts, its storage and control."""
    network.set_link_down(lab.interface_of(host))


def storage_down(lab: Lab, host: str) -> None:
    """The host's target no longer answers, and sessions hang."""
    network.set_link_down(lab.storage_interface_of(host))


def portal_down(lab: Lab, host: str, family: str) -> None:
    """The host's target refuses connections at its IPv4 portal, its IPv6 portal or both; sessions are reset."""
    nfproto = "" if family == "both" else f"meta nfproto ipv{family} "
    rule = f"{nfproto}tcp dport {storage.PORT} counter reject with tcp reset"
    chain = f"table inet fault {{\nchain input {{\ntype filter hook input priority filter; policy accept;\n{rule}\n}}\n}}\n"
    process.run(_in_target(lab, host, "nft", "-f", "-"), stdin=chain)


def lun_gone(lab: Lab, host: str, volume: str) -> None:
    """The target forgets a LUN under the host's session. It is back at the next change of the host's exports, too."""
    storage.forget_lun(lab, host, volume)


def signal(lab: Lab, host: str, name: str, number: str) -> None:
    """Send a signal to a daemon of a host (libvirtd, sshd, multipathd ...), or to a guest's QEMU: C(guest:NAME)."""
    kind, _colon, guest = name.rpartition(":")
    words = ["pkill", f"-{number}", "-x", name]
    if kind == "guest":
        words = ["sh", "-c", 'kill -s "$0" "$(cat "$1")"', number, f"/run/libvirt/qemu/{guest}.pid"]
    hosts.output_of(lab, host, words)


def show(lab: Lab) -> dict[str, t.Any]:
    """The packets that each rule dropped, and links that are down: the proof that a fault struck."""
    dropped: dict[str, list[int]] = {}
    for family, name in _tables(lab):
        listing = json.loads(process.run(["nft", "-j", "list", "table", family, name]))["nftables"]
        expressions = [part for entry in listing if "rule" in entry for part in entry["rule"]["expr"]]
        dropped[name.removeprefix(_prefix(lab))] = [part["counter"]["packets"] for part in expressions if "counter" in part]
    links = [port for host in HOSTS for port in (lab.interface_of(host), lab.storage_interface_of(host))]
    return {"dropped": dropped, "links_down": [port for port in links if network.is_down(port)]}


def remove_rules(lab: Lab) -> None:
    """The faults outside the hosts, which would outlive them."""
    for family, name in _tables(lab):
        process.run(["nft", "delete", "table", family, name])


def clear(lab: Lab) -> None:
    """Undo every fault: rules, links, stopped and killed daemons, forgotten LUNs. Done twice it does no harm."""
    remove_rules(lab)
    network.ensure_bridge(lab)
    for host in HOSTS:
        if storage.target_pid(lab, host) is not None:
            process.run(_in_target(lab, host, "nft", "delete", "table", "inet", "fault"), check=False)
    for host in hosts.live(lab):
        if host in UML_HOSTS:
            # A bridge takes a moment to find a host behind a link that was down.
            process.wait_until(functools.partial(_answers, lab, host), f"{host} to answer", timeout_s=ANSWER_S)
        # It finds nothing where all of them were killed, which the next step mends.
        process.run(hosts.kind_of(host).command(lab, host, ["pkill", "-CONT", "-x", "libvirtd|sshd|iscsid|multipathd"]), check=False)
        if host in UML_HOSTS:
            hosts.output_of(lab, host, ["sh", "-c", 'systemctl reset-failed "$@" && systemctl start "$@"', "sh", *uml_hosts.UNITS])
    if any(namespace_hosts.is_up(lab, host) for host in NAMESPACE_HOSTS):
        namespace_hosts.up(lab)
    storage.up(lab)


def _answers(lab: Lab, host: str) -> bool:
    try:
        hosts.output_of(lab, host, ["true"])
    except LabError:
        return False
    return True


@contextlib.contextmanager
def lasting(lab: Lab, seconds: float | None) -> t.Iterator[None]:
    """The fault that the block makes lasts so long, then all faults are undone; without seconds it stays."""
    yield
    if seconds is not None:
        try:
            time.sleep(seconds)
        finally:
            clear(lab)


def _prefix(lab: Lab) -> str:
    return f"{lab.bridge}-fault-"


def _drop(lab: Lab, name: str, rules: t.Sequence[str], sets: t.Sequence[str] = ()) -> None:
    """A table of its own on the bridge, so that it goes without touching another."""
    # A day is longer than any test; without a timeout a set that packets fill would have no end.
    declared = [f"set {key} {{ type ether_addr; flags dynamic, timeout; size 16; timeout 1d; }}" for key in sets]
    chain = "\n".join(["type filter hook forward priority filter; policy accept;", *rules])
    table = f"table bridge {_prefix(lab)}{name}"
    text = f"{table}\ndelete {table}\n{table} {{\n" + "\n".join([*declared, f"chain forward {{\n{chain}\n}}\n}}\n"])
    process.run(["nft", "-f", "-"], stdin=text)


def _tables(lab: Lab) -> list[tuple[str, str]]:
    listing = json.loads(process.run(["nft", "-j", "list", "tables"]))["nftables"]
    tables = [(entry["table"]["family"], entry["table"]["name"]) for entry in listing if "table" in entry]
    return [(family, name) for family, name in tables if name.startswith(_prefix(lab))]


def _in_target(lab: Lab, host: str, *argv: str) -> list[str]:
    pid = storage.target_pid(lab, host)
    if pid is None:
        raise LabError(f"the target of {host} is not up; 'lab up' mends it")
    return ["nsenter", "-t", str(pid), "-n", "--", *argv]
