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

# Exact words: an IPv6 portal has brackets, which mean something else in a pattern.
_SESSION_OF = """
session_of() {
    iscsiadm -m session 2>/dev/null | awk -v portal="$portal" -v target="$target" \
        '{ split($3, place, ","); if (place[1] == portal && $4 == target) { gsub(/[^0-9]/, "", $2); print $2 } }'
}
"""

# $1 portal, $2 target, then LUN numbers. Manual scans: a login alone shows no LUN.
_ATTACH = f"""
set -eu
portal=$1 target=$2; shift 2
{_SESSION_OF}
set_in_record() {{ iscsiadm -m node -T "$target" -p "$portal" -o update -n "$1" -v "$2"; }}
if [ -z "$(session_of)" ]; then
    iscsiadm -m node -T "$target" -p "$portal" -o new >/dev/null
    set_in_record node.session.scan manual
    if [ -n "${{CHAP_USER:-}}" ]; then
        set_in_record node.session.auth.authmethod CHAP
        set_in_record node.session.auth.username "$CHAP_USER"
        set_in_record node.session.auth.password "$CHAP_PASSWORD"
    fi
    if [ -n "${{CHAP_IN_USER:-}}" ]; then
        set_in_record node.session.auth.username_in "$CHAP_IN_USER"
        set_in_record node.session.auth.password_in "$CHAP_IN_PASSWORD"
    fi
    iscsiadm -m node -T "$target" -p "$portal" --login >/dev/null
fi
host=$(basename "$(dirname "$(readlink -f "/sys/class/iscsi_session/session$(session_of)/device")")")
for lun in "$@"; do echo "0 0 $lun" >"/sys/class/scsi_host/$host/scan"; done
udevadm settle --timeout=20
"""

# $1 portal, $2 target, then LUN numbers. Other LUNs of the session stay. A multipath map goes with its first path.
_DETACH = f"""
set -u
portal=$1 target=$2; shift 2
{_SESSION_OF}
sid=$(session_of)
if [ -n "$sid" ]; then
    device=$(readlink -f "/sys/class/iscsi_session/session$sid/device")
    for lun in "$@"; do
        for disk in "$device"/target*/*:*:*:"$lun"; do
            uuid=$(cat "$disk"/block/*/holders/dm-*/dm/uuid 2>/dev/null)
            if [ -n "$uuid" ]; then multipath -f "${{uuid#mpath-}}"; multipath -w "${{uuid#mpath-}}" >/dev/null; fi
            [ -e "$disk/delete" ] && echo 1 >"$disk/delete"
        done
    done
    if ! ls -d "$device"/target*/*:*:*:*/block >/dev/null 2>&1; then
        iscsiadm -m node -T "$target" -p "$portal" --logout >/dev/null
    fi
fi
if [ -z "$(session_of)" ]; then
    iscsiadm -m node -T "$target" -p "$portal" -o delete >/dev/null 2>&1
fi
exit 0
"""

# Names of devices: each has to be there before the guest starts.
_WAIT = """
for name in "$@"; do
    tries=100
    until [ -e "$name" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "$name does not appear" >&2; multipathd show paths >&2; exit 1; }
        sleep 0.1
    done
done
"""


def device(data: dict[str, t.Any], scsi_id: str | None) -> str:
    """The name that udev gives the device of a connection info's data; ``scsi_id`` is the volume's."""
    if "target_portals" in data:
        # multipath writes a 3 before a NAA identifier; tgtd makes that of scsi_id.
        return f"/dev/disk/by-id/dm-uuid-mpath-36000000000000000{scsi_id}"
    number, portal = data["target_lun"], data["target_portal"].replace("[", "").replace("]", "")
    lun = str(number) if number < 256 else f"0x{number << 48:016x}"
    return f"/dev/disk/by-path/ip-{portal}-iscsi-{data['target_iqn']}-lun-{lun}"


def attach(lab: Lab, host: str, infos: t.Sequence[dict[str, t.Any]]) -> None:
    """Log in to the host's target over all its portals and bring in the LUNs of these connection infos, and no other."""
    for portal in _portals(infos):
        _run(lab, host, _ATTACH, portal, infos)


def wait_for(lab: Lab, host: str, devices: t.Sequence[str]) -> None:
    hosts.output_of(lab, host, ["sh", "-c", _WAIT, "sh", *devices])


def detach(lab: Lab, host: str, infos: t.Sequence[dict[str, t.Any]]) -> None:
    """Delete the devices; log out and forget the target when none is left."""
    for portal in _portals(infos):
        _run(lab, host, _DETACH, portal, infos)


def _portals(infos: t.Sequence[dict[str, t.Any]]) -> list[str]:
    """A host reaches all its volumes in the same way."""
    return [portal for info in infos[:1] for portal in info["data"].get("target_portals") or [info["data"]["target_portal"]]]


def _run(lab: Lab, host: str, script: str, portal: str, infos: t.Sequence[dict[str, t.Any]]) -> None:
    data = infos[0]["data"]
    argv = ["sh", "-c", script, "sh", portal, data["target_iqn"], *(str(info["data"]["target_lun"]) for info in infos)]
    words = {"CHAP_USER": "auth_username", "CHAP_PASSWORD": "auth_password"}
    words |= {"CHAP_IN_USER": "auth_username_in", "CHAP_IN_PASSWORD": "auth_password_in"}
    given = [f"{variable}={data[key]}" for variable, key in words.items() if key in data]
    hosts.output_of(lab, host, ["env", *given, *argv] if given else argv)
