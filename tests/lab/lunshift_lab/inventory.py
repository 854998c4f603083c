# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible's inventory of the hosts that are up."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

from . import hosts
from .context import NAMESPACE_HOSTS, STORAGE, UML_HOSTS, Lab, LabError
from .keys import CLIENT_OPTIONS

GROUPS = {"namespace_hosts": NAMESPACE_HOSTS, "uml_hosts": UML_HOSTS}


def write(lab: Lab) -> Path:
    """Write the inventory directory; gives its path."""
    live = hosts.live(lab)
    if not live:
        raise LabError(f"no host of lab {lab.lab_id} is up; bring it up with 'lab up'")
    children = {group: {"hosts": {host: _host_vars(lab, host) for host in names if host in live}} for group, names in GROUPS.items()}
    directory = lab.state_dir / "inventory"
    directory.mkdir(parents=True, exist_ok=True)
    variables = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(lab.ssh_key),
        "ansible_ssh_common_args": " ".join(CLIENT_OPTIONS),
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_pipelining": True,
    }
    # JSON is YAML, and the standard library can write it.
    (directory / "hosts.yml").write_text(json.dumps({"all": {"children": children, "vars": variables}}, indent=2) + "\n")
    return directory


def _host_vars(lab: Lab, host: str) -> dict[str, t.Any]:
    variables = {
        "ansible_host": lab.address_of(host),
        "lab_target_iqn": lab.iqn_of(host),
        "lab_initiator_iqn": lab.initiator_of(host),
        "lab_portal": f"{lab.address_of(STORAGE)}:3260",
        "live_migrate_inbound_uri": lab.libvirt_uri_of(host),
    }
    return {**variables, "lab_migration_address": lab.migration_address_of(host)} if host in NAMESPACE_HOSTS else variables
