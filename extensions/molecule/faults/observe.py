# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is true on the hosts, told by their own tools and the target's: nothing here asks the collection."""

from __future__ import annotations

import re
import subprocess

from lunshift_lab import hosts, storage
from lunshift_lab.context import UML_HOSTS, Lab, LabError
from rows import ABSENT, NO_ANSWER

ANSWER_S = 8.0
# iSCSI as a host has it; the numbers of sessions and the letters of disks say nothing.
_KERNEL = """
iscsiadm -m session 2>/dev/null | sed 's/^tcp: [[][0-9]*[]] //; s/ (.*//; s/^/session /'
iscsiadm -m node 2>/dev/null | sed 's/^/node record /'
ls /dev/disk/by-path 2>/dev/null | grep iscsi | sed 's/^/device /'
multipath -ll 2>/dev/null | grep -o '^[0-9a-z]* .*dm-' | sed 's/ .*//; s/^/map /'
"""
_RECORDS = "find /var/lib/lunshift-migration /run/lunshift-migration -type f -not -path '*/locks/*' 2>/dev/null | sed 's/^/record /'"


def _virsh(lab: Lab, host: str, *words: str) -> subprocess.CompletedProcess[str] | None:
    """None when the host's libvirt does not answer in time."""
    command = ["virsh", "-q", "-c", lab.libvirt_uri_of(host), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired:
        return None


def state(lab: Lab, host: str, domain: str) -> str:
    """The domain's state there in virsh's words, "absent", or "no answer"."""
    said = _virsh(lab, host, "domstate", domain)
    if said is None:
        return NO_ANSWER
    if said.returncode == 0:
        return said.stdout.strip()
    return ABSENT if "failed to get domain" in said.stderr else NO_ANSWER


def has_job(lab: Lab, host: str, domain: str) -> bool:
    """Whether memory is being copied at this moment."""
    said = _virsh(lab, host, "domjobinfo", domain)
    return said is not None and "Data remaining" in said.stdout


def holds(lab: Lab, host: str) -> frozenset[str]:
    """All that a host has of iSCSI: the target's list of what it shows and who is logged in; the host's own devices and records."""
    found = set()
    for target in storage.target_state(lab):
        if target["host"] == host:
            found |= {f"exported {lun['volume']}" for lun in target["luns"]}
            found |= {f"logged in from {session['initiator']}" for session in target["sessions"] if session["addresses"]}
    words = _RECORDS if host not in UML_HOSTS else _KERNEL + _RECORDS
    try:
        found |= set(hosts.output_of(lab, host, ["sh", "-c", words]).splitlines())
    except LabError:
        found.add("whatever cannot be seen, for the host does not answer")
    return frozenset(re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", entry) for entry in found)
