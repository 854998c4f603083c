# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ctypes
import hashlib
import socket
import sys
import threading
import time
import types
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import Chap, IscsiPath, parse
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import fingerprint, image_header, libiscsi, probe
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmark"))
from synthetic_sysfs import page80, page83

IQN = "iqn.2026-11.org.example:target-a"
INITIATOR = "iqn.2026-11.org.example:host-a"
WWID = "60000000000000004c554e5300000001"
NOBODY = 0x0F000002  # What the library says when nothing came back in time.


class FakeVolume:
    def __init__(self, content=bytes(1 << 20), serial="unit-1", is_disk=True):
        self.content, self.serial, self.is_disk = content, serial, is_disk

    def answer(self, request):
        """(SCSI status, data)"""
        if request[0] == 0x12 and not request[1]:
            return 0, bytes([0 if self.is_disk else 0x7F]) + bytes(7) + b"LUNSHIFT" + b"VOLUME".ljust(16)
        if request[0] == 0x12:
            pages = {0x80: page80(self.serial), 0x83: page83(WWID)}
            return (0, pages[request[2]]) if self.serial else (2, b"")
        if request[0] == 0x9E:
            return 0, (len(self.content) // 512 - 1).to_bytes(8, "big") + (512).to_bytes(4, "big") + bytes([0, 3])
        start, count = int.from_bytes(request[2:10], "big"), int.from_bytes(request[10:14], "big")
        return 0, self.content[start * 512 : (start + count) * 512]


class FakeLibrary:
    """Behaves like libiscsi with one target; records what was done."""

    def __init__(self, volumes, chap=None, login_error=None):
        self.volumes, self.chap, self.login_error = volumes, chap, login_error
        self.events, self.attentions, self.isids = [], 0, []
        self.lost_after = None
        self.logout_status = 0
        self._error = b""
        self._tasks = {}
        self._given_chap = None
        self._lock = threading.Lock()

    def iscsi_create_context(self, name):
        self.events.append(("create", name.decode()))
        return 1 if name else None

    def iscsi_set_targetname(self, context, name):
        self._target = name.decode()

    def iscsi_set_session_type(self, context, kind):
        assert kind == 2

    def iscsi_set_header_digest(self, context, kind):
        assert kind == 1

    def iscsi_set_isid_random(self, context, random, qualifier):
        self.isids.append((random, qualifier))

    def iscsi_set_timeout(self, context, seconds):
        self.events.append(("timeout", seconds))

    def iscsi_set_noautoreconnect(self, context, state):
        assert state == 1

    def iscsi_set_initiator_username_pwd(self, context, user, password):
        self._given_chap = Chap(user.decode(), password.decode())

    def iscsi_set_target_username_pwd(self, context, user, password):
        self._given_chap = replace(self._given_chap, username_in=user.decode(), password_in=password.decode())

    def iscsi_full_connect_sync(self, context, portal, lun):
        assert lun == -1
        self.events.append(("login", portal.decode(), self._target))
        if self.login_error or self._given_chap != self.chap:
            self._error = self.login_error or b"Failed to log in to target. Status: Authentication failure(513)"
            return -1
        return 0

    def iscsi_get_error(self, context):
        return self._error

    def iscsi_logout_sync(self, context):
        self.events.append(("logout",))
        return self.logout_status

    def iscsi_disconnect(self, context):
        self.events.append(("disconnect",))

    def iscsi_destroy_context(self, context):
        self.events.append(("destroy",))

    def scsi_create_task(self, length, request, direction, answer_bytes):
        assert (len(request), direction) == (length, 1)
        status = ctypes.c_int(-7)
        task = ctypes.addressof(status)
        self._tasks[task] = [status, request, None, answer_bytes]
        return task

    def scsi_task_add_data_in_buffer(self, task, length, buffer):
        assert length == self._tasks[task][3]
        self._tasks[task][2] = buffer

    def iscsi_scsi_command_sync(self, context, lun, task, data):
        status, request, buffer, answer_bytes = self._tasks[task]
        self.events.append(("command", lun, request[0]))
        if self.lost_after is not None:
            self.lost_after -= 1
            if self.lost_after < 0:
                self._error = b"command timed out"
                status.value = NOBODY
                return task
        if self.attentions:
            self.attentions -= 1
            self._error = b"SENSE KEY:UNIT_ATTENTION(6) ASCQ:BUS_RESET(0x2900)"
            status.value = 2
            return task
        volume = self.volumes.get(lun, FakeVolume(is_disk=False))
        status.value, answer = volume.answer(request)
        self._error = b"SENSE KEY:ILLEGAL_REQUEST(5) ASCQ:INVALID_FIELD_IN_CDB(0x2400)"
        ctypes.memmove(buffer, answer[:answer_bytes], min(len(answer), answer_bytes))
        return task

    def scsi_free_scsi_task(self, task):
        del self._tasks[task]


def logins(library):
    return [event for event in library.events if event[0] == "login"]


@pytest.fixture
def portal():
    """A port that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def question(serial, portal, lun=1, iqn=IQN, initiator=INITIATOR, **data):
    info = {"driver_volume_type": "iscsi", "data": {"target_portal": portal, "target_iqn": iqn, "target_lun": lun, **data}}
    return probe.Question(serial, parse(serial, info), initiator)


def ask(library, *questions):
    return probe.ask_identities(questions, load=lambda: library)


# The session


def session(library, chap=None):
    return libiscsi.Session(library, IscsiPath("192.0.2.10", 3260, IQN, 1), INITIATOR, chap, 7)


def test_session_ends_what_it_began():
    library = FakeLibrary({1: FakeVolume()})
    with session(library) as open_session:
        assert open_session.command(1, bytes([0x12, 0, 0, 0, 96, 0]), 96)[8:16] == b"LUNSHIFT"
    assert library.events == [
        ("create", INITIATOR),
        ("timeout", 7),
        ("login", "192.0.2.10:3260", IQN),
        ("command", 1, 0x12),
        ("logout",),
        ("destroy",),
    ]
    assert library._tasks == {}


def test_session_cannot_push_out_a_running_guest():
    library = FakeLibrary({})
    for _number in range(50):
        with session(library):
            pass
    assert all(0 < qualifier <= 0xFFFF and 0 <= random < 1 << 24 for random, qualifier in library.isids)
    assert len(set(library.isids)) > 45


def test_unit_attentions_are_not_the_answer():
    library = FakeLibrary({1: FakeVolume()})
    library.attentions = 3
    with session(library) as open_session:
        open_session.command(1, bytes([0x12, 0, 0, 0, 96, 0]), 96)
    assert library._tasks == {}


def test_refused_command():
    library = FakeLibrary({1: FakeVolume(serial="")})
    with (
        pytest.raises(libiscsi.CommandError, match=r"LUN 1 of .* refused SCSI command 0x12: .*ILLEGAL_REQUEST"),
        session(library) as opened,
    ):
        opened.command(1, bytes([0x12, 1, 0x80, 0, 96, 0]), 96)
    assert library.events[-2:] == [("logout",), ("destroy",)]


def test_lost_session_is_neither_logged_out_nor_freed():
    library = FakeLibrary({1: FakeVolume()})
    library.lost_after = 0
    with pytest.raises(libiscsi.SessionLost, match=r"gave no answer within 7 s: command timed out"), session(library) as opened:
        opened.command(1, bytes([0x12, 0, 0, 0, 96, 0]), 96)
    assert library.events[-1] == ("disconnect",)
    assert ("destroy",) not in library.events


def test_failed_logout_frees_nothing():
    library = FakeLibrary({})
    library.logout_status = -1
    with session(library):
        pass
    assert library.events[-2:] == [("logout",), ("disconnect",)]


def test_wrong_password_is_named_but_not_shown():
    library = FakeLibrary({}, chap=Chap("user", "right-password"))
    with pytest.raises(libiscsi.LoginError) as error, session(library, Chap("user", "wrong-password")):
        pass
    assert "Authentication failure(513)" in str(error.value)
    assert f"{IQN} at portal 192.0.2.10:3260 as initiator {INITIATOR} with CHAP user user" in str(error.value)
    assert "wrong-password" not in str(error.value)
    assert library.events[-1] == ("destroy",)


def test_the_target_has_to_prove_itself_too():
    library = FakeLibrary({}, chap=Chap("user", "ours", "array", "theirs"))
    with session(library, Chap("user", "ours", "array", "theirs")):
        pass
    with pytest.raises(libiscsi.LoginError), session(library, Chap("user", "ours")):
        pass


def test_silent_portal():
    library = FakeLibrary({}, login_error=b"command timed out")
    with pytest.raises(libiscsi.PortalSilent, match="takes connections, but did not answer a login"), session(library):
        pass


def test_every_function_is_declared(monkeypatch):
    class SharedObject:
        def __getattr__(self, name):
            def function():
                return None

            setattr(self, name, function)
            return function

    shared = SharedObject()
    library = libiscsi.Library(shared)
    assert library.iscsi_get_error.restype is ctypes.c_char_p
    used = [name for name in vars(FakeLibrary) if name.startswith(("iscsi_", "scsi_"))]
    assert sorted(used) == sorted(vars(library))


def test_library_missing(monkeypatch, portal):
    def nothing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(libiscsi.ctypes, "CDLL", nothing)
    (answer,) = probe.ask_identities([question("vol", portal)]).values()
    assert answer.identity is None
    assert "libiscsi7 (Debian 12" in answer.problem


def test_library_that_lacks_a_function(monkeypatch):
    monkeypatch.setattr(libiscsi.ctypes, "CDLL", lambda name: object())
    with pytest.raises(libiscsi.LibraryMissing, match="lacks a function"):
        libiscsi.load()


@pytest.mark.parametrize("shift", [0, 4])
def test_library_with_another_structure(monkeypatch, shift):
    task = ctypes.create_string_buffer(256)

    class SharedObject:
        def __getattr__(self, name):
            def function(*arguments):
                if name == "scsi_create_task":
                    length, request, direction, data_bytes = arguments
                    head = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, length, direction, data_bytes)) + request
                    task[shift : shift + len(head)] = head
                    return ctypes.addressof(task)
                return None

            setattr(self, name, function)
            return function

    monkeypatch.setattr(libiscsi.ctypes, "CDLL", lambda name: SharedObject())
    if not shift:
        assert libiscsi.load()
        return
    with pytest.raises(libiscsi.LibraryMissing, match="another struct scsi_task"):
        libiscsi.load()


# Asking


def test_identity(portal):
    library = FakeLibrary({1: FakeVolume()})
    answer = ask(library, question("vol", portal))["vol"]
    assert answer.problem is None
    assert answer.identity == Identity(f"naa.{WWID}", "unit-1", "LUNSHIFT", "VOLUME", 1 << 20, 512, 4096)


def test_no_questions_need_no_library():
    def load():
        raise OSError

    assert probe.ask_identities([], load=load) == {}


def test_one_login_for_all_volumes_of_a_target(portal):
    library = FakeLibrary({1: FakeVolume(), 2: FakeVolume(serial="unit-2")})
    answers = ask(library, question("a", portal, 1), question("b", portal, 2), question("absent", portal, 9))
    assert len(logins(library)) == 1
    assert (answers["a"].identity.unit_serial, answers["b"].identity.unit_serial) == ("unit-1", "unit-2")
    assert "has no disk at LUN 9 for this host" in answers["absent"].problem


def test_other_initiator_name_is_another_session(portal):
    library = FakeLibrary({1: FakeVolume(), 2: FakeVolume()})
    ask(library, question("a", portal, 1), question("b", portal, 2, initiator="iqn.2026-11.org.example:guest"))
    assert len(logins(library)) == 2


def test_volume_without_pages_has_no_ids(portal):
    answer = ask(FakeLibrary({1: FakeVolume(serial="")}), question("vol", portal))["vol"]
    assert (answer.identity.wwid, answer.identity.unit_serial, answer.identity.size_bytes) == (None, None, 1 << 20)


def test_login_error_is_the_problem_of_every_volume(portal):
    library = FakeLibrary({}, login_error=b"Failed to log in to target. Status: Target not found(515)")
    answers = ask(library, question("a", portal, 1), question("b", portal, 2))
    assert len(logins(library)) == 1
    assert all("Target not found(515)" in answer.problem and "ask for the export" in answer.problem for answer in answers.values())


def test_answers_before_the_session_broke_stay(portal):
    library = FakeLibrary({1: FakeVolume(), 2: FakeVolume()})
    library.lost_after = 4
    answers = ask(library, question("a", portal, 1), question("b", portal, 2))
    assert answers["a"].identity is not None
    assert answers["b"].identity is None
    assert "gave no answer" in answers["b"].problem


def test_second_portal_when_the_first_is_dead(portal):
    library = FakeLibrary({1: FakeVolume()})
    dead = "127.0.0.1:1"
    answer = ask(library, question("vol", dead, target_portals=[dead, portal], target_iqns=[IQN] * 2, target_luns=[1, 1]))["vol"]
    assert answer.identity is not None
    assert logins(library) == [("login", portal, IQN)]


def test_dead_portal_costs_one_wait(monkeypatch):
    asked = []

    def refuse(address, timeout):
        asked.append(address)
        time.sleep(0.05)
        raise OSError(113, "No route to host")

    monkeypatch.setattr(probe.socket, "create_connection", refuse)
    answers = ask(FakeLibrary({}), *(question(f"vol-{number}", "192.0.2.99:3260", number) for number in range(50)))
    assert asked == [("192.0.2.99", 3260)]
    assert all("portal 192.0.2.99:3260: No route to host" in answer.problem for answer in answers.values())


def test_silent_portal_keeps_one_round_of_threads_waiting(portal):
    library = FakeLibrary({}, login_error=b"command timed out")
    answers = ask(library, *(question(f"vol-{number}", portal, iqn=f"{IQN}-{number}") for number in range(50)))
    assert len(logins(library)) < 50
    assert all("did not answer a login" in answer.problem for answer in answers.values())


def test_target_that_hangs_for_ever(monkeypatch, portal):
    library = FakeLibrary({1: FakeVolume()})
    monkeypatch.setattr(library, "iscsi_full_connect_sync", lambda *args: threading.Event().wait(30))
    monkeypatch.setattr(probe, "TOTAL_TIMEOUT_S", 0.3)
    started = time.monotonic()
    answer = ask(library, question("vol", portal))["vol"]
    assert time.monotonic() - started < 5
    assert "gave no answer within 0.3 s" in answer.problem


def test_lun_that_the_library_would_cut_off(portal):
    answer = ask(FakeLibrary({1: FakeVolume()}), question("vol", portal, 0x10001))["vol"]
    assert "cannot address a LUN above 65535" in answer.problem


def test_defect_in_a_thread_is_no_answer(monkeypatch, portal):
    def defect(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(probe, "identify", defect)
    with pytest.raises(ZeroDivisionError):
        ask(FakeLibrary({1: FakeVolume()}), question("vol", portal))


# Samples


def test_sample_through_a_session(portal):
    content = b"".join(bytes([number]) * 4096 for number in range(256))
    library = FakeLibrary({1: FakeVolume(content)})
    asked = [question("vol", portal)]
    identities = {"vol": ask(library, *asked)["vol"].identity}
    answer = probe.read_samples(asked, [0, 4096, 255 * 4096, 256 * 4096], identities, load=lambda: library)["vol"]
    assert answer.sample == {
        0: None,
        4096: hashlib.sha256(b"\x01" * 4096).hexdigest(),
        255 * 4096: hashlib.sha256(b"\xff" * 4096).hexdigest(),
        256 * 4096: fingerprint.PAST_END,
    }


# Headers of images


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (b"QFI\xfb" + bytes([0, 0, 0, 3]) + (0x1000).to_bytes(8, "big"), True),
        (b"QFI\xfb" + bytes([0, 0, 0, 3]) + bytes(8), False),
        (b"QFI\xfb", None),
        (b"LUKS\xba\xbe" + bytes(100), None),
        (b"", None),
    ],
)
def test_whether_an_image_names_another_below_it(head, named):
    assert image_header.names_backing_image(head) is named


def test_header_through_a_session_and_from_a_device(portal, tmp_path):
    header = b"QFI\xfb" + bytes([0, 0, 0, 3]) + (0x1000).to_bytes(8, "big")
    library = FakeLibrary({1: FakeVolume(header.ljust(256 * 4096, b"\0"))})
    asked = [question("far", portal)]
    identities = {"far": ask(library, *asked)["far"].identity}

    def by_session(questions, known):
        return probe.read_heads(questions, known, load=lambda: library)

    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "sda").write_bytes(header[:8].ljust(4096, b"\0"))
    attached = {name: types.SimpleNamespace(multipath=None, node=node) for name, node in (("near", "sda"), ("gone", "sdb"))}
    found = image_header.read(attached, asked, identities, root=str(tmp_path), read_by_session=by_session)
    assert found == {"far": True, "near": False, "gone": None}
