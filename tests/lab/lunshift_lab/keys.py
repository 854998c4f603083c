# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ssh key pair of one lab instance."""

from __future__ import annotations

from .context import Lab
from .process import run

CLIENT_OPTIONS = (
    "-o", "StrictHostKeyChecking=no",
    "-o", "UserKnownHostsFile=/dev/null",
    "-o", "LogLevel=ERROR",
)  # fmt: skip

# What root's ~/.ssh/config says on every host: hosts are made anew too often to be known.
CLIENT_CONFIG = "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"


def ensure_key(lab: Lab) -> str:
    """Make the key pair once; gives the public key's line."""
    lab.ssh_key.parent.mkdir(parents=True, exist_ok=True)
    if not lab.ssh_key.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lunshift-lab-{lab.lab_id}", "-f", lab.ssh_key])
    return lab.ssh_key.with_suffix(".pub").read_text()
