# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What a live migration would do to one domain, from what both hosts said. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import asdict, dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import parse_portal
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._migration.outcome import outcome
from ansible_collections.lunshift.migration.plugins.module_utils._migration.secrets import missing_chap_secrets, missing_secrets
from ansible_collections.lunshift.migration.plugins.module_utils._xml.disks import REMOVABLE, disks
from ansible_collections.lunshift.migration.plugins.module_utils._xml.rewrite import rewrite

_BY_PATH = re.compile(r"/dev/disk/by-path/ip-(?P<portal>.+)-iscsi-(?P<iqn>.+)-lun-(?P<lun>[0-9]+|0x[0-9a-f]{16})")

Disk = t.Mapping[str, t.Any]
# What has to be ended before a domain can be migrated or cleaned up after.
_SETTLING = ("resume_destination", "remove_destination", "remove_source")


@dataclass(frozen=True)
class PlannedVolume:
    """One volume of the domain.

    ``key`` names it in connections and device maps: the disk's serial, or what the operator
    gave for its target dev. ``live`` is false for a disk that only the next boot would have. ``chain_untold`` says that
    the image on it may stand on another one, which the domain does not name. ``layer`` is above 0 for an image below a disk.
    """

    key: str
    target: str
    source_initiator: str
    destination_initiator: str
    source_path: str
    live: bool
    chain_untold: bool = False
    layer: int = 0


def planned_volumes(
    live_disks: t.Sequence[Disk],
    inactive_disks: t.Sequence[Disk],
    overrides: t.Mapping[str, str],
    destination_initiator: str = "same",
) -> tuple[PlannedVolume, ...]:
    """The volumes to connect, live ones first; disks that need no entry are left out.

    A disk without any name is left out here too: the rewriting names it in its error.
    """
    volumes: list[PlannedVolume] = []
    for is_live, disk_list in ((True, live_disks), (False, inactive_disks)):
        for disk in disk_list:
            key = str(overrides.get(disk["target"]) or disk["serial"] or "")
            if not disk["needs_entry"] or not key or any(volume.key == key for volume in volumes):
                continue
            initiator = str(disk["initiator"])
            volumes.append(
                PlannedVolume(
                    key=key,
                    target=str(disk["target"]),
                    source_initiator=initiator,
                    destination_initiator=initiator if destination_initiator == "same" else destination_initiator,
                    source_path=str(disk["source"]),
                    live=is_live,
                    chain_untold=bool(disk["chain_untold"]),
                    layer=int(disk["layer"]),
                )
            )
    return tuple(volumes)


def connection_of_disk(disk: Disk) -> dict[str, t.Any] | None:
    """Connection info as the domain itself has it, without secrets; None when its source does not tell.

    ``disk`` is an entry of :func:`_xml.disks.disks`.
    """
    if disk["initiator"] == "libiscsi":
        iqn, _slash, lun = str(disk["source"]).rpartition("/")
        portal = str(disk.get("portal") or "")
        if not (iqn and lun.isdigit() and portal):
            return None
        data: dict[str, t.Any] = {"target_portal": portal, "target_iqn": iqn, "target_lun": int(lun)}
        initiator_iqn = disk.get("initiator_iqn")
        beside = {"libvirt": {"initiator_iqn": initiator_iqn}} if initiator_iqn else {}
        return {"driver_volume_type": "iscsi", "data": data, **beside}
    match = _BY_PATH.fullmatch(str(disk["source"] or ""))
    if not match:
        return None
    address, _colon, port = match["portal"].rpartition(":")
    portal = f"[{address}]:{port}" if ":" in address else match["portal"]
    return {
        "driver_volume_type": "iscsi",
        "data": {"target_portal": portal, "target_iqn": match["iqn"], "target_lun": _lun_of_by_path(match["lun"])},
    }


def _lun_of_by_path(text: str) -> int:
    """Linux' LUN number from the name that systemd's path_id made of it."""
    if not text.startswith("0x"):
        return int(text)
    eight_bytes = int(text, 16)
    return (eight_bytes >> 48) & 0xFFFF | ((eight_bytes >> 32) & 0xFFFF) << 16


def same_way(first: t.Mapping[str, t.Any], second: t.Mapping[str, t.Any]) -> bool:
    """Whether two connection infos share a path: portal, target and LUN."""
    return bool(_ways(first) & _ways(second))


def _ways(connection_info: t.Mapping[str, t.Any]) -> set[tuple[t.Any, ...]]:
    data = connection_info.get("data") or {}
    portals = data.get("target_portals") or [data.get("target_portal")]
    iqns = data.get("target_iqns") or [data.get("target_iqn")]
    luns = data.get("target_luns") or [data.get("target_lun")]
    ways = set()
    for portal, iqn, lun in zip(portals, iqns, luns):
        try:
            ways.add((parse_portal(str(portal)), iqn, str(lun)))
        except ValueError:
            continue  # The module that uses the portal says what is wrong with it.
    return ways


