# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What a call asks for: volumes, how this host reaches each, and what each is expected to be."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import (
    IscsiConnection,
    IscsiPath,
    no_mutual_chap,
    parse,
    redact,
)
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.session import kernel_luns, target_of

KERNEL = "kernel"
LIBISCSI = "libiscsi"


@dataclass(frozen=True)
class VolumeRequest:
    """One volume of a call. ``redacted_info`` is its connection info without secrets."""

    serial: str
    initiator: str
    connection: IscsiConnection
    redacted_info: t.Mapping[str, t.Any]
    expected: Identity | None = None


def parse_requests(volumes: t.Sequence[t.Mapping[str, t.Any]]) -> list[VolumeRequest]:
    """Read the option C(volumes); raises InputError that names every problem of every volume."""
    requests: list[VolumeRequest] = []
    problems: list[str] = []
    for volume in volumes:
        try:
            requests.append(_request(volume))
        except InputError as exc:
            problems += exc.details["problems"]
    problems += _clashes(requests)
    if problems:
        raise InputError(problems)
    return requests


def _request(volume: t.Mapping[str, t.Any]) -> VolumeRequest:
    serial = volume["serial"]
    if not serial:
        raise InputError(["a volume has an empty serial"])
    connection = parse(serial, volume["connection_info"])
    if volume.get("initiator") == LIBISCSI and connection.chap and connection.chap.mutual:
        raise InputError([no_mutual_chap(serial)])
    expected = volume.get("expected_identity")
    try:
        identity = Identity.from_dict(expected) if expected else None
    except (KeyError, TypeError, ValueError) as exc:
        raise InputError([f"volume {serial}: expected_identity cannot be used: {exc}"]) from exc
    return VolumeRequest(
        serial=serial,
        initiator=volume.get("initiator") or KERNEL,
        connection=connection,
        redacted_info=redact(volume["connection_info"]),
        expected=identity,
    )


def _clashes(requests: t.Sequence[VolumeRequest]) -> list[str]:
    problems = []
    owner: dict[tuple[t.Any, ...], str] = {}
    serials: set[str] = set()
    chaps: dict[t.Any, t.Any] = {}
    for request in requests:
        if request.serial in serials:
            problems.append(f"volume {request.serial}: its serial is given twice")
        serials.add(request.serial)
        for path in request.connection.paths:
            target = target_of(path)
            first = owner.setdefault(_place(path), request.serial)
            if first != request.serial:
                problems.append(f"volumes {first} and {request.serial}: both name LUN {path.lun} of {target}")
            if request.initiator == KERNEL and chaps.setdefault(target, request.connection.chap) != request.connection.chap:
                problems.append(
                    f"volume {request.serial}: its credentials for {target} differ from another volume's; a session has one set"
                )
    return problems


def _place(path: IscsiPath) -> tuple[t.Any, ...]:
    return target_of(path), kernel_luns(path.lun)[0]


__all__ = ("KERNEL", "LIBISCSI", "VolumeRequest", "parse_requests")
