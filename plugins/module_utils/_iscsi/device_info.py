# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What iscsi_device_info returns: sessions, LUNs and the device map of the volumes that were asked for."""

from __future__ import annotations

import os
import typing as t
from dataclasses import asdict, dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import IscsiConnection, IscsiPath, parse, redact
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import image_header, probe, sampling, sysfs
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.connector import (
    addresses,
    connector,
    graphics_listen_addrs,
    initiator_name,
)
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.multipath import by_id_of, wwid_of

_Dict = dict[str, t.Any]


@dataclass(frozen=True)
class Request:
    """What the module was asked for."""

    connections: t.Mapping[str, IscsiConnection]
    connection_info: t.Mapping[str, t.Any]
    libiscsi_serials: frozenset[str]
    probe: bool
    sampled_serials: frozenset[str]
    image_serials: frozenset[str] = frozenset()


def read_request(
    volumes: t.Mapping[str, t.Any],
    libiscsi_serials: t.Sequence[str],
    ask_targets: bool,
    sampled_serials: t.Sequence[str],
    image_serials: t.Sequence[str] = (),
) -> Request:
    """Check the options; raises InputError that names every problem at once."""
    problems: list[str] = []
    connections: dict[str, IscsiConnection] = {}
    for serial, info in volumes.items():
        if not isinstance(info, t.Mapping):
            problems.append(f"volume {serial}: its connection info is no mapping")
            continue
        try:
            connections[serial] = parse(serial, info)
        except InputError as exc:
            problems += exc.details["problems"]
    owner: dict[IscsiPath, str] = {}
    for serial, connection in connections.items():
        for way in connection.paths:
            other = owner.setdefault(way, serial)
            if other != serial:
                problems.append(f"volumes {other} and {serial} have the same connection: LUN {way.lun} of {way.iqn} at portal {way.portal}")
    for option, serials in (
        ("libiscsi_serials", libiscsi_serials),
        ("fingerprint", sampled_serials),
        ("image_headers", image_serials),
    ):
        unknown = sorted(set(serials) - set(volumes))
        if unknown:
            problems.append(f"{option} names volumes that are not in volumes: {', '.join(unknown)}")
    if problems:
        raise InputError(problems)
    return Request(
        connections=connections,
        connection_info={serial: redact(info) for serial, info in volumes.items()},
        libiscsi_serials=frozenset(libiscsi_serials),
        probe=ask_targets,
        sampled_serials=frozenset(sampled_serials),
        image_serials=frozenset(image_serials),
    )


def device_info(
    request: Request,
    *,
    root: str = "/",
    ask: t.Callable[..., t.Mapping[str, probe.Answer]] = probe.ask_identities,
    sample: t.Callable[..., sampling.Samples] = sampling.take,
    read_headers: t.Callable[..., t.Mapping[str, bool | None]] = image_header.read,
) -> _Dict:
    """Everything, as plain types."""
    inventory = sysfs.gather(root, request.connections.values())
    lun_of_node = {path.node: lun for lun in inventory.luns for path in lun.paths}
    kernel = {serial: connection for serial, connection in request.connections.items() if serial not in request.libiscsi_serials}
    found = {serial: devices for serial, devices in sysfs.find(inventory, kernel).items() if devices}
    attached = {serial: lun_of_node[devices[0].node] for serial, devices in found.items()}
    iqn_of_host = initiator_name(root)
    questions = _questions(request, found, iqn_of_host) if request.probe else []
    answers = dict(ask(questions))
    samples = sampling.Samples({}, {})
    if request.sampled_serials:
        samples = _sample(request, inventory, attached, questions, answers, sample, root)
    headers: t.Mapping[str, bool | None] = {}
    if request.image_serials:
        identities = {serial: answer.identity for serial, answer in answers.items() if answer.identity}
        headers = read_headers(
            {serial: lun for serial, lun in attached.items() if serial in request.image_serials},
            [question for question in questions if question.serial in request.image_serials and question.serial in identities],
            identities,
            root=root,
        )
    portals = [(way.address, way.port) for connection in request.connections.values() for way in connection.paths]
    host = connector([*portals, *(session.portals[0] for session in inventory.sessions if session.portals)], root)
    volumes: dict[str, _Dict] = {}
    for serial, connection in request.connections.items():
        if serial in found:
            volumes[serial] = _attached(found[serial], attached[serial], lun_of_node)
        else:
            volumes[serial] = _not_attached(request, serial, connection, answers.get(serial), bool(host["multipath"]))
        volumes[serial]["problem"] = volumes[serial]["problem"] or samples.problems.get(serial)
        volumes[serial]["fingerprint"] = samples.fingerprints.get(serial)
        volumes[serial]["names_backing_image"] = headers.get(serial)
    return {
        "initiator_name": iqn_of_host,
        "connector": host,
        "addresses": addresses(root),
        "graphics_listen_addrs": graphics_listen_addrs(root),
        "sessions": [_session(session) for session in inventory.sessions],
        "luns": [{**_lun(lun), "fingerprint": samples.fingerprints.get(lun.node)} for lun in inventory.luns],
        "volumes": volumes,
        "device_path": _device_map(request, volumes),
    }


def _questions(request: Request, found: t.Container[str], iqn_of_host: str | None) -> list[probe.Question]:
    questions = []
    for serial, connection in request.connections.items():
        own_iqn = connection.libvirt.initiator_iqn if serial in request.libiscsi_serials else None
        initiator_iqn = own_iqn or iqn_of_host
        if serial not in found and initiator_iqn:
            questions.append(probe.Question(serial, connection, initiator_iqn))
    return questions


