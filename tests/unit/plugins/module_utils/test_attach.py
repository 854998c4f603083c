# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError, MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.probe import Answer
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.request import parse_requests
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.session import kernel_luns
from ansible_collections.lunshift.migration.tests.unit.fake_host import (
    IQN,
    PORTAL,
    Bench,
    Killed,
    connection_info,
    identity,
    page80,
    page83,
    volume,
)

BY_PATH = f"/dev/disk/by-path/ip-{PORTAL}-iscsi-{IQN}-lun-"
OTHER_IQN = "iqn.2026-11.example:other"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.host.add_target((1, identity(1)), (2, identity(2)), (3, identity(3)))
    return bench


def test_only_the_asked_luns_appear(bench: Bench) -> None:
    outcome = bench.attach(volume("vol1", 1), volume("vol3", 3))
    assert bench.host.names("/dev/disk/by-path") == [f"ip-{PORTAL}-iscsi-{IQN}-lun-{lun}" for lun in (1, 3)]
    result = outcome.to_dict()
    assert result["changed"]
    assert result["device_path"] == {"vol1": f"{BY_PATH}1", "vol3": f"{BY_PATH}3"}
    assert result["volumes"]["vol3"] == {
        "initiator": "kernel",
        "device_path": f"{BY_PATH}3",
        "nodes": ["/dev/sdb"],
        "identity": identity(3).to_dict(),
        "made": True,
        "unproven": None,
        "at_boot": False,
    }
    assert result["diff"] == {"before": {"vol1": "absent", "vol3": "absent"}, "after": {"vol1": "attached", "vol3": "attached"}}
    assert result["actions"] == [
        f"make a node record for {IQN} at {PORTAL}",
        f"log in to {IQN} at {PORTAL}",
        f"scan LUN 1 of {IQN} at {PORTAL} (volume vol1)",
        f"scan LUN 3 of {IQN} at {PORTAL} (volume vol3)",
    ]


def test_a_second_run_changes_nothing(bench: Bench) -> None:
    bench.attach(volume("vol1", 1))
    steps = list(bench.host.steps)
    result = bench.attach(volume("vol1", 1, expected=identity(1))).to_dict()
    assert (result["changed"], result["actions"], result["volumes"]["vol1"]["made"]) == (False, [], False)
    assert bench.host.steps == steps


def test_the_node_record_is_made_for_manual_scans_and_starts(bench: Bench) -> None:
    bench.attach(volume("vol1", 1))
    text = bench.host.record_text()
    assert "node.session.scan = manual\n" in text
    assert "node.startup = manual\n" in text


def test_a_second_volume_uses_the_session_that_is_there(bench: Bench) -> None:
    bench.attach(volume("vol1", 1))
    outcome = bench.attach(volume("vol1", 1), volume("vol2", 2))
    assert outcome.actions == [f"scan LUN 2 of {IQN} at {PORTAL} (volume vol2)"]
    assert bench.host.sessions() == ["session0"]


def test_a_session_of_an_operator_is_left_as_it_is(bench: Bench) -> None:
    bench.host.add_session()
    bench.attach(volume("vol1", 1))
    bench.restore()
    assert bench.host.sessions() == ["session0"]
    assert bench.host.disks() == []
    assert bench.host.records() == []


def test_a_node_record_of_an_operator_is_used_and_put_back(bench: Bench) -> None:
    bench.host._put(f"/etc/iscsi/nodes/{IQN}/192.0.2.10,3260", "node.startup = automatic\nnode.session.scan = auto\n# END RECORD\n")
    outcome = bench.attach(volume("vol1", 1))
    assert outcome.actions[0].startswith("log in to")
    assert bench.host.disks() == ["sda"]
    assert bench.host.record_text() == "node.startup = automatic\nnode.session.scan = auto\n# END RECORD\n"
    bench.restore()
    assert bench.host.sessions() == []
    assert bench.host.record_text() == "node.startup = automatic\nnode.session.scan = auto\n# END RECORD\n"


def test_sessions_of_several_portals(bench: Bench) -> None:
    bench.host.add_target((5, identity(5)), portal="[fd00::1]:3261", iqn=OTHER_IQN)
    result = bench.attach(volume("vol1", 1), volume("vol5", 5, portal="[fd00::1]:3261", iqn=OTHER_IQN)).to_dict()
    assert result["device_path"]["vol5"] == f"/dev/disk/by-path/ip-fd00::1:3261-iscsi-{OTHER_IQN}-lun-5"
    assert bench.host.sessions() == ["session0", "session1"]


