# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Secrets that the destination's libvirt has to have: found missing before anything is exported, where that can be. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._xml.destination import IscsiDestination, destination
from ansible_collections.lunshift.migration.plugins.module_utils._xml.secrets import SecretUse, secret_uses

# As domain_info lists them: {uuid, usage_type, usage}; None where libvirt does not tell.
Secrets = t.Optional[t.Sequence[t.Mapping[str, t.Any]]]


def missing_secrets(xml: str, secrets: Secrets, host: str) -> list[str]:
    """What stands against the domain, because this host's libvirt lacks a secret that it names."""
    return _problems(secret_uses(xml), secrets, host)


def missing_chap_secrets(
    volumes: t.Sequence[t.Mapping[str, t.Any]], connections: t.Mapping[str, t.Any], secrets: Secrets, host: str
) -> list[str]:
    """The same for volumes that QEMU will open itself with a CHAP password. ``volumes`` are those of a plan."""
    return _problems([use for volume in volumes for use in _chap_use(volume, connections)], secrets, host)


def _chap_use(volume: t.Mapping[str, t.Any], connections: t.Mapping[str, t.Any]) -> t.Iterator[SecretUse]:
    if volume["destination_initiator"] != "libiscsi" or volume["key"] not in connections:
        return
    try:
        new = destination(volume["key"], connections[volume["key"]])
    except InputError:
        return  # The attaching and the rewriting tell what is wrong with it.
    if isinstance(new, IscsiDestination) and new.username:
        yield SecretUse(f"disk {volume['target']} (volume {volume['key']})", "iscsi", new.secret_uuid, new.secret_usage)


def _problems(uses: t.Sequence[SecretUse], secrets: Secrets, host: str) -> list[str]:
    if secrets is None:
        return []
    return [
        f"{host}: libvirt has no secret of type {use.usage_type} with {use.name} there, which {use.who} needs;"
        " define it with 'virsh secret-define', and set its value with 'virsh secret-set-value'"
        for use in uses
        if not any(_fits(use, secret) for secret in secrets)
    ]


def _fits(use: SecretUse, secret: t.Mapping[str, t.Any]) -> bool:
    if secret["usage_type"] != use.usage_type:
        return False
    return bool(secret["uuid"] == use.uuid if use.uuid else secret["usage"] == use.usage)


__all__ = ("missing_chap_secrets", "missing_secrets")
