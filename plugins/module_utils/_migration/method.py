# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""How a migration is done, as libvirt's call settles it once and for all. Pure.

Each combination that is refused here was refused by libvirt or QEMU in the middle of a start, or goes wrong later.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

# With it came the compressions of QEMU's parallel connections; libvirt 9.0 and its QEMU know only the others.
LIBVIRT_WITH_ZSTD = "VIR_MIGRATE_PARAM_COMPRESSION_ZSTD_LEVEL"
COMPRESSIONS = ("xbzrle", "mt", "zlib", "zstd")
PARALLEL_COMPRESSIONS = ("zlib", "zstd")
# As libvirt counts: major * 1000000 + minor * 1000 + micro.
QEMU_WITH_PARALLEL_POSTCOPY = 10_001_000
DATA_URI = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:\d{1,5})?")
PERCENT = range(1, 100)


@dataclass(frozen=True)
class Method:
    """Empty and 0 mean: not used, or the hypervisor's own."""

    auto_converge: bool = False
    auto_converge_initial_percent: int = 0
    auto_converge_increment_percent: int = 0
    parallel_connections: int = 0
    compression: tuple[str, ...] = ()
    compression_cache_mib: int = 0
    migrate_uri: str = ""
    listen_address: str = ""
    tls: bool = False
    tls_destination: str = ""
    # The operator allowed it, by choosing it as the action at the timeout.
    postcopy: bool = False

    def problems(self) -> list[str]:
        """Everything that is wrong with the values themselves, and that does not go together on any host."""
        found = self._wrong_values()
        if not self.auto_converge and (self.auto_converge_initial_percent or self.auto_converge_increment_percent):
            found.append("auto_converge_initial_percent and auto_converge_increment_percent need auto_converge")
        if self.compression_cache_mib and "xbzrle" not in self.compression:
            found.append("compression_cache_mib is the cache of xbzrle, which compression does not name")
        if self.tls_destination and not self.tls:
            found.append("tls_destination needs tls: without it the data would go over the network in the clear")
        parallel = self.parallel_connections > 1
        if parallel and "mt" in self.compression:
            found.append("compression mt does not go with parallel_connections")
        if not parallel and set(self.compression) & set(PARALLEL_COMPRESSIONS):
            found.append("compression zlib and zstd need parallel_connections of 2 or more")
        if self.postcopy and self.auto_converge:
            found.append("timeout_action postcopy does not go with auto_converge: the guest would be slowed down for nothing")
        if self.postcopy and "mt" in self.compression:
            found.append("timeout_action postcopy does not go with compression mt")
        return found

    def _wrong_values(self) -> list[str]:
        found = [
            f"{name} must be 0 to 99 percent (it is {value})"
            for name, value in (
                ("auto_converge_initial_percent", self.auto_converge_initial_percent),
                ("auto_converge_increment_percent", self.auto_converge_increment_percent),
            )
            if value and value not in PERCENT
        ]
        if not 0 <= self.parallel_connections <= 255:
            found.append(f"parallel_connections must be 0 to 255 (it is {self.parallel_connections})")
        if self.compression_cache_mib < 0:
            found.append(f"compression_cache_mib must not be negative (it is {self.compression_cache_mib})")
        if self.migrate_uri and not DATA_URI.fullmatch(self.migrate_uri):
            found.append(f"migrate_uri {self.migrate_uri!r} is not of the form tcp://ADDRESS or tcp://ADDRESS:PORT (IPv6 in brackets)")
        return found

    def problems_of_host(self, api: t.Any, qemu_version: int, *, guest_paused: bool) -> list[str]:
        """What this host's libvirt and QEMU, or the state of the guest, do not allow."""
        found = []
        new = sorted(set(self.compression) & set(PARALLEL_COMPRESSIONS))
        if new and not hasattr(api, LIBVIRT_WITH_ZSTD):
            found.append(f"compression {' and '.join(new)}: this host's libvirt has only xbzrle and mt")
        if self.postcopy and self.parallel_connections > 1 and qemu_version < QEMU_WITH_PARALLEL_POSTCOPY:
            found.append("timeout_action postcopy goes with parallel_connections only from QEMU 10.1 on")
        if self.postcopy and guest_paused:
            found.append("timeout_action postcopy is not for a guest that is paused")
        return found

    def flags(self, api: t.Any) -> int:
        chosen = (
            (self.auto_converge, "VIR_MIGRATE_AUTO_CONVERGE"),
            (self.parallel_connections > 1, "VIR_MIGRATE_PARALLEL"),
            (bool(self.compression), "VIR_MIGRATE_COMPRESSED"),
            (self.tls, "VIR_MIGRATE_TLS"),
            (self.postcopy, "VIR_MIGRATE_POSTCOPY"),
        )
        flags = 0
        for wanted, name in chosen:
            if wanted:
                flags |= getattr(api, name)
        return flags

    def parameters(self, api: t.Any) -> dict[str, t.Any]:
        given = {
            "VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL": self.auto_converge_initial_percent,
            "VIR_MIGRATE_PARAM_AUTO_CONVERGE_INCREMENT": self.auto_converge_increment_percent,
            "VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS": self.parallel_connections if self.parallel_connections > 1 else 0,
            "VIR_MIGRATE_PARAM_COMPRESSION": list(self.compression),
            "VIR_MIGRATE_PARAM_COMPRESSION_XBZRLE_CACHE": self.compression_cache_mib << 20,
            "VIR_MIGRATE_PARAM_URI": self.migrate_uri,
            "VIR_MIGRATE_PARAM_LISTEN_ADDRESS": self.listen_address,
            "VIR_MIGRATE_PARAM_TLS_DESTINATION": self.tls_destination,
        }
        return {getattr(api, name): value for name, value in given.items() if value}


__all__ = ("COMPRESSIONS", "Method")