def test_a_password_stands_in_the_node_record_alone(bench: Bench) -> None:
    bench.host.add_target((5, identity(5)), iqn=OTHER_IQN, password="planted-secret")
    outcome = bench.attach(volume("vol5", 5, iqn=OTHER_IQN, password="planted-secret"))
    assert "planted-secret" in bench.host.record_text()
    everything = json.dumps([outcome.to_dict(), bench.host.commands, bench.host.steps])
    records = "".join(path.read_text() for path in (bench.root / "records").iterdir())
    assert "planted-secret" not in everything + records


def test_mutual_chap_is_for_the_kernels_initiator() -> None:
    wanted = volume("vol5", 5, password="ours")
    wanted["connection_info"]["data"].update(auth_username_in="array", auth_password_in="theirs")
    chap = parse_requests([wanted])[0].connection.chap
    assert chap is not None
    assert chap.mutual
    with pytest.raises(InputError, match="the target proves itself"):
        parse_requests([{**wanted, "initiator": "libiscsi"}])


@pytest.mark.parametrize(("lun", "numbers"), [(1, (1,)), (255, (255,)), (256, (16640, 256)), (271, (16655, 271)), (16655, (16655,))])
def test_the_numbers_of_a_lun(lun: int, numbers: tuple[int, ...]) -> None:
    assert kernel_luns(lun) == numbers


@pytest.mark.parametrize("shown_as", [16655, 271])
def test_a_lun_above_255_is_found_in_either_form(bench: Bench, shown_as: int) -> None:
    bench.host.add_target((shown_as, identity(7)))
    result = bench.attach(volume("vol7", 271)).to_dict()
    assert result["device_path"]["vol7"] == f"{BY_PATH}0x{shown_as:04x}000000000000"
    assert not bench.attach(volume("vol7", 271)).actions
    bench.detach(volume("vol7", 271))
    assert bench.host.clean()


def test_another_volume_than_expected_is_refused_and_undone(bench: Bench) -> None:
    with pytest.raises(MigrationError) as caught:
        bench.attach(volume("vol1", 1, expected=identity(9, size_mib=65)), volume("vol2", 2))
    assert caught.value.error_id == "identity_mismatch"
    assert caught.value.details["table"] == [
        {"serial": "vol1", "field": "wwid", "expected": identity(9).wwid, "seen": identity(1).wwid},
        {"serial": "vol1", "field": "unit_serial", "expected": "SN0009", "seen": "SN0001"},
        {"serial": "vol1", "field": "size_bytes", "expected": 65 << 20, "seen": 64 << 20},
    ]
    assert bench.host.clean()
    assert list((bench.root / "records").iterdir()) == []


def test_a_volume_that_was_there_is_not_removed_when_it_is_another_one(bench: Bench) -> None:
    bench.attach(volume("vol1", 1))
    with pytest.raises(MigrationError, match="nothing had been changed"):
        bench.attach(volume("vol1", 1, expected=identity(9)))
    assert bench.host.disks() == ["sda"]


def test_what_nobody_expects_is_not_compared(bench: Bench) -> None:
    wanted = {**volume("vol1", 1), "expected_identity": {"size_bytes": 64 << 20, "wwid": None, "vendor": "other"}}
    assert bench.attach(wanted).actions


def test_every_failed_volume_is_named_at_once_and_all_is_undone(bench: Bench) -> None:
    bench.host.add_target((1, identity(4)), iqn=OTHER_IQN, password="right-password")
    bench.host.add_target((1, identity(5)), portal="192.0.2.99:3260").reachable = False
    with pytest.raises(MigrationError) as caught:
        bench.attach(
            volume("good", 1),
            volume("absent", 99),
            volume("login", 1, iqn=OTHER_IQN, password="wrong-password"),
            volume("dead", 1, portal="192.0.2.99:3260"),
        )
    assert caught.value.error_id == "attach_failed"
    assert caught.value.details["failed_volumes"] == ["absent", "dead", "login"]
    text = str(caught.value)
    for part in ("volume absent: not ready", "refused this host", "did not answer in time", "own part was undone"):
        assert part in text
    assert "wrong-password" not in text
    assert bench.host.clean()


