# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long the rewriting takes, by the number of disks.

Usage: python tests/benchmark/rewrite_disk_sources.py [RUNS]. Needs lxml.
"""

from __future__ import annotations

import functools
import statistics
import sys
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "setup")]

from paths import link_collection  # noqa: E402  (found through the line above)

sys.path.insert(0, str(link_collection(ROOT)))

from ansible_collections.lunshift.migration.plugins.module_utils import _domain_xml  # noqa: E402

DISK = """    <disk type='{kind}' device='disk'>
      <driver name='qemu' type='raw' cache='none' io='native'/>
      {source}
      <target dev='vd{index}' bus='virtio'/>
      <serial>{serial}</serial>
      <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>
    </disk>
"""
BLOCK = "<source dev='/dev/disk/by-path/ip-10.78.0.2:3260-iscsi-iqn.2026-11.lab:hosta-lun-{index}'/>"
NETWORK = """<source protocol='iscsi' name='iqn.2026-11.lab:hosta/{index}'>
        <host name='10.78.0.2' port='3260'/>
      </source>"""


def made_up(count: int) -> tuple[str, dict[str, t.Any]]:
    """A domain with half of its disks of each kind, and a map that leaves every kind as it is."""
    disks: list[str] = []
    device_map: dict[str, t.Any] = {}
    for index in range(count):
        serial = f"58a84f6d-3f0c-4e19-a0af-{index:012x}"
        kind, source = ("block", BLOCK) if index % 2 else ("network", NETWORK)
        disks.append(DISK.format(kind=kind, source=source.format(index=index), index=index, serial=serial))
        device_map[serial] = (
            f"/dev/disk/by-path/ip-10.78.0.2:3260-iscsi-iqn.2026-11.lab:hostb-lun-{index + 1}"
            if index % 2
            else {
                "driver_volume_type": "iscsi",
                "data": {"target_portal": "10.78.0.2:3260", "target_iqn": "iqn.2026-11.lab:hostc", "target_lun": index + 1},
            }
        )
    return f"<domain type='kvm'>\n  <name>many</name>\n  <devices>\n{''.join(disks)}  </devices>\n</domain>\n", device_map


def median_ms(function: t.Callable[[], object], runs: int, clock: t.Callable[[], float]) -> float:
    times = []
    for _run in range(runs):
        started = clock()
        function()
        times.append((clock() - started) * 1000)
    return statistics.median(times)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    print(f"median of {runs} runs, Python {sys.version.split()[0]}")
    # Time on the CPU tells whether it is linear, also on a machine that has other things to do.
    print(f"{'disks':>6}  {'ms':>8}  {'CPU ms':>8}  {'CPU us a disk':>13}")
    for count in (10, 100, 1000, 4000):
        xml, device_map = made_up(count)
        rewrite = functools.partial(_domain_xml.rewrite, xml, device_map)
        wall, cpu = (median_ms(rewrite, runs, clock) for clock in (time.perf_counter, time.process_time))
        print(f"{count:>6}  {wall:>8.1f}  {cpu:>8.1f}  {cpu * 1000 / count:>13.1f}")


if __name__ == "__main__":
    main()
