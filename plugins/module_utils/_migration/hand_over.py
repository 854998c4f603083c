# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What the steps of a live migration hand to each other: connections, identities, maps, samples. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import parse, redact
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.multipath import by_id_of, wwid_of
from ansible_collections.lunshift.migration.plugins.module_utils._migration.plan import among_targets, of_targets
from ansible_collections.lunshift.migration.plugins.module_utils._migration.secrets import Secrets, missing_chap_secrets
from ansible_collections.lunshift.migration.plugins.module_utils._xml.destination import without_password

# Addresses that mean the same on every host; rewriting them would only narrow or widen who may connect.
_ADDRESSES_OF_EVERY_HOST = {"", "0.0.0.0", "127.0.0.1", "::", "::1", "localhost"}
_IDENTITY_KEYS = ("wwid", "unit_serial", "vendor", "model", "size_bytes", "logical_block_bytes", "physical_block_bytes")


def listen_addresses(used: t.Mapping[str, str | None], given: t.Mapping[str, str], of_destination: t.Mapping[str, str]) -> dict[str, str]:
    """Graphics addresses to write, by type (vnc, spice).

    What the operator gave counts; otherwise an address that belongs to the source alone becomes the
    destination's own (the specification's ``graphics_listen_addrs``).
    """
    addresses: dict[str, str] = {}
    for kind, address in used.items():
        if given.get(kind):
            addresses[kind] = given[kind]
        elif (address or "") not in _ADDRESSES_OF_EVERY_HOST and of_destination.get(kind):
            addresses[kind] = of_destination[kind]
    return addresses


