# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
import socket
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import parse
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._volume import iscsi_sessions, iscsi_user, iscsi_zeroing
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import aligned_buffer, is_zero
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import (
    DATA,
    UNKNOWN,
    ZERO,
    VolumeError,
    VolumeHandle,
    VolumeIOError,
)
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How
from ansible_collections.lunshift.migration.tests.unit.fake_lun import (
    READ,
    READY,
    SERVICE_IN,
    SYNC10,
    SYNC16,
    UNMAP,
    WRITE,
    WRITE_SAME,
    FakeLibrary,
    FakeLun,
)

IQN = "iqn.2026-11.org.example:target"
SIZE = 4096 * 512


@pytest.fixture
def portal() -> t.Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def opened(portal: str) -> t.Iterator[t.Callable[..., VolumeHandle]]:
    """Opens a fake LUN; in the end every session has to be gone."""
    libraries: list[FakeLibrary] = []

    def open_it(lun: FakeLun | FakeLibrary, *, writable: bool = True, timeout_s: int = 5, **data: t.Any) -> VolumeHandle:
        library = lun if isinstance(lun, FakeLibrary) else FakeLibrary(lun)
        libraries.append(library)
        info = {
            "driver_volume_type": "iscsi",
            "data": {"target_portal": portal, "target_iqn": IQN, "target_lun": 1, **data},
            "libvirt": {"initiator_iqn": "iqn.2026-11.org.example:me"},
        }
        backend = iscsi_user.open_user(parse("v", info), How(writable=writable, timeout_s=timeout_s), load=lambda: library)
        return VolumeHandle(backend, writable=writable)

    yield open_it
    assert [library.open for library in libraries] == [set()] * len(libraries)


