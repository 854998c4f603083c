# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import parse, redact
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError, MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.volumes import Call
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import VolumeError, VolumeHandle, VolumeIOError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.iscsi_kernel import open_kernel
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How
from ansible_collections.lunshift.migration.tests.unit.fake_host import IQN, PORTAL, Bench, connection_info, identity, volume
from ansible_collections.lunshift.migration.tests.unit.fake_volume import MemoryBackend

SERIAL = f"{IQN}-lun-1"


class Device(MemoryBackend):
    """The block device of a fake host's disk."""

    def __init__(self, bench: Bench, path: str, how: How, **facts: t.Any) -> None:
        super().__init__(bytes(1 << 20), **facts)
        self._host, self._disk = bench.host, os.path.basename(bench.host.resolve(path))
        assert bench.host.exists(path)
        assert self._disk not in bench.host.busy, f"{path} is in use"
        bench.host.busy.add(self._disk)

    def close(self) -> None:
        super().close()
        self._host.busy.discard(self._disk)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    bench = Bench(tmp_path)
    bench.host.add_target((1, identity(1)), (2, identity(2)))
    return bench


def opened(bench: Bench, lun: int = 1, operation_id: str | None = "op1", device: t.Any = Device, **info: t.Any) -> VolumeHandle:
    raw = connection_info(lun, **info)
    how = How(writable=True, operation_id=operation_id, timeout_s=10)

    def make_call(**kwargs: t.Any) -> Call:
        assert (kwargs["check_mode"], kwargs["timeout_s"]) == (False, 10)
        return bench.call(operation_id=kwargs["operation_id"])

    def open_device(path: str, how: How, **facts: t.Any) -> Device:
        return t.cast(Device, device(bench, path, how, **facts))

    return VolumeHandle(open_kernel(parse("v", raw), redact(raw), how, make_call=make_call, open_device=open_device), writable=True)


def records(bench: Bench) -> list[Path]:
    directory = bench.root / "records"
    return sorted(directory.iterdir()) if directory.exists() else []


def test_what_opening_makes_closing_undoes(bench: Bench) -> None:
    handle = opened(bench)
    assert bench.host.disks() == ["sda"]
    assert len(records(bench)) == 1
    assert handle.name == f"LUN 1 of {IQN} at portal {PORTAL}"
    assert handle.facts.identity == f"wwid:36{1:031x}"
    handle.write(b"content")
    handle.zero(512, 512)
    handle.seek(0)
    assert handle.read(7) == b"content"
    assert [extent.kind for extent in handle.extents()] == ["unknown"]
    assert handle.users() is None
    handle.drop_caches()
    handle.close()
    assert bench.host.clean()
    assert records(bench) == []


def test_a_volume_that_was_attached_stays(bench: Bench) -> None:
    bench.attach(volume("vol1", 1), operation_id="other")
    handle = opened(bench)
    handle.close()
    assert bench.host.disks() == ["sda"]
    assert [path.name for path in records(bench)] == ["other.json"]


def test_both_sides_share_a_session(bench: Bench) -> None:
    for first in (0, 1):
        handles = [opened(bench, 1), opened(bench, 2)]
        assert (bench.host.disks(), len(bench.host.sessions()), len(records(bench))) == (["sda", "sdb"], 1, 1)
        handles[first].close()
        assert (len(bench.host.disks()), len(bench.host.sessions()), len(bench.host.records())) == (1, 1, 1)
        handles[1 - first].close()
        assert bench.host.clean()
        assert records(bench) == []


def test_sides_on_two_targets(bench: Bench) -> None:
    bench.host.add_target((1, identity(3)), portal="192.0.2.20:3260", iqn="iqn.2026-11.example:other")
    one, other = opened(bench, 1), opened(bench, 1, portal="192.0.2.20:3260", iqn="iqn.2026-11.example:other")
    one.close()
    assert (len(bench.host.disks()), len(bench.host.sessions()), len(bench.host.records())) == (1, 1, 1)
    assert IQN not in records(bench)[0].read_text()
    other.close()
    assert bench.host.clean()
    assert records(bench) == []


