# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._migration import hand_over
from ansible_collections.lunshift.migration.plugins.module_utils._migration import plan as planning

UUID = "6c1f3b7e-9f0d-4f53-9d52-0c4ed3a6a001"
RUNNING = {"state": "running", "reason": "booted", "code": 1, "reason_code": 1}
BY_PATH = "/dev/disk/by-path/ip-10.0.0.1:3260-iscsi-iqn.2026-11.org.example:hosta-lun-3"


def block_disk(target: str, serial: str | None, source: str = BY_PATH) -> str:
    named = f"<serial>{serial}</serial>" if serial else ""
    return f"<disk type='block' device='disk'><source dev='{source}'/><target dev='{target}' bus='virtio'/>{named}</disk>"


def network_disk(target: str, serial: str) -> str:
    return (
        "<disk type='network' device='disk'><source protocol='iscsi' name='iqn.2026-11.org.example:hosta/5'>"
        "<host name='fd00::1' port='3261'/><initiator><iqn name='iqn.2026-11.org.example:init'/></initiator></source>"
        f"<target dev='{target}' bus='virtio'/><serial>{serial}</serial></disk>"
    )


def domain_xml(*disks: str) -> str:
    return f"<domain type='kvm'><name>web1</name><uuid>{UUID}</uuid><devices>{''.join(disks)}</devices></domain>"


def domain(*disks: str, inactive: str | None = None, **more: object) -> dict:
    xml = domain_xml(*disks)
    return {
        "exists": True,
        "name": "web1",
        "uuid": UUID,
        "state": RUNNING,
        "job": {"active": False, "operation": None},
        "xml": xml,
        "inactive_xml": inactive if inactive is not None else xml,
        "blockers": [],
        "cautions": [],
        **more,
    }


ABSENT = {"exists": False, "name": "web1", "uuid": None}


def make_plan(source: dict, destination: dict | None = None, **more: object) -> dict:
    arguments: dict = {
        "source_name": "hosta",
        "destination_name": "hostb",
        "source_connections": {},
        "overrides": {},
        "destination_initiator": "same",
        "allow_nova_managed": False,
    }
    arguments.update(more)
    return planning.plan(source=source, destination=destination or ABSENT, **arguments)


def test_plan_names_volumes_and_how_the_source_reaches_them():
    result = make_plan(domain(block_disk("vda", "one"), network_disk("vdb", "two")))
    assert result["action"] == "migrate"
    assert result["problems"] == []
    assert [(volume["key"], volume["target"], volume["source_initiator"]) for volume in result["volumes"]] == [
        ("one", "vda", "kernel"),
        ("two", "vdb", "libiscsi"),
    ]
    assert result["source_connections"]["one"]["data"] == {
        "target_portal": "10.0.0.1:3260",
        "target_iqn": "iqn.2026-11.org.example:hosta",
        "target_lun": 3,
    }
    assert result["source_connections"]["two"] == {
        "driver_volume_type": "iscsi",
        "data": {"target_portal": "[fd00::1]:3261", "target_iqn": "iqn.2026-11.org.example:hosta", "target_lun": 5},
        "libvirt": {"initiator_iqn": "iqn.2026-11.org.example:init"},
    }


def test_lun_above_255_is_read_from_its_by_path_name():
    name = BY_PATH.replace("lun-3", "lun-0x410f000000000000")
    (disk,) = make_plan(domain(block_disk("vda", "one", name)))["source_connections"].values()
    assert disk["data"]["target_lun"] == 0x410F


def test_all_problems_are_told_at_once():
    source = domain(
        block_disk("vda", "one"),
        block_disk("vdb", None),
        blockers=[{"id": "snapshots", "message": "the domain has snapshots"}, {"id": "nova_managed", "message": "Nova manages it"}],
    )
    other = {"exists": True, "name": "web1", "uuid": "another", "state": {"state": "shutoff", "reason": "unknown"}}
    problems = make_plan(source, other)["problems"]
    for words in ("hosta: the domain has snapshots", "hosta: Nova manages it", "hostb: another domain has the name", "vdb"):
        assert any(words in problem for problem in problems), words
    assert not any("vda" in problem for problem in problems)


