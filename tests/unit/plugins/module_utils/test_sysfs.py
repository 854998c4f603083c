# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import parse
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import sysfs
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.sysfs import Holder

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmark"))
from synthetic_sysfs import SyntheticSysfs, node_name, with_luns

A, B = "iqn.2026-11.org.example:target-a", "iqn.2026-11.org.example:target-b"
WWID_1, WWID_2 = "60000000000000004c554e5300000001", "60000000000000004c554e5300000002"
MAP_1 = f"mpath-3{WWID_1}"


@pytest.fixture
def tree(tmp_path):
    return SyntheticSysfs(tmp_path)


def gather(tree, *connections):
    return sysfs.gather(str(tree.root), connections)


def connection(*paths):
    portals, iqns, luns = zip(*paths)
    return parse(
        "vol",
        {"driver_volume_type": "iscsi", "data": {"target_portals": list(portals), "target_iqns": list(iqns), "target_luns": list(luns)}},
    )


def nodes(inventory):
    return sorted(tuple(path.node for path in lun.paths) for lun in inventory.luns)


def test_empty_host(tree):
    assert gather(tree) == sysfs.Inventory((), ())
    assert sysfs.gather(str(tree.root / "nothing")) == sysfs.Inventory((), ())


def test_session_and_lun(tree):
    tree.add_session(3, A)
    tree.add_lun("sda", 3, 7, wwid=WWID_1, serial="unit-7")
    inventory = gather(tree)
    (session,) = inventory.sessions
    assert session == sysfs.Session(3, "LOGGED_IN", A, 1, (("192.0.2.10", 3260),), "default", 4)
    assert session.portal == "192.0.2.10:3260"
    (lun,) = inventory.luns
    assert lun.identity.to_dict() == {
        "wwid": f"naa.{WWID_1}",
        "unit_serial": "unit-7",
        "vendor": "LUNSHIFT",
        "model": "VOLUME",
        "size_bytes": 64 << 20,
        "logical_block_bytes": 512,
        "physical_block_bytes": 4096,
    }
    (path,) = lun.paths
    assert (path.node, path.hctl, path.lun, path.state, path.usable) == ("sda", "4:0:0:7", 7, "running", True)
    assert path.by_path == (f"/dev/disk/by-path/ip-192.0.2.10:3260-iscsi-{A}-lun-7",)
    assert path.by_id == (f"/dev/disk/by-id/scsi-3{WWID_1}-sda",)
    assert lun.multipath is None
    assert lun.holders == ()


def test_found_by_portal_iqn_and_lun_together(tree):
    tree.add_session(1, A)
    tree.add_session(2, B, "192.0.2.11")
    tree.add_lun("sda", 1, 1)
    tree.add_lun("sdb", 1, 2, wwid=WWID_2)
    tree.add_lun("sdc", 2, 1, wwid=WWID_1)
    wanted = {
        "right": connection(("192.0.2.10:3260", A, 2)),
        "other_portal": connection(("192.0.2.11:3260", A, 2)),
        "other_port": connection(("192.0.2.10:860", A, 2)),
        "other_iqn": connection(("192.0.2.10:3260", B, 2)),
        "other_lun": connection(("192.0.2.10:3260", A, 3)),
    }
    found = sysfs.find(gather(tree), wanted)
    assert {serial: [device.node for device in devices] for serial, devices in found.items() if devices} == {"right": ["sdb"]}


def test_ipv6_portal_in_any_spelling(tree):
    tree.add_session(1, A, "fd00:78:2::1", now="fd00:0078:0002:0000:0000:0000:0000:0001")
    tree.add_lun("sda", 1, 1)
    inventory = gather(tree)
    assert inventory.sessions[0].portals == (("fd00:78:2::1", 3260),)
    assert inventory.sessions[0].portal == "[fd00:78:2::1]:3260"
    assert sysfs.find(inventory, {"vol": connection(("[fd00:78:2:0::1]:3260", A, 1))})["vol"][0].node == "sda"
    assert inventory.luns[0].paths[0].by_path == (f"/dev/disk/by-path/ip-fd00:78:2::1:3260-iscsi-{A}-lun-1",)


def test_redirected_session_is_found_by_both_portals(tree):
    tree.add_session(1, A, "192.0.2.10", now="192.0.2.77")
    tree.add_lun("sda", 1, 1)
    inventory = gather(tree)
    for address in ("192.0.2.10", "192.0.2.77"):
        assert sysfs.find(inventory, {"vol": connection((address, A, 1))})["vol"]
    assert inventory.sessions[0].portal == "192.0.2.10:3260", "udev's link has the configured one"


