# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._command import CommandResult
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError, MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.in_use import users_of, with_partitions
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.multipath import Map, remove_map
from ansible_collections.lunshift.migration.tests.unit.fake_host import IQN, PORTAL, Bench, Killed, identity, volume


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.host.add_target((1, identity(1)), (2, identity(2)), (3, identity(3)))
    bench.attach(volume("vol1", 1), volume("vol2", 2))
    return bench


def test_one_of_two_volumes_goes_and_the_other_one_stays(bench: Bench) -> None:
    outcome = bench.detach(volume("vol1", 1))
    assert outcome.actions == [f"remove disk sda, LUN 1 of {IQN} at {PORTAL} (volume vol1)"]
    assert bench.host.disks() == ["sdb"]
    assert (bench.host.sessions(), len(bench.host.records())) == (["session0"], 1)


def test_the_last_volume_takes_session_and_node_record_along(bench: Bench) -> None:
    outcome = bench.detach(volume("vol1", 1), volume("vol2", 2))
    assert outcome.actions[2:] == [f"log out of {IQN} at {PORTAL} (session 0)", f"remove the node record for {IQN} at {PORTAL}"]
    assert bench.host.clean()
    assert bench.host.flushed == ["/dev/sda", "/dev/sdb"]
    assert list((bench.root / "records").iterdir()) == []


def test_an_ipv6_address_is_found_however_open_iscsi_spells_it(bench: Bench) -> None:
    spelled = "[fd00:0:0::1]:3260"
    bench.host.add_target((1, identity(1)), portal=spelled)
    bench.host.run(["iscsiadm", "-m", "node", "-T", IQN, "-p", spelled, "-I", "default", "--op", "new"], 1)
    asked = volume("vol1", 1, portal="[fd00::1]:3260")
    device = f"/dev/disk/by-path/ip-fd00:0:0::1:3260-iscsi-{IQN}-lun-1"
    assert bench.attach(asked, check=True).to_dict()["device_path"] == {"vol1": device}
    assert bench.attach(asked).to_dict()["device_path"] == {"vol1": device}
    before = bench.host.records()
    assert bench.attach(asked).actions == []
    bench.detach(asked)
    assert before == [f"{IQN}/192.0.2.10,3260", f"{IQN}/fd00:0:0::1,3260"]
    assert bench.host.records() == before[:1]
    assert not bench.host.exists(device)


def test_a_second_run_changes_nothing(bench: Bench) -> None:
    bench.detach(volume("vol1", 1), volume("vol2", 2))
    steps = list(bench.host.steps)
    assert not bench.detach(volume("vol1", 1), volume("vol2", 2)).to_dict()["changed"]
    assert bench.host.steps == steps


def test_a_volume_that_someone_else_scanned_keeps_the_session(bench: Bench) -> None:
    bench.host.write("/sys/class/scsi_host/host0/scan", "0 0 3")
    bench.detach(volume("vol1", 1), volume("vol2", 2))
    assert bench.host.disks() == ["sdc"]
    assert bench.host.sessions() == ["session0"]


def test_the_controller_that_a_full_scan_brings_does_not_keep_it(bench: Bench) -> None:
    bench.host._put("/sys/devices/platform/host0/session0/target0:0:0/0:0:0:0/type", "12\n")
    bench.detach(volume("vol1", 1), volume("vol2", 2))
    assert bench.host.clean()


def test_everything_in_use_is_named_at_once_and_nothing_is_touched(bench: Bench) -> None:
    bench.host.open_in_process(4242, "sda")
    bench.host.mount("sdb", "/srv")
    steps = list(bench.host.steps)
    for check in (True, False):
        with pytest.raises(InputError) as caught:
            bench.detach(volume("vol1", 1), volume("vol2", 2), check=check)
        assert caught.value.error_id == "volume_in_use"
        assert caught.value.details["problems"] == [
            "volume vol2 is in use: sdb is mounted on /srv; end that use first",
        ]
    assert bench.host.steps == steps


def test_swap_partitions_and_devices_above(bench: Bench) -> None:
    host = bench.host
    host._put("/proc/swaps", "Filename Type Size Used Priority\n/dev/sdb partition 8 0 -2")
    host._put("/sys/class/block/sda/sda1/partition", "1")
    host._put("/sys/class/block/sda1/holders/dm-3", "")
    host._put("/sys/class/block/dm-3/dm/name", "vg-root")
    with pytest.raises(InputError) as caught:
        bench.detach(volume("vol1", 1), volume("vol2", 2))
    assert caught.value.details["problems"] == [
        "volume vol1 is in use: sda1 is part of dm-3 (vg-root); end that use first",
        "volume vol2 is in use: sdb is swap space; end that use first",
    ]


