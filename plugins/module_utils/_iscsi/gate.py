# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The identity gate: whether what two hosts see by one name is one volume. Pure."""

from __future__ import annotations

import typing as t
from collections import Counter
from dataclasses import dataclass, field

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import content
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity

PROVEN = "proven"
MISMATCH = "mismatch"
UNPROVEN = "unproven"
ACCEPTED = "accepted"

_FIELDS = ("wwid", "unit_serial", "vendor", "model", "size_bytes", "logical_block_bytes", "physical_block_bytes")
_SIZES = ("size_bytes", "logical_block_bytes", "physical_block_bytes")

Seen = t.Mapping[str, t.Optional[t.Mapping[str, t.Any]]]
Luns = t.Sequence[t.Mapping[str, t.Any]]
# By host (source, destination): readings in the order of time, each of them fingerprints by serial, or by any other name for a
# volume that only happens to be visible.
Readings = t.Mapping[str, t.Sequence[t.Mapping[str, content.Fingerprint]]]


@dataclass(frozen=True)
class _Host:
    """One host's view. Ids that two of its volumes share prove nothing."""

    name: str
    volumes: dict[str, Identity | None]
    lun_count: int
    shared_ids: frozenset[t.Any]
    fingerprints: dict[str, dict[str, list[str | None]]]

    def wwid(self, serial: str) -> str | None:
        identity = self.volumes.get(serial)
        return identity.wwid_key if identity and identity.wwid_key not in self.shared_ids else None

    def unit_serial(self, serial: str) -> tuple[str, str, str] | None:
        identity = self.volumes.get(serial)
        return identity.serial_key if identity and identity.serial_key not in self.shared_ids else None


@dataclass
class _Case:
    """What was found about one volume."""

    differences: list[str] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    same_sizes: bool = False

    @property
    def verdict(self) -> str:
        if self.differences:
            return MISMATCH
        return PROVEN if self.proofs and self.same_sizes else UNPROVEN


def verdict(
    source: Seen,
    destination: Seen,
    accepted: t.Sequence[str] = (),
    source_luns: Luns = (),
    destination_luns: Luns = (),
    fingerprints: Readings | None = None,
    destination_stale: t.Collection[str] = (),
) -> dict[str, t.Any]:
    """Compare the identities that both hosts gave for each volume.

    ``source`` and ``destination`` lead from the serial (or whatever names the volume on both hosts) to an identity, or to
    None where nothing could be read. ``source_luns`` and ``destination_luns`` are the identities of every LUN that the host
    sees, one each. ``accepted`` names volumes that the operator takes on trust; that never covers a mismatch.
    ``destination_stale`` are nodes of the destination that are no longer what the kernel has on record.
    """
    readings = fingerprints or {}
    here = _host("source", source, source_luns, readings.get("source", ()))
    visible = [lun for lun in destination_luns if not _is_stale(lun, destination_stale)]
    there = _host("destination", destination, visible, readings.get("destination", ()))
    volumes: dict[str, dict[str, t.Any]] = {}
    for serial in sorted({*source, *destination}):
        case = _examine(serial, here, there)
        word, reasons = case.verdict, [*case.differences, *case.proofs, *case.doubts]
        if word == UNPROVEN and serial in accepted:
            word = ACCEPTED
            reasons.append("not proven, but accepted by the operator")
        volumes[serial] = {"verdict": word, "reasons": reasons}
    error_id = _error_id(volume["verdict"] for volume in volumes.values())
    rows = {serial: list(_rows(serial, here.volumes.get(serial), there.volumes.get(serial))) for serial in volumes}
    table = [row for each in rows.values() for row in each]
    return {"ok": error_id is None, "error_id": error_id, "volumes": volumes, "table": table, "message": _message(volumes, rows)}


def _error_id(words: t.Iterable[str]) -> str | None:
    found = set(words)
    if MISMATCH in found:
        return "identity_mismatch"
    return "identity_unproven" if UNPROVEN in found else None


def _host(name: str, seen: Seen, luns: Luns, readings: t.Sequence[t.Mapping[str, content.Fingerprint]]) -> _Host:
    volumes = {serial: Identity.from_dict(value) if value else None for serial, value in seen.items()}
    asked = [identity for identity in volumes.values() if identity]
    visible = _distinct(luns)
    # The kernel's LUNs include those that were asked for, but not what QEMU opens itself.
    unlisted = list((Counter(asked) - Counter(visible)).elements())
    shared: set[t.Any] = set()
    for identities in (asked, visible + unlisted):
        for key in ("wwid_key", "serial_key"):
            counted = Counter(getattr(identity, key) for identity in identities)
            shared |= {value for value, count in counted.items() if value is not None and count > 1}
    names = {each for reading in readings for each in reading}
    joined = {each: content.join_readings([reading[each] for reading in readings if each in reading]) for each in names}
    unread = len(volumes) - len(asked)
    return _Host(name, volumes, len(visible) + len(unlisted) + unread, frozenset(shared), joined)


def _is_stale(lun: t.Mapping[str, t.Any], nodes: t.Collection[str]) -> bool:
    paths = lun.get("paths") or ()
    return bool(paths) and all(f"/dev/{path.get('node')}" in nodes for path in paths)