def test_lun_above_255(tree):
    tree.add_session(1, A)
    tree.add_lun("sda", 1, 16655, by_path="0x410f000000000000")
    tree.add_lun("sdb", 1, 271, by_path="0x010f000000000000", wwid=WWID_2)
    found = sysfs.find(gather(tree), {"flat": connection(("192.0.2.10", A, 16655)), "plain": connection(("192.0.2.10", A, 271))})
    assert [device.node for device in found["flat"]] == ["sda"]
    assert [device.node for device in found["plain"]] == ["sdb"], "another LUN by the standard, whatever some targets make of it"


def test_multipath_map(tree):
    tree.add_session(1, A)
    tree.add_session(2, A, "192.0.2.11")
    tree.add_lun("sda", 1, 1, wwid=WWID_1)
    tree.add_lun("sdb", 2, 1, wwid=WWID_1)
    tree.add_dm("dm-0", MAP_1, f"3{WWID_1}", ["sda", "sdb"])
    inventory = gather(tree)
    (lun,) = inventory.luns
    assert [path.node for path in lun.paths] == ["sda", "sdb"]
    assert lun.multipath == sysfs.Multipath(f"3{WWID_1}", "/dev/dm-0", MAP_1, (f"/dev/disk/by-id/dm-uuid-{MAP_1}",))
    assert lun.holders == ()


def test_paths_of_one_target_are_one_lun_without_a_map(tree):
    tree.add_session(1, A)
    tree.add_session(2, A, "192.0.2.11")
    tree.add_lun("sda", 1, 1)
    tree.add_lun("sdb", 2, 1)
    assert nodes(gather(tree)) == [("sda", "sdb")]


def test_paths_over_two_targets_are_one_lun_by_map_or_connection(tree):
    tree.add_session(1, A)
    tree.add_session(2, B, "192.0.2.11")
    tree.add_lun("sda", 1, 1)
    tree.add_lun("sdb", 2, 5)
    assert nodes(gather(tree)) == [("sda",), ("sdb",)]
    assert nodes(gather(tree, connection(("192.0.2.10", A, 1), ("192.0.2.11", B, 5)))) == [("sda", "sdb")]
    tree.add_dm("dm-0", MAP_1, "m", ["sda", "sdb"])
    assert nodes(gather(tree)) == [("sda", "sdb")]


def test_what_looks_different_is_never_one_lun(tree):
    tree.add_session(1, A)
    tree.add_session(2, B, "192.0.2.11")
    tree.add_lun("sda", 1, 1, wwid=WWID_1)
    tree.add_lun("sdb", 2, 5, wwid=WWID_2)
    assert nodes(gather(tree, connection(("192.0.2.10", A, 1), ("192.0.2.11", B, 5)))) == [("sda",), ("sdb",)]


def test_two_luns_of_one_target_stay_apart_even_in_one_map(tree):
    """An array that gives every LUN the same WWID makes multipath join different volumes."""
    tree.add_session(1, A)
    tree.add_lun("sda", 1, 1)
    tree.add_lun("sdb", 1, 2)
    tree.add_dm("dm-0", MAP_1, "m", ["sda", "sdb"])
    inventory = gather(tree, connection(("192.0.2.10", A, 1), ("192.0.2.10", A, 2)))
    assert nodes(inventory) == [("sda",), ("sdb",)]
    assert {lun.identity for lun in inventory.luns} == {inventory.luns[0].identity}, "duplicates that the identity gate sees"


def test_stale_path_is_no_path_of_the_new_volume(tree):
    tree.add_session(1, A)
    tree.add_session(2, A, "192.0.2.11")
    tree.add_lun("sda", 1, 1, wwid=WWID_1)
    tree.add_lun("sdb", 2, 1, wwid=WWID_2)
    assert nodes(gather(tree, connection(("192.0.2.10", A, 1), ("192.0.2.11", A, 1)))) == [("sda",), ("sdb",)]


def test_another_number_at_each_portal(tree):
    """Without a connection info that says so it could be two volumes with one WWID."""
    tree.add_session(1, A)
    tree.add_session(2, A, address="192.0.2.11")
    tree.add_lun("sda", 1, 1, wwid=WWID_1)
    tree.add_lun("sdb", 2, 7, wwid=WWID_1)
    tree.add_lun("sdc", 2, 9, wwid=WWID_1)
    assert nodes(gather(tree)) == [("sda",), ("sdb",), ("sdc",)]
    assert nodes(gather(tree, connection(("192.0.2.10", A, 1), ("192.0.2.11", A, 7)))) == [("sda", "sdb"), ("sdc",)]
    assert nodes(gather(tree, connection(("192.0.2.11", A, 7), ("192.0.2.11", A, 9)))) == [("sda",), ("sdb",), ("sdc",)]


