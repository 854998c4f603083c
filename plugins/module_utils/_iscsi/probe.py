# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Ask targets about volumes by user-space sessions from this host: login, INQUIRY, READ CAPACITY, logout; no device.

Bounded in threads and in time: a dead portal is found out once, not once per volume.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import Chap, IscsiConnection, IscsiPath
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import fingerprint, libiscsi, vpd
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity

THREADS = 8
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
    """A volume to ask for. ``sample`` asks for its fingerprint, too."""

    serial: str
    connection: IscsiConnection
    initiator_iqn: str
    sample: bool = False


@dataclass(frozen=True)
class Answer:
    """What is known of a volume; ``problem`` says why something is missing."""

    identity: Identity | None = None
    fingerprint: fingerprint.Fingerprint | None = None
    problem: str | None = None


@dataclass(frozen=True)
class _SessionKey:
    """Volumes that one session can answer for."""

    address: str
    port: int
    iqn: str
    initiator_iqn: str
    chap: Chap | None


_Answers = t.Dict[str, Answer]
_Portal = t.Tuple[str, int]
_Result = t.TypeVar("_Result")


def ask(questions: t.Sequence[Question], *, load: t.Callable[[], t.Any] = libiscsi.load) -> _Answers:
    """The answer for every question's serial."""
    if not questions:
        return {}
    try:
        library = load()
    except libiscsi.LibraryMissing as exc:
        return {question.serial: Answer(problem=str(exc)) for question in questions}
    deadline = time.monotonic() + TOTAL_TIMEOUT_S
    portals = sorted({(way.address, way.port) for question in questions for way in question.connection.paths})
    silent = _run(portals, _why_unreachable, deadline, late="no answer to a connection in time")
    answers: _Answers = {}
    sessions: dict[_SessionKey, dict[str, tuple[Question, IscsiPath]]] = {}
    for question in questions:
        way = next((way for way in question.connection.paths if silent[way.address, way.port] is None), None)
        if way is None:
            answers[question.serial] = Answer(problem=_nobody_answers(question, silent))
        elif way.lun > libiscsi.MAX_LUN:
            answers[question.serial] = Answer(problem=f"LUN {way.lun} of {way.iqn}: libiscsi cannot address a LUN above {libiscsi.MAX_LUN}")
        else:
            key = _SessionKey(way.address, way.port, way.iqn, question.initiator_iqn, question.connection.chap)
            sessions.setdefault(key, {})[question.serial] = (question, way)
    late = f"no answer within {TOTAL_TIMEOUT_S} s; check the target and the network to it"
    told = _run(list(sessions), lambda key: _ask_session(library, key, list(sessions[key].values())), deadline, late=None)
    for key, volumes in sessions.items():
        result = told[key] or {}
        for serial in volumes:
            answers[serial] = result.get(serial, Answer(problem=f"{key.iqn} at {key.address}:{key.port}: {late}"))
    return answers


def _nobody_answers(question: Question, silent: t.Mapping[_Portal, str | None]) -> str:
    causes = "; ".join(f"portal {way.portal}: {silent[way.address, way.port]}" for way in question.connection.paths)
    return f"no portal of the volume can be reached from this host ({causes}); check the storage network and the target"


def _why_unreachable(portal: _Portal) -> str | None:
    """None when the portal takes connections; libiscsi itself would wait for minutes."""
    try:
        socket.create_connection(portal, timeout=CONNECT_TIMEOUT_S).close()
    except OSError as exc:
        return exc.strerror or str(exc)
    return None


def _run(
    items: t.Sequence[t.Any], function: t.Callable[[t.Any], _Result], deadline: float, late: _Result
) -> dict[t.Any, _Result]:
    """Call ``function`` for every item in a few threads; ``late`` stands for what is not there at the deadline.

    The threads are daemons: one that hangs in the library does not keep the module from ending.
    """
    todo: queue.SimpleQueue[t.Any] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[t.Any, _Result | None, BaseException | None]] = queue.SimpleQueue()
    for item in items:
        todo.put(item)

    def work() -> None:
        while True:
            try:
                item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((item, function(item), None))
            except BaseException as exc:  # noqa: BLE001  (raised again by the thread that waits)
                done.put((item, None, exc))

    for _number in range(min(THREADS, len(items))):
        threading.Thread(target=work, daemon=True).start()
    results: dict[t.Any, _Result] = {item: late for item in items}
    for _item in items:
        try:
            item, result, error = done.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if error is not None:
            raise error
        results[item] = t.cast(_Result, result)
    return results


