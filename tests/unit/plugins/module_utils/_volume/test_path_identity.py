# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import fcntl
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._volume import path_identity
from ansible_collections.lunshift.migration.plugins.module_utils._volume.mounts import Mount
from ansible_collections.lunshift.migration.plugins.module_utils._volume.path_identity import of_device, of_file
from ansible_collections.lunshift.migration.tests.unit.fake_devices import BOOT_ID, FakeDevices

WWID = "naa.60000000000000000000000000000a01"
DEFAULT_WWID = "naa.60000000000000000e00000000010001"


@pytest.fixture
def host(tmp_path: Path) -> FakeDevices:
    return FakeDevices(tmp_path)


def test_a_scsi_disk_has_the_name_that_all_its_paths_and_their_map_have(host: FakeDevices) -> None:
    host.add("sda", "host1/block/sda", **{"device/wwid": WWID})
    host.add("sdb", "host2/block/sdb", **{"device/wwid": WWID})
    host.add("dm-0", "virtual/block/dm-0", **{"dm/uuid": f"mpath-3{WWID[4:]}"})
    assert of_device(host, "sda") == of_device(host, "sdb") == of_device(host, "dm-0") == f"wwid:3{WWID[4:]}"


def test_a_partition_is_not_its_disk(host: FakeDevices) -> None:
    host.add("sda", "host1/block/sda", **{"device/wwid": WWID})
    host.add_partition("sda", 1)
    host.add_partition("sda", 12)
    host.add("dm-1", "virtual/block/dm-1", **{"dm/uuid": f"part12-mpath-3{WWID[4:]}"})
    assert of_device(host, "sda1") == f"{of_device(host, 'sda')}-part1"
    assert of_device(host, "sda12") == of_device(host, "dm-1") == f"{of_device(host, 'sda')}-part12"


def test_ids_that_others_have_too_are_none(host: FakeDevices) -> None:
    device = {"device/wwid": DEFAULT_WWID, "device/vendor": "IET     ", "device/model": "VIRTUAL-DISK    "}
    host.add("sda", "host1/block/sda", diskseq="4", **device)
    assert of_device(host, "sda") == "boot:boot-1:sda:4"
    host.add("sdb", "host2/block/sdb", diskseq="5", **device)
    page = Path(host.at("/sys/class/block/sdb/device/vpd_pg80"))
    page.write_bytes(b"\0\x80\0\x06SN0007")
    assert of_device(host, "sdb") == "serial:IET:VIRTUAL-DISK:SN0007"


@pytest.mark.parametrize(
    ("name", "files", "identity"),
    [
        ("dm-3", {"dm/uuid": "LVM-abcdef", "dm/name": "vg-lv"}, "dm:LVM-abcdef"),
        ("md0", {"md/uuid": "aa:bb"}, "md:aa:bb"),
        ("nvme0n1", {"wwid": "eui.0025385b71b00f4e"}, "wwid:20025385b71b00f4e"),
        ("nvme0n1", {"wwid": "uuid.3f1c"}, "wwid:uuid.3f1c"),
        ("vda", {"serial": "3e1b2f4c-0d1a-4c1e-8"}, "serial:virtio:3e1b2f4c-0d1a-4c1e-8"),
    ],
)
def test_other_devices_have_names_of_their_own_kind(host: FakeDevices, name: str, files: dict[str, str], identity: str) -> None:
    host.add(name, f"virtual/block/{name}", **files)
    assert of_device(host, name) == identity


@pytest.mark.parametrize("files", [{"dm/uuid": "", "dm/name": "mine"}, {"dm/uuid": "part1-devnode_7:0_Wh5pYvM"}, {"serial": ""}, {}])
def test_what_has_no_name_is_bound_to_this_run_of_the_host(host: FakeDevices, files: dict[str, str]) -> None:
    host.add("vdb", "virtual/block/vdb", diskseq="9", **files)
    first = of_device(host, "vdb")
    assert first == of_device(host, "vdb") == "boot:boot-1:vdb:9"
    host.put("/sys/class/block/vdb/diskseq", "10")
    another_disk = of_device(host, "vdb")
    host.put(BOOT_ID, "boot-2")
    assert len({first, another_disk, of_device(host, "vdb")}) == 3