def test_post_copy_that_the_destination_cannot_do_is_a_problem_when_it_was_allowed():
    destination = {**ABSENT, "postcopy_problem": "post-copy would be refused; set it"}
    assert make_plan(domain(block_disk("vda", "one")), destination, postcopy=True)["problems"] == [
        "hostb: post-copy would be refused; set it"
    ]
    assert make_plan(domain(block_disk("vda", "one")), destination)["problems"] == []
    assert make_plan(domain(block_disk("vda", "one")), {**ABSENT, "postcopy_problem": None}, postcopy=True)["problems"] == []


def test_a_post_copy_that_broke_is_told_and_neither_followed_nor_begun_again():
    broken = domain(block_disk("vda", "one"), job=MOVING, switchover={**NOTE, "mode": "direct"})
    broken["state"] = {"state": "paused", "reason": "postcopy_failed", "code": 3, "reason_code": 13}
    result = make_plan(broken, {**domain(), "state": {"state": "shutoff", "reason": "crashed", "code": 5, "reason_code": 3}})
    assert result["action"] == "none"
    assert "web1 is LOST" in result["problems"][0]
    assert "virsh destroy web1" in result["problems"][0]


def test_nova_managed_domain_only_when_the_operator_insists():
    source = domain(block_disk("vda", "one"), blockers=[{"id": "nova_managed", "message": "Nova manages it"}])
    assert make_plan(source)["problems"] != []
    assert make_plan(source, allow_nova_managed=True)["problems"] == []


def test_override_names_a_volume_whose_serial_does_not():
    result = make_plan(domain(block_disk("vda", None)), overrides={"vda": "volume-9"})
    assert result["problems"] == []
    assert [volume["key"] for volume in result["volumes"]] == ["volume-9"]


def test_a_connection_that_contradicts_the_domain_is_a_problem():
    told = {
        "driver_volume_type": "iscsi",
        "data": {"target_portal": "10.0.0.1", "target_iqn": "iqn.2026-11.org.example:hosta", "target_lun": 4},
    }
    (problem,) = make_plan(domain(block_disk("vda", "one")), source_connections={"one": told})["problems"]
    assert "hosta" in problem and "vda" in problem and BY_PATH in problem
    told["data"]["target_lun"] = 3
    assert make_plan(domain(block_disk("vda", "one")), source_connections={"one": told})["problems"] == []


def test_a_domain_that_moved_already_only_needs_the_source_cleaned():
    result = make_plan(ABSENT, domain(block_disk("vda", "one")), source_connections={"one": {"known": True}})
    assert result["action"] == "finish"
    assert result["source_connections"] == {"one": {"known": True}}


NOTE = {"mode": "guarded", "resume": True, "uuid": UUID}
MOVING = {"active": True, "operation": "migration_out"}


def test_a_running_job_of_ours_is_followed_and_another_one_is_not():
    busy = [{"id": "job_running", "message": "a job runs"}]
    ours = make_plan(domain(block_disk("vda", "one"), job=MOVING, switchover=NOTE, blockers=busy))
    assert (ours["action"], ours["problems"], [volume["key"] for volume in ours["volumes"]]) == ("follow", [], ["one"])
    for job, note in ((MOVING, None), ({"active": True, "operation": "save"}, NOTE)):
        other = make_plan(domain(block_disk("vda", "one"), job=job, switchover=note, blockers=busy))
        assert (other["action"], other["problems"]) == ("migrate", ["hosta: a job runs"])


def _state(state: str, reason: str) -> dict:
    return {"state": {"state": state, "reason": reason}}


@pytest.mark.parametrize(
    ("source", "destination", "permit"),
    [
        ({**ABSENT, "switchover": NOTE}, domain(block_disk("vda", "one"), **_state("paused", "user")), "resume_destination"),
        (
            domain(block_disk("vda", "one"), switchover=NOTE, **_state("running", "migration_canceled")),
            domain(block_disk("vda", "one"), **_state("paused", "user")),
            "remove_destination",
        ),
        (
            domain(block_disk("vda", "one"), **_state("running", "migration_canceled")),
            domain(block_disk("vda", "one"), **_state("running", "migrated")),
            "remove_source",
        ),
    ],
)
def test_what_was_left_half_done_is_ended_before_anything_else(source: dict, destination: dict, permit: str):
    result = make_plan(source, destination)
    assert (result["action"], result["problems"], [volume["key"] for volume in result["volumes"]]) == ("settle", [], ["one"])
    assert result["outcome"]["permits"][permit] is True


def test_a_domain_that_nobody_has_is_a_problem():
    result = make_plan(ABSENT, ABSENT)
    assert result["action"] == "none"
    assert "neither on hosta nor on hostb" in result["problems"][0]