def _ask_session(library: t.Any, key: _SessionKey, volumes: t.Sequence[tuple[Question, IscsiPath]]) -> _Answers:
    answers: _Answers = {}
    way = volumes[0][1]
    try:
        with libiscsi.Session(library, way, key.initiator_iqn, key.chap, COMMAND_TIMEOUT_S) as session:
            for question, its_way in volumes:
                answers[question.serial] = _identify(session, its_way)
            _add_fingerprints(session, volumes, answers)
    except MigrationError as exc:
        # Whoever has an answer already keeps it; samples that are missing then count as a problem, too.
        for question, _way in volumes:
            known = answers.get(question.serial, Answer())
            if known.identity is None or question.sample:
                answers[question.serial] = Answer(identity=known.identity, problem=known.problem or str(exc))
    return answers


def _identify(session: libiscsi.Session, way: IscsiPath) -> Answer:
    try:
        inquiry = vpd.parse_inquiry(session.command(way.lun, _inquiry(None, _INQUIRY_BYTES), _INQUIRY_BYTES))
        if not inquiry.is_disk:
            return Answer(problem=f"{way.iqn} at portal {way.portal} has no disk at LUN {way.lun} for this host; ask for the export")
        request = bytes([_SERVICE_ACTION_IN_16, _READ_CAPACITY_16]) + bytes(8) + _CAPACITY_BYTES.to_bytes(4, "big") + bytes(2)
        capacity = vpd.parse_capacity16(session.command(way.lun, request, _CAPACITY_BYTES))
    except libiscsi.CommandError as exc:
        return Answer(problem=str(exc))
    if capacity is None:
        return Answer(problem=f"LUN {way.lun} of {way.iqn} at portal {way.portal} tells no usable capacity")
    return Answer(
        identity=Identity(
            wwid=vpd.wwid_from_page83(_vpd_page(session, way.lun, 0x83)),
            unit_serial=vpd.unit_serial_from_page80(_vpd_page(session, way.lun, 0x80)),
            vendor=inquiry.vendor,
            model=inquiry.model,
            size_bytes=capacity.size_bytes,
            logical_block_bytes=capacity.logical_block_bytes,
            physical_block_bytes=capacity.physical_block_bytes,
        )
    )


def _inquiry(page: int | None, answer_bytes: int) -> bytes:
    return bytes([_INQUIRY, page is not None, page or 0]) + answer_bytes.to_bytes(2, "big") + bytes(1)


def _vpd_page(session: libiscsi.Session, lun: int, page: int) -> bytes:
    try:
        data = session.command(lun, _inquiry(page, _VPD_BYTES), _VPD_BYTES)
    except libiscsi.CommandError:
        return b""  # Devices need not have the page.
    return data if data[1] == page else b""


def _add_fingerprints(session: libiscsi.Session, volumes: t.Sequence[tuple[Question, IscsiPath]], answers: _Answers) -> None:
    """Read every volume's samples, pause once for all of them, and read again."""
    readers: dict[str, tuple[fingerprint.Reader, Identity]] = {}
    for question, way in volumes:
        identity = answers[question.serial].identity
        if question.sample and identity is not None:
            readers[question.serial] = (_block_reader(session, way.lun, identity.logical_block_bytes), identity)
    if not readers:
        return
    first = {serial: fingerprint.read_sample(read, identity.size_bytes) for serial, (read, identity) in readers.items()}
    time.sleep(fingerprint.PAUSE_S)
    for serial, (read, identity) in readers.items():
        second = fingerprint.read_sample(read, identity.size_bytes)
        answers[serial] = Answer(identity=identity, fingerprint=fingerprint.combine(first[serial], second))


def _block_reader(session: libiscsi.Session, lun: int, logical_block_bytes: int) -> fingerprint.Reader:
    count = max(1, fingerprint.BLOCK_BYTES // logical_block_bytes)

    def read(offset: int) -> bytes:
        address = (offset // logical_block_bytes).to_bytes(8, "big")
        request = bytes([_READ_16, 0]) + address + count.to_bytes(4, "big") + bytes(2)
        return session.command(lun, request, fingerprint.BLOCK_BYTES)

    return read


__all__ = ("Answer", "Question", "ask")
