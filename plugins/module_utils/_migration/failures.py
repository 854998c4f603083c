# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What an operator can do about what libvirt says when a migration fails. Pure.

libvirt has few codes and many sentences, so most causes are known by their words (all of them were seen
in real failures with libvirt 9 and QEMU 7.2).
"""

from __future__ import annotations

import re

# What libvirt says -> what to do. The first that fits counts.
_REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"Target not found\(515\)|LOGICAL_UNIT_NOT_SUPPORTED",
        "The destination's QEMU cannot find the volume at the target and LUN of the destination XML: export it to the destination, or"
        " correct the destination's connection info",
    ),
    (r"Authentication failure\(513\)", "The target refused the destination's CHAP login: check the libvirt secret on the destination"),
    (
        r"Can not reconnect right now|iscsi_service failed",
        "The destination cannot reach the iSCSI portal: check its address, port and network",
    ),
    (r"Secret not found|no secret with matching", "Define the libvirt secret that the disk names on the destination too"),
    (
        r"Cannot read from TLS channel|Failed to verify peer's certificate|does not match the hostname",
        "The other host's certificate was refused: most often it has another name than the address that was connected to, so give the name"
        " in the certificate (tls_destination for the guest's memory, the host in destination_uri for libvirt's own connection). The reason"
        " is in the guest's log on the source, /var/log/libvirt/qemu/NAME.log, or in libvirt's",
    ),
    (
        r"Unable to access credentials|Cannot (read|load) (CA |cacert )?certificate|tls-creds",
        "TLS is not set up on both hosts: QEMU reads ca-cert.pem, server-cert.pem, server-key.pem, client-cert.pem and client-key.pem from"
        " /etc/pki/qemu, and its keys must be readable by QEMU's user alone (0640, root and QEMU's group)",
    ),
    (
        r"Could not open '/dev/|Cannot access storage file|No such file or directory",
        "A device or file of the destination XML does not exist on the destination: attach the volume there first",
    ),
    (
        r"Failed to bind socket|Cannot assign requested address",
        "A graphics listen address of the XML does not exist on the destination: give the destination's own address",
    ),
    (
        r"already exists with uuid|is already defined with uuid",
        "Another domain on the destination has the same name or UUID: rename or remove one of them",
    ),
    (r"is already active", "The destination runs a domain with this UUID: read both hosts before anything else is done"),
    (
        r"migrate guest to the same host",
        "Both URIs lead to hosts with one host UUID: set host_uuid in libvirtd.conf, or correct destination_uri",
    ),
    (
        r"Unable to resolve address|unable to connect to server|Connection refused|No route to host",
        "The SOURCE's libvirt daemon cannot reach the destination: check destination_uri, the name it resolves to, and the firewall (the"
        " daemon's port, and 49152 to 49215 for the data)",
    ),
    (
        r"Postcopy is not supported",
        "The destination's kernel does not let QEMU do post-copy: set vm.unprivileged_userfaultfd=1 there (a kernel without that setting"
        " cannot do it at all), or choose another timeout_action",
    ),
    (
        r"Unsupported compression method|not compatible with|[Mm]ultifd",
        "This libvirt or QEMU cannot combine the chosen compression, parallel_connections and timeout_action",
    ),
    (r"authentication failed|Authentication failed|Permission denied", "The SOURCE's libvirt daemon may not log in to the destination's"),
    (
        r"client socket is closed|End of file while reading data|keepalive|Cannot recv data",
        "The connection between the libvirt daemons was lost. Read both hosts: the domain may run on either, or on both",
    ),
    (r"active block job", "Wait for the block job's end, or stop it with 'virsh blockjob'"),
    (
        r"[Tt]arget (domain|disk|CPU|device|network|controller).* does not match",
        "The destination XML changes what the guest sees; only sources may change",
    ),
    (r"Unsafe migration", "A disk uses a cache mode or a local file that cannot be migrated safely"),
    (r"canceled by client|operation aborted", "Somebody aborted libvirt's job; the domain stays on the source"),
    (
        r"cannot acquire state change lock",
        "Another libvirt call on this domain hangs or takes long; wait for it, and look at the libvirt log",
    ),
)


def remedy(said: str) -> str:
    """One sentence for the operator, or nothing when the message speaks for itself."""
    return next((advice for pattern, advice in _REMEDIES if re.search(pattern, said)), "")


def sentence(said: str) -> str:
    """libvirt's own words, which people search for, and then what to do."""
    advice = remedy(said)
    return f"{said}. {advice}" if advice else said


__all__ = ("remedy", "sentence")