def test_a_failure_keeps_what_was_attached_before(bench: Bench) -> None:
    bench.attach(volume("vol1", 1), operation_id="other")
    with pytest.raises(MigrationError):
        bench.attach(volume("vol2", 2), volume("absent", 99))
    assert bench.host.disks() == ["sda"]
    assert bench.host.sessions() == ["session0"]


def test_an_undo_that_fails_is_told_and_stays_on_record(bench: Bench) -> None:
    bench.host.busy.add("sda")
    with pytest.raises(MigrationError, match="could NOT be undone") as caught:
        bench.attach(volume("vol1", 1), volume("absent", 99))
    assert caught.value.details["left"]
    bench.host.busy.clear()
    assert bench.restore().actions
    assert bench.host.clean()


def test_a_stale_disk_is_replaced(bench: Bench) -> None:
    target = bench.host.targets[PORTAL, IQN]
    bench.attach(volume("old", 1), operation_id="old")
    target.luns[1] = identity(8)
    outcome = bench.attach(volume("new", 1, expected=identity(8)))
    assert outcome.actions[0] == f"remove the stale disk sda at LUN 1 of {IQN} at {PORTAL}"
    assert outcome.to_dict()["volumes"]["new"]["identity"]["wwid"] == identity(8).wwid


def test_a_stale_disk_that_claims_to_be_the_volume_is_told_and_left(bench: Bench) -> None:
    """The volume had LUN 1, and has LUN 4 now; the one number goes to nobody, the other to another volume."""
    target = bench.host.targets[PORTAL, IQN]
    bench.attach(volume("vol1", 1), volume("vol2", 2), operation_id="earlier")
    target.luns = {2: identity(8), 4: identity(1), 5: identity(2)}
    predicted = bench.attach(volume("vol1", 4), check=True).to_dict()
    assert predicted["stale"] == []  # nobody answers: what it is cannot be known yet
    result = bench.attach(volume("vol1", 4), volume("vol2", 5)).to_dict()
    assert result["stale"] == ["/dev/sda", "/dev/sdb"]
    assert [warning.partition(";")[0] for warning in result["warnings"]] == [
        "the kernel still takes sda for volume vol1, but behind it is no disk any more",
        "the kernel still takes sdb for volume vol2, but behind it is another volume",
    ]
    assert "echo 1 >/sys/block/sdb/device/delete" in result["warnings"][1]
    assert bench.host.disks() == ["sda", "sdb", "sdc", "sdd"]
    bench.host._put("/etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.2026-11.example:host\n")
    bench.answers["vol1"] = Answer(identity=identity(1))
    assert bench.attach(volume("vol1", 6), check=True).to_dict()["stale"] == ["/dev/sda"]


def test_a_disk_that_is_replaced_is_told_as_it_was_before(bench: Bench) -> None:
    bench.attach(volume("vol1", 1), volume("vol2", 2), operation_id="earlier")
    bench.host.targets[PORTAL, IQN].luns = {1: identity(8), 2: identity(1)}
    result = bench.attach(volume("new", 1), volume("vol1", 2)).to_dict()
    assert (result["stale"], result.get("warnings")) == (["/dev/sda", "/dev/sdb"], None)
    assert bench.host.disks() == ["sda", "sdb"]
    assert bench.attach(volume("new", 1), volume("vol1", 2)).to_dict()["stale"] == []


def test_a_double_is_no_stale_disk(bench: Bench) -> None:
    """A volume with the same ids at another number, and one that gives no answer: their ids have to count as shared."""
    target = bench.host.targets[PORTAL, IQN]
    target.luns[2] = identity(1)
    bench.attach(volume("other", 2), volume("silent", 3))
    for name, page in (("vpd_pg80", page80), ("vpd_pg83", page83)):
        bench.host._put(f"/sys/class/block/sdb/device/{name}", page(identity(1)))
    bench.host.silent.add("sdb")
    assert bench.attach(volume("vol1", 1)).to_dict()["stale"] == []


def test_ids_that_prove_nothing_make_no_lookalike(bench: Bench) -> None:
    target = bench.host.targets[PORTAL, IQN]
    target.luns[1] = replace(identity(1), wwid="naa.60000000000000000e00000000010001", unit_serial="beaf11")
    bench.attach(volume("old", 1))
    target.luns = {4: target.luns[1]}
    assert bench.attach(volume("vol1", 4)).to_dict()["stale"] == []


