# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Whether a host's kernel lets its QEMU take a domain by post-copy. Reads only."""

from __future__ import annotations

import os

SETTING = "proc/sys/vm/unprivileged_userfaultfd"
# The other way to userfaultfd, for whom its owner gives it to. From these versions on libvirt does, and QEMU takes it.
DEVICE = "dev/userfaultfd"
LIBVIRT_WITH_DEVICE, QEMU_WITH_DEVICE = 10_001_000, 8_000_000


def postcopy_problem(libvirt_number: int, qemu_number: int, root: str = "/") -> str | None:
    """In words, with the remedy; None when nothing is known against it.

    QEMU on the destination has to handle the page faults of its own guest, also those within the kernel (userfaultfd). libvirt runs it
    without capabilities, even as root, so the kernel has to allow that to everybody, or the device has to be there for it.
    """
    try:
        with open(os.path.join(root, SETTING), encoding="ascii") as stream:
            allowed = stream.read().strip() != "0"
    except OSError:
        return None  # An old kernel without the setting, or one without userfaultfd: QEMU will tell.
    has_device = libvirt_number >= LIBVIRT_WITH_DEVICE and qemu_number >= QEMU_WITH_DEVICE and os.path.exists(os.path.join(root, DEVICE))
    if allowed or has_device:
        return None
    return (
        "post-copy would be refused, for the kernel does not let QEMU use userfaultfd; set vm.unprivileged_userfaultfd=1 there"
        " (sysctl), or choose another timeout_action"
    )


__all__ = ("postcopy_problem",)