def _sample(
    request: Request,
    inventory: sysfs.Inventory,
    attached: t.Mapping[str, sysfs.Lun],
    questions: t.Sequence[probe.Question],
    answers: t.Mapping[str, probe.Answer],
    sample: t.Callable[..., sampling.Samples],
    root: str,
) -> sampling.Samples:
    identities = {serial: answer.identity for serial, answer in answers.items() if answer.identity}
    sizes = {serial: lun.identity.size_bytes for serial, lun in attached.items()}
    sizes.update({serial: identity.size_bytes for serial, identity in identities.items()})
    of_volumes = {lun.node for lun in attached.values()}
    devices = {**attached, **{lun.node: lun for lun in inventory.luns if lun.node not in of_volumes}}
    return sample(
        [sizes[serial] for serial in request.sampled_serials if serial in sizes],
        devices,
        [question for question in questions if question.serial in identities],
        identities,
        root=root,
    )


def _attached(
    devices: t.Sequence[sysfs.DevicePath],
    lun: sysfs.Lun,
    lun_of_node: t.Mapping[str, sysfs.Lun],
) -> _Dict:
    device_path, problem = _path_of_attached(devices, lun)
    others = sorted({device.node for device in devices if lun_of_node[device.node] is not lun})
    if others:
        problem = (
            f"{devices[0].node} and {', '.join(others)} are paths of the volume by its connection info, but look like different volumes;"
            " one of them is stale, or the connection info mixes two volumes"
        )
    return {
        "initiator": "kernel",
        "attached": True,
        "device_path": None if others else device_path,
        "predicted_device_path": None,
        "identity": lun.identity.to_dict(),
        "identity_source": "sysfs",
        "problem": problem,
    }


def _path_of_attached(devices: t.Sequence[sysfs.DevicePath], lun: sysfs.Lun) -> tuple[str | None, str | None]:
    """The stable name of the device, and what is wrong with the device if anything."""
    problem = None
    usable = [device for device in devices if device.usable]
    # Of two sessions to one portal, over two interfaces, only one device gets the link.
    best = next((device for device in usable if device.by_path), (usable or devices)[0])
    if not best.usable:
        problem = (
            f"no path of the volume is usable: {best.node} is {best.state}, session {best.session.sid} to {best.session.iqn} at portal"
            f" {best.session.portal} is {best.session.state}; repair the connection before the device is used"
        )
    elif not lun.identity.size_bytes:
        problem = f"{best.node} has no size yet; the target may still be setting it up"
    if lun.multipath:
        name = f"/dev/disk/by-id/dm-uuid-{lun.multipath.uuid}"
        links: tuple[str, ...] = lun.multipath.by_id
        device = f"multipath map {lun.multipath.name}"
    else:
        name = next(iter(best.by_path), "")
        links, device = best.by_path, best.node
    if name in links:
        return name, problem
    directory = os.path.dirname(name) or "/dev/disk/by-path"
    return None, problem or f"udev has made no link in {directory} to {device} (yet); look at 'udevadm info /dev/{best.node}'"


def _not_attached(request: Request, serial: str, connection: IscsiConnection, answer: probe.Answer | None, multipath: bool) -> _Dict:
    is_kernel = serial not in request.libiscsi_serials
    if answer is None and request.probe:
        answer = probe.Answer(
            problem="no initiator name is known to log in with: /etc/iscsi/initiatorname.iscsi has none, or only root may read it;"
            " install open-iscsi, use become, or give libvirt.initiator_iqn"
        )
    known = answer or probe.Answer()
    return {
        "initiator": "kernel" if is_kernel else "libiscsi",
        "attached": False,
        "device_path": None,
        "predicted_device_path": _predicted_path(connection, known.identity, multipath) if is_kernel else None,
        "identity": known.identity.to_dict() if known.identity else None,
        "identity_source": "session" if known.identity else None,
        "problem": known.problem,
    }


def _predicted_path(connection: IscsiConnection, identity: Identity | None, multipath: bool) -> str:
    """The name that the device will get when it is attached here."""
    multipath_wwid = wwid_of(identity.wwid) if identity else None
    if multipath and len(connection.paths) > 1 and multipath_wwid:
        return by_id_of(multipath_wwid)
    return connection.paths[0].by_path


def _device_map(request: Request, volumes: t.Mapping[str, _Dict]) -> _Dict:
    """The map that rewrite_disk_sources takes; only volumes that can be opened here."""
    result: _Dict = {}
    for serial, volume in volumes.items():
        if volume["problem"]:
            continue
        if volume["initiator"] == "libiscsi":
            result[serial] = request.connection_info[serial]
        elif volume["device_path"]:
            result[serial] = volume["device_path"]
    return result


def _session(session: sysfs.Session) -> _Dict:
    return {
        "sid": session.sid,
        "state": session.state,
        "iqn": session.iqn,
        "tpgt": session.tpgt,
        "portal": session.portal,
        "interface": session.interface,
        "host_no": session.host_no,
    }


def _lun(lun: sysfs.Lun) -> _Dict:
    return {
        **lun.identity.to_dict(),
        "multipath": {**asdict(lun.multipath), "by_id": list(lun.multipath.by_id)} if lun.multipath else None,
        "holders": [asdict(holder) for holder in lun.holders],
        "paths": [
            {
                "node": path.node,
                "hctl": path.hctl,
                "sid": path.session.sid,
                "portal": path.session.portal,
                "iqn": path.session.iqn,
                "lun": path.lun,
                "state": path.state,
                "by_path": list(path.by_path),
                "by_id": list(path.by_id),
            }
            for path in lun.paths
        ],
    }


__all__ = ("Request", "device_info", "read_request")
