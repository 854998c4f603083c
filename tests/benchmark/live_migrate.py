# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible's part of a live migration: the whole play less libvirt's own job, with 1 and with 10 disks, beside virsh migrate.

Needs the lab with both hosts (LAB_ID=N tests/lab/lab up namespace uml) and the environment of a scenario (LUNSHIFT_INVENTORY,
LUNSHIFT_LAB, ANSIBLE_COLLECTIONS_PATH, ansible-playbook in PATH). Usage: live_migrate.py hosta hostb libiscsi, or uml1 uml2 kernel.
virsh migrates with a definition made by hand from the domain's own, with the volumes attached by iscsi_volume before: what it needs
for that is not counted. Medians of moves there and back.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = str(CHECKOUT / "tests" / "lab" / "lab")
SHARED = CHECKOUT / "extensions" / "molecule" / "shared"
INVENTORY = os.environ["LUNSHIFT_INVENTORY"]
GUEST = "benchmark"
MOVES = 4


def run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def lab(*arguments: str) -> str:
    return run(LAB, *arguments)


def play(source: str, destination: str) -> tuple[float, float]:
    """Seconds of the whole play, and of libvirt's call in it."""
    variables = {
        "live_migrate_source": source,
        "live_migrate_destination": destination,
        "live_migrate_domains": [GUEST],
        "live_migrate_export_tasks": str(SHARED / "export.yml"),
        "live_migrate_unexport_tasks": str(SHARED / "unexport.yml"),
    }
    start = time.monotonic()
    output = run("ansible-playbook", "-i", INVENTORY, "lunshift.migration.live_migrate", "-e", json.dumps(variables))
    seconds = time.monotonic() - start
    found = re.search(r"moved in ([0-9.]+) s", output)
    if not found:
        raise SystemExit(f"the play did not tell how long libvirt's job took:\n{output}")
    return seconds, float(found[1])


def volume_module(host: str, state: str, serials: list[str], initiator: str) -> None:
    connections = json.loads(lab("connect", host, *serials))
    volumes = [{"serial": serial, "connection_info": info, "initiator": initiator} for serial, info in connections.items()]
    arguments = json.dumps({"state": state, "volumes": volumes})
    run("ansible", "-i", INVENTORY, host, "-m", "lunshift.migration.iscsi_volume", "-a", arguments)


def virsh(source: str, destination: str, serials: list[str], initiator: str) -> float:
    """Seconds of virsh migrate alone, with the destination's volumes attached and the definition rewritten beforehand."""
    volume_module(destination, "attached", serials, initiator)
    xml = lab("exec", source, "--", "virsh", "-c", "qemu:///system", "dumpxml", "--migratable", GUEST)
    for serial, info in json.loads(lab("connect", destination, *serials)).items():
        xml = by_hand(xml, serial, info)
    file = f"/run/{GUEST}.xml"
    lab("exec", source, "--", "sh", "-c", f"cat > {file} <<'XML'\n{xml}\nXML")
    uri = json.loads(run("ansible-inventory", "-i", INVENTORY, "--host", destination))["live_migrate_inbound_uri"]
    command = ["virsh", "-c", "qemu:///system", "migrate", "--live", "--p2p", "--persistent", "--undefinesource"]
    start = time.monotonic()
    lab("exec", source, "--", *command, "--xml", file, "--persistent-xml", file, GUEST, uri)
    seconds = time.monotonic() - start
    volume_module(source, "detached", serials, initiator)
    lab("disconnect", source, *serials)
    return seconds


def by_hand(xml: str, serial: str, info: dict) -> str:
    """What an operator would do with an editor: put the destination's source into the disk of this serial."""
    data = info["data"]
    head, disk, tail = next(
        (xml[: match.start()], match[0], xml[match.end() :])
        for match in re.finditer(r"<disk .*?</disk>", xml, re.DOTALL)
        if serial in match[0]
    )
    lun = data["target_lun"]
    shown = str(lun) if lun < 256 else f"0x{lun:04x}000000000000"
    disk = re.sub(
        r"dev='/dev/disk[^']*'", f"dev='/dev/disk/by-path/ip-{data['target_portal']}-iscsi-{data['target_iqn']}-lun-{shown}'", disk
    )
    disk = re.sub(r"name='iqn[^']*/[0-9]+'", f"name='{data['target_iqn']}/{lun}'", disk)
    own_name = (info.get("libvirt") or {}).get("initiator_iqn", "")
    return head + re.sub(r"<iqn name='[^']*'", f"<iqn name='{own_name}'", disk) + tail


def measure(hosts: list[str], initiator: str, disks: int) -> None:
    names = [f"bench{number}" for number in range(disks)]
    try:
        for name in names:
            lab("volume", "create", name, "16")
        serials = [volume["serial"] for volume in json.loads(lab("volume", "list")) if volume["name"] in names]
        lab("guest", "start", hosts[0], GUEST, *[word for name in names for word in ("--disk", f"{name}:{initiator}")])
        plays, jobs, virshes = [], [], []
        for move in range(MOVES):
            source, destination = hosts[move % 2], hosts[1 - move % 2]
            seconds, job = play(source, destination)
            plays.append(seconds)
            jobs.append(job)
        for move in range(MOVES):
            virshes.append(virsh(hosts[move % 2], hosts[1 - move % 2], serials, initiator))
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