def source_side(plan_: t.Mapping[str, t.Any], devices: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What the source's own devices say of the planned volumes.

    ``devices`` is a result of iscsi_device_info. Returns ``{connections: {key: connection info}, identities:
    {key: identity or None}, problems: [str], hidden_images: [str]}``. A volume of the kernel's initiator is looked up by the path that the
    domain uses, not by what an inventory says, so that the identity is that of the device in use.
    """
    connections: dict[str, t.Any] = dict(plan_["source_connections"])
    identities: dict[str, t.Any] = {}
    problems: list[str] = []
    for volume in plan_["volumes"]:
        key = volume["key"]
        if not volume["live"]:
            continue
        if volume["source_initiator"] == "libiscsi":
            seen = devices["volumes"].get(key) or {}
            identities[key] = seen.get("identity")
            if seen.get("problem"):
                problems.append(f"volume {key}: {seen['problem']}")
            continue
        lun = next((lun for lun in devices["luns"] if volume["source_path"] in _names(lun)), None)
        identities[key] = lun and {name: lun[name] for name in _IDENTITY_KEYS}
        if lun is None:
            problems.append(f"volume {key}: {volume['source_path']} of disk {volume['target']} is no iSCSI device of this host")
        elif key not in connections:
            connections[key] = _connection_of_lun(lun)
    return {"connections": connections, "identities": identities, "problems": problems, "hidden_images": _hidden_images(plan_, devices)}


def _hidden_images(plan_: t.Mapping[str, t.Any], devices: t.Mapping[str, t.Any]) -> list[str]:
    """Images below a disk that the destination's QEMU would look for where the header of the one above says: at the source's target."""
    remedy = (
        "write the chain into the domain's definition as <backingStore>, down to an empty one, and start the guest anew;"
        " or let QEMU flatten it with 'virsh blockpull'"
    )
    found = []
    for volume in plan_["volumes"]:
        if not volume["chain_untold"] or not volume["live"]:
            continue
        named = (devices["volumes"].get(volume["key"]) or {}).get("names_backing_image")
        image = f"the image of disk {volume['target']} (volume {volume['key']})"
        if named:
            found.append(f"{image} stands on another, which its header names and the domain does not; {remedy}")
        elif named is None:
            found.append(f"it cannot be told whether {image} stands on another, for its header could not be read; {remedy}")
    return found


def _names(lun: t.Mapping[str, t.Any]) -> set[str]:
    """Every device path that leads to a LUN, as iscsi_device_info lists them."""
    names: set[str] = set()
    for path in lun["paths"]:
        names |= {f"/dev/{path['node']}", *path["by_path"], *path["by_id"]}
    if lun["multipath"]:
        found = lun["multipath"]
        names |= {found["device"], f"/dev/mapper/{found['name']}", f"/dev/disk/by-id/dm-uuid-{found['uuid']}"}
    return names


def _connection_of_lun(lun: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    columns = {
        "target_portals": [path["portal"] for path in lun["paths"]],
        "target_iqns": [path["iqn"] for path in lun["paths"]],
        "target_luns": [path["lun"] for path in lun["paths"]],
    }
    first = {name[:-1]: values[0] for name, values in columns.items()}
    return {"driver_volume_type": "iscsi", "data": {**first, **(columns if len(lun["paths"]) > 1 else {})}}


def volume_requests(
    volumes: t.Sequence[t.Mapping[str, t.Any]],
    connections: t.Mapping[str, t.Any],
    *,
    side: str,
    host: str,
    skip_unknown: bool = False,
    secrets: Secrets = None,
) -> list[dict[str, t.Any]]:
    """The ``volumes`` of iscsi_volume for one host; ``side`` is source or destination.

    Raises InputError that names every volume without connection info, unless ``skip_unknown``, and every volume whose CHAP
    secret is not among the ``secrets`` of the host's libvirt.
    """
    missing = [volume for volume in volumes if volume["key"] not in connections]
    if missing and not skip_unknown:
        raise InputError(
            [
                f"{host}: no connection info for volume {volume['key']} (disk {volume['target']}); put it into live_migrate_connections"
                f" of {host}, or let the provider's tasks return it"
                for volume in missing
            ],
            error_id="missing_connection",
        )
    lacking = missing_chap_secrets(volumes, connections, secrets, host)
    if lacking:
        raise InputError(lacking, error_id="missing_secret")
    return [
        {"serial": volume["key"], "connection_info": connections[volume["key"]], "initiator": volume[f"{side}_initiator"]}
        for volume in volumes
        if volume["key"] in connections
    ]


def device_map(
    plan_: t.Mapping[str, t.Any],
    device_path: t.Mapping[str, t.Any],
    connections: t.Mapping[str, t.Any],
    overrides: t.Mapping[str, str],
    xml: str,
    eject: t.Sequence[str] = (),
    identities: t.Mapping[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    """The destination's map for the rewriting of one definition: ``{map: {serial: entry}, overrides: {target dev: entry}, eject: [...]}``.

    ``device_path`` is the map of the attached volumes. A disk that only the next boot would have is not attached; its
    path follows from its connection info. ``xml`` is the definition, for overrides count only for disks that it has.
    ``identities`` are the source's: a multipath map has no path yet in check mode, but will be named after the WWID.
    """
    entries: dict[str, t.Any] = dict(device_path)
    for volume in plan_["volumes"]:
        if volume["key"] in entries and entries[volume["key"]] is None:
            seen = (identities or {}).get(volume["key"]) or {}
            entries[volume["key"]] = by_id_of(wwid_of(seen.get("wwid")) or f"unknown-yet-{volume['key']}")
        if volume["key"] in entries or volume["key"] not in connections:
            continue
        info = connections[volume["key"]]
        entries[volume["key"]] = (
            redact(info) if volume["destination_initiator"] == "libiscsi" else parse(volume["key"], info).paths[0].by_path
        )
    by_target = {target: entries[key] for target, key in overrides.items() if key in entries}
    return {"map": entries, "overrides": of_targets(by_target, xml), "eject": among_targets(eject, xml)}


def disk_places(requests: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, list[str]]:
    """By volume, every name under which a domain of the host may have it as a disk. ``requests`` are those of iscsi_volume."""
    places: dict[str, list[str]] = {}
    for request in requests:
        paths = parse(request["serial"], without_password(request["connection_info"])).paths
        by_qemu = request["initiator"] == "libiscsi"
        places[request["serial"]] = [f"{path.iqn}/{path.lun}" if by_qemu else path.by_path for path in paths]
    return places


def content_samples(devices: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """One host's samples of contents, from a result of iscsi_device_info: by volume, else by device.

    A LUN that is one of the volumes appears once, under the volume's name: it must not count as its own double.
    """
    samples = {key: volume["fingerprint"] for key, volume in devices["volumes"].items() if volume.get("fingerprint")}
    paths_of_volumes = {volume.get("device_path") for volume in devices["volumes"].values()}
    for lun in devices["luns"]:
        if lun.get("fingerprint") and not paths_of_volumes & _names(lun):
            samples[f"/dev/{lun['paths'][0]['node']}"] = lun["fingerprint"]
    return samples


__all__ = ("content_samples", "device_map", "disk_places", "listen_addresses", "source_side", "volume_requests")
