# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every part of the lab has to know about one instance: names, addresses, directories."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

STORAGE = "storage"
# The second portal of every target.
STORAGE2 = "storage2"
NAMESPACE_HOSTS = ("hosta", "hostb")
UML_HOSTS = ("uml1", "uml2")
HOSTS = NAMESPACE_HOSTS + UML_HOSTS

_LAST_OCTET = {"control": 1, STORAGE: 2, STORAGE2: 3, "hosta": 11, "hostb": 12, "uml1": 21, "uml2": 22}


class LabError(Exception):
    """Something that the person at the keyboard has to know; printed without a traceback."""


@dataclass(frozen=True)
class Lab:
    """One instance. Instances with different ids share nothing but the cache directory."""

    lab_id: int
    state_dir: Path
    cache_dir: Path

    @property
    def bridge(self) -> str:
        return f"lsbr{self.lab_id}"

    @property
    def migration_bridge(self) -> str:
        """The network that only migrations use."""
        return f"lsmg{self.lab_id}"

    @property
    def subnet(self) -> str:
        return f"10.78.{self.lab_id}.0/24"

    @property
    def prefix_length(self) -> int:
        return 24

    @property
    def share_dir(self) -> Path:
        """Guest kernel, initramfs and emulator: every host sees it at this same absolute path."""
        return self.state_dir / "share"

    @property
    def lease_dir(self) -> Path:
        """What lock managers lock: one directory, at this same absolute path on every namespace host."""
        return self.state_dir / "leases"

    @property
    def ssh_key(self) -> Path:
        """Private key that root on every host accepts; the public one has .pub behind it."""
        return self.state_dir / "ssh" / "id_ed25519"

    @property
    def guest_console_dir(self) -> Path:
        """Where guests' consoles are INSIDE a host; the same path on each, but each host's own directory."""
        return Path("/var/log/lunshift-lab")

    def host_dir(self, host: str) -> Path:
        return self.state_dir / "hosts" / host

    def console_dir(self, host: str) -> Path:
        """The same directory seen from OUTSIDE that host."""
        return self.host_dir(host) / "console"

    def address_of(self, host: str) -> str:
        return f"10.78.{self.lab_id}.{_LAST_OCTET[host]}"

    def address6_of(self, host: str) -> str:
        # The one spelling that everybody writes: with the id 0 there is a shorter one.
        return str(ipaddress.ip_address(f"fd00:78:{self.lab_id}::{_LAST_OCTET[host]}"))

    def mac_of(self, host: str) -> str:
        return f"52:54:00:78:{self.lab_id:02x}:{_LAST_OCTET[host]:02x}"

    def interface_of(self, host: str) -> str:
        """The bridge port of a host, in the machine's own network namespace."""
        return f"ls{self.lab_id}{host}"

    def migration_address_of(self, host: str) -> str:
        """A namespace host's address in the network that only migrations use; no certificate names it."""
        return f"10.79.{self.lab_id}.{_LAST_OCTET[host]}"

    def migration_interface_of(self, host: str) -> str:
        return f"ls{self.lab_id}m-{host}"

    def migration_mac_of(self, host: str) -> str:
        return f"52:54:00:7a:{self.lab_id:02x}:{_LAST_OCTET[host]:02x}"

    def storage_interface_of(self, host: str) -> str:
        """The bridge port of the target that is this host's own."""
        return f"ls{self.lab_id}s-{host}"

    def storage_mac_of(self, host: str) -> str:
        return f"52:54:00:79:{self.lab_id:02x}:{_LAST_OCTET[host]:02x}"

    def iqn_of(self, host: str) -> str:
        """The target that is this host's own."""
        return f"iqn.2026-11.lab.lunshift:{host}"

    def initiator_of(self, host: str) -> str:
        return f"iqn.2026-11.lab.lunshift.initiator:{host}"

    def machine_id_of(self, host: str) -> str:
        return f"78{self.lab_id:02x}{_LAST_OCTET[host]:02x}".ljust(32, "0")

    def libvirt_uri_of(self, host: str) -> str:
        """How OTHER hosts and the control node reach this host's libvirtd."""
        return f"qemu+tcp://{self.address_of(host)}/system"

    def etc_hosts(self) -> str:
        """Every name of the lab, for each host's /etc/hosts."""
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
        for name in _LAST_OCTET:
            lines += [f"{self.address_of(name)} {name}", f"{self.address6_of(name)} {name}"]
        return "\n".join(lines) + "\n"


def from_environment() -> Lab:
    """The instance that LAB_ID chooses."""
    text = os.environ.get("LAB_ID", "0")
    if text not in tuple("0123456789"):
        raise LabError(f"LAB_ID is {text!r}; it must be one digit, 0 to 9")
    state = os.environ.get("LUNSHIFT_LAB_DIR") or "/tmp/lunshift-lab"
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = os.environ.get("LUNSHIFT_CACHE") or f"{cache_home}/lunshift-migration"
    return Lab(lab_id=int(text), state_dir=Path(f"{state}-{text}").absolute(), cache_dir=Path(cache).absolute())