def test_a_stale_disk_in_use_is_refused(bench: Bench) -> None:
    bench.attach(volume("old", 1))
    bench.host.targets[PORTAL, IQN].luns[1] = identity(8)
    bench.host.open_in_process(4242, "sda")
    bench.host.mount("sda", "/srv")
    with pytest.raises(InputError, match="still stands for another volume") as caught:
        bench.attach(volume("new", 1))
    assert caught.value.error_id == "attach_refused"
    assert "sda is mounted on /srv" in str(caught.value)
    assert bench.host.disks() == ["sda"]


def test_a_volume_that_grew_is_read_again(bench: Bench) -> None:
    bench.attach(volume("vol1", 1))
    bench.host.targets[PORTAL, IQN].luns[1] = identity(1, size_mib=128)
    result = bench.attach(volume("vol1", 1)).to_dict()
    assert result["actions"] == ["read the new size of sda (volume vol1)"]
    assert result["volumes"]["vol1"]["identity"]["size_bytes"] == 128 << 20
    assert not bench.attach(volume("vol1", 1)).actions


def test_a_dead_session_is_told_with_its_remedy(bench: Bench) -> None:
    bench.host.add_session(state="FAILED")
    with pytest.raises(InputError, match=r"session 0 .* is FAILED.*iscsiadm -m session -r 0 --logout"):
        bench.attach(volume("vol1", 1))


def test_without_udev_readiness_names_what_is_missing(bench: Bench) -> None:
    bench.host.udev = False
    with pytest.raises(MigrationError, match="does not lead to /dev/sda; check that systemd-udevd runs"):
        bench.attach(volume("vol1", 1))
    assert bench.host.clean()


def test_a_lun_that_comes_late_is_scanned_for_again(bench: Bench) -> None:
    target = bench.host.targets[PORTAL, IQN]
    late = target.luns.pop(1)
    bench.host.at_second(bench.host.now_s + 2, lambda: target.luns.update({1: late}))
    assert bench.attach(volume("vol1", 1)).actions


PORTAL2 = "192.0.2.11:3260"


def two_paths(serial: str, lun: int = 1, lun2: int | None = None) -> dict[str, t.Any]:
    data = {
        "target_portals": [PORTAL, PORTAL2],
        "target_iqns": [IQN, IQN],
        "target_luns": [lun, lun2 or lun],
    }
    return {"serial": serial, "connection_info": {"driver_volume_type": "iscsi", "data": data}}


def map_of(number: int) -> str:
    return f"3{(identity(number).wwid or '')[4:]}"


@pytest.fixture
def multipath(bench: Bench) -> Bench:
    """Two portals to volumes 1, 2 and 3."""
    bench.host.start_multipathd()
    bench.host.add_target((1, identity(1)), (2, identity(2)), (3, identity(3)), portal=PORTAL2)
    return bench


def test_several_paths_become_one_map(bench: Bench) -> None:
    bench.host.start_multipathd()
    bench.host.add_target((1, identity(1)), portal="192.0.2.11:3260")
    result = bench.attach(two_paths("vol1")).to_dict()
    assert result["device_path"] == {"vol1": f"/dev/disk/by-id/dm-uuid-mpath-{map_of(1)}"}
    assert sorted(result["volumes"]["vol1"]["nodes"]) == ["/dev/sda", "/dev/sdb"]
    assert not bench.attach(two_paths("vol1")).actions
    with pytest.raises(InputError, match=r"paths that were not named: sd[ab]"):
        bench.detach(volume("vol1", 1))
    outcome = bench.detach(two_paths("vol1"))
    assert outcome.actions[0] == "remove multipath map mpatha"
    assert f"have multipath forget WWID {map_of(1)} (volume vol1)" in outcome.actions
    assert bench.host.wwids() == []
    assert bench.host.clean()
    assert bench.host.flushed == []
    assert ["multipath", "-f", "mpatha"] in bench.host.commands


def test_paths_that_lead_to_different_volumes_are_refused(bench: Bench) -> None:
    bench.host.start_multipathd()
    bench.host.add_target((1, identity(9)), portal="192.0.2.11:3260")
    with pytest.raises(MigrationError, match="no single multipath map"):
        bench.attach(two_paths("vol1"))
    assert bench.host.clean()


