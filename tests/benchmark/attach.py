# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long attaching and detaching one volume takes on a kernel-initiator host, alone and beside 200 other LUNs of its target.

Needs the lab with its User-Mode Linux hosts (LAB_ID=N tests/lab/lab up uml). Usage: attach.py [OTHER_LUNS]. Exits with 1 when the
other LUNs make attaching more than 1.5 times as slow, or when any of them appears on the host.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = str(CHECKOUT / "tests" / "lab" / "lab")
HOST = "uml1"
VOLUME = "vol1"
RUNS = 5
MOST_TIMES = 1.5

# Runs on the host itself, so that neither ssh nor Ansible is a part of the time.
ON_HOST = """
import json, sys, time
collections, info, runs = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
sys.path.insert(0, collections)
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.request import parse_requests
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.volumes import Call, attach_volumes, detach_volumes
call = Call(host=Host(), check_mode=False, timeout_s=60, operation_id="benchmark")
requests = parse_requests([{"serial": "benchmark", "connection_info": info}])
result = {"attach_s": [], "detach_s": [], "devices": []}
for _run in range(runs):
    start = time.monotonic()
    attach_volumes(call, requests)
    result["attach_s"].append(time.monotonic() - start)
    result["devices"].append(sum(name.startswith("sd") for name in call.host.names("/sys/block")))
    start = time.monotonic()
    detach_volumes(call, requests)
    result["detach_s"].append(time.monotonic() - start)
print(json.dumps(result))
"""


def lab(*arguments: str) -> str:
    return subprocess.run([LAB, *arguments], check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def measure(collections: Path, info: dict[str, Any]) -> dict[str, list[float]]:
    output = lab("exec", HOST, "--", "python3", "-c", ON_HOST, str(collections), json.dumps(info), str(RUNS))
    result: dict[str, list[float]] = json.loads(output)
    return result


def ship() -> Path:
    """Put the plugins where the host sees them."""
    state = f"{os.environ.get('LUNSHIFT_LAB_DIR') or '/tmp/lunshift-lab'}-{os.environ.get('LAB_ID', '0')}"
    collections = Path(state, "share", "benchmark")
    target = collections / "ansible_collections" / "lunshift" / "migration" / "plugins"
    shutil.copytree(CHECKOUT / "plugins", target, dirs_exist_ok=True)
    return collections


def main() -> None:
    others = [f"bench{number}" for number in range(int(sys.argv[1]) if len(sys.argv) > 1 else 200)]
    collections = ship()
    info = json.loads(lab("export", HOST, VOLUME))
    results: dict[int, dict[str, list[float]]] = {}
    try:
        results[0] = measure(collections, info)
        for name in others:
            lab("volume", "create", name, "4")
            lab("export", HOST, name)
        results[len(others)] = measure(collections, info)
    finally:
        for name in others:
            subprocess.run([LAB, "unexport", HOST, name], check=False, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            subprocess.run([LAB, "volume", "delete", name], check=False, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        shutil.rmtree(collections)
    print(f"{'other LUNs':>10} {'attach, s (median of ' + str(RUNS) + ')':>24} {'detach, s':>10} {'devices that appeared':>22}")
    for count, result in results.items():
        attach_s, detach_s = statistics.median(result["attach_s"]), statistics.median(result["detach_s"])
        print(f"{count:>10} {attach_s:>24.2f} {detach_s:>10.2f} {max(result['devices']):>22.0f}")
    times = statistics.median(results[len(others)]["attach_s"]) / statistics.median(results[0]["attach_s"])
    print(f"with {len(others)} other LUNs attaching takes {times:.2f} times as long; at most {MOST_TIMES} is asked for")
    if times > MOST_TIMES or any(max(result["devices"]) != 1 for result in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
