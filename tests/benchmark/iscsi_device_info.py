# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long iscsi_device_info's gathering function takes, by the number of LUNs, and that the time is linear in it.

Usage: iscsi_device_info.py [LUNS ...]. Exits with 1 when twice the LUNs cost more than 2.6 times the time.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / "tests" / "setup"), str(Path(__file__).resolve().parent)]

from paths import link_collection  # noqa: E402
from synthetic_sysfs import with_luns  # noqa: E402

sys.path.insert(0, str(link_collection(CHECKOUT)))

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.device_info import device_info, read_request  # noqa: E402
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.sysfs import gather  # noqa: E402

RUNS = 5
MOST_FOR_DOUBLE = 2.6


def connection_info(number: int, sessions: int = 4) -> dict[str, object]:
    sid = number % sessions + 1
    data = {"target_portal": f"192.0.2.{sid}:3260", "target_iqn": f"iqn.2026-11.org.example:target-{sid}", "target_lun": number // sessions}
    return {"driver_volume_type": "iscsi", "data": data}


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returns, the seconds on the clock, and those of the processor: machines are shared."""
    gc.collect()
    clock, processor = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - clock, time.process_time() - processor


def measure(luns: int) -> tuple[float, float, float]:
    """Best of some runs, in seconds: gathering on the clock and on the processor, the whole result for ten volumes on the clock."""
    with tempfile.TemporaryDirectory() as directory:
        with_luns(Path(directory), luns)
        request = read_request({f"volume-{number}": connection_info(number) for number in range(10)}, [], False, [])
        clocks, processors, wholes = [], [], []
        for _run in range(RUNS):
            inventory, clock, processor = timed(lambda: gather(directory))
            clocks.append(clock)
            processors.append(processor)
            if len(inventory.luns) != luns:
                raise SystemExit(f"{len(inventory.luns)} LUNs were found instead of {luns}")
            result, clock, _processor = timed(lambda: device_info(request, root=directory))
            wholes.append(clock)
            if len(result["device_path"]) != 10:
                raise SystemExit("not every volume was found")
        return min(clocks), min(processors), min(wholes)


def main() -> None:
    sizes = [int(size) for size in sys.argv[1:]] or [250, 500, 1000, 2000]
    print(f"{'LUNs':>6} {'gather, ms':>11} {'processor, ms':>14} {'per LUN, µs':>12} {'whole result, ms':>17}")
    previous: tuple[int, float] | None = None
    linear = True
    for size in sizes:
        clock, processor, whole = measure(size)
        print(f"{size:>6} {clock * 1e3:>11.1f} {processor * 1e3:>14.1f} {processor / size * 1e6:>12.1f} {whole * 1e3:>17.1f}")
        if previous and processor / previous[1] > MOST_FOR_DOUBLE * size / previous[0] / 2:
            linear = False
        previous = size, processor
    if not linear:
        raise SystemExit("the time grows faster than the number of LUNs")


if __name__ == "__main__":
    main()