def test_every_path_that_fails_is_named(bench: Bench) -> None:
    bench.host.start_multipathd()
    bench.host.targets[PORTAL, IQN].reachable = False
    with pytest.raises(MigrationError) as caught:
        bench.attach(two_paths("vol1"))
    assert sorted(problem.partition(": ")[0] for problem in caught.value.details["problems"]) == [
        f"{IQN} at 192.0.2.10:3260",
        f"{IQN} at 192.0.2.11:3260",
    ]
    assert bench.host.clean()


@pytest.mark.parametrize("strict", [True, False])
def test_a_map_comes_by_whatever_rule_multipath_is_set_to(multipath: Bench, strict: bool) -> None:
    multipath.host.strict = strict
    result = multipath.attach(two_paths("vol1"), two_paths("vol2", 2)).to_dict()
    assert result["device_path"] == {f"vol{number}": f"/dev/disk/by-id/dm-uuid-mpath-{map_of(number)}" for number in (1, 2)}
    assert sorted(multipath.host.wwids()) == [map_of(1), map_of(2)]
    multipath.detach(two_paths("vol1"))
    assert multipath.host.wwids() == [map_of(2)]
    assert len(multipath.host.disks()) == 2
    multipath.restore()
    assert multipath.host.clean()
    assert multipath.host.wwids() == []


def test_what_multipath_remembered_before_it_still_remembers(multipath: Bench) -> None:
    multipath.host._put("/etc/multipath/wwids", f"# Valid WWIDs:\n/{map_of(1)}/\n")
    multipath.attach(two_paths("vol1"))
    assert not any("forget" in action for action in multipath.detach(two_paths("vol1")).actions)
    assert multipath.host.wwids() == [map_of(1)]


def test_what_others_attached_is_not_forgotten_without_a_record(multipath: Bench) -> None:
    multipath.attach(two_paths("vol1"), operation_id="other")
    multipath.detach(two_paths("vol1"))
    assert multipath.host.wwids() == [map_of(1)]


def test_a_wwid_whose_map_stays_is_not_forgotten(multipath: Bench) -> None:
    multipath.attach(two_paths("vol1"))
    host = multipath.host
    for disk in host.disks():
        Path(host.at(f"/sys/class/block/{disk}/holders/dm-0")).unlink()
    assert not any("forget" in action for action in multipath.detach(two_paths("vol1"), check=True).actions)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("after", [False, True], ids=["before the step", "after the step"])
@pytest.mark.parametrize("step", range(1, 8))
def test_a_killed_run_with_two_paths_can_be_undone(multipath: Bench, step: int, after: bool, strict: bool) -> None:
    multipath.host.strict = strict
    multipath.host.kill_at, multipath.host.kill_after = step, after
    with pytest.raises(Killed):
        multipath.attach(two_paths("vol1"))
    multipath.host.kill_at = None
    multipath.restore()
    assert multipath.host.clean()
    assert multipath.host.wwids() == []
    assert list((multipath.root / "records").iterdir()) == []


def test_after_a_reboot_the_wwid_is_still_forgotten(multipath: Bench) -> None:
    multipath.attach(two_paths("vol1"))
    multipath.host._remove_map("mpatha")
    for sid in ("0", "1"):
        multipath.host._logout(sid)
    multipath.host._put("/proc/sys/kernel/random/boot_id", "boot-2")
    multipath.restore()
    assert multipath.host.wwids() == []
    assert multipath.host.clean()


def test_a_volume_may_have_another_lun_number_at_each_portal(multipath: Bench) -> None:
    multipath.host.targets[PORTAL2, IQN].luns = {7: identity(1)}
    assert multipath.attach(two_paths("vol1", 1, 7)).to_dict()["device_path"] == {"vol1": f"/dev/disk/by-id/dm-uuid-mpath-{map_of(1)}"}
    assert not multipath.attach(two_paths("vol1", 1, 7)).actions
    multipath.detach(two_paths("vol1", 1, 7))
    assert multipath.host.clean()


def test_half_a_map_is_not_used(multipath: Bench) -> None:
    multipath.host.targets[PORTAL2, IQN].luns.clear()
    with pytest.raises(MigrationError, match=rf"LUN 1 of {IQN} at {PORTAL2} has no disk"):
        multipath.attach(two_paths("vol1"))
    assert multipath.host.clean()
    assert multipath.host.wwids() == []


