# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Volumes that come back when the host starts: a list, a script of one page, and a systemd unit that runs it before libvirt.

Not open-iscsi's own automatic startup: with manual scanning that brings in no LUN at all, with automatic scanning every LUN of
the target. What a login needs, a CHAP password too, is in the node records; the list holds no secret.
"""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import astuple, dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._durable import replace_file
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host

DIRECTORY = "/var/lib/lunshift-migration/at_boot"
LIST = f"{DIRECTORY}/volumes"
SCRIPT = f"{DIRECTORY}/attach"
# Where an administrator's own software keeps its units; the link is what 'systemctl enable' would make.
_UNITS = "/usr/local/lib/systemd/system"
UNIT = f"{_UNITS}/lunshift-volumes.service"
LINK = f"{_UNITS}/multi-user.target.wants/lunshift-volumes.service"

SCRIPT_TEXT = r"""#!/bin/sh
# Written by the Ansible collection lunshift.migration. Brings the volumes listed beside this file back when the host starts, and no
# other LUN of their targets. One line is one path: DEVICE ADDRESS PORT IQN LUN SERIAL.
set -u
list=${0%/*}/volumes
patience_s=120

uptime_s() {
    read -r up _ < /proc/uptime
    echo "${up%%.*}"
}

# ADDRESS PORT IQN: the directory of the session in sysfs, once it is logged in
session_of() {
    for session in /sys/class/iscsi_session/session*; do
        [ "$(cat "$session/targetname" 2> /dev/null)" = "$3" ] || continue
        [ "$(cat "$session/state")" = LOGGED_IN ] || continue
        name=connection${session##*/session}:0
        connection=$session/device/$name/iscsi_connection/$name
        for prefix in persistent_ ''; do
            if [ "$(cat "$connection/${prefix}address") $(cat "$connection/${prefix}port")" = "$1 $2" ]; then
                echo "$session"
                return 0
            fi
        done
    done
    return 1
}

# DEVICE ADDRESS PORT IQN LUN
bring_in() {
    if ! session=$(session_of "$2" "$3" "$4"); then
        case $2 in *:*) portal="[$2]:$3" ;; *) portal=$2:$3 ;; esac
        timeout 30 iscsiadm -m node -T "$4" -p "$portal" -I default --login < /dev/null > /dev/null
        session=$(session_of "$2" "$3" "$4") || return 1
    fi
    number=$(cat "$session/target_id")
    host=$(readlink -f "$session")
    host=${host%%/session*}
    host=${host##*/host}
    if [ ! -e "$session/device/target$host:0:$number/$host:0:$number:$5" ]; then
        echo "0 $number $5" > "/sys/class/scsi_host/host$host/scan"
    fi
    [ -e "$1" ]
}

deadline_s=$(($(uptime_s) + patience_s))
while :; do
    missing=
    while read -r device address port iqn lun serial; do
        bring_in "$device" "$address" "$port" "$iqn" "$lun" || missing="$missing $serial ($device)"
    done < "$list"
    [ -n "$missing" ] || exit 0
    [ "$(uptime_s)" -lt "$deadline_s" ] || break
    sleep 0.5
done
echo "not there after $patience_s s:$missing" >&2
exit 1
"""

UNIT_TEXT = f"""# Written by the Ansible collection lunshift.migration; removed with the last volume of the list.
[Unit]
Description=iSCSI volumes of domains that were moved to this host
Wants=network-online.target iscsid.service
After=network-online.target iscsid.service multipathd.service
Before=libvirtd.service virtqemud.service libvirt-guests.service
RequiresMountsFor={DIRECTORY}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh {SCRIPT}

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class BootPath:
    """One line: a path of a volume, and the device that must be there before libvirt starts. ``lun`` is the kernel's number."""

    device: str
    address: str
    port: int
    iqn: str
    lun: int
    # The last one, for it may hold blanks.
    serial: str


def supported(host: Host) -> bool:
    return host.exists("/run/systemd/system")


def listed(host: Host) -> tuple[BootPath, ...]:
    """What is on the list now."""
    found = []
    for line in (host.read(LIST) or "").splitlines():
        device, address, port, iqn, lun, serial = line.split(" ", 5)
        found.append(BootPath(device, address, int(port), iqn, int(lun), serial))
    return tuple(found)


def serials(host: Host) -> set[str]:
    return {path.serial for path in listed(host)}


def replace_volumes(host: Host, leaving: t.Container[str], paths: t.Iterable[BootPath] = ()) -> None:
    """Take volumes off the list and put paths on it. With the last one everything goes."""
    lines = [*(path for path in listed(host) if path.serial not in leaving), *paths]
    if not lines:
        # The link first: without it nothing is started.
        for path in (LINK, UNIT, LIST, SCRIPT):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(host.at(path))
        for directory in (DIRECTORY, os.path.dirname(LINK), _UNITS):
            with contextlib.suppress(OSError):
                os.rmdir(host.at(directory))
        return
    _write(host, LIST, "".join(" ".join(map(str, astuple(path))) + "\n" for path in lines), 0o600)
    _write(host, SCRIPT, SCRIPT_TEXT, 0o700)
    _write(host, UNIT, UNIT_TEXT, 0o644)
    if not host.exists(LINK):
        os.makedirs(host.at(os.path.dirname(LINK)), exist_ok=True)
        os.symlink(f"../{os.path.basename(UNIT)}", host.at(LINK))


def _write(host: Host, path: str, text: str, mode: int) -> None:
    """As a whole or not at all, and on disk before this returns: the power may be cut at any time."""
    if host.read(path) == text.strip():
        return
    target = host.at(path)
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    replace_file(target, text, mode)


__all__ = ("BootPath", "listed", "replace_volumes", "serials", "supported")
