# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's network: one bridge per instance, one port per host; a second bridge for migrations between namespace hosts."""

from __future__ import annotations

import typing as t
from pathlib import Path

from .context import HOSTS, Lab, LabError
from .process import run

# A bridge's words for a port, as iproute2 and sysfs have them.
DISABLED, FORWARDING = "0", "3"


def _exists(interface: str) -> bool:
    return Path("/sys/class/net", interface).exists()


def ensure_bridge(lab: Lab) -> None:
    """The bridge with the control node's addresses, and the ports that should be on it."""
    if not _exists(lab.bridge):
        run(["ip", "link", "add", lab.bridge, "type", "bridge"])
    run(["ip", "addr", "replace", f"{lab.address_of('control')}/{lab.prefix_length}", "dev", lab.bridge])
    # Without nodad an address cannot be used for a second, and daemons that bind it fail.
    run(["ip", "-6", "addr", "replace", f"{lab.address6_of('control')}/64", "dev", lab.bridge, "nodad"])
    run(["ip", "link", "set", lab.bridge, "up"])
    for host in HOSTS:
        for port in (lab.interface_of(host), lab.storage_interface_of(host)):
            if _exists(port):
                run(["ip", "link", "set", port, "master", lab.bridge, "up"])
                run(["bridge", "link", "set", "dev", port, "state", FORWARDING])


def ensure_migration_bridge(lab: Lab) -> None:
    """A bridge that the control node has no address on: nothing but migrations is to be there."""
    if not _exists(lab.migration_bridge):
        run(["ip", "link", "add", lab.migration_bridge, "type", "bridge"])
    run(["ip", "link", "set", lab.migration_bridge, "up"])


def add_tap(lab: Lab, host: str) -> str:
    """A tap on the bridge for a host that is a process of the machine; gives its name."""
    name = lab.interface_of(host)
    if not _exists(name):
        run(["ip", "tuntap", "add", name, "mode", "tap"])
    run(["ip", "link", "set", name, "master", lab.bridge, "up"])
    return name


def add_veth(lab: Lab, interface: str, pid: int, *, mac: str, address_names: t.Sequence[str]) -> None:
    """A pair of interfaces between the bridge and the network namespace of a process, where it is eth0."""
    remove_interface(interface)
    run(["ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", str(pid)])
    run(["ip", "link", "set", interface, "master", lab.bridge, "up"])
    inside = ["nsenter", "-t", str(pid), "-n", "ip"]
    run([*inside, "link", "set", "lo", "up"])
    for name in address_names:
        run([*inside, "addr", "add", f"{lab.address_of(name)}/{lab.prefix_length}", "dev", "eth0"])
        run([*inside, "-6", "addr", "add", f"{lab.address6_of(name)}/64", "dev", "eth0", "nodad"])
    run([*inside, "link", "set", "eth0", "up"])


def add_migration_veth(lab: Lab, host: str, pid: int) -> None:
    """The host's eth1, in the network that only migrations use."""
    interface = lab.migration_interface_of(host)
    remove_interface(interface)
    run(["ip", "link", "add", interface, "type", "veth", "peer", "name", "eth1", "address", lab.migration_mac_of(host), "netns", str(pid)])
    run(["ip", "link", "set", interface, "master", lab.migration_bridge, "up"])
    inside = ["nsenter", "-t", str(pid), "-n", "ip"]
    run([*inside, "addr", "add", f"{lab.migration_address_of(host)}/{lab.prefix_length}", "dev", "eth1"])
    run([*inside, "link", "set", "eth1", "up"])


def bind_hosts_to_their_targets(lab: Lab) -> None:
    """Let each host reach its own target's port of the bridge, and no other's.

    Every target has the same address, as one array has; which of them answers depends on who asks.
    """
    rules = []
    for host in HOSTS:
        ours, target = lab.interface_of(host), lab.storage_interface_of(host)
        rules += [f'iifname "{ours}" oifname "{target}" accept', f'iifname "{target}" oifname "{ours}" accept']
    others = f"ls{lab.lab_id}s-*"
    rules += [f'iifname "{others}" drop', f'oifname "{others}" drop']
    chain = "\n".join(["type filter hook forward priority filter; policy accept;", *rules])
    run(["nft", "-f", "-"], stdin=f"{_no_table(lab)}table bridge {lab.bridge} {{\nchain forward {{\n{chain}\n}}\n}}\n")


def set_link_down(interface: str) -> None:
    """The bridge takes nothing from the port and gives it nothing, until C(ensure_bridge).

    The interface itself stays up: a User-Mode Linux host never finds back to a tap that was down.
    """
    run(["bridge", "link", "set", "dev", interface, "state", DISABLED])


def is_down(interface: str) -> bool:
    return _exists(interface) and Path("/sys/class/net", interface, "brport", "state").read_text().strip() == DISABLED


def remove_interface(interface: str) -> None:
    # One that belonged to an ended network namespace may go by itself at this very moment.
    run(["ip", "link", "del", interface], check=False)
    if _exists(interface):
        raise LabError(f"interface {interface} is still there after 'ip link del'")


def remove_bridge(lab: Lab) -> None:
    run(["nft", "-f", "-"], stdin=_no_table(lab))
    remove_interface(lab.bridge)
    remove_interface(lab.migration_bridge)


def _no_table(lab: Lab) -> str:
    """nft commands after which there is no table, whether or not there was one."""
    return f"table bridge {lab.bridge}\ndelete table bridge {lab.bridge}\n"
