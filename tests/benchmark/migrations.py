# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One migration in the lab, by the collection's playbook or by virsh; for the benchmarks that compare them.

Needs the lab (LAB_ID=N tests/lab/lab up namespace uml) and the environment of a scenario: LUNSHIFT_INVENTORY, LUNSHIFT_LAB,
ANSIBLE_COLLECTIONS_PATH, ansible-playbook in PATH.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import typing as t
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LAB = str(CHECKOUT / "tests" / "lab" / "lab")
SHARED = CHECKOUT / "extensions" / "molecule" / "shared"
INVENTORY = os.environ["LUNSHIFT_INVENTORY"]


def run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout


def lab(*arguments: str) -> str:
    return run(LAB, *arguments)


def serials_of(names: t.Collection[str]) -> list[str]:
    return [volume["serial"] for volume in json.loads(lab("volume", "list")) if volume["name"] in names]


def play(guest: str, source: str, destination: str, **variables: t.Any) -> tuple[float, str]:
    """Move by the playbook: seconds of the whole play, and what it printed."""
    given = {
        "live_migrate_source": source,
        "live_migrate_destination": destination,
        "live_migrate_domains": [guest],
        "live_migrate_export_tasks": str(SHARED / "export.yml"),
        "live_migrate_unexport_tasks": str(SHARED / "unexport.yml"),
        **variables,
    }
    start = time.monotonic()
    output = run("ansible-playbook", "-i", INVENTORY, "lunshift.migration.live_migrate", "-e", json.dumps(given))
    return time.monotonic() - start, output


def virsh(guest: str, source: str, destination: str, serials: list[str], initiator: str) -> float:
    """Move by virsh: its seconds alone, with the destination's volumes attached and the definition rewritten beforehand."""
    _volume_module(destination, "attached", serials, initiator)
    xml = lab("exec", source, "--", "virsh", "-c", "qemu:///system", "dumpxml", "--migratable", guest)
    for serial, info in json.loads(lab("connect", destination, *serials)).items():
        xml = _by_hand(xml, serial, info)
    file = f"/run/{guest}.xml"
    lab("exec", source, "--", "sh", "-c", f"cat > {file} <<'XML'\n{xml}\nXML")
    uri = json.loads(run("ansible-inventory", "-i", INVENTORY, "--host", destination))["live_migrate_inbound_uri"]
    command = ["virsh", "-c", "qemu:///system", "migrate", "--live", "--p2p", "--persistent", "--undefinesource"]
    start = time.monotonic()
    lab("exec", source, "--", *command, "--xml", file, "--persistent-xml", file, guest, uri)
    seconds = time.monotonic() - start
    _volume_module(source, "detached", serials, initiator)
    lab("disconnect", source, *serials)
    return seconds


def _volume_module(host: str, state: str, serials: list[str], initiator: str) -> None:
    connections = json.loads(lab("connect", host, *serials))
    volumes = [{"serial": serial, "connection_info": info, "initiator": initiator} for serial, info in connections.items()]
    arguments = json.dumps({"state": state, "volumes": volumes})
    run("ansible", "-i", INVENTORY, host, "-m", "lunshift.migration.iscsi_volume", "-a", arguments)


def _by_hand(xml: str, serial: str, info: dict[str, t.Any]) -> str:
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
