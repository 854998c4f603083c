# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's lock manager on namespace hosts: with leases in one directory no guest can be started on two of them."""

from __future__ import annotations

from pathlib import Path

from . import hosts, namespace_hosts
from .context import NAMESPACE_HOSTS, Lab, LabError

MANAGERS = ("lockd", "none")
LOCKSPACE = "lab"

# Guests go on without their daemon; the new one finds them again.
_CHANGE = """\
set -e
sed -i '/^lock_manager/d' /etc/libvirt/qemu.conf
for pid_file in /run/libvirtd.pid /run/virtlockd.pid; do
    pid=$(cat $pid_file 2>/dev/null) || continue
    kill "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    rm -f $pid_file
done
rm -f /run/libvirt/virtlockd-sock
if [ "$1" = lockd ]; then
    echo 'lock_manager = "lockd"' >> /etc/libvirt/qemu.conf
    printf 'auto_disk_leases = 1\nrequire_lease_for_disks = 0\nfile_lockspace_dir = "%s"\n' "$2" > /etc/libvirt/qemu-lockd.conf
    virtlockd -d -p /run/virtlockd.pid
fi
"""


def lockspace(lab: Lab) -> Path:
    return lab.lease_dir / LOCKSPACE


def use(lab: Lab, manager: str, host_names: tuple[str, ...]) -> None:
    """Give these namespace hosts this lock manager; no guest may run on them that was started under another one."""
    unknown = sorted(set(host_names) - set(NAMESPACE_HOSTS))
    if unknown:
        raise LabError(f"{', '.join(unknown)}: only {', '.join(NAMESPACE_HOSTS)} have a lock manager")
    for host in host_names:
        hosts.output_of(lab, host, ["sh", "-c", _CHANGE, "sh", manager, str(lockspace(lab))])
    namespace_hosts.up(lab)


def lease_xml(lab: Lab, guest: str) -> str:
    """A lease of the guest's own, whose file is made here: lockd never makes one."""
    lockspace(lab).mkdir(parents=True, exist_ok=True)
    (lockspace(lab) / guest).touch()
    return f"<lease><lockspace>{LOCKSPACE}</lockspace><key>{guest}</key><target path='{lab.lease_dir}'/></lease>"