def plan(
    *,
    source: t.Mapping[str, t.Any],
    destination: t.Mapping[str, t.Any],
    source_name: str,
    destination_name: str,
    source_connections: t.Mapping[str, t.Any],
    overrides: t.Mapping[str, str],
    destination_initiator: str,
    allow_nova_managed: bool,
    destination_connections: t.Mapping[str, t.Any] | None = None,
    eject: t.Sequence[str] = (),
    require_error_policy: bool = False,
    postcopy: bool = False,
) -> dict[str, t.Any]:
    """Decide what has to be done for one domain, before anything is changed.

    ``source`` and ``destination`` are results of domain_info. Returns plain types::

        {action: migrate | follow | settle | finish | none, name, uuid, volumes: [PlannedVolume as dict], problems: [str],
         warnings: [str], source_connections: {key: connection info}, outcome: {...}}

    ``follow`` means that a job of an earlier run still moves the domain; ``settle`` that an earlier run left something half done,
    which is ended before anything else is planned; ``finish`` that the domain is on the destination already, and only the source may need
    cleaning up. ``source_connections`` come from the domain itself and are completed by the operator's.
    ``destination_connections`` are what is known before any export, ``eject`` the drives whose medium stays behind, ``postcopy``
    whether the operator allowed it.
    """
    now = outcome(source, destination)
    moved = now["outcome"] == "moved"
    words = f"{now['message']}; next: {now['next_step']}"
    here = destination if moved or now["permits"]["resume_destination"] else source
    problems: list[str] = []
    if not here.get("exists"):
        # On the destination it may be in a state that nobody but its operator can end.
        nowhere = f"the domain is neither on {source_name} nor on {destination_name}"
        problems.append(words if destination.get("exists") else nowhere)
        return _as_plan("none", here, (), problems, [], {}, now)
    live_disks = disks(here["xml"])
    inactive_disks = disks(here["inactive_xml"]) if here.get("inactive_xml") else []
    volumes = planned_volumes(live_disks, inactive_disks, overrides, destination_initiator)
    if any(now["permits"][step] for step in _SETTLING):
        return _as_plan("settle", here, volumes, problems, [], {}, now)
    if now["outcome"] == "still_moving" and _moves_by_us(source):
        return _as_plan("follow", here, volumes, problems, [], {}, now)
    if now["outcome"] == "postcopy_broken":
        return _as_plan("none", here, volumes, [words], [], {}, now)
    if moved:
        # The disks now carry the destination's paths, so only what the operator says leads back to the source's.
        connections = {volume.key: source_connections[volume.key] for volume in volumes if volume.key in source_connections}
        return _as_plan("finish", here, volumes, problems, [], connections, now)
    problems += [f"{source_name}: {blocker['message']}" for blocker in _blockers(source, allow_nova_managed)]
    problems += _destination_problems(source, destination, destination_name)
    said = [blocker["message"] for blocker in source.get("blockers") or []]
    problems += [problem for problem in _naming_problems(here, overrides, volumes, eject) if problem not in said]
    problems += _missing_at_destination(here, destination, destination_name, eject)
    problems += _no_postcopy(destination, destination_name) if postcopy else []
    problems += missing_chap_secrets(
        [asdict(volume) for volume in volumes], destination_connections or {}, destination.get("secrets"), destination_name
    )
    targets = {disk["target"] for disk in [*live_disks, *inactive_disks]}
    for variable, named in (("live_migrate_overrides", overrides), ("live_migrate_eject", eject)):
        problems += [f"{variable} names {target}, but no disk has that target dev" for target in named if target not in targets]
    connections = {}
    by_target = {disk["target"]: disk for disk in [*inactive_disks, *live_disks]}
    for volume in volumes:
        told, own = source_connections.get(volume.key), connection_of_disk(by_target[volume.target])
        if told and own and not same_way(told, own):
            problems.append(
                f"{source_name}: disk {volume.target} (volume {volume.key}) uses {volume.source_path}, but the connection info"
                f" given for this host names another portal, target or LUN; correct it, or leave it out for {source_name}"
            )
        if told or own:
            connections[volume.key] = told or own
    refused = {"error_policy"} if require_error_policy else set()
    cautions = source.get("cautions") or []
    problems += [f"{source_name}: {caution['message']}" for caution in cautions if caution["id"] in refused]
    warnings = [f"{source_name}: {caution['message']}" for caution in cautions if caution["id"] not in refused]
    return _as_plan("migrate", here, volumes, problems, warnings, connections, now)