def test_a_domain_that_is_halted_on_the_destination_is_not_called_gone():
    (problem,) = make_plan(ABSENT, domain(block_disk("vda", "one"), **_state("paused", "ioerror")))["problems"]
    assert "halted there: paused (ioerror)" in problem
    assert "virsh resume web1" in problem


def test_a_stale_definition_on_the_destination_is_refused():
    stale = {"exists": True, "name": "web1", "uuid": UUID, "state": {"state": "shutoff", "reason": "shutdown"}, "job": {"active": False}}
    (problem,) = make_plan(domain(block_disk("vda", "one")), stale)["problems"]
    assert "hostb" in problem and "undefine" in problem


def test_a_disk_of_the_next_boot_is_mapped_but_not_attached():
    source = domain(block_disk("vda", "one"), inactive=domain_xml(block_disk("vda", "one"), block_disk("vdb", "two")))
    result = make_plan(source)
    assert [(volume["key"], volume["live"]) for volume in result["volumes"]] == [("one", True), ("two", False)]
    connections = {
        key: {
            "driver_volume_type": "iscsi",
            "data": {"target_portal": "10.0.0.1", "target_iqn": "iqn.2026-11.org.example:hostb", "target_lun": lun},
        }
        for key, lun in (("one", 7), ("two", 8))
    }
    mapped = hand_over.device_map(result, {"one": "/dev/attached"}, connections, {}, source["inactive_xml"])
    assert mapped["map"] == {
        "one": "/dev/attached",
        "two": "/dev/disk/by-path/ip-10.0.0.1:3260-iscsi-iqn.2026-11.org.example:hostb-lun-8",
    }


def test_a_map_that_is_not_there_yet_is_named_after_the_sources_volume():
    result = make_plan(domain(block_disk("vda", "one") + block_disk("vdb", "two", "/dev/sdb")))
    identities = {"one": {"wwid": "naa.6001"}, "two": {"wwid": "t10.x"}}
    mapped = hand_over.device_map(result, {"one": None, "two": None}, {}, {}, domain_xml(), identities=identities)
    assert mapped["map"] == {"one": "/dev/disk/by-id/dm-uuid-mpath-36001", "two": "/dev/disk/by-id/dm-uuid-mpath-unknown-yet-two"}


def test_device_map_holds_no_secret():
    result = make_plan(domain(block_disk("vda", "one"), inactive=domain_xml(network_disk("vdb", "two"))))
    info = {
        "driver_volume_type": "iscsi",
        "data": {
            "target_portal": "10.0.0.1",
            "target_iqn": "iqn.2026-11.org.example:hostb",
            "target_lun": 8,
            "auth_method": "CHAP",
            "auth_username": "user",
            "auth_password": "planted-secret",
        },
    }
    mapped = hand_over.device_map(result, {"one": "/dev/attached"}, {"two": info}, {}, domain_xml())
    assert "planted-secret" not in str(mapped)
    assert mapped["map"]["two"]["data"]["auth_username"] == "user"


def lun(node: str, **more: object) -> dict:
    path = {
        "node": node,
        "portal": "10.0.0.1:3260",
        "iqn": "iqn.2026-11.org.example:hosta",
        "lun": 3,
        "by_path": [BY_PATH],
        "by_id": ["/dev/disk/by-id/wwn-1"],
    }
    identity = {"wwid": "naa.1", "unit_serial": "s", "vendor": "v", "model": "m"}
    sizes = {"size_bytes": 1, "logical_block_bytes": 512, "physical_block_bytes": 512}
    return {**identity, **sizes, "multipath": None, "paths": [path], **more}


@pytest.mark.parametrize("used", [BY_PATH, "/dev/disk/by-id/wwn-1", "/dev/sda"])
def test_source_identity_is_that_of_the_device_in_use(used: str):
    result = make_plan(domain(block_disk("vda", "one", used)))
    side = hand_over.source_side(result, {"luns": [lun("sda")], "volumes": {}})
    assert side["identities"]["one"]["wwid"] == "naa.1"
    assert side["connections"]["one"]["data"]["target_lun"] == 3
    assert side["problems"] == []


