# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Ask targets about volumes by user-space sessions from this host: login, INQUIRY, READ CAPACITY, READ, logout; no device.

Bounded in threads and in time: a dead portal is found out once, not once per volume.
"""

from __future__ import annotations

import socket
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import Chap, IscsiConnection, IscsiPath
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import fingerprint, libiscsi, vpd
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.pool import run_bounded

CONNECT_TIMEOUT_S = 5
COMMAND_TIMEOUT_S = 10
# For all volumes together; a target that takes connections but never answers must not hold up the play.
TOTAL_TIMEOUT_S = 60

_INQUIRY = 0x12
_READ_16 = 0x88
_SERVICE_ACTION_IN_16 = 0x9E
_READ_CAPACITY_16 = 0x10
_INQUIRY_BYTES = 96
_VPD_BYTES = 1024
_CAPACITY_BYTES = 32


@dataclass(frozen=True)
class Question:
    """A volume to ask for."""

    serial: str
    connection: IscsiConnection
    initiator_iqn: str


@dataclass(frozen=True)
class Answer:
    """What is known of a volume; ``problem`` says why something is missing."""

    identity: Identity | None = None
    sample: fingerprint.Sample | None = None
    head: bytes | None = None
    problem: str | None = None


@dataclass(frozen=True)
class _SessionKey:
    """Volumes that one session can answer for."""

    address: str
    port: int
    iqn: str
    initiator_iqn: str
    chap: Chap | None


_Answers = dict[str, Answer]
_Portal = tuple[str, int]
_Job = t.Callable[[libiscsi.Session, Question, IscsiPath], Answer]


def ask_identities(questions: t.Sequence[Question], *, load: t.Callable[[], t.Any] = libiscsi.load) -> _Answers:
    """The identity of every question's volume, by serial."""
    return _ask(questions, lambda session, _question, way: identify(session, way), load)


def read_samples(
    questions: t.Sequence[Question],
    where: t.Sequence[int],
    identities: t.Mapping[str, Identity],
    *,
    load: t.Callable[[], t.Any] = libiscsi.load,
) -> _Answers:
    """One reading of the blocks at ``where`` of every question's volume, by serial."""

    def read(session: libiscsi.Session, question: Question, way: IscsiPath) -> Answer:
        identity = identities[question.serial]
        reader = _block_reader(session, way.lun, identity.logical_block_bytes)
        return Answer(sample=fingerprint.read_sample(reader, where, identity.size_bytes))

    return _ask(questions, read, load)


def read_heads(
    questions: t.Sequence[Question], identities: t.Mapping[str, Identity], *, load: t.Callable[[], t.Any] = libiscsi.load
) -> _Answers:
    """The first block of every question's volume, by serial."""

    def read(session: libiscsi.Session, question: Question, way: IscsiPath) -> Answer:
        return Answer(head=_block_reader(session, way.lun, identities[question.serial].logical_block_bytes)(0))

    return _ask(questions, read, load)


def _ask(questions: t.Sequence[Question], job: _Job, load: t.Callable[[], t.Any]) -> _Answers:
    if not questions:
        return {}
    try:
        library = load()
    except libiscsi.LibraryMissing as exc:
        return {question.serial: Answer(problem=str(exc)) for question in questions}
    deadline = time.monotonic() + TOTAL_TIMEOUT_S
    portals = sorted({(way.address, way.port) for question in questions for way in question.connection.paths})
    late_connection: str | None = "no answer to a connection in time"
    silent = run_bounded(portals, why_unreachable, deadline=deadline, late=late_connection)
    answers: _Answers = {}
    sessions: dict[_SessionKey, list[tuple[Question, IscsiPath]]] = {}
    for question in questions:
        way = next((way for way in question.connection.paths if silent[way.address, way.port] is None), None)
        if way is None:
            answers[question.serial] = Answer(problem=_nobody_answers(question, silent))
        elif way.lun > libiscsi.MAX_LUN:
            answers[question.serial] = Answer(problem=f"LUN {way.lun} of {way.iqn}: libiscsi cannot address a LUN above {libiscsi.MAX_LUN}")
        else:
            key = _SessionKey(way.address, way.port, way.iqn, question.initiator_iqn, question.connection.chap)
            sessions.setdefault(key, []).append((question, way))
    nothing: _Answers = {}
    found_silent: dict[_Portal, str] = {}
    told = run_bounded(
        list(sessions), lambda key: _in_one_session(library, key, sessions[key], job, found_silent), deadline=deadline, late=nothing
    )
    for key, volumes in sessions.items():
        for question, way in volumes:
            late = f"{way.iqn} at portal {way.portal} gave no answer within {TOTAL_TIMEOUT_S} s; check the target and the network to it"
            answers[question.serial] = told[key].get(question.serial, Answer(problem=late))
    return answers