def test_a_session_that_others_use_by_now_stays(bench: Bench) -> None:
    handle = opened(bench)
    bench.attach(volume("vol2", 2), operation_id="other")
    handle.close()
    assert (bench.host.disks(), len(bench.host.sessions())) == (["sdb"], 1)
    # Who makes nothing more has nothing to undo.
    assert [path.name for path in records(bench)] == ["other.json"]


def test_without_an_operation(bench: Bench) -> None:
    one, other = opened(bench, 1, None), opened(bench, 2, None)
    one.close()
    other.close()
    assert bench.host.clean()
    assert records(bench) == []


def test_a_device_that_cannot_be_opened(bench: Bench) -> None:
    def refuse(*_arguments: t.Any, **_facts: t.Any) -> t.Any:
        raise VolumeError("it is in use", error_id="volume_in_use")

    with pytest.raises(VolumeError, match="it is in use"):
        opened(bench, device=refuse)
    assert bench.host.clean()
    assert records(bench) == []


def test_a_device_that_is_open_already(bench: Bench) -> None:
    def refuse(*_arguments: t.Any, **_facts: t.Any) -> t.Any:
        raise VolumeError("it is in use", error_id="volume_in_use")

    handle = opened(bench)
    # Not that it cannot be detached, which nobody wants.
    with pytest.raises(VolumeError, match="it is in use"):
        opened(bench, device=refuse)
    assert bench.host.disks() == ["sda"]
    handle.close()
    assert bench.host.clean()


def test_a_volume_that_is_not_there(bench: Bench) -> None:
    with pytest.raises(MigrationError, match=f"volume {IQN}-lun-7: not ready"):
        opened(bench, 7)
    assert bench.host.clean()
    assert records(bench) == []


def killed(bench: Bench) -> VolumeHandle:
    """A handle that nobody closes, for its process is gone."""
    handle = opened(bench)
    bench.host.busy.clear()
    return handle


def test_the_next_run_of_an_operation_ends_what_a_killed_one_left(bench: Bench) -> None:
    left = killed(bench)
    opened(bench).close()
    assert bench.host.clean()
    assert records(bench) == []
    left.close()


def test_the_sweep_of_a_killed_run(bench: Bench) -> None:
    left = killed(bench)
    assert bench.restore().actions
    assert bench.host.clean()
    assert records(bench) == []
    left.close()


def test_the_device_is_detached_when_closing_it_fails(bench: Bench) -> None:
    class Failing(Device):
        def close(self) -> None:
            super().close()
            raise OSError("it went away")

        def flush(self) -> None:
            raise VolumeIOError("flush", "it", 0, 1, "no space")

    handle = opened(bench, device=Failing)
    with pytest.raises(OSError, match="it went away"):
        handle.close()
    assert bench.host.clean()


def test_a_volume_that_somebody_took_meanwhile_stays(bench: Bench) -> None:
    class Taken(Device):
        def close(self) -> None:
            self.closed += 1

    handle = opened(bench, device=Taken)
    bench.host.mount("sda", "/srv")
    with pytest.raises(InputError, match=f"volume {SERIAL} is in use"):
        handle.close()
    assert bench.host.disks() == ["sda"]
    assert len(records(bench)) == 1


def test_only_root_attaches(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(VolumeError, match="initiator: libiscsi") as error:
        opened(bench)
    assert error.value.error_id == "not_root"


def test_no_secret_is_written(bench: Bench) -> None:
    bench.host.add_target((1, identity(1)), password="a-secret-of-12")
    handle = opened(bench, password="a-secret-of-12")
    assert "a-secret-of-12" not in records(bench)[0].read_text()
    handle.close()