def _moves_by_us(source: t.Mapping[str, t.Any]) -> bool:
    """Whether the job that moves the domain is one of domain_migrate, which notes each."""
    return (source.get("job") or {}).get("operation") == "migration_out" and bool(source.get("switchover"))


def _as_plan(
    action: str,
    here: t.Mapping[str, t.Any],
    volumes: tuple[PlannedVolume, ...],
    problems: list[str],
    warnings: list[str],
    connections: dict[str, t.Any],
    now: dict[str, t.Any],
) -> dict[str, t.Any]:
    return {
        "action": action,
        "name": here.get("name"),
        "uuid": here.get("uuid"),
        "volumes": [asdict(volume) for volume in volumes],
        "problems": problems,
        "warnings": warnings,
        "source_connections": connections,
        "outcome": now,
    }


def _blockers(source: t.Mapping[str, t.Any], allow_nova_managed: bool) -> list[t.Mapping[str, t.Any]]:
    return [blocker for blocker in source.get("blockers") or [] if not (allow_nova_managed and blocker["id"] == "nova_managed")]


def _destination_problems(source: t.Mapping[str, t.Any], destination: t.Mapping[str, t.Any], destination_name: str) -> list[str]:
    if not destination.get("exists"):
        return []
    if destination.get("uuid") != source.get("uuid"):
        return [f"{destination_name}: another domain has the name {source.get('name')} (UUID {destination.get('uuid')}); rename one"]
    if (destination.get("state") or {}).get("state") == "shutoff":
        return [
            f"{destination_name}: a shut-off definition of {source.get('name')} is there, and libvirt would replace it without"
            f" a word; look at it with 'virsh dumpxml', then 'virsh undefine {source.get('name')}' there"
        ]
    return [f"{destination_name}: the domain is active there too; do not touch either host before you know which one is right"]


def _no_postcopy(destination: t.Mapping[str, t.Any], destination_name: str) -> list[str]:
    problem = destination.get("postcopy_problem")
    return [f"{destination_name}: {problem}"] if problem else []


def _missing_at_destination(
    here: t.Mapping[str, t.Any], destination: t.Mapping[str, t.Any], destination_name: str, eject: t.Sequence[str]
) -> list[str]:
    """Secrets and files that the running or the stored definition needs there."""
    problems: list[str] = []
    for xml in (here["xml"], here.get("inactive_xml")):
        if xml:
            problems += missing_secrets(xml, destination.get("secrets"), destination_name)
            problems += _missing_files(xml, destination, destination_name, eject)
    return list(dict.fromkeys(problems))


def _missing_files(xml: str, destination: t.Mapping[str, t.Any], destination_name: str, eject: t.Sequence[str]) -> t.Iterator[str]:
    for disk in disks(xml):
        if disk["type"] != "file" or disk["source"] not in (destination.get("missing_files") or []) or disk["target"] in eject:
            continue
        remedy = "put it there"
        if disk["device"] in REMOVABLE:
            remedy += f", or eject it, or let the guest go without it by live_migrate_eject: [{disk['target']}]"
        yield f"{destination_name}: there is no file {disk['source']}, which disk {disk['target']} stands on; {remedy}"


def _naming_problems(
    here: t.Mapping[str, t.Any], overrides: t.Mapping[str, str], volumes: t.Sequence[PlannedVolume], eject: t.Sequence[str]
) -> list[str]:
    """What the rewriting will refuse, found now: nothing has been connected yet."""
    assumed: dict[str, t.Any] = {volume.key: f"/dev/disk/by-path/unknown-yet-{volume.key}" for volume in volumes}
    by_target = {target: f"/dev/disk/by-path/unknown-yet-{key}" for target, key in overrides.items()}
    problems: list[str] = []
    for xml in (here["xml"], here.get("inactive_xml")):
        if not xml:
            continue
        try:
            rewrite(xml, assumed, overrides=of_targets(by_target, xml), eject=among_targets(eject, xml))
        except InputError as exc:
            problems += [problem for problem in exc.details["problems"] if problem not in problems]
    return problems


def of_targets(by_target: t.Mapping[str, t.Any], xml: str) -> dict[str, t.Any]:
    """The entries whose target dev this definition has: the running and the stored one need not have the same disks."""
    return {disk["target"]: by_target[disk["target"]] for disk in disks(xml) if disk["target"] in by_target}


def among_targets(targets: t.Sequence[str], xml: str) -> list[str]:
    """The same for a list of target devs."""
    present = {disk["target"] for disk in disks(xml)}
    return [target for target in targets if target in present]


__all__ = ("PlannedVolume", "among_targets", "connection_of_disk", "of_targets", "plan", "planned_volumes", "same_way")