def test_partition_maps_of_a_multipath_map_are_a_part_of_it(bench: Bench) -> None:
    host = bench.host
    host._put("/sys/class/block/dm-0/holders/dm-1", "")
    host._put("/sys/class/block/dm-1/dm/uuid", "part1-mpath-36001")
    host._put("/sys/class/block/dm-1/holders/dm-2", "")
    host._put("/sys/class/block/dm-2/dm/name", "crypt")
    devices = with_partitions(host, "dm-0")
    assert devices == ["dm-0", "dm-1"]
    assert users_of(host, {"vol1": devices}, 5) == {"vol1": ["dm-1 is part of dm-2 (crypt)"]}


@pytest.fixture
def null_as_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A character device of this machine stands in for a disk: block devices cannot be made everywhere."""
    module = "ansible_collections.lunshift.migration.plugins.module_utils._iscsi.in_use"
    monkeypatch.setattr(f"{module}.stat.S_ISBLK", lambda _mode: True)
    bench.host._put("/sys/class/block/null/dev", "1:3")
    bench.host.open_in_process(4242, "null")
    return bench


def test_a_process_is_named(null_as_disk: Bench) -> None:
    host = null_as_disk.host
    (Path(host.at("/proc/4242/fd")) / "12").symlink_to("socket:[1]")
    (Path(host.at("/proc/4242/fd")) / "13").symlink_to("/dev/no-such-node")
    before_s = host.now_s
    assert users_of(host, {"vol1": ["null"]}, 60) == {"vol1": ["null is open in process 4242 (qemu-system-x86)"]}
    assert host.now_s < before_s + 3
    host.at_second(host.now_s + 1, lambda: host.close_in_process(4242))
    assert users_of(host, {"vol1": ["null"]}, 60) == {}


def test_multipathd_is_no_user(null_as_disk: Bench) -> None:
    host = null_as_disk.host
    host._put("/run/multipathd.pid", "4242\n")
    assert users_of(host, {"vol1": ["null"]}, 5) != {}
    host._put("/proc/4242/comm", "multipathd\n")
    assert users_of(host, {"vol1": ["null"]}, 5) == {}


def test_udev_is_waited_for(null_as_disk: Bench) -> None:
    host = null_as_disk.host
    host._put("/proc/4242/comm", "(spawn) a) b")
    host._put("/proc/4242/stat", "4242 ((spawn) a) b) S 4241 1 1")
    host._put("/proc/4241/comm", "(udev-worker)")
    before_s = host.now_s
    assert users_of(host, {"vol1": ["null"]}, 5) == {"vol1": ["null is open in process 4242 ((spawn) a) b)"]}
    assert host.now_s >= before_s + 5
    host.at_second(host.now_s + 2, lambda: host.close_in_process(4242))
    assert users_of(host, {"vol1": ["null"]}, 5) == {}


def test_a_disk_that_cannot_be_flushed_stays(bench: Bench) -> None:
    bench.host.busy.add("sda")
    with pytest.raises(MigrationError, match="nothing was removed") as caught:
        bench.detach(volume("vol1", 1))
    assert caught.value.error_id == "detach_failed"
    assert bench.host.disks() == ["sda", "sdb"]


def test_a_map_that_cannot_be_removed_keeps_its_paths(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    host = bench.host
    host._put("/sys/class/block/dm-0/dm/uuid", "mpath-36001")
    host._put("/sys/class/block/dm-0/dm/name", "mpatha")
    host._put("/sys/class/block/dm-0/slaves/sda", "")
    host._put("/sys/class/block/sda/holders/dm-0", "")
    monkeypatch.setattr(host, "_run", lambda _argv: CommandResult(1, "", "mpatha: map in use"))
    with pytest.raises(MigrationError, match="ended with 1: mpatha: map in use"):
        bench.detach(volume("vol1", 1))
    assert host.disks() == ["sda", "sdb"]
    # For a name that it does not know 'multipath -f' says 0.
    monkeypatch.setattr(host, "_run", lambda _argv: CommandResult(0, "", ""))
    with pytest.raises(MigrationError, match="still there after 'multipath -f'"):
        bench.detach(volume("vol1", 1))
    assert host.disks() == ["sda", "sdb"]


def test_a_map_that_udev_looks_into_is_removed_a_moment_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    host = bench.host
    found = Map(device="dm-0", name="mpatha", wwid="36001", disks=("sda",))
    answers = [CommandResult(1, "", "mpatha: map in use"), CommandResult(1, "", "mpatha: map in use"), CommandResult(0, "", "")]
    monkeypatch.setattr(host, "_run", lambda _argv: answers.pop(0))
    remove_map(host, found, 10)
    assert answers == []
    # Any other refusal is the answer.
    answers[:] = [CommandResult(1, "", "no such map"), CommandResult(0, "", "")]
    with pytest.raises(MigrationError, match="no such map"):
        remove_map(host, found, 10)
    assert len(answers) == 1


def test_a_failed_logout_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.host, "_logout", lambda _sid: CommandResult(10, "", "failed"))
    with pytest.raises(MigrationError, match="ended with 10"):
        bench.detach(volume("vol1", 1), volume("vol2", 2))
    monkeypatch.setattr(bench.host, "_logout", lambda _sid: CommandResult(0, "", ""))
    with pytest.raises(MigrationError, match=r"session 0 .* is still there after its logout"):
        bench.detach(volume("vol1", 1), volume("vol2", 2))
    monkeypatch.undo()
    assert bench.detach(volume("vol1", 1), volume("vol2", 2)).actions
    assert bench.host.clean()


def test_a_session_that_is_down_can_still_be_cleared(bench: Bench) -> None:
    bench.host._put("/sys/class/iscsi_session/session0/state", "FAILED\n")
    bench.detach(volume("vol1", 1), volume("vol2", 2))
    assert bench.host.clean()
    assert bench.host.flushed == []


def test_another_volume_than_expected_is_not_removed(bench: Bench) -> None:
    with pytest.raises(MigrationError, match="other volumes are there than expected") as caught:
        bench.detach(volume("vol1", 1, expected=identity(9)))
    assert caught.value.error_id == "identity_mismatch"
    assert bench.host.disks() == ["sda", "sdb"]


def test_a_volume_that_was_unexported_can_be_removed(bench: Bench) -> None:
    bench.host.targets[PORTAL, IQN].luns.clear()
    bench.detach(volume("vol1", 1, expected=identity(1)), volume("vol2", 2))
    assert bench.host.clean()


def test_a_volume_leaves_its_operations_record(bench: Bench) -> None:
    bench.detach(volume("vol1", 1))
    known = bench.records.load("op1")
    assert known is not None
    assert [path.serial for path in known.paths] == ["vol2"]
    bench.attach(volume("vol1", 1), operation_id="operator")
    bench.restore()
    assert bench.host.disks() == ["sda"]


def test_a_node_record_that_a_killed_detach_left_is_removed(bench: Bench) -> None:
    bench.host.kill_at = len(bench.host.steps) + 4
    with pytest.raises(Killed):
        bench.detach(volume("vol1", 1), volume("vol2", 2))
    bench.host.kill_at = None
    assert (bench.host.sessions(), len(bench.host.records())) == ([], 1)
    assert bench.detach(volume("vol1", 1), volume("vol2", 2)).actions == [f"remove the node record for {IQN} at {PORTAL}"]
    assert bench.host.clean()


@pytest.mark.parametrize("step", range(1, 5))
def test_a_detach_that_is_killed_anywhere_can_be_run_again(bench: Bench, step: int) -> None:
    bench.host.kill_at = len(bench.host.steps) + step
    with pytest.raises(Killed):
        bench.detach(volume("vol1", 1), volume("vol2", 2))
    bench.host.kill_at = None
    bench.detach(volume("vol1", 1), volume("vol2", 2))
    assert bench.host.clean()
    assert list((bench.root / "records").iterdir()) == []


def test_restore_in_check_mode_changes_nothing(bench: Bench) -> None:
    predicted = bench.restore(check=True).to_dict()
    assert bench.host.disks() == ["sda", "sdb"]
    assert predicted == bench.restore().to_dict()
    assert bench.host.clean()


def test_restore_refuses_a_volume_in_use(bench: Bench) -> None:
    bench.host.mount("sda", "/srv")
    with pytest.raises(InputError, match="sda is mounted on /srv"):
        bench.restore()
    assert bench.records.load("op1") is not None


def test_a_session_that_someone_made_anew_is_not_ended(bench: Bench) -> None:
    bench.host._logout("0")
    bench.host.add_session()
    bench.restore()
    assert bench.host.sessions() == ["session1"]


def test_after_a_reboot_only_the_node_record_is_undone(bench: Bench) -> None:
    bench.host._logout("0")
    bench.host._put("/proc/sys/kernel/random/boot_id", "boot-2")
    bench.host.add_session()
    bench.host.write("/sys/class/scsi_host/host1/scan", "0 0 1")
    bench.restore()
    assert bench.host.disks() == ["sda"]
    assert bench.host.sessions() == ["session1"]


def test_several_sessions_to_one_portal(bench: Bench) -> None:
    bench.host.add_session()
    bench.host.write("/sys/class/scsi_host/host1/scan", "0 0 1")
    assert not bench.attach(volume("vol1", 1)).actions
    bench.detach(volume("vol1", 1))
    assert bench.host.disks() == ["sdb"]
    assert bench.host.sessions() == ["session0"]
