# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible's part of a live migration: the whole play less libvirt's own job, with 1 and with 10 disks, beside virsh migrate.

Usage: live_migrate.py hosta hostb libiscsi, or uml1 uml2 kernel; migrations.py says what it needs. What virsh needs before and after
its call is not counted. Medians of moves there and back.
"""

from __future__ import annotations

import re
import statistics
import sys

from migrations import lab, play, serials_of, virsh

GUEST = "benchmark"
MOVES = 4


def call_seconds(output: str) -> float:
    found = re.search(r"moved in ([0-9.]+) s", output)
    if not found:
        raise SystemExit(f"the play did not tell how long libvirt's job took:\n{output}")
    return float(found[1])


def measure(hosts: list[str], initiator: str, disks: int) -> None:
    names = [f"bench{number}" for number in range(disks)]
    try:
        for name in names:
            lab("volume", "create", name, "16")
        serials = serials_of(names)
        lab("guest", "start", hosts[0], GUEST, *[word for name in names for word in ("--disk", f"{name}:{initiator}")])
        plays, jobs, virshes = [], [], []
        for move in range(MOVES):
            seconds, output = play(GUEST, hosts[move % 2], hosts[1 - move % 2])
            plays.append(seconds)
            jobs.append(call_seconds(output))
        for move in range(MOVES):
            virshes.append(virsh(GUEST, hosts[move % 2], hosts[1 - move % 2], serials, initiator))
        lab("guest", "check", GUEST)
        ours = statistics.median(whole - job for whole, job in zip(plays, jobs))
        print(
            f"{initiator}, {disks} disks: play {statistics.median(plays):.1f} s, libvirt's call in it {statistics.median(jobs):.1f} s,"
            f" Ansible's part {ours:.1f} s; virsh migrate {statistics.median(virshes):.1f} s",
            flush=True,
        )
    finally:
        lab("guest", "destroy", GUEST)
        for name in names:
            lab("volume", "delete", name)


def main() -> None:
    source, destination, initiator = sys.argv[1:4]
    for disks in (1, 10):
        measure([source, destination], initiator, disks)


main()