def test_source_device_behind_a_map_is_found_with_all_its_paths():
    multipath = {"name": "mpatha", "device": "/dev/dm-0", "uuid": "mpath-31"}
    both = lun("sda", multipath=multipath)
    both["paths"].append({**both["paths"][0], "node": "sdb", "portal": "10.0.0.2:3260"})
    result = make_plan(domain(block_disk("vda", "one", "/dev/disk/by-id/dm-uuid-mpath-31")))
    side = hand_over.source_side(result, {"luns": [both], "volumes": {}})
    assert side["connections"]["one"]["data"]["target_portals"] == ["10.0.0.1:3260", "10.0.0.2:3260"]


def test_source_device_that_is_not_there_is_a_problem():
    result = make_plan(domain(block_disk("vda", "one", "/dev/vg/lv")))
    side = hand_over.source_side(result, {"luns": [lun("sda")], "volumes": {}})
    assert side["identities"] == {"one": None}
    assert "/dev/vg/lv" in side["problems"][0]


def test_requests_name_every_volume_without_connection_info():
    volumes = make_plan(domain(block_disk("vda", "one"), network_disk("vdb", "two")))["volumes"]
    with pytest.raises(InputError) as caught:
        hand_over.volume_requests(volumes, {}, side="destination", host="hostb")
    assert caught.value.error_id == "missing_connection"
    assert len(caught.value.details["problems"]) == 2
    assert hand_over.volume_requests(volumes, {"two": {"x": 1}}, side="source", host="hosta", skip_unknown=True) == [
        {"serial": "two", "connection_info": {"x": 1}, "initiator": "libiscsi"}
    ]


@pytest.mark.parametrize(
    ("used", "given", "expected"),
    [
        ("0.0.0.0", {}, {}),
        ("127.0.0.1", {}, {}),
        ("10.0.0.11", {}, {"vnc": "10.0.0.12"}),
        ("10.0.0.11", {"vnc": "10.9.9.9"}, {"vnc": "10.9.9.9"}),
        (None, {}, {}),
    ],
)
def test_listen_address_changes_only_when_it_is_the_sources_alone(used, given, expected):
    assert hand_over.listen_addresses({"vnc": used}, given, {"vnc": "10.0.0.12"}) == expected


def test_an_override_counts_only_for_the_definition_that_has_its_disk():
    source = domain(block_disk("vda", None), inactive=domain_xml(block_disk("vda", None), block_disk("vdb", None)))
    overrides = {"vda": "volume-1", "vdb": "volume-2"}
    result = make_plan(source, overrides=overrides)
    assert result["problems"] == []
    info = {
        "driver_volume_type": "iscsi",
        "data": {"target_portal": "10.0.0.1", "target_iqn": "iqn.2026-11.org.example:b", "target_lun": 1},
    }
    paths, connections = {"volume-1": "/dev/attached"}, {"volume-2": info}
    assert set(hand_over.device_map(result, paths, connections, overrides, source["xml"])["overrides"]) == {"vda"}
    assert set(hand_over.device_map(result, paths, connections, overrides, source["inactive_xml"])["overrides"]) == {"vda", "vdb"}


def test_an_override_of_no_disk_is_a_problem():
    (problem,) = make_plan(domain(block_disk("vda", "one")), overrides={"vdx": "volume-1"})["problems"]
    assert "vdx" in problem


CDROM = "<disk type='file' device='cdrom'><source file='/a.iso'/><target dev='sda' bus='sata'/></disk>"
CHAIN = block_disk("vda", "one").replace(
    "<target", "<backingStore type='block'><source dev='/dev/sdx'/><backingStore/></backingStore><target"
)


def test_a_medium_that_the_destination_lacks_is_told_or_left_out():
    lacking = {**ABSENT, "missing_files": ["/a.iso"]}
    (problem,) = make_plan(domain(CDROM), lacking)["problems"]
    assert problem.startswith("hostb: there is no file /a.iso, which disk sda stands on")
    assert "live_migrate_eject: [sda]" in problem
    assert make_plan(domain(CDROM), lacking, eject=["sda"])["problems"] == []
    assert make_plan(domain(CDROM), {**ABSENT, "missing_files": []})["problems"] == []


def test_only_drives_that_exist_can_be_ejected():
    (problem,) = make_plan(domain(CDROM), eject=["sdb"])["problems"]
    assert problem == "live_migrate_eject names sdb, but no disk has that target dev"
    assert make_plan(domain(CDROM, inactive=domain_xml()), eject=["sda"])["problems"] == []