def kinds(handle: VolumeHandle, *where: int) -> list[tuple[int, int, str]]:
    return [(extent.offset // 512, extent.length // 512, extent.kind) for extent in handle.extents(*where)]


def filled(length: int, byte: bytes = b"y") -> memoryview:
    view = aligned_buffer(length)
    view[:] = byte * length
    return view


# Opening


def test_facts(opened: t.Callable[..., VolumeHandle]) -> None:
    with opened(FakeLun()) as handle:
        facts = handle.facts
        assert (facts.size_bytes, facts.logical_block_bytes, facts.request_bytes, facts.requests) == (SIZE, 512, 1 << 20, 8)
        assert facts.identity == "wwid:3600140512345678900000000000000ab"
        assert facts.can_unmap
        assert handle.users() is None
        handle.drop_caches()


@pytest.mark.parametrize(
    ("wwid", "serial", "identity"),
    [
        ("600140512345678900000000000000ab", "1", "wwid:3600140512345678900000000000000ab"),
        ("60000000000000000e00000000010001", "SN-1", "serial:LAB:VOLUME:SN-1"),
        ("60000000000000000e00000000010001", "beaf11", f"iscsi:{IQN}/1/naa.60000000000000000e00000000010001"),
    ],
)
def test_identity(opened: t.Callable[..., VolumeHandle], wwid: str, serial: str, identity: str) -> None:
    lun = FakeLun()
    lun.wwid, lun.serial = wwid, serial
    with opened(lun) as handle:
        assert handle.facts.identity == identity


@pytest.mark.parametrize(("told", "request_bytes"), [(0, 1 << 20), (1024, 512 << 10), (4096, 1 << 20), (1023, 448 << 10), (8, 4096)])
def test_longest_transfer(opened: t.Callable[..., VolumeHandle], told: int, request_bytes: int) -> None:
    lun = FakeLun()
    lun.limit(8, 4, told)
    with opened(lun) as handle:
        assert handle.facts.request_bytes == request_bytes
        handle.write_from(filled(SIZE), 0)
        handle.read_into(filled(SIZE, b"z"), 0)
        for operation in (READ, WRITE):
            assert sum(count for _flags, _lba, count in lun.done(operation)) == 4096
            assert max(count for _flags, _lba, count in lun.done(operation)) * 512 == request_bytes
        assert lun.content == b"y" * SIZE


def test_no_disk_no_size_no_rights(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    lun.is_disk = False
    with pytest.raises(VolumeError, match="has no disk at LUN 1"):
        opened(lun)
    with pytest.raises(VolumeError, match="has no size"):
        opened(FakeLun(blocks=0))
    lun = FakeLun()
    lun.protected = True
    with pytest.raises(VolumeError, match="is write-protected"):
        opened(lun)
    opened(lun, writable=False).close()
    lun.has_mode_pages = False
    opened(lun).close()


def test_no_initiator_name(portal: str, tmp_path: Path) -> None:
    info = {"driver_volume_type": "iscsi", "data": {"target_portal": portal, "target_iqn": IQN, "target_lun": 1}}
    with pytest.raises(VolumeError, match="initiator_iqn"):
        iscsi_user.open_user(parse("v", info), How(), load=lambda: FakeLibrary(FakeLun()), root=str(tmp_path))
    (tmp_path / "etc/iscsi").mkdir(parents=True)
    (tmp_path / "etc/iscsi/initiatorname.iscsi").write_text("InitiatorName=iqn.2026-11.org.example:host\n")
    iscsi_user.open_user(parse("v", info), How(), load=lambda: FakeLibrary(FakeLun()), root=str(tmp_path)).close()


def test_first_portal_that_answers(opened: t.Callable[..., VolumeHandle], portal: str) -> None:
    dead = "127.0.0.1:1"
    both = {"target_portals": [dead, portal], "target_iqns": [IQN, IQN], "target_luns": [7, 1]}
    lun = FakeLun()
    lun.wwid, lun.serial = "60000000000000000e00000000010001", ""
    with opened(lun, **both) as handle:
        assert portal in handle.name
        # The place is that of the first path, whichever answers.
        assert handle.facts.identity == f"iscsi:{IQN}/7/naa.60000000000000000e00000000010001"
    with pytest.raises(VolumeError, match=r"no portal of LUN 1 of .* can be reached .*portal 127.0.0.1:1: Connection refused"):
        opened(lun, target_portal=dead)


# Requests


def test_any_range_of_a_file(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    with opened(lun) as handle:
        handle.seek(700)
        handle.write(b"in the middle")
        handle.seek(690)
        assert handle.read(30) == b"x" * 10 + b"in the middle" + b"x" * 7
    assert lun.content[700:713] == b"in the middle"


@pytest.mark.parametrize("trouble", ["attentions", "busy"])
def test_what_passes_is_waited_for(opened: t.Callable[..., VolumeHandle], trouble: str) -> None:
    lun = FakeLun()
    with opened(lun) as handle:
        setattr(lun, trouble, 3)
        handle.write_from(filled(512), 512)
    assert lun.content[512:1024] == b"y" * 512
    assert len(lun.done(WRITE)) == 1


def test_busy_for_ever(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    with opened(lun, writable=False, timeout_s=1) as handle:
        lun.busy = 10**6
        with pytest.raises(VolumeIOError, match=r"cannot read 512 bytes at offset 0 of LUN 1 of .*: it is busy"):
            handle.read_into(filled(512), 0)
        lun.busy = 0
        handle.read_into(filled(512), 0)


def test_a_short_answer_is_an_error(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    lun.missing = 512
    with opened(lun, writable=False) as handle, pytest.raises(VolumeIOError, match="512 of 4096 bytes were not transferred"):
        handle.read_into(filled(4096), 8192)


def test_a_change_is_looked_at(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    handle = opened(lun)
    lun.attentions, lun.serial = 1, "another"
    with pytest.raises(VolumeIOError, match=r"no longer what was opened: unit_serial is 'another', it was '12345'"):
        handle.write_from(filled(512), 0)
    with pytest.raises(VolumeIOError, match="cannot flush"):
        handle.close()
    assert lun.content == b"x" * SIZE


def test_a_volume_that_became_another_is_not_flushed(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    handle = opened(lun)
    lun.wwid = lun.wwid.replace("ab", "cd")
    with pytest.raises(VolumeIOError, match=r"no longer what was opened: wwid is"):
        handle.close()
    assert lun.done(SYNC16) == []


# Sessions


def test_as_many_sessions_as_requests(opened: t.Callable[..., VolumeHandle]) -> None:
    library = FakeLibrary(FakeLun())
    meeting = threading.Barrier(8)
    with opened(library, writable=False) as handle:
        handle.read_into(filled(512), 0)
        handle.read_into(filled(512), 0)
        assert library.logins == 1
        library.hook = lambda operation: meeting.wait(10) and None if operation == READ else None
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda number: handle.read_into(filled(512), number * 512), range(64)))
        assert (library.logins, library.most) == (8, 8)


def test_a_target_that_lets_fewer_in(opened: t.Callable[..., VolumeHandle]) -> None:
    library = FakeLibrary(FakeLun())
    library.max_sessions = 3
    library.hook = lambda operation: time.sleep(0.01)
    with opened(library, writable=False) as handle:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: handle.read_into(filled(512), number * 512), range(64)))
        assert library.most == 3
        logins = library.logins
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: handle.read_into(filled(512), number * 512), range(64)))
        assert library.logins == logins


def test_a_lost_session_ends_everything(opened: t.Callable[..., VolumeHandle]) -> None:
    library = FakeLibrary(FakeLun())
    library.hook = lambda operation: time.sleep(0.005)
    library.lose_at = 20
    handle = opened(library)
    errors: list[str] = []

    def read(number: int) -> None:
        try:
            while True:
                handle.read_into(filled(512), number * 512)
        except VolumeIOError as exc:
            errors.append(str(exc))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 16
    assert all("gave no answer within 5 s: command timed out" in error for error in errors)
    with pytest.raises(VolumeIOError, match="given up, for another request failed"):
        handle.close()


def test_a_new_session_has_to_lead_to_the_same_volume(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    library = FakeLibrary(lun)
    handle = opened(library, writable=False)
    entered, go_on = threading.Event(), threading.Event()

    def hold(operation: int) -> None:
        if operation == READ and not entered.is_set():
            entered.set()
            go_on.wait(10)

    library.hook = hold
    first = threading.Thread(target=handle.read_into, args=(filled(512), 0))
    first.start()
    assert entered.wait(10)
    lun.serial = "another"
    with pytest.raises(VolumeIOError, match="no longer what was opened"):
        handle.read_into(filled(512), 0)
    go_on.set()
    first.join(10)
    handle.close()


def test_closing_while_a_request_runs(opened: t.Callable[..., VolumeHandle]) -> None:
    library = FakeLibrary(FakeLun())
    handle = opened(library, writable=False)
    entered, go_on = threading.Event(), threading.Event()

    def hold(operation: int) -> None:
        if operation == READ:
            entered.set()
            go_on.wait(10)

    library.hook = hold
    thread = threading.Thread(target=handle.read_into, args=(filled(512), 0))
    thread.start()
    assert entered.wait(10)
    handle.close()
    assert len(library.open) == 1
    go_on.set()
    thread.join(10)
    assert library.open == set()


def test_a_logout_that_hangs_is_left_behind(opened: t.Callable[..., VolumeHandle], monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeLibrary(FakeLun())
    handle = opened(library, writable=False, timeout_s=1)
    release = threading.Event()
    log_out = library.iscsi_logout_sync

    def hang(context: int) -> int:
        release.wait(10)
        return log_out(context)

    monkeypatch.setattr(library, "iscsi_logout_sync", hang)
    started = time.monotonic()
    handle.close()
    assert time.monotonic() - started < 5
    release.set()
    wait_for(lambda: not library.open)


def wait_for(condition: t.Callable[[], bool]) -> None:
    for _attempt in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize("refused", [False, True])
def test_sessions_without_work_are_heard_of(opened: t.Callable[..., VolumeHandle], monkeypatch: pytest.MonkeyPatch, refused: bool) -> None:
    monkeypatch.setattr(iscsi_sessions, "_PING_S", 0.02)
    lun = FakeLun()
    lun.refused = {READY} if refused else set()
    with opened(lun, writable=False) as handle:
        wait_for(lambda: lun.pings > 3)
        handle.read_into(filled(512), 0)


def test_a_session_lost_without_work_ends_everything(opened: t.Callable[..., VolumeHandle], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who knows whether the target restarted, and lost what its cache held?"""
    monkeypatch.setattr(iscsi_sessions, "_PING_S", 0.02)
    library = FakeLibrary(FakeLun())
    library.lose_by, library.lose_at = (READY,), 3
    handle = opened(library)
    wait_for(lambda: not library.open)
    with pytest.raises(VolumeIOError, match=r"given up, for another request failed: .* gave no answer within 5 s"):
        handle.write_from(filled(512), 0)
    with pytest.raises(VolumeIOError, match="cannot flush"):
        handle.close()


def test_closing_ends_the_pings(opened: t.Callable[..., VolumeHandle], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iscsi_sessions, "_PING_S", 0.02)
    library = FakeLibrary(FakeLun())
    handle = opened(library, writable=False, timeout_s=1)
    before = threading.active_count()
    entered, go_on = threading.Event(), threading.Event()

    def hold(operation: int) -> None:
        if operation == READY:
            entered.set()
            go_on.wait(10)

    library.hook = hold
    assert entered.wait(10)
    started = time.monotonic()
    handle.close()
    assert 0.5 < time.monotonic() - started < 5
    go_on.set()
    wait_for(lambda: threading.active_count() < before)


# Zeros


def test_zeros_without_space(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    with opened(lun) as handle:
        handle.zero(512, 1024 * 512)
    assert lun.content == b"x" * 512 + bytes(1024 * 512) + b"x" * (3071 * 512)
    assert lun.mapped == [True] + [False] * 1024 + [True] * 3071
    assert (lun.done(WRITE_SAME), lun.done(UNMAP), lun.done(WRITE)) == ([(8, 1, 1024)], [], [])


@pytest.mark.parametrize(
    ("refused", "tried", "then"),
    [
        (set(), [WRITE_SAME], [WRITE_SAME]),
        ({(WRITE_SAME, 8)}, [WRITE_SAME, WRITE_SAME, UNMAP], [WRITE_SAME, UNMAP]),
        ({WRITE_SAME}, [WRITE_SAME, WRITE_SAME, WRITE, UNMAP], [WRITE, UNMAP]),
        ({WRITE_SAME, UNMAP}, [WRITE_SAME, WRITE_SAME, WRITE, UNMAP], [WRITE]),
    ],
)
def test_what_the_unit_refuses_is_remembered(
    opened: t.Callable[..., VolumeHandle], refused: set[t.Any], tried: list[int], then: list[int]
) -> None:
    lun = FakeLun()
    lun.limit(20, 4, 0xFFFFFFFF)
    lun.refused = refused
    with opened(lun) as handle:
        handle.zero(0, 64 * 512)
        assert [command[0] for command in lun.commands] == tried
        lun.commands.clear()
        handle.zero(64 * 512, 64 * 512)
        assert [command[0] for command in lun.commands] == then
    assert lun.content == bytes(128 * 512) + b"x" * (SIZE - 128 * 512)


def test_no_way_to_write(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    lun.refused = {WRITE_SAME, WRITE}
    with opened(lun) as handle:
        with pytest.raises(VolumeIOError, match=r"cannot zero 512 bytes at offset 0 of LUN 1 .* refused SCSI command 0x8a"):
            handle.zero(0, 512)
        # That was no reason to think that the unit does not know WRITE SAME.
        lun.refused = set()
        handle.zero(0, 512)
    assert lun.commands[-2][:2] == (WRITE_SAME, 8)


@pytest.mark.parametrize(("thin", "zeroes", "provisioning"), [(False, False, 0), (True, False, 0xC0), (False, True, 0xC0), (True, True, 0)])
def test_nothing_is_unmapped_without_the_promise_of_zeros(
    opened: t.Callable[..., VolumeHandle], thin: bool, zeroes: bool, provisioning: int
) -> None:
    lun = FakeLun(thin=thin, zeroes=zeroes)
    lun.provisioning = provisioning
    lun.limit(20, 4, 0xFFFFFFFF)
    with opened(lun) as handle:
        assert not handle.facts.can_unmap
        handle.zero(0, SIZE)
    assert [command[:2] for command in lun.commands] == [(WRITE_SAME, 0), (SYNC16, 0)]
    assert lun.content == bytes(SIZE)


def test_only_whole_granules_are_unmapped(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    lun.limit(28, 4, 100)
    lun.limit(32, 4, 0x80000000 | 7)
    with opened(lun) as handle:
        handle.zero(50 * 512, 1000 * 512)
        handle.zero(2010 * 512, 90 * 512)
    assert lun.done(WRITE_SAME) == [(0, 50, 57), (8, 107, 900), (0, 1007, 43), (0, 2010, 90)]
    assert is_zero(memoryview(lun.content)[50 * 512 : 1050 * 512])


def test_limits_of_the_unit(opened: t.Callable[..., VolumeHandle], monkeypatch: pytest.MonkeyPatch) -> None:
    lun = FakeLun()
    lun.limit(36, 8, 1000)
    with opened(lun) as handle:
        handle.zero(0, SIZE)
        assert lun.done(WRITE_SAME) == [(8, 0, 1000), (8, 1000, 1000), (8, 2000, 1000), (8, 3000, 1000), (8, 4000, 96)]
        lun.commands.clear()
        lun.refused = {(WRITE_SAME, 8)}
        lun.limit(20, 4, 300)
        handle.zero(0, SIZE)
        assert {command[3] for command in lun.commands if command[:2] == (WRITE_SAME, 0)} == {1000, 96}
    monkeypatch.setattr(iscsi_zeroing, "_LONGEST_UNMAP_BYTES", 1 << 20)
    lun = FakeLun()
    lun.limit(20, 4, 0xFFFFFFFF)
    with opened(lun) as handle:
        handle.zero(0, SIZE)
    assert lun.done(WRITE_SAME) == [(8, 0, 2048), (8, 2048, 2048)]


def test_zeros_of_any_range(opened: t.Callable[..., VolumeHandle]) -> None:
    dice = random.Random(4)
    for _round in range(50):
        lun = FakeLun(blocks=600)
        lun.limit(28, 4, dice.choice([0, 1, 8, 100, 1000]))
        lun.limit(32, 4, 0x80000000 | dice.randrange(100))
        lun.limit(36, 8, dice.choice([0, 1, 7, 64]))
        lun.limit(20, 4, dice.choice([0, 5, 1 << 20]))
        lun.limit(8, 4, dice.choice([0, 3, 128]))
        lun.refused = set(dice.sample([WRITE_SAME, (WRITE_SAME, 8), UNMAP], dice.randrange(3)))
        lun.provisioning = dice.choice([0, 0x80, 0x40, 0xC0])
        start = dice.randrange(599)
        end = dice.randrange(start + 1, 601)
        with opened(lun) as handle:
            handle.zero(start * 512, (end - start) * 512)
        assert lun.content == b"x" * (start * 512) + bytes((end - start) * 512) + b"x" * ((600 - end) * 512)


# Extents


def test_extents(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    for start, end in ((0, 10), (20, 30), (40, 4000), (4090, 4096)):
        lun.mapped[start:end] = [False] * (end - start)
    with opened(lun, writable=False) as handle:
        assert kinds(handle) == [
            (0, 10, ZERO),
            (10, 10, DATA),
            (20, 10, ZERO),
            (30, 10, DATA),
            (40, 3960, ZERO),
            (4000, 90, DATA),
            (4090, 6, ZERO),
        ]
        assert kinds(handle, 5 * 512, 20 * 512) == [(5, 5, ZERO), (10, 10, DATA), (20, 5, ZERO)]


@pytest.mark.parametrize(("status", "kind"), [(0, DATA), (1, ZERO), (2, ZERO), (3, DATA), (4, UNKNOWN), (15, UNKNOWN)])
def test_kinds_of_status(opened: t.Callable[..., VolumeHandle], status: int, kind: str) -> None:
    lun = FakeLun()
    lun.statuses = lambda lba: [(lba, 4096 - lba, status)]
    with opened(lun, writable=False) as handle:
        assert kinds(handle) == [(0, 4096, kind)]


@pytest.mark.parametrize(("thin", "zeroes"), [(True, False), (False, True), (False, False)])
def test_no_zeros_without_the_promise(opened: t.Callable[..., VolumeHandle], thin: bool, zeroes: bool) -> None:
    lun = FakeLun(thin=thin, zeroes=zeroes)
    lun.mapped = [False] * 4096
    with opened(lun, writable=False) as handle:
        assert kinds(handle) == [(0, 4096, UNKNOWN)]
    assert lun.done(SERVICE_IN) == []


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], [(0, 4096, UNKNOWN)]),
        ([(0, 0, 1)], [(0, 4096, UNKNOWN)]),
        ([(5, 10, 1)], [(0, 4096, UNKNOWN)]),
        ([(0, 9999, 1)], [(0, 4096, ZERO)]),
        ([(0, 100, 1), (200, 9999, 1)], [(0, 100, ZERO), (100, 3996, UNKNOWN)]),
        ([(0, 100, 1), (50, 100, 0), (0, 10, 1)], [(0, 100, ZERO), (100, 50, DATA), (150, 3946, UNKNOWN)]),
        ([(0, 0xFFFFFFFF, 1)], [(0, 4096, ZERO)]),
    ],
)
def test_answers_without_sense(
    opened: t.Callable[..., VolumeHandle], statuses: list[tuple[int, int, int]], expected: list[tuple[int, int, str]]
) -> None:
    lun = FakeLun()
    lun.statuses = lambda lba: statuses
    with opened(lun, writable=False) as handle:
        assert kinds(handle) == expected


def test_a_target_is_asked_again_after_nonsense(opened: t.Callable[..., VolumeHandle], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iscsi_user, "_UNKNOWN_STEP_BYTES", 1000 * 512)
    lun = FakeLun()
    lun.statuses = lambda lba: [(0, 0, 1)] if lba < 2000 else [(lba, 4096 - lba, 1)]
    with opened(lun, writable=False) as handle:
        assert kinds(handle) == [(0, 2000, UNKNOWN), (2000, 2096, ZERO)]


def test_a_unit_that_knows_no_status(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    lun.refused = {SERVICE_IN}
    with opened(lun, writable=False) as handle:
        assert kinds(handle) == [(0, 4096, UNKNOWN)]
        assert kinds(handle, 0, 512) == [(0, 1, UNKNOWN)]
    assert len(lun.done(SERVICE_IN)) == 1


# Flush


def test_flush(opened: t.Callable[..., VolumeHandle]) -> None:
    lun = FakeLun()
    with opened(lun):
        pass
    assert lun.commands == [(SYNC16, 0, 0, 0)]


@pytest.mark.parametrize("cached", [False, True])
def test_a_unit_that_knows_no_flush(opened: t.Callable[..., VolumeHandle], cached: bool) -> None:
    lun = FakeLun()
    lun.write_cache = cached
    lun.refused = {SYNC16}
    handle = opened(lun)
    handle.flush()
    assert [command[0] for command in lun.commands] == [SYNC16, SYNC10]
    lun.refused = {SYNC16, SYNC10}
    if cached:
        with pytest.raises(VolumeIOError, match=r"cannot flush .* refused SCSI command 0x35"):
            handle.close()
    else:
        handle.close()


# Reports


def test_a_password_is_in_no_error(opened: t.Callable[..., VolumeHandle]) -> None:
    library = FakeLibrary(FakeLun())
    library.max_sessions = 0
    with pytest.raises(MigrationError) as error:
        opened(library, auth_method="CHAP", auth_username="user", auth_password="a-secret-of-12")
    assert "CHAP user user" in str(error.value)
    assert "a-secret" not in f"{error.value}{error.value.details}"