def _nobody_answers(question: Question, silent: t.Mapping[_Portal, str | None]) -> str:
    causes = "; ".join(f"portal {way.portal}: {silent[way.address, way.port]}" for way in question.connection.paths)
    return f"no portal of the volume can be reached from this host ({causes}); check the storage network and the target"


def why_unreachable(portal: _Portal) -> str | None:
    """None when the portal takes connections; libiscsi itself would wait for minutes."""
    try:
        socket.create_connection(portal, timeout=CONNECT_TIMEOUT_S).close()
    except OSError as exc:
        return exc.strerror or str(exc)
    return None


def _in_one_session(
    library: t.Any,
    key: _SessionKey,
    volumes: t.Sequence[tuple[Question, IscsiPath]],
    job: _Job,
    found_silent: dict[_Portal, str],
) -> _Answers:
    """``found_silent`` is shared by all threads: nobody waits again for a portal that kept someone waiting."""
    problem = found_silent.get((key.address, key.port))
    if problem:
        return {question.serial: Answer(problem=problem) for question, _way in volumes}
    answers: _Answers = {}
    try:
        with libiscsi.Session(library, volumes[0][1], key.initiator_iqn, key.chap, COMMAND_TIMEOUT_S) as session:
            for question, way in volumes:
                try:
                    answers[question.serial] = job(session, question, way)
                except libiscsi.CommandError as exc:
                    answers[question.serial] = Answer(problem=str(exc))
    except MigrationError as exc:
        if isinstance(exc, libiscsi.PortalSilent):
            found_silent[key.address, key.port] = str(exc)
        # Whoever was answered before the session broke keeps the answer.
        for question, _way in volumes:
            answers.setdefault(question.serial, Answer(problem=str(exc)))
    return answers


def identify(session: libiscsi.Session, way: IscsiPath) -> Answer:
    """What the volume behind an open session is."""
    inquiry = vpd.parse_inquiry(session.command(way.lun, _inquiry(None, _INQUIRY_BYTES), _INQUIRY_BYTES))
    if not inquiry.is_disk:
        return Answer(problem=f"{way.iqn} at portal {way.portal} has no disk at LUN {way.lun} for this host; ask for the export")
    capacity = read_capacity(session, way.lun)
    if capacity is None:
        return Answer(problem=f"LUN {way.lun} of {way.iqn} at portal {way.portal} tells no usable capacity")
    return Answer(
        identity=Identity(
            wwid=vpd.wwid_from_page83(vpd_page(session, way.lun, 0x83)),
            unit_serial=vpd.unit_serial_from_page80(vpd_page(session, way.lun, 0x80)),
            vendor=inquiry.vendor,
            model=inquiry.model,
            size_bytes=capacity.size_bytes,
            logical_block_bytes=capacity.logical_block_bytes,
            physical_block_bytes=capacity.physical_block_bytes,
        )
    )


def read_capacity(session: libiscsi.Session, lun: int) -> vpd.Capacity | None:
    """The answer to READ CAPACITY(16), None when it makes no sense."""
    request = bytes([_SERVICE_ACTION_IN_16, _READ_CAPACITY_16]) + bytes(8) + _CAPACITY_BYTES.to_bytes(4, "big") + bytes(2)
    return vpd.parse_capacity16(session.command(lun, request, _CAPACITY_BYTES))


def _inquiry(page: int | None, answer_bytes: int) -> bytes:
    return bytes([_INQUIRY, page is not None, page or 0]) + answer_bytes.to_bytes(2, "big") + bytes(1)


def vpd_page(session: libiscsi.Session, lun: int, page: int) -> bytes:
    """A page of vital product data; empty when the device has none of that number."""
    try:
        data = session.command(lun, _inquiry(page, _VPD_BYTES), _VPD_BYTES)
    except libiscsi.CommandError:
        return b""
    return data if data[1] == page else b""


def _block_reader(session: libiscsi.Session, lun: int, logical_block_bytes: int) -> fingerprint.Reader:
    count = max(1, fingerprint.BLOCK_BYTES // logical_block_bytes)

    def read(offset: int) -> bytes:
        address = (offset // logical_block_bytes).to_bytes(8, "big")
        request = bytes([_READ_16, 0]) + address + count.to_bytes(4, "big") + bytes(2)
        return session.command(lun, request, fingerprint.BLOCK_BYTES)

    return read


__all__ = (
    "Answer",
    "Question",
    "ask_identities",
    "identify",
    "read_capacity",
    "read_heads",
    "read_samples",
    "vpd_page",
    "why_unreachable",
)
