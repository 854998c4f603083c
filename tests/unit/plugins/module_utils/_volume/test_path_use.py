# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who uses a device, by a tree of our own; real devices are in tests/integration/volumes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import in_use
from ansible_collections.lunshift.migration.plugins.module_utils._volume import path_use
from ansible_collections.lunshift.migration.tests.unit.fake_devices import FakeDevices


@pytest.fixture
def host(tmp_path: Path) -> FakeDevices:
    host = FakeDevices(tmp_path)
    host.put("/proc/swaps", "Filename Type Size Used Priority")
    host.put("/proc/self/mountinfo", "")
    (tmp_path / "proc/self/ns").mkdir()
    (tmp_path / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    return host


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    # Block devices cannot be made everywhere: a character device stands in for one.
    monkeypatch.setattr(in_use.stat, "S_ISBLK", lambda _mode: True)


def open_in_process(host: FakeDevices, pid: int, node: str, flags: int) -> None:
    directory = Path(host.at(f"/proc/{pid}"))
    (directory / "fd").mkdir(parents=True)
    (directory / "fd/7").symlink_to(f"/dev/{node}")
    host.put(f"/proc/{pid}/fdinfo/7", f"pos:\t0\nflags:\t{flags:o}\nmnt_id:\t5")
    host.put(f"/proc/{pid}/comm", "dd")


def test_a_disk_and_its_partitions_overlap(host: FakeDevices) -> None:
    host.add("sda", "pci0/ata1/block/sda", dev="8:0")
    host.add_partition("sda", 1)
    host.add_partition("sda", 2)
    assert path_use.overlapping(host, "sda") == ["sda", "sda1", "sda2"]
    assert path_use.overlapping(host, "sda1") == ["sda1", "sda"]


def test_a_writer_of_the_disk_writes_to_its_partition(host: FakeDevices) -> None:
    host.add("null", "virtual/block/null", dev="1:3")
    host.add_partition("null", 1, dev="1:99")
    open_in_process(host, 42, "null", os.O_RDONLY | os.O_DIRECT)
    assert path_use.users_of_device(host, "null1") == []
    open_in_process(host, 43, "null", os.O_RDWR | os.O_DIRECT)
    assert path_use.users_of_device(host, "null1") == ["null is open in process 43 (dd)"]


def test_a_writer_whose_flags_are_not_told_may_write(host: FakeDevices) -> None:
    host.add("null", "virtual/block/null", dev="1:3")
    open_in_process(host, 42, "null", os.O_RDONLY)
    Path(host.at("/proc/42/fdinfo/7")).unlink()
    assert path_use.users_of_device(host, "null") == ["null is open in process 42 (dd)"]


@pytest.mark.parametrize(
    ("name", "path", "files"),
    [
        ("sdb", "platform/host3/session1/target3:0:0/3:0:0:1/block/sdb", {}),
        ("sdb", "pci0/host2/rport-2:0-0/target2:0:0/2:0:0:1/block/sdb", {}),
        ("nbd0", "virtual/block/nbd0", {}),
        ("rbd12", "virtual/block/rbd12", {}),
        ("nvme0n1", "virtual/nvme/nvme0/nvme0n1", {"device/transport": "tcp"}),
        ("nvme0n1", "virtual/nvme-subsystem/nvme-subsys0/nvme0n1", {"device/nvme0/transport": "rdma"}),
        ("dm-0", "virtual/block/dm-0", {"slaves/sdz/dev": "8:1"}),
        ("loop0", "virtual/block/loop0", {"loop/backing_file": "/nowhere/volume"}),
    ],
)
def test_what_other_hosts_reach_may_have_users_that_are_not_seen(host: FakeDevices, name: str, path: str, files: dict[str, str]) -> None:
    host.add("sdz", "platform/host3/session1/target3:0:0/3:0:0:9/block/sdz", dev="8:1")
    host.add(name, path, dev="250:0", **files)
    host.add_partition(name, 1)
    assert path_use.users_of_device(host, name) is None
    assert path_use.users_of_device(host, f"{name}{'p' if name[-1].isdigit() else ''}1") is None


@pytest.mark.parametrize(
    ("name", "path", "files"),
    [
        ("sda", "pci0/ata1/host0/target0:0:0/0:0:0:0/block/sda", {}),
        ("vda", "pci0/virtio1/block/vda", {}),
        ("nvme0n1", "pci0/nvme/nvme0/nvme0n1", {"device/transport": "pcie"}),
        ("dm-0", "virtual/block/dm-0", {"slaves/sdz/dev": "8:1"}),
    ],
)
def test_a_local_device_has_the_users_that_are_seen(host: FakeDevices, name: str, path: str, files: dict[str, str]) -> None:
    host.add("sdz", "pci0/ata2/host1/target1:0:0/1:0:0:0/block/sdz", dev="8:1")
    host.add(name, path, dev="250:0", **files)
    assert path_use.users_of_device(host, name) == []


def test_in_a_container_not_all_users_are_seen(host: FakeDevices) -> None:
    host.add("sda", "pci0/ata1/block/sda", dev="8:0")
    namespace = Path(host.at("/proc/self/ns/pid"))
    namespace.unlink()
    assert path_use.users_of_device(host, "sda") is None
    namespace.symlink_to("pid:[4026532999]")
    assert path_use.users_of_device(host, "sda") is None


def test_without_root_not_all_users_are_seen(host: FakeDevices, monkeypatch: pytest.MonkeyPatch) -> None:
    host.add("sda", "pci0/ata1/block/sda", dev="8:0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert path_use.users_of_device(host, "sda") is None


@pytest.mark.parametrize(
    ("discard", "zeroes", "can"), [("4096", "4096", True), ("0", "4096", False), ("4096", "0", False), ("", "", False)]
)
def test_a_device_says_whether_it_gives_space_back(host: FakeDevices, discard: str, zeroes: str, can: bool) -> None:
    host.add("sda", "pci0/block/sda", **{"queue/discard_max_bytes": discard, "queue/write_zeroes_max_bytes": zeroes})
    host.add_partition("sda", 1)
    assert path_use.can_unmap(host, "sda") is path_use.can_unmap(host, "sda1") is can