def test_an_old_kernel_tells_another_disk_from_this_one_too(host: FakeDevices) -> None:
    host.add("vdb", "virtual/block/vdb")
    first = of_device(host, "vdb")
    directory = Path(host.at("/sys/devices/virtual/block/vdb"))
    directory.rename(directory.with_name("gone"))
    directory.mkdir()
    assert of_device(host, "vdb") != first


def loop(host: FakeDevices, monkeypatch: pytest.MonkeyPatch, path: Path, **told: int) -> str:
    status = path.stat()
    backing = {"file_system": status.st_dev, "inode": status.st_ino, "device": 0, "offset": 0, "size_limit": 0, **told}
    monkeypatch.setattr(path_identity, "_loop_backing", lambda _host, _device: path_identity._Backing(**backing))
    if not host.exists("/sys/class/block/loop0"):
        host.add("loop0", "virtual/block/loop0", diskseq="3", **{"loop/backing_file": str(path)})
    return of_device(host, "loop0")


def identity_of(host: FakeDevices, path: Path) -> str:
    with path.open("rb") as stream:
        return of_file(host, stream.fileno())


def test_a_loop_device_is_the_file_behind_it(host: FakeDevices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "volume"
    path.write_bytes(b"1")
    assert loop(host, monkeypatch, path) == identity_of(host, path)
    assert loop(host, monkeypatch, path, offset=512) == f"{identity_of(host, path)}+512+0"
    assert loop(host, monkeypatch, path, size_limit=512) == f"{identity_of(host, path)}+0+512"
    # The path leads to another file here than where the loop device was made.
    assert loop(host, monkeypatch, path, inode=1) == "boot:boot-1:loop0:3"
    path.unlink()
    path.mkdir()
    assert loop(host, monkeypatch, path, inode=1) == "boot:boot-1:loop0:3"


def test_a_file_made_anew_is_another_volume(host: FakeDevices, tmp_path: Path) -> None:
    path = tmp_path / "volume"
    seen = set()
    for number in range(5):
        # Its number is often that of the one before.
        path.write_bytes(b"%d" % number)
        seen.add(identity_of(host, path))
        path.write_bytes(b"other content")
        seen.add(identity_of(host, path))
        path.unlink()
    assert len(seen) == 5


def no_uuid(*_arguments: t.Any) -> bytes:
    raise OSError(errno.ENOTTY, "")


def test_a_files_system_is_named_by_its_device(host: FakeDevices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_identity, "_handle", lambda _descriptor: "1:0a")
    monkeypatch.setattr(path_identity, "mount_of", lambda _host, _path: Mount("ext4", "/dev/sda1"))
    monkeypatch.setattr(fcntl, "ioctl", no_uuid)
    path = tmp_path / "volume"
    path.touch()
    number = path.stat().st_dev
    assert identity_of(host, path) == f"boot:boot-1:file:{number}:1:0a"
    host.add("dm-5", "virtual/block/dm-5", dev=f"{os.major(number)}:{os.minor(number)}", **{"dm/uuid": "LVM-root"})
    assert identity_of(host, path) == "file:dm:LVM-root:1:0a"


def test_a_device_without_a_name_does_not_name_a_file_system(host: FakeDevices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_identity, "_handle", lambda _descriptor: "1:0a")
    path = tmp_path / "volume"
    path.touch()
    number = path.stat().st_dev
    host.add("vdb", "virtual/block/vdb", dev=f"{os.major(number)}:{os.minor(number)}", diskseq="2")
    monkeypatch.setattr(fcntl, "ioctl", lambda *_arguments: b"\x10" + bytes(range(16)))
    assert identity_of(host, path) == "file:uuid:000102030405060708090a0b0c0d0e0f:1:0a"
    monkeypatch.setattr(fcntl, "ioctl", no_uuid)
    monkeypatch.setattr(path_identity, "mount_of", lambda _host, _path: Mount("nfs4", "server:/export"))
    assert identity_of(host, path) == "file:nfs4:server:/export:1:0a"
    monkeypatch.setattr(path_identity, "mount_of", lambda _host, _path: Mount("fuse.sshfs", "server:/export"))
    assert identity_of(host, path) == f"boot:boot-1:file:{number}:1:0a"


def test_a_file_system_without_handles_has_numbers(host: FakeDevices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_identity, "_handle", lambda _descriptor: None)
    path = tmp_path / "volume"
    path.touch()
    assert identity_of(host, path).endswith(f":inode:{path.stat().st_ino}")
