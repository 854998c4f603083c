# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Everything that comes before libvirt's call: what would be migrated, and how. Changes nothing.

Check mode ends here, so it runs the same checks as the migration does.
"""

from __future__ import annotations

import platform
import typing as t
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

from ansible_collections.lunshift.migration.plugins.module_utils import _domain_xml
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.domain import Domain
from ansible_collections.lunshift.migration.plugins.module_utils._migration.controls import Controls
from ansible_collections.lunshift.migration.plugins.module_utils._migration.method import Method
from ansible_collections.lunshift.migration.plugins.module_utils._migration.peers import View
from ansible_collections.lunshift.migration.plugins.module_utils._migration.switchover import GUARDED


@dataclass(frozen=True)
class Request:
    """What the operator asks for."""

    name: str | None
    uuid: str | None
    uri: str
    destination_uri: str
    destination_xml: str | None = None
    persistent_xml: str | None = None
    planned_sources: t.Mapping[str, str | None] | None = None
    eject: tuple[str, ...] = ()
    controls: Controls = field(default_factory=Controls)
    method: Method = field(default_factory=Method)
    operation_id: str = ""
    allow_nova_managed: bool = False
    switchover: str = GUARDED

    @property
    def label(self) -> str:
        return str(self.name or self.uuid)


@dataclass(frozen=True)
class Prepared:
    """libvirt's arguments for one migration. They hold secrets: what may be told is ``difference``."""

    domain: Domain
    flags: int
    parameters: dict[str, t.Any] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    difference: str


def refuse(connection: Connection, request: Request, domain: Domain, destination: View) -> None:
    """Raise one error that tells everything that stands against the migration."""
    found = [blocker for blocker in domain.blockers() if not (blocker["id"] == "nova_managed" and request.allow_nova_managed)]
    found += _destination_blockers(request, domain, destination)
    found += _missing_definitions(request, domain)
    found += _wrong_options(connection, request, domain)
    if found:
        raise MigrationError(
            f"{platform.node()}: domain {domain.name} cannot be migrated, and nothing was changed: "
            + "; ".join(blocker["message"] for blocker in found),
            error_id="blocked",
            blockers=found,
        )


def _missing_definitions(request: Request, domain: Domain) -> list[dict[str, str]]:
    found = []
    if not request.destination_xml:
        found.append(
            {
                "id": "destination_xml_missing",
                "message": f"domain {domain.name} is active here, so destination_xml has to say how the destination has it",
            }
        )
    if domain.persistent and not request.persistent_xml:
        found.append(
            {
                "id": "persistent_xml_missing",
                "message": f"domain {domain.name} is persistent, and without persistent_xml its definition on the destination would"
                " name the source's devices at the next start",
            }
        )
    return found


def _wrong_options(connection: Connection, request: Request, domain: Domain) -> list[dict[str, str]]:
    """libvirt and QEMU refuse some of them only when the destination is waiting already, one at a time."""
    qemu_version = int(connection.call(connection.handle.getVersion))
    problems = [
        *request.controls.problems(),
        *request.method.problems(),
        *request.method.problems_of_host(connection.api, qemu_version, guest_paused=domain.state.state == "paused"),
    ]
    if request.method.postcopy and request.switchover == GUARDED:
        problems.append(
            "timeout_action postcopy needs switchover direct: the guest would have to run on the destination while it still belongs to both"
            " hosts"
        )
    return [{"id": "options", "message": problem} for problem in problems]


def _destination_blockers(request: Request, domain: Domain, destination: View) -> list[dict[str, str]]:
    if destination.hangs:
        return [
            {
                "id": "destination_hangs",
                "message": f"{destination.problem}; libvirt's own daemon would wait for it without a limit."
                " Repair libvirt on the destination",
            }
        ]
    if destination.exists is None and request.switchover == GUARDED:
        return [
            {
                "id": "destination_not_seen",
                "message": f"{destination.problem}. A guarded switchover resumes the guest there from this host: let this host's root use"
                f" {request.destination_uri}, or choose switchover: direct",
            }
        ]
    if not destination.exists:
        return []  # What cannot be asked from here may still be reached by libvirt's daemon.
    where = request.destination_uri
    if destination.uuid != domain.uuid or destination.name != domain.name:
        return [
            {
                "id": "name_taken",
                "message": f"{where} has another domain of the same name or UUID ({destination.name}, {destination.uuid}); rename or"
                " remove one",
            }
        ]
    if destination.active:
        return [
            {
                "id": "active_on_both",
                "message": f"{where} has the domain too: {destination.state}; find out which one is right before anything else is done",
            }
        ]
    return []


def prepare(connection: Connection, request: Request, domain: Domain) -> Prepared:
    """Put the given sources into fresh dumps, which hold the secrets; MigrationError when the domain is not the planned one."""
    api = connection.api
    live = _domain_xml.graft(domain.xml, request.destination_xml or "", request.planned_sources, request.eject)
    parameters: dict[str, t.Any] = {api.VIR_MIGRATE_PARAM_DEST_XML: live}
    flags = api.VIR_MIGRATE_LIVE | api.VIR_MIGRATE_PEER2PEER | api.VIR_MIGRATE_ABORT_ON_ERROR
    differences = [_domain_xml.diff(domain.xml, live, "running on the source", "running on the destination")]
    if domain.inactive_xml and request.persistent_xml:
        # Without it libvirt stores the source's own definition on the destination, whatever the live XML says.
        persistent = _domain_xml.graft(domain.inactive_xml, request.persistent_xml, eject=request.eject)
        parameters[api.VIR_MIGRATE_PARAM_PERSIST_XML] = persistent
        differences.append(_domain_xml.diff(domain.inactive_xml, persistent, "stored on the source", "stored on the destination"))
        # One without the other would leave a definition on both hosts, or on none.
        flags |= api.VIR_MIGRATE_PERSIST_DEST | api.VIR_MIGRATE_UNDEFINE_SOURCE
    if request.switchover == GUARDED:
        flags |= api.VIR_MIGRATE_PAUSED
    flags |= request.method.flags(api)
    parameters.update(request.method.parameters(api))
    if request.controls.bandwidth_mib:
        parameters[api.VIR_MIGRATE_PARAM_BANDWIDTH] = request.controls.bandwidth_mib
    difference = "".join(f"{part}\n" for part in differences if part)
    return Prepared(domain=domain, flags=flags, parameters=parameters, secrets=_passwords(domain), difference=difference)


def taken_over(domain: Domain) -> Prepared:
    """Of a migration that runs already: libvirt was given its arguments by somebody else."""
    return Prepared(domain=domain, flags=0, parameters={}, secrets=_passwords(domain), difference="")


def _passwords(domain: Domain) -> tuple[str, ...]:
    """What a message of libvirt's must not repeat."""
    found = {
        str(element.get("passwd"))
        for xml in (domain.xml, domain.inactive_xml)
        if xml
        for element in ET.fromstring(xml).iter()
        if element.get("passwd")
    }
    return tuple(sorted(found, key=len, reverse=True))


def scrub(text: str, secrets: t.Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "********")
    return text


__all__ = ("Prepared", "Request", "prepare", "refuse", "scrub", "taken_over")
