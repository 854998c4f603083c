# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a guest stands still: the playbook with each kind of switchover beside virsh migrate, interleaved in random order.

Usage: downtime.py [ROUNDS [SEED]] (default 30 rounds) with two namespace hosts; migrations.py says what else it needs. Two numbers of
each move:

outage  the longest time between two acknowledged writes that this process sees on the guest's consoles. It holds all that a user of the
        guest would notice, and the 20 ms for which the guest rests between two writes.
stop    libvirt's own statistics. With a guarded switchover they do not know when the guest was resumed.

Prints the medians, and for each kind the ratio of its median to virsh's with the 95 % bootstrap interval.
"""

from __future__ import annotations

import random
import statistics
import sys
import threading
import time
import typing as t
from pathlib import Path

from intervals import ratio_interval
from migrations import lab, play, serials_of, virsh

GUEST, VOLUME = "benchmark", "downtime"
HOSTS = ("hosta", "hostb")
KINDS = ("virsh", "direct", "guarded")
ROUNDS = 30
LOOK_EVERY_S = 0.002


class Outage(threading.Thread):
    """Follows the guest's consoles on both hosts; what counts is when a line was seen."""

    def __init__(self, consoles: t.Sequence[Path]) -> None:
        super().__init__(daemon=True)
        self._consoles = consoles
        self._over = threading.Event()
        self.longest_s = 0.0

    def run(self) -> None:
        sizes = self._sizes()
        seen = time.monotonic()
        while not self._over.is_set():
            time.sleep(LOOK_EVERY_S)
            now_sizes = self._sizes()
            if now_sizes != sizes:
                now = time.monotonic()
                self.longest_s = max(self.longest_s, now - seen)
                sizes, seen = now_sizes, now

    def _sizes(self) -> list[int]:
        return [path.stat().st_size if path.exists() else 0 for path in self._consoles]

    def end(self) -> float:
        self._over.set()
        self.join()
        return self.longest_s


def stop_ms(host: str) -> float:
    """libvirt's word on the host that the guest came to."""
    words = lab("exec", host, "--", "virsh", "-q", "-c", "qemu:///system", "domjobinfo", "--completed", "--keep-completed", GUEST)
    line = next(line for line in words.splitlines() if line.startswith("Total downtime"))
    return float(line.split()[-2])


def move(kind: str, source: str, destination: str, consoles: t.Sequence[Path], serials: list[str]) -> tuple[float, float]:
    outage = Outage(consoles)
    outage.start()
    if kind == "virsh":
        virsh(GUEST, source, destination, serials, "libiscsi")
    else:
        play(GUEST, source, destination, live_migrate_switchover=kind)
    return outage.end() * 1000, stop_ms(destination)


def tell(name: str, measured: t.Mapping[str, list[float]], chance: random.Random) -> None:
    for kind in KINDS:
        values = measured[kind]
        line = f"{name:6} {kind:7} median {statistics.median(values):6.1f} ms, {min(values):.0f} to {max(values):.0f} ms, n={len(values)}"
        if kind != "virsh":
            low, high = ratio_interval(values, measured["virsh"], chance)
            ratio = statistics.median(values) / statistics.median(measured["virsh"])
            line += f"; to virsh {ratio:.2f}, 95 % interval {low:.2f} to {high:.2f}"
        print(line, flush=True)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    chance = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    outages: dict[str, list[float]] = {kind: [] for kind in KINDS}
    stops: dict[str, list[float]] = {kind: [] for kind in KINDS}
    try:
        lab("volume", "create", VOLUME, "16")
        serials = serials_of([VOLUME])
        record = Path(lab("guest", "start", HOSTS[0], GUEST, "--disk", VOLUME).strip())
        consoles = [record.parents[1] / "hosts" / host / "console" / f"console-{GUEST}.log" for host in HOSTS]
        source, destination = HOSTS
        for _round in range(rounds):
            for kind in chance.sample(KINDS, len(KINDS)):
                outage_ms, stopped_ms = move(kind, source, destination, consoles, serials)
                outages[kind].append(outage_ms)
                stops[kind].append(stopped_ms)
                source, destination = destination, source
        lab("guest", "check", GUEST)
        tell("outage", outages, chance)
        tell("stop", stops, chance)
    finally:
        lab("guest", "destroy", GUEST)
        lab("volume", "delete", VOLUME)


main()