def test_an_image_below_a_disk_needs_an_override():
    (problem,) = make_plan(domain(CHAIN))["problems"]
    assert "disk vda[1]" in problem
    assert "give an override for target dev vda[1]" in problem
    result = make_plan(domain(CHAIN), overrides={"vda[1]": "base"})
    assert result["problems"] == []
    assert [(volume["key"], volume["target"], volume["source_path"]) for volume in result["volumes"]] == [
        ("one", "vda", BY_PATH),
        ("base", "vda[1]", "/dev/sdx"),
    ]


def test_secrets_that_the_destination_lacks_are_told_before_anything_is_exported():
    encrypted = block_disk("vda", "one").replace(
        "<target", "<encryption format='luks'><secret type='passphrase' usage='key'/></encryption><target"
    )
    chap = {"target_portal": "10.0.0.1:3260", "target_iqn": "iqn.2026-11.a:b", "target_lun": 1, "auth_method": "CHAP", "auth_username": "u"}
    connections = {"two": {"driver_volume_type": "iscsi", "data": chap, "libvirt": {"secret_usage": "chap-b"}}}
    without = make_plan(domain(encrypted, network_disk("vdb", "two")), {**ABSENT, "secrets": []}, destination_connections=connections)
    assert [problem.split(" there, ")[0] for problem in without["problems"]] == [
        "hostb: libvirt has no secret of type volume with usage key",
        "hostb: libvirt has no secret of type iscsi with usage chap-b",
    ]
    known = [{"uuid": "a", "usage_type": "volume", "usage": "key"}, {"uuid": "b", "usage_type": "iscsi", "usage": "chap-b"}]
    has_them = make_plan(domain(encrypted, network_disk("vdb", "two")), {**ABSENT, "secrets": known}, destination_connections=connections)
    assert has_them["problems"] == []


@pytest.mark.parametrize(("image", "untold"), [("raw", False), ("qcow2", True), ("qcow2_with_an_end", False)])
def test_a_chain_of_which_the_domain_says_nothing_is_asked_for(image: str, untold: bool):
    end = "<backingStore/>" if image.endswith("end") else ""
    disk = block_disk("vda", "one").replace("<target", f"<driver type='{image.split('_')[0]}'/>{end}<target")
    assert [volume["chain_untold"] for volume in make_plan(domain(disk))["volumes"]] == [untold]


@pytest.mark.parametrize(("named", "told"), [(True, "(volume one) stands on another"), (None, "it cannot be told whether"), (False, None)])
def test_an_image_that_only_a_header_names_is_refused(named, told):
    disk = block_disk("vda", "one").replace("<target", "<driver type='qcow2'/><target")
    devices = {"luns": [], "volumes": {"one": {"names_backing_image": named}}}
    found = hand_over.source_side(make_plan(domain(disk)), devices)["hidden_images"]
    assert [told in message for message in found] == ([True] if told else [])


def test_the_names_under_which_domains_have_a_volume():
    paths = {"target_portals": ["10.0.0.1:3260", "[fd00::1]:3260"], "target_iqns": ["iqn.2026-11.a:b"] * 2, "target_luns": [3, 3]}
    info = {"driver_volume_type": "iscsi", "data": {**paths, "auth_method": "CHAP", "auth_username": "u"}}
    requests = [{"serial": kind, "connection_info": info, "initiator": kind} for kind in ("kernel", "libiscsi")]
    assert hand_over.disk_places(requests) == {
        "kernel": [
            "/dev/disk/by-path/ip-10.0.0.1:3260-iscsi-iqn.2026-11.a:b-lun-3",
            "/dev/disk/by-path/ip-fd00::1:3260-iscsi-iqn.2026-11.a:b-lun-3",
        ],
        "libiscsi": ["iqn.2026-11.a:b/3", "iqn.2026-11.a:b/3"],
    }


def test_a_disk_that_would_lose_writes_is_told_or_refused() -> None:
    caution = {"id": "error_policy", "message": "disk vda has no error_policy='stop'"}
    other = {"id": "disk_error", "message": "disk vda has an I/O error now"}
    source = domain(block_disk("vda", "one"), cautions=[caution, other])
    told = make_plan(source, require_error_policy=False)
    assert (told["problems"], told["warnings"]) == ([], [f"hosta: {caution['message']}", f"hosta: {other['message']}"])
    refused = make_plan(source, require_error_policy=True)
    assert (refused["problems"], refused["warnings"]) == ([f"hosta: {caution['message']}"], [f"hosta: {other['message']}"])
