# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""RBD images with libraries that only say what was asked of them; real clusters are in tests/integration/volumes."""

from __future__ import annotations

import base64
import ctypes
import errno
import struct
import types
import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._volume import ceph_calls, librados, librbd, rbd, rbd_cluster
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import aligned_buffer
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import DATA, ZERO, Extent, VolumeError, VolumeIOError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How
from ansible_collections.lunshift.migration.plugins.module_utils._volume.rbd_connection import parse

KEY = base64.b64encode(struct.pack("<HIIH", 1, 1700000000, 0, 16) + b"0123456789abcdef").decode()
OBJECT = 4 << 20
SIZE = 10 * OBJECT + 512
OUR_ID, OTHER_ID = 4100, 4200
FSID = "01234567-89ab-cdef-0123-456789abcdef"
Handler = t.Callable[..., t.Any]


class Fake:
    """Both libraries. ``answers`` are results by function; a negative one is an error, a function is called."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.settings: dict[str, str] = {}
        self.answers: dict[str, t.Any] = {
            "rados_get_instance_id": OUR_ID,
            "rados_ioctx_get_id": 7,
            "rados_cluster_fsid": self._text(FSID),
            "rados_conf_set": self._set,
            "rados_conf_get": self._get,
            "rados_pool_list": self._pools,
            "rbd_get_id": self._text("abc1"),
            "rbd_stat": self._stat,
            "rbd_get_features": self._number(librbd.FEATURE_EXCLUSIVE_LOCK | librbd.FEATURE_FAST_DIFF),
            "rbd_get_stripe_count": self._number(1),
            "rbd_watchers_list": self._watchers,
            "rbd_list_lockers": self._lockers,
            "rbd_mirror_image_get_info": self._mirror,
            "rbd_read": lambda _image, _offset, length, _address: length,
            "rbd_write": lambda _image, _offset, length, _address: length,
        }
        self.watchers = [(OUR_ID, "10.0.0.1:0/1")]
        self.lockers: list[tuple[int, str, str]] = []
        self.mirror_state = 2

    def __getattr__(self, name: str) -> t.Any:
        if name == "rbd_write_zeroes" and self.answers.get(name, 0) is None:
            return None

        def call(*arguments: t.Any) -> t.Any:
            self.calls.append(name)
            answer = self.answers.get(name, 0)
            return answer(*arguments) if callable(answer) else answer

        return call

    def done(self, *names: str) -> list[str]:
        return [name for name in self.calls if name in names]

    def _text(self, text: str) -> Handler:
        def answer(_pointer: t.Any, buffer: t.Any, _length: int) -> int:
            buffer.value = text.encode()
            return 0

        return answer

    @staticmethod
    def _number(value: int) -> Handler:
        def answer(_pointer: t.Any, number: t.Any) -> int:
            number._obj.value = value
            return 0

        return answer

    def _set(self, _pointer: t.Any, name: bytes, value: bytes) -> int:
        self.settings[name.decode()] = value.decode()
        return 0

    def _get(self, _pointer: t.Any, name: bytes, buffer: t.Any, _length: int) -> int:
        buffer.value = self.settings.get(name.decode(), "").encode()
        return 0

    @staticmethod
    def _pools(_pointer: t.Any, buffer: t.Any, _length: int) -> int:
        names = b"rbd\0volumes\0\0"
        if buffer is not None:
            buffer[: len(names)] = names
        return len(names)

    @staticmethod
    def _stat(_image: t.Any, info: t.Any, _length: int) -> int:
        info._obj.size, info._obj.obj_size = SIZE, OBJECT
        return 0

    def _watchers(self, _image: t.Any, array: t.Any, size: t.Any) -> int:
        room, size._obj.value = size._obj.value, len(self.watchers)
        if room < len(self.watchers):
            return -errno.ERANGE
        for index, (number, address) in enumerate(self.watchers):
            array[index].id, array[index].addr = number, address.encode()
        return 0

    def _lockers(self, _image: t.Any, _exclusive: t.Any, *pairs: t.Any) -> int:
        columns = [b"tag\0"] + [
            b"".join(str(part).encode() + b"\0" for part in column)
            for column in zip(*((f"client.{number}", cookie, address) for number, cookie, address in self.lockers))
        ]
        for (buffer, _size), column in zip(zip(pairs[::2], pairs[1::2]), columns):
            buffer[: len(column)] = column
        return len(self.lockers)

    def _mirror(self, _image: t.Any, info: t.Any, _length: int) -> int:
        info._obj.state = self.mirror_state
        return 0


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setattr(librados, "library", lambda: made)
    monkeypatch.setattr(librbd, "library", lambda: made)
    monkeypatch.setattr(rbd.time, "sleep", lambda _seconds: None)
    return made


def opened(*, writable: bool = True, name: str = "volumes/img", ceph: t.Any = None, **data: t.Any) -> t.Any:
    given = {"name": name, "hosts": ["192.0.2.1"], "ports": ["6789"], "auth_username": "lab", "keyring": f"[client.lab]\nkey = {KEY}\n"}
    return rbd.RBD.open(parse("", {"data": {**given, **data}, "ceph": ceph}), How(writable=writable, timeout_s=7))


def refused(words: str, error_id: str, **given: t.Any) -> VolumeError:
    with pytest.raises(VolumeError, match=words) as caught:
        opened(**given)
    assert caught.value.error_id == error_id
    assert KEY not in f"{caught.value!r} {caught.value.details!r}"
    return caught.value


CLOSING = ("rbd_lock_release", "rbd_close", "rados_ioctx_destroy", "rados_shutdown")


def test_what_was_opened_is_closed_in_the_opposite_order(fake: Fake) -> None:
    backend = opened()
    assert fake.done("rbd_open", "rbd_open_read_only", "rbd_lock_acquire") == ["rbd_open", "rbd_lock_acquire"]
    assert fake.done(*CLOSING) == []
    backend.close()
    assert fake.done(*CLOSING) == list(CLOSING)


def test_a_source_is_opened_read_only_and_takes_no_lock(fake: Fake) -> None:
    opened(writable=False).close()
    assert fake.done("rbd_open", "rbd_open_read_only", "rbd_lock_acquire", *CLOSING) == ["rbd_open_read_only", *CLOSING[1:]]


def test_what_fails_while_closing_does_not_keep_the_rest_open(fake: Fake) -> None:
    backend = opened()
    fake.answers.update(rbd_lock_release=-errno.EIO, rbd_close=-errno.EIO)
    with pytest.raises(VolumeError, match=r"not closed properly: the lock: .*; the image: "):
        backend.close()
    assert fake.done(*CLOSING) == list(CLOSING)


@pytest.mark.parametrize(
    ("function", "closed"),
    [
        ("rados_connect", ["rados_shutdown"]),
        ("rados_ioctx_create", ["rados_shutdown"]),
        ("rbd_open", ["rados_ioctx_destroy", "rados_shutdown"]),
        ("rbd_stat", ["rbd_close", "rados_ioctx_destroy", "rados_shutdown"]),
        ("rbd_watchers_list", ["rbd_close", "rados_ioctx_destroy", "rados_shutdown"]),
        ("rbd_lock_acquire", ["rbd_close", "rados_ioctx_destroy", "rados_shutdown"]),
    ],
)
@pytest.mark.parametrize("how", ["error", "interruption"])
def test_whatever_fails_while_opening_nothing_stays_open(fake: Fake, function: str, closed: list[str], how: str) -> None:
    def interrupted(*_arguments: t.Any) -> t.Any:
        raise KeyboardInterrupt

    fake.answers[function] = -errno.EIO if how == "error" else interrupted
    with pytest.raises(VolumeError if how == "error" else KeyboardInterrupt):
        opened()
    assert fake.done(*CLOSING) == closed


def test_the_key_is_a_setting_in_memory_and_time_is_bounded(fake: Fake) -> None:
    seen: dict[str, str] = {}
    fake.answers["rados_connect"] = lambda _pointer: seen.update(fake.settings) or 0
    opened()
    assert (seen["key"], seen["keyring"], seen["mon_host"]) == (KEY, "", "192.0.2.1:6789")
    assert {seen[name] for name in ("client_mount_timeout", "rados_mon_op_timeout", "rados_osd_op_timeout")} == {"7"}
    assert (seen["rbd_cache"], seen["admin_socket"], seen["log_file"]) == ("false", "", "")
    assert fake.settings["rados_osd_op_timeout"] == str(rbd.OP_TIMEOUT_S)


@pytest.mark.parametrize(
    ("code", "words", "error_id"),
    [
        (errno.EACCES, "authentication failed: .*192.0.2.1:6789.* client.lab by the keyring given", "ceph_authentication"),
        (errno.EOPNOTSUPP, "authentication failed: there is no key of client.lab", "ceph_authentication"),
        (errno.ETIMEDOUT, "none of its monitors answers within 7 s: 192.0.2.1:6789", "ceph_unreachable"),
        (errno.EIO, "connecting to 192.0.2.1:6789 failed", "ceph_unreachable"),
    ],
)
def test_why_there_is_no_connection(fake: Fake, monkeypatch: pytest.MonkeyPatch, code: int, words: str, error_id: str) -> None:
    monkeypatch.setattr(rbd_cluster, "_answers", lambda _monitor: False)
    fake.answers["rados_connect"] = -code
    refused(words, error_id)


def test_a_monitor_that_answers_is_not_called_silent(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbd_cluster, "_answers", lambda _monitor: True)
    fake.answers["rados_connect"] = -errno.ETIMEDOUT
    refused("192.0.2.1:6789 answers, but did not let client.lab in within 7 s", "ceph_unreachable")


def test_files_that_cannot_be_read_are_all_named(fake: Fake) -> None:
    refused(
        "conf_path /nowhere/a cannot be read: .*; ceph.keyring_path /nowhere/b cannot be read",
        "volume_unusable",
        ceph={"conf_path": "/nowhere/a", "keyring_path": "/nowhere/b"},
        keyring=None,
    )
    assert fake.calls == []


def test_a_missing_pool_is_named_with_those_that_are_there(fake: Fake) -> None:
    fake.answers["rados_ioctx_create"] = -errno.ENOENT
    refused("there is no pool volumes; there are: rbd, volumes", "volume_not_found")


def test_a_snapshot_is_no_target(fake: Fake) -> None:
    refused("a snapshot cannot be written", "volume_unusable", name="volumes/img@s")
    assert fake.calls == []


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (librbd.FEATURE_JOURNALING, "it is journaled"),
        (librbd.FEATURE_MIGRATING, "being migrated"),
        (librbd.FEATURE_NON_PRIMARY, "not the primary one"),
        (librbd.FEATURE_DIRTY_CACHE | librbd.FEATURE_JOURNALING, "journaled.* and a write-back cache"),
    ],
)
def test_images_that_are_no_targets(fake: Fake, features: int, words: str) -> None:
    fake.answers["rbd_get_features"] = Fake._number(features)
    refused(words, "volume_unusable")


def test_a_mirrored_image_is_no_target_but_a_source(fake: Fake) -> None:
    fake.mirror_state = 1
    refused("it is mirrored", "volume_unusable")
    opened(writable=False)


def test_a_source_whose_data_are_elsewhere_is_refused(fake: Fake) -> None:
    fake.answers["rbd_get_features"] = Fake._number(librbd.FEATURE_DIRTY_CACHE)
    refused("write-back cache of another host", "volume_unusable", writable=False)


def test_a_target_in_use_is_refused_with_all_its_users(fake: Fake) -> None:
    fake.watchers += [(number, f"10.0.0.2:0/{number}") for number in range(OTHER_ID, OTHER_ID + 40)]
    error = refused(r"in use: client.4200 at 10.0.0.2:0/4200 has it open; .*end that use first", "volume_in_use")
    assert len(error.details["users"]) == 40
    assert fake.done("rbd_lock_acquire") == []
    backend = opened(writable=False)
    assert len(backend.users()) == 40


def test_who_lives_is_not_waited_for_and_who_was_killed_is(fake: Fake) -> None:
    fake.watchers.append((OTHER_ID, "10.0.0.2:0/1"))
    looks = iter(range(100))

    def gone_after_a_while(*arguments: t.Any) -> int:
        if next(looks) == 5:
            fake.watchers.pop()
        return Fake._watchers(fake, *arguments)

    fake.answers["rados_notify2"] = -errno.ETIMEDOUT
    fake.answers["rbd_watchers_list"] = gone_after_a_while
    opened().close()


def test_somebody_who_comes_between_look_and_lock_is_seen(fake: Fake) -> None:
    fake.answers["rbd_lock_acquire"] = lambda *_arguments: fake.watchers.append((OTHER_ID, "10.0.0.2:0/1")) or 0
    refused("in use: client.4200", "volume_in_use")
    assert fake.done(*CLOSING) == list(CLOSING)


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EAGAIN, errno.EROFS])
def test_a_lock_that_cannot_be_had_is_not_broken(fake: Fake, code: int) -> None:
    fake.answers["rbd_lock_acquire"] = -code
    refused("its lock cannot be had", "volume_in_use")


def test_who_may_not_take_a_dead_clients_lock_over_is_told_what_it_needs(fake: Fake) -> None:
    fake.answers["rbd_lock_acquire"] = -errno.EACCES
    refused(r"this client may not shut that one out; it needs the capability mon 'profile rbd'", "volume_unusable")


def test_locks_of_operators_count_and_those_of_clients_that_are_gone_do_not(fake: Fake) -> None:
    fake.lockers = [(OTHER_ID, "auto 9466", "10.0.0.2:0/1")]
    opened().close()
    fake.lockers = [(OTHER_ID, "maintenance", "10.0.0.2:0/1")]
    refused("client.4200 at 10.0.0.2:0/1 holds its lock 'maintenance'", "volume_in_use")


def test_facts(fake: Fake) -> None:
    facts = opened(writable=False, name="volumes/ns/img").facts
    assert facts.identity == f"rbd:{FSID}:7:ns/abc1" and facts.name == "rbd volumes/ns/img (cluster 01234567)"
    assert (facts.size_bytes, facts.request_bytes, facts.immutable, facts.can_unmap) == (SIZE, OBJECT, False, True)


def test_a_snapshot_has_an_identity_of_its_own_or_is_not_opened(fake: Fake) -> None:
    def snapshots(_image: t.Any, array: t.Any, _size: t.Any) -> int:
        for index, name in enumerate(("other", "here")):
            array[index].id, array[index].name = 10 + index, name.encode()
        return 2

    fake.answers["rbd_snap_list"] = snapshots
    facts = opened(writable=False, name="volumes/img@here").facts
    assert facts.identity.endswith(":abc1@11") and facts.immutable and facts.name == "rbd volumes/img@here (cluster 01234567)"
    refused("its snapshot was removed", "volume_not_found", writable=False, name="volumes/img@gone")


@pytest.mark.parametrize("action", ["read", "write"])
def test_all_bytes_or_an_error(fake: Fake, action: str) -> None:
    backend = opened()
    move = backend.read_into if action == "read" else backend.write_from
    move(aligned_buffer(4096), 512)
    fake.answers[f"rbd_{action}"] = 100
    with pytest.raises(VolumeIOError, match=f"cannot {action} 4096 bytes at offset 512 of rbd volumes/img .*only 100 bytes"):
        move(aligned_buffer(4096), 512)
    fake.answers[f"rbd_{action}"] = -errno.EIO
    with pytest.raises(VolumeIOError, match="Input/output error"):
        move(aligned_buffer(4096), 512)


def test_after_a_silence_closing_is_short(fake: Fake) -> None:
    backend = opened()
    fake.answers["rbd_flush"] = -errno.ETIMEDOUT
    with pytest.raises(VolumeIOError, match="an OSD is down"):
        backend.flush()
    assert int(fake.settings["rados_osd_op_timeout"]) == rbd.OP_TIMEOUT_S
    backend.close()
    assert int(fake.settings["rados_osd_op_timeout"]) < rbd.OP_TIMEOUT_S


def test_zeroing_goes_in_pieces_that_begin_at_objects(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbd, "_ZERO_BYTES", 2 * OBJECT)
    pieces: list[tuple[int, int, int, int]] = []
    fake.answers["rbd_write_zeroes"] = lambda _image, *piece: pieces.append(piece) or 0
    opened().zero(OBJECT + 512, 4 * OBJECT)
    assert pieces == [
        (OBJECT + 512, OBJECT - 512, 0, 0),
        (2 * OBJECT, 2 * OBJECT, 0, 0),
        (4 * OBJECT, OBJECT + 512, 0, 0),
    ]


def test_without_write_zeroes_zeros_are_written(fake: Fake) -> None:
    fake.answers["rbd_write_zeroes"] = None
    written: list[tuple[int, bytes]] = []

    def note(_image: t.Any, offset: int, length: int, address: int) -> int:
        written.append((offset, ctypes.string_at(address, length)))
        return length

    fake.answers["rbd_write"] = note
    backend = opened()
    assert not backend.facts.can_unmap
    backend.zero(OBJECT - 512, OBJECT + 1024)
    assert [(offset, len(content), any(content)) for offset, content in written] == [
        (OBJECT - 512, 512, False),
        (OBJECT, OBJECT, False),
        (2 * OBJECT, 512, False),
    ]


# --- extents ---


@pytest.mark.parametrize(
    ("found", "has_parent", "expected"),
    [
        ([], False, [(0, 100, ZERO)]),
        ([(10, 10, True)], False, [(0, 10, ZERO), (10, 10, DATA), (20, 80, ZERO)]),
        ([(90, 20, True), (0, 10, True)], False, [(0, 10, DATA), (10, 80, ZERO), (90, 10, DATA)]),
        ([(0, 20, True), (10, 20, True)], False, [(0, 20, DATA), (20, 10, DATA), (30, 70, ZERO)]),
        ([(40, 10, False)], False, [(0, 100, ZERO)]),
        ([(40, 10, False)], True, [(0, 40, ZERO), (40, 10, DATA), (50, 50, ZERO)]),
        ([(0, 300, True)], False, [(0, 100, DATA)]),
    ],
)
def test_what_is_not_told_to_exist_is_zero(found: t.Any, has_parent: bool, expected: t.Any) -> None:
    assert list(rbd._told(found, 0, 100, has_parent=has_parent)) == [Extent(*extent) for extent in expected]


def told_by(fake: Fake, *objects: int) -> list[tuple[int, int, int, int]]:
    """These objects exist; gives what was asked: offset, length, whether with parents, whether by whole objects."""
    asked: list[tuple[int, int, int, int]] = []

    def iterate(_image: t.Any, _from: None, offset: int, length: int, parents: int, whole: int, callback: t.Any, _argument: t.Any) -> int:
        asked.append((offset, length, parents, whole))
        for number in objects:
            if offset <= number * OBJECT < offset + length and callback(number * OBJECT, OBJECT, 1, None):
                return -errno.ECANCELED
        return 0

    fake.answers["rbd_diff_iterate2"] = iterate
    return asked


def test_extents_are_asked_for_from_an_object_on_and_not_all_at_once(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rbd, "_EXTENT_OBJECTS", 4)
    asked = told_by(fake, 2, 9)
    found = list(opened().extents(OBJECT + 512, SIZE - OBJECT - 512))
    assert asked == [(OBJECT, 4 * OBJECT, 1, 1), (5 * OBJECT, 4 * OBJECT, 1, 1), (9 * OBJECT, OBJECT + 512, 1, 1)]
    assert [extent for extent in found if extent.kind == DATA] == [Extent(2 * OBJECT, OBJECT, DATA), Extent(9 * OBJECT, OBJECT, DATA)]


@pytest.mark.parametrize(
    ("features", "flags", "whole"),
    [(librbd.FEATURE_FAST_DIFF, 0, 1), (librbd.FEATURE_FAST_DIFF, librbd.FLAG_FAST_DIFF_INVALID, 0), (0, 0, 0)],
)
def test_a_map_that_is_not_valid_is_not_asked(fake: Fake, features: int, flags: int, whole: int) -> None:
    fake.answers.update(rbd_get_features=Fake._number(features), rbd_get_flags=Fake._number(flags))
    asked = told_by(fake)
    list(opened().extents(0, OBJECT))
    assert asked == [(0, OBJECT, 1, whole)]


def test_what_is_raised_in_the_callback_is_not_lost(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    told_by(fake, 0, 1)

    def interrupted(_value: t.Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(librbd, "bool", interrupted, raising=False)
    image = librbd.Image(fake, librados.Pool(fake, ctypes.c_void_p()), "img", None, writable=False)
    with pytest.raises(KeyboardInterrupt):
        image.differences_to_nothing(0, SIZE, whole_objects=True)


# --- the libraries ---


def test_a_library_that_is_missing_is_named_with_its_package() -> None:
    with pytest.raises(MigrationError, match=r"libnothere.so.9 cannot be used here.*install librbd1") as caught:
        ceph_calls.load("libnothere.so.9", {})
    assert caught.value.error_id == "librbd_missing"


def test_a_library_may_lack_what_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: types.SimpleNamespace(there=types.SimpleNamespace()))
    functions: ceph_calls.Functions = {"there": (None, ()), "absent": (None, ())}
    assert ceph_calls.load("x", functions, optional=("absent",)).absent is None
    with pytest.raises(MigrationError, match="absent"):
        ceph_calls.load("x", functions)


def test_lists_of_strings() -> None:
    assert ceph_calls.strings(b"a\0bc\0\0garbage\0") == ["a", "bc"]
    assert ceph_calls.strings(b"a\0bc\0") == ["a", "bc"] and ceph_calls.strings(b"\0\0") == []