def test_holders(tree):
    tree.add_session(1, A)
    for number, node in enumerate(("sda", "sdb", "sdc", "sdd", "sde")):
        tree.add_lun(node, 1, number, wwid=f"{number:032x}")
    tree.add_partition("sda", 1)
    tree.mount("sda1", "/srv/with\\040blank")
    tree.add_dm("dm-0", "LVM-abc", "vg-data", ["sdb"])
    tree.mount("dm-0", "/data")
    tree.add_dm("dm-1", MAP_1, "map1", ["sdc"])
    tree.add_dm("dm-2", f"part1-{MAP_1}", "map1-part1", ["dm-1"])
    tree.mount("dm-2", "/part")
    tree.write("proc/swaps", "Filename Type Size Used Priority\n/dev/sdd partition 1 0 -2\n")
    tree.add_virtual("md0", ["sde"])
    tree.mount("sdzz", "/elsewhere")
    by_node = {lun.node: lun.holders for lun in gather(tree).luns}
    assert by_node["sda"] == (Holder("mount", "/srv/with blank"),)
    assert by_node["sdb"] == (Holder("lvm", "vg-data"), Holder("mount", "/data"))
    assert by_node["sdc"] == (Holder("part1", "map1-part1"), Holder("mount", "/part"))
    assert by_node["sdd"] == (Holder("swap", "/dev/sdd"),)
    assert by_node["sde"] == (Holder("md", "md0"),)


def test_unusable_paths(tree):
    tree.add_session(1, A, state="FAILED")
    tree.add_session(2, B)
    tree.add_lun("sda", 1, 1)
    tree.add_lun("sdb", 2, 1, state="transport-offline", wwid=WWID_2)
    assert [path.usable for lun in gather(tree).luns for path in lun.paths] == [False, False]


def test_no_pages_no_ids(tree):
    tree.add_session(1, A)
    tree.add_lun("sda", 1, 1)
    for page in ("vpd_pg80", "vpd_pg83"):
        (tree.root / "sys/class/block/sda/device" / page).unlink()
    (lun,) = gather(tree).luns
    assert lun.identity == replace(lun.identity, wwid=None, unit_serial=None)


def test_other_devices_are_left_out(tree):
    tree.add_session(1, A)
    tree.link("sys/class/block/sdx", "sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sdx")
    tree.link("sys/class/block/vda", "sys/devices/pci0000:00/virtio2/block/vda")
    tree.link("sys/class/block/loop0", "sys/devices/virtual/block/loop0")
    assert gather(tree).luns == ()


@pytest.mark.parametrize(
    "gone",
    [
        "sys/class/iscsi_session/session1/targetname",
        "sys/class/iscsi_session/session1",
        "sys/class/block/sda/size",
        "sys/class/block/sda/queue/logical_block_size",
        "sys/class/block/sda",
    ],
)
def test_what_vanishes_while_it_is_read_is_left_out(tree, gone):
    tree.add_session(1, A)
    tree.add_session(2, B)
    tree.add_lun("sda", 1, 1)
    tree.add_lun("sdb", 2, 1, wwid=WWID_2)
    (tree.root / gone).unlink()
    assert nodes(gather(tree)) == [("sdb",)]


def test_read_errors_are_no_error(tree):
    """A device that is being deleted answers some attributes with an I/O error; a directory does the like here."""
    tree.add_session(1, A)
    tree.add_lun("sda", 1, 1)
    page = tree.root / "sys/class/block/sda/device/vpd_pg80"
    page.unlink()
    page.mkdir()
    assert gather(tree).luns[0].identity.unit_serial is None


def test_session_without_a_connection(tree):
    tree.add_session(1, A)
    tree.add_lun("sda", 1, 1)
    (tree.root / "sys/class/iscsi_connection/connection1:0").unlink()
    inventory = gather(tree)
    assert inventory.sessions[0].portal == ""
    assert inventory.luns[0].paths[0].session.portals == ()


def test_unset_attributes(tree):
    tree.add_session(1, A)
    session = tree.root / "sys/class/iscsi_session/session1"
    (session / "ifacename").write_text("(null)\n")
    (session / "tpgt").write_text("(null)\n")
    assert (gather(tree).sessions[0].interface, gather(tree).sessions[0].tpgt) == (None, None)


def test_node_names():
    assert [node_name(number) for number in (0, 25, 26, 701, 702)] == ["sda", "sdz", "sdaa", "sdzz", "sdaaa"]


def test_files_read_per_lun_do_not_grow_with_their_number(tmp_path, monkeypatch):
    """The shape of linear time, without a clock."""
    counts = {}
    original = os.open
    for luns in (20, 80):
        with_luns(tmp_path / str(luns), luns)
        opened = []
        monkeypatch.setattr(os, "open", lambda *args, opened=opened, **kwargs: (opened.append(args[0]), original(*args, **kwargs))[1])
        assert len(sysfs.gather(str(tmp_path / str(luns))).luns) == luns
        monkeypatch.setattr(os, "open", original)
        counts[luns] = len(opened)
        assert not any("password" in str(path) for path in opened), "sysfs shows CHAP passwords to root; nobody has to read them"
    assert (counts[80] - counts[20]) / 60 <= 8