def _distinct(luns: Luns) -> list[Identity]:
    """One identity for each LUN: entries that share a target and LUN number are paths to the same one."""
    known: set[tuple[str, str]] = set()
    identities: list[Identity] = []
    for lun in luns:
        ways = {(str(path.get("iqn")), str(path.get("lun"))) for path in lun.get("paths") or ()}
        if not ways & known:
            identities.append(Identity.from_dict(lun))
        known |= ways
    return identities


def _examine(serial: str, here: _Host, there: _Host) -> _Case:
    case = _Case()
    mine, other = here.volumes.get(serial), there.volumes.get(serial)
    for host, identity in ((here, mine), (there, other)):
        if identity is None:
            case.doubts.append(f"the volume was not read on the {host.name}")
    if mine is None or other is None:
        return case
    _compare_sizes(mine, other, case)
    _compare_wwids(serial, here, there, case)
    _compare_unit_serials(serial, here, there, case)
    if case.differences:
        case.differences.extend(_found_elsewhere(serial, here, there))
    _compare_content(serial, here, there, case)
    return case


def _compare_sizes(mine: Identity, other: Identity, case: _Case) -> None:
    for name in _SIZES:
        first, second = getattr(mine, name), getattr(other, name)
        if not first or not second:
            case.doubts.append(f"{name} was not told by both hosts")
        elif first != second:
            case.differences.append(f"{name} is {first} on the source, but {second} on the destination")
    case.same_sizes = not case.differences and not case.doubts


def _compare_wwids(serial: str, here: _Host, there: _Host, case: _Case) -> None:
    first, second = here.wwid(serial), there.wwid(serial)
    if not (first and second):
        case.doubts.append(_why_not_counted("WWID", "wwid", serial, there if first else here))
    elif first == second:
        case.proofs.append("the WWID is the same")
    else:
        case.differences.append("the WWIDs differ")


def _compare_unit_serials(serial: str, here: _Host, there: _Host, case: _Case) -> None:
    first, second = here.unit_serial(serial), there.unit_serial(serial)
    if not (first and second):
        case.doubts.append(_why_not_counted("unit serial", "unit_serial", serial, there if first else here))
    elif first == second:
        case.proofs.append("vendor, model and unit serial are the same")
    elif first[2] == second[2]:
        case.doubts.append("the unit serial is the same, but vendor or model differ")
    else:
        case.differences.append("the unit serials differ")


def _why_not_counted(what: str, name: str, serial: str, host: _Host) -> str:
    identity = host.volumes.get(serial)
    if not getattr(identity, name):
        return f"there is no {what} on the {host.name}"
    if identity and (identity.wwid_key if name == "wwid" else identity.serial_key) is None:
        return f"the {what} on the {host.name} is a default that other volumes may have, too"
    return f"the {what} is shared by several volumes of the {host.name}"


def _found_elsewhere(serial: str, here: _Host, there: _Host) -> t.Iterator[str]:
    """Name the volume that is there instead, which tells swapped disks from a foreign one."""
    wwid, unit_serial = there.wwid(serial), there.unit_serial(serial)
    for name in here.volumes:
        if name != serial and ((wwid and wwid == here.wwid(name)) or (unit_serial and unit_serial == here.unit_serial(name))):
            yield f"what the destination has under this name is volume {name} of the source"


def _compare_content(serial: str, here: _Host, there: _Host, case: _Case) -> None:
    if serial not in here.fingerprints or serial not in there.fingerprints:
        return
    others = [each for host in (here, there) for name, each in host.fingerprints.items() if name != serial]
    result = content.compare_fingerprints(here.fingerprints[serial], there.fingerprints[serial], others)
    unsampled = [host.name for host in (here, there) if len(host.fingerprints) < host.lun_count]
    if result == content.DIFFERS:
        case.differences.append("samples of the content differ")
    elif result == content.SAYS_NOTHING:
        case.doubts.append("samples of the content hold too little that no other volume has")
    elif unsampled:
        case.doubts.append(f"samples of the content agree, but not every volume of the {' and the '.join(unsampled)} was sampled")
    else:
        case.proofs.append("samples of the content agree, and no other visible volume has them")


def _rows(serial: str, mine: Identity | None, other: Identity | None) -> t.Iterator[dict[str, t.Any]]:
    for name in _FIELDS:
        yield {"serial": serial, "field": name, "source": getattr(mine, name, None), "destination": getattr(other, name, None)}


def _message(volumes: t.Mapping[str, t.Mapping[str, t.Any]], rows: t.Mapping[str, t.Sequence[t.Mapping[str, t.Any]]]) -> str:
    """What was seen where, for people: a heading for each volume, then its ids side by side."""
    width = max([len("source"), *(len(_shown(row["source"])) for each in rows.values() for row in each)])
    lines: list[str] = []
    for serial, volume in volumes.items():
        lines.append(f"volume {serial}: {volume['verdict']} ({'; '.join(volume['reasons'])})")
        lines.append(f"  {'':<20}  {'source':<{width}}  destination")
        for row in rows[serial]:
            mark = " " if row["source"] == row["destination"] else "!"
            lines.append(f"{mark} {row['field']:<20}  {_shown(row['source']):<{width}}  {_shown(row['destination'])}")
    return "\n".join(lines)


def _shown(value: t.Any) -> str:
    if value in (None, ""):
        return "-"
    # A device may answer with anything; a terminal shall not obey it.
    return "".join(character if character.isprintable() else "?" for character in str(value))


__all__ = ("ACCEPTED", "MISMATCH", "PROVEN", "UNPROVEN", "verdict")