def test_a_map_with_a_path_that_nobody_named_is_not_used(multipath: Bench) -> None:
    multipath.attach(two_paths("vol1"), operation_id="operator")
    with pytest.raises(MigrationError, match="mpatha also has sdb, no path of this volume by its connection info"):
        multipath.attach(volume("vol1", 1))
    assert len(multipath.host.disks()) == 2


def test_two_volumes_with_one_wwid_are_not_used(multipath: Bench) -> None:
    for portal in (PORTAL, PORTAL2):
        multipath.host.targets[portal, IQN].luns[2] = identity(1)
    with pytest.raises(MigrationError, match="have the array give each volume a WWID of its own"):
        multipath.attach(two_paths("vol1"), two_paths("vol2", 2))
    assert multipath.host.clean()


def test_paths_of_different_sizes_are_refused(multipath: Bench) -> None:
    multipath.host.targets[PORTAL2, IQN].luns[1] = identity(1, size_mib=128)
    with pytest.raises(MigrationError, match=r"differ in size \(sectors\): dm-0"):
        multipath.attach(two_paths("vol1"))
    assert multipath.host.clean()


def test_a_map_grows_with_its_volume(multipath: Bench) -> None:
    multipath.attach(two_paths("vol1"))
    for portal in (PORTAL, PORTAL2):
        multipath.host.targets[portal, IQN].luns[1] = identity(1, size_mib=128)
    result = multipath.attach(two_paths("vol1")).to_dict()
    assert result["actions"] == [f"read the new size of {disk} (volume vol1)" for disk in ("sda", "sdb")]
    assert result["volumes"]["vol1"]["identity"]["size_bytes"] == 128 << 20
    assert multipath.host.read("/sys/class/block/dm-0/size") == str((128 << 20) // 512)
    assert not multipath.attach(two_paths("vol1")).actions


def test_a_stale_map_goes_with_its_disks(multipath: Bench) -> None:
    multipath.attach(two_paths("old"), operation_id="old")
    for portal in (PORTAL, PORTAL2):
        multipath.host.targets[portal, IQN].luns[1] = identity(8)
    outcome = multipath.attach(two_paths("new"))
    assert outcome.actions[0] == "remove the stale multipath map mpatha"
    assert outcome.to_dict()["device_path"] == {"new": f"/dev/disk/by-id/dm-uuid-mpath-{map_of(8)}"}
    assert [multipath.host.read(f"/sys/class/block/{name}/dm/uuid") for name in multipath.host.map_devices()] == [f"mpath-{map_of(8)}"]


def test_a_stale_map_in_use_is_refused(multipath: Bench) -> None:
    multipath.attach(two_paths("old"), operation_id="old")
    for portal in (PORTAL, PORTAL2):
        multipath.host.targets[portal, IQN].luns[1] = identity(8)
    multipath.host.mount("dm-0", "/srv")
    with pytest.raises(InputError, match=r"still stands for another volume .*dm-0 is mounted on /srv"):
        multipath.attach(two_paths("new"))
    assert multipath.host.map_devices() == ["dm-0"]


def test_a_map_with_one_stale_path_is_in_use(multipath: Bench) -> None:
    multipath.attach(two_paths("old"), operation_id="old")
    multipath.host.targets[PORTAL, IQN].luns[1] = identity(8)
    with pytest.raises(InputError, match=r"sda is part of dm-0 \(mpatha\)"):
        multipath.attach(two_paths("new"))


def test_volumes_that_changed_their_numbers_get_no_map_with_a_stale_path(multipath: Bench) -> None:
    """LUN 1 was vol1 and is vol2 now, and the other way round: between the scans each has the other's name."""
    multipath.attach(volume("vol1", 1), volume("vol2", 2), operation_id="earlier")
    multipath.host.targets[PORTAL, IQN].luns = {1: identity(2), 2: identity(1)}
    outcome = multipath.attach(volume("vol2", 1), volume("vol1", 2))
    assert multipath.host.map_devices() == []
    assert outcome.to_dict()["device_path"] == {"vol2": f"{BY_PATH}1", "vol1": f"{BY_PATH}2"}
    assert outcome.volumes["vol2"]["identity"]["wwid"] == identity(2).wwid


def test_a_map_that_took_a_stale_disk_in_is_refused(multipath: Bench) -> None:
    multipath.attach(volume("vol1", 1), operation_id="earlier")
    multipath.host.targets[PORTAL, IQN].luns = {4: identity(1)}
    with pytest.raises(MigrationError, match=r"mpatha also has sda, no path .*no longer shows goes by: echo 1 >/sys/block/NAME"):
        multipath.attach(volume("vol1", 4))
    assert multipath.host.disks() == ["sda"]


def test_a_map_that_has_the_name_of_another_volume_is_stale(multipath: Bench) -> None:
    """After a rescan of the disks the kernel knows the new volume, but the map still has the old one's name."""
    multipath.attach(two_paths("old"), operation_id="old")
    multipath.host._put("/sys/class/block/dm-0/dm/uuid", f"mpath-{map_of(9)}")
    assert multipath.attach(two_paths("new")).actions[0] == "remove the stale multipath map mpatha"


def test_check_mode_predicts_the_map(multipath: Bench) -> None:
    multipath.host._put("/etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.2026-11.example:host\n")
    multipath.answers["vol1"] = Answer(identity=identity(1))
    before = files(multipath.root)
    predicted = multipath.attach(two_paths("vol1"), two_paths("vol2", 2), check=True).to_dict()
    assert files(multipath.root) == before
    assert predicted["device_path"]["vol2"] is None
    done = multipath.attach(two_paths("vol1"), two_paths("vol2", 2)).to_dict()
    assert predicted["device_path"]["vol1"] == done["device_path"]["vol1"]
    assert (predicted["actions"], predicted["diff"]) == (done["actions"], done["diff"])
    before = files(multipath.root)
    predicted = multipath.detach(two_paths("vol1"), two_paths("vol2", 2), check=True).to_dict()
    assert files(multipath.root) == before
    assert predicted == multipath.detach(two_paths("vol1"), two_paths("vol2", 2)).to_dict()


def test_credentials_that_fail_do_not_stay_in_an_operators_record(bench: Bench) -> None:
    bench.host.add_target((5, identity(5)), iqn=OTHER_IQN, password="right-password")
    text = "node.session.scan = auto\nnode.session.auth.password = operators-own\n# END RECORD\n"
    bench.host._put(f"/etc/iscsi/nodes/{OTHER_IQN}/192.0.2.10,3260", text)
    with pytest.raises(MigrationError, match="refused this host"):
        bench.attach(volume("vol5", 5, iqn=OTHER_IQN, password="wrong-password"))
    assert bench.host.record_text() == text


def test_without_multipathd_the_first_path_is_used(bench: Bench) -> None:
    result = bench.attach(two_paths("vol1")).to_dict()
    assert result["device_path"] == {"vol1": f"{BY_PATH}1"}
    assert "only the first of 2 paths is used" in result["warnings"][0]
    assert "warnings" not in bench.attach(volume("vol1", 1)).to_dict()
    bench.detach(two_paths("vol1"))
    assert bench.host.clean()


def libiscsi_volume(serial: str, lun: int, **kwargs: t.Any) -> dict[str, t.Any]:
    info = connection_info(lun, password="planted-secret")
    info["libvirt"] = {"secret_uuid": "x", "initiator_iqn": "iqn.2026-11.example:guest"}
    return {**volume(serial, lun, **kwargs), "connection_info": info, "initiator": "libiscsi"}


def test_a_libiscsi_volume_is_asked_and_not_attached(bench: Bench) -> None:
    bench.answers["vol1"] = Answer(identity=identity(1))
    result = bench.attach(libiscsi_volume("vol1", 1, expected=identity(1))).to_dict()
    assert not result["changed"]
    assert result["device_path"]["vol1"]["data"]["target_lun"] == 1
    assert result["volumes"]["vol1"]["identity"] == identity(1).to_dict()
    assert "planted-secret" not in json.dumps(result)
    assert bench.host.steps == []
    assert bench.detach(libiscsi_volume("vol1", 1)).to_dict()["device_path"] == {"vol1": None}


def test_a_libiscsi_volume_that_is_another_one_stops_before_anything_is_made(bench: Bench) -> None:
    bench.answers["vol1"] = Answer(identity=identity(9))
    with pytest.raises(MigrationError) as caught:
        bench.attach(libiscsi_volume("vol1", 1, expected=identity(1)), volume("vol2", 2))
    assert caught.value.error_id == "identity_mismatch"
    assert bench.host.steps == []


def test_a_libiscsi_volume_that_does_not_answer_is_an_error_in_a_run_alone(bench: Bench) -> None:
    with pytest.raises(MigrationError, match="nobody answers"):
        bench.attach(libiscsi_volume("vol1", 1))
    assert bench.attach(libiscsi_volume("vol1", 1), check=True).to_dict()["volumes"]["vol1"]["unproven"] is not None


def files(root: Path) -> dict[str, str]:
    return {str(path): path.read_text(errors="replace") if path.is_file() else "" for path in root.rglob("*")}


def test_check_mode_says_what_a_run_does_and_changes_nothing(bench: Bench) -> None:
    bench.host._put("/etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.2026-11.example:host\n")
    bench.attach(volume("vol1", 1), operation_id="old")
    bench.answers["vol2"] = Answer(identity=identity(2))
    before = files(bench.root)
    wanted = (volume("vol1", 1), volume("vol2", 2), volume("vol3", 3))
    predicted = bench.attach(*wanted, check=True).to_dict()
    assert files(bench.root) == before
    assert bench.asked == ["vol2", "vol3"]
    assert predicted["volumes"]["vol2"]["identity"] == identity(2).to_dict()
    assert predicted["volumes"]["vol3"]["identity"] is None
    assert predicted["volumes"]["vol3"]["unproven"] == "nobody answers"
    done = bench.attach(*wanted).to_dict()
    for key in ("changed", "actions", "device_path", "diff"):
        assert predicted[key] == done[key], key
    before = files(bench.root)
    predicted = bench.detach(*wanted, check=True).to_dict()
    assert files(bench.root) == before
    assert predicted == bench.detach(*wanted).to_dict()


def test_check_mode_refuses_another_volume(bench: Bench) -> None:
    bench.host._put("/etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.2026-11.example:host\n")
    bench.answers["vol1"] = Answer(identity=identity(9))
    with pytest.raises(MigrationError, match="another volume than expected"):
        bench.attach(volume("vol1", 1, expected=identity(1)), check=True)


@pytest.mark.parametrize("after", [False, True], ids=["before the step", "after the step"])
@pytest.mark.parametrize("step", range(1, 6))
def test_a_run_that_is_killed_anywhere_can_be_run_again_and_undone(bench: Bench, step: int, after: bool) -> None:
    bench.host.kill_at, bench.host.kill_after = step, after
    try:
        bench.attach(volume("vol1", 1), volume("vol2", 2))
    except Killed:
        pass
    else:
        assert step > 4
    bench.host.kill_at = None
    outcome = bench.attach(volume("vol1", 1, expected=identity(1)), volume("vol2", 2))
    assert set(outcome.to_dict()["device_path"]) == {"vol1", "vol2"}
    assert bench.restore().to_dict()["diff"]["after"] == {"vol1": "absent", "vol2": "absent"}
    assert bench.host.clean()
    assert not bench.restore().actions


@pytest.mark.parametrize("after", [False, True], ids=["before the step", "after the step"])
@pytest.mark.parametrize("step", range(1, 5))
def test_a_run_that_is_killed_anywhere_can_be_undone_at_once(bench: Bench, step: int, after: bool) -> None:
    bench.host.kill_at, bench.host.kill_after = step, after
    with pytest.raises(Killed):
        bench.attach(volume("vol1", 1), volume("vol2", 2))
    bench.host.kill_at = None
    bench.restore()
    assert bench.host.clean()
    assert list((bench.root / "records").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"serial": ""}, "empty serial"),
        ({"connection_info": {"driver_volume_type": "rbd", "data": {}}}, "only 'iscsi'"),
        ({"expected_identity": {"size_bytes": "much"}}, "expected_identity"),
    ],
)
def test_all_input_problems_at_once(change: dict[str, t.Any], problem: str) -> None:
    bad = {**volume("bad", 1), **change}
    with pytest.raises(InputError, match=problem) as caught:
        parse_requests([bad, volume("twice", 2), volume("twice", 2), volume("same-lun", 2)])
    assert any("twice: its serial is given twice" in text for text in caught.value.details["problems"])
    assert any("both name LUN 2" in text for text in caught.value.details["problems"])


def test_one_target_has_one_set_of_credentials() -> None:
    with pytest.raises(InputError, match="credentials"):
        parse_requests([volume("a", 1, password="one-password"), volume("b", 2, password="two-password")])
