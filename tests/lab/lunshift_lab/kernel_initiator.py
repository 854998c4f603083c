# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel initiator of a host, driven by plain iscsiadm: how the lab itself attaches a guest's first disks.

On purpose none of the collection's code: what is tested does not prepare its own test.
"""

from __future__ import annotations

import typing as t

from . import hosts
from .context import Lab

# $1 portal, $2 target, then LUN numbers. Manual scans: a login alone shows no LUN.
_ATTACH = """
set -eu
portal=$1 target=$2; shift 2
session_of() { iscsiadm -m session 2>/dev/null | sed -n "s/^tcp: \\[\\([0-9]*\\)\\] $portal,[0-9]* $target .*/\\1/p"; }
if [ -z "$(session_of)" ]; then
    iscsiadm -m node -T "$target" -p "$portal" -o new >/dev/null
    iscsiadm -m node -T "$target" -p "$portal" -o update -n node.session.scan -v manual
    if [ -n "${CHAP_USER:-}" ]; then
        iscsiadm -m node -T "$target" -p "$portal" -o update -n node.session.auth.authmethod -v CHAP
        iscsiadm -m node -T "$target" -p "$portal" -o update -n node.session.auth.username -v "$CHAP_USER"
        iscsiadm -m node -T "$target" -p "$portal" -o update -n node.session.auth.password -v "$CHAP_PASSWORD"
    fi
    iscsiadm -m node -T "$target" -p "$portal" --login >/dev/null
fi
host=$(basename "$(dirname "$(readlink -f "/sys/class/iscsi_session/session$(session_of)/device")")")
for lun in "$@"; do echo "0 0 $lun" >"/sys/class/scsi_host/$host/scan"; done
udevadm settle --timeout=20
"""

# $1 portal, $2 target, then LUN numbers. Other LUNs of the session stay.
_DETACH = """
set -u
portal=$1 target=$2; shift 2
sid=$(iscsiadm -m session 2>/dev/null | sed -n "s/^tcp: \\[\\([0-9]*\\)\\] $portal,[0-9]* $target .*/\\1/p")
if [ -n "$sid" ]; then
    device=$(readlink -f "/sys/class/iscsi_session/session$sid/device")
    for lun in "$@"; do
        for disk in "$device"/target*/*:*:*:"$lun"; do [ -e "$disk/delete" ] && echo 1 >"$disk/delete"; done
    done
    if ! ls -d "$device"/target*/*:*:*:*/block >/dev/null 2>&1; then
        iscsiadm -m node -T "$target" -p "$portal" --logout >/dev/null
    fi
fi
if ! iscsiadm -m session 2>/dev/null | grep -q " $target "; then
    iscsiadm -m node -T "$target" -p "$portal" -o delete >/dev/null 2>&1
fi
exit 0
"""


def by_path(data: dict[str, t.Any]) -> str:
    """The name that udev gives the device of a connection info's data."""
    number = data["target_lun"]
    lun = str(number) if number < 256 else f"0x{number << 48:016x}"
    return f"/dev/disk/by-path/ip-{data['target_portal']}-iscsi-{data['target_iqn']}-lun-{lun}"


def attach(lab: Lab, host: str, infos: t.Sequence[dict[str, t.Any]]) -> None:
    """Log in to the host's target and bring in the LUNs of these connection infos, and no other."""
    if infos:
        _run(lab, host, _ATTACH, infos)


def detach(lab: Lab, host: str, infos: t.Sequence[dict[str, t.Any]]) -> None:
    """Delete the devices; log out and forget the target when none is left."""
    if infos:
        _run(lab, host, _DETACH, infos)


def _run(lab: Lab, host: str, script: str, infos: t.Sequence[dict[str, t.Any]]) -> None:
    data = infos[0]["data"]
    argv = ["sh", "-c", script, "sh", data["target_portal"], data["target_iqn"], *(str(info["data"]["target_lun"]) for info in infos)]
    if "auth_username" in data:
        argv = ["env", f"CHAP_USER={data['auth_username']}", f"CHAP_PASSWORD={data['auth_password']}", *argv]
    hosts.output_of(lab, host, argv)
