# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts of both kinds behind one face."""

from __future__ import annotations

import typing as t

from . import namespace_hosts, uml_hosts
from .context import HOSTS, Lab, LabError
from .process import run

VIRSH_TIMEOUT_S = 90.0


class Kind(t.Protocol):
    """What a module of hosts offers."""

    host_names: tuple[str, ...]

    def up(self, lab: Lab) -> None: ...
    def down(self, lab: Lab) -> None: ...
    def is_up(self, lab: Lab, host: str) -> bool: ...
    def execute(self, lab: Lab, host: str, argv: t.Sequence[str]) -> int: ...
    def command(self, lab: Lab, host: str, argv: t.Sequence[str]) -> list[str]: ...


KINDS: dict[str, Kind] = {"namespace": t.cast(Kind, namespace_hosts), "uml": t.cast(Kind, uml_hosts)}


def kind_of(host: str) -> Kind:
    for kind in KINDS.values():
        if host in kind.host_names:
            return kind
    raise LabError(f"there is no host {host}; there are: {', '.join(HOSTS)}")


def is_up(lab: Lab, host: str) -> bool:
    return kind_of(host).is_up(lab, host)


def live(lab: Lab) -> list[str]:
    return [host for host in HOSTS if is_up(lab, host)]


def execute(lab: Lab, host: str, argv: t.Sequence[str]) -> int:
    return kind_of(host).execute(lab, host, argv)


def output_of(lab: Lab, host: str, argv: t.Sequence[str]) -> str:
    """What a command inside the host prints; its failure is an error."""
    return run(kind_of(host).command(lab, host, argv))


def virsh(lab: Lab, host: str, *arguments: str, stdin: str | None = None) -> str:
    """Ask a host's libvirtd from out here. A libvirtd that was stopped in a test does not hold up the lab."""
    return run(["virsh", "-q", "-c", lab.libvirt_uri_of(host), *arguments], stdin=stdin, timeout_s=VIRSH_TIMEOUT_S)
