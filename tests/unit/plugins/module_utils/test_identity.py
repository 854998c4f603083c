# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The identity gate: what proves that two devices are one volume, what refuses, and what says nothing."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.content import compare_fingerprints, join_readings
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.gate import verdict
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from hypothesis import given
from hypothesis import strategies as st

# Cinder-like names of volumes; never compared with what a device says.
ONE, TWO = "58a84f6d-3f0c-4e19-a0af-eb657b790657", "1c2d3e4f-0000-4000-8000-000000000002"
MIB = 1024 * 1024


def identity(wwid: str | None = "naa.600140512345678", unit_serial: str | None = "LAB0001", **more: t.Any) -> dict[str, t.Any]:
    return {
        "wwid": wwid,
        "unit_serial": unit_serial,
        "vendor": "LUNSHIFT",
        "model": "LABVOL",
        "size_bytes": 64 * MIB,
        "logical_block_bytes": 512,
        "physical_block_bytes": 4096,
        **more,
    }


def second(**more: t.Any) -> dict[str, t.Any]:
    return identity("naa.600140587654321", "LAB0002", **more)


def judge(source: t.Any, destination: t.Any, **more: t.Any) -> tuple[str, str]:
    """The verdict of one volume and its reasons as text."""
    result = verdict({ONE: source}, {ONE: destination}, **more)
    volume = result["volumes"][ONE]
    assert result["ok"] == (volume["verdict"] in ("proven", "accepted"))
    assert result["error_id"] == {"mismatch": "identity_mismatch", "unproven": "identity_unproven"}.get(volume["verdict"])
    return volume["verdict"], "; ".join(volume["reasons"])


# --- single volumes


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (identity(), identity()),
        (identity(unit_serial=None), identity(unit_serial=None)),
        (identity(wwid=None), identity(wwid=None)),
        (identity(wwid="naa.60014051234ABCD"), identity(wwid="naa.60014051234abcd")),
        (identity(unit_serial="   LAB0001"), identity(unit_serial="LAB0001 \0\0")),
        (identity(wwid="t10.ATA     DISK    1", unit_serial=None), identity(wwid="t10.ATA DISK 1", unit_serial=None)),
        # tgt's unit serial is its default, the WWID was set.
        (identity(unit_serial="beaf11"), identity(unit_serial="beaf2101")),
        # and the other way round.
        (identity(wwid="naa.60000000000000000e00000000010001"), identity(wwid="naa.60000000000000000e00000000020065")),
    ],
)
def test_proven(source: dict[str, t.Any], destination: dict[str, t.Any]) -> None:
    assert judge(source, destination)[0] == "proven"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"wwid": "naa.600140512345679"}, "the WWIDs differ"),
        ({"unit_serial": "LAB0003"}, "the unit serials differ"),
        ({"size_bytes": 128 * MIB}, "size_bytes is 67108864 on the source, but 134217728 on the destination"),
        ({"logical_block_bytes": 4096}, "logical_block_bytes"),
        ({"physical_block_bytes": 512}, "physical_block_bytes"),
    ],
)
def test_mismatch_even_when_the_rest_agrees(change: dict[str, t.Any], reason: str) -> None:
    for accepted in ([], [ONE]):
        word, reasons = judge(identity(), identity(**change), accepted=accepted)
        assert word == "mismatch"
        assert reason in reasons


@pytest.mark.parametrize(
    ("source", "destination", "reason"),
    [
        (None, identity(), "not read on the source"),
        (identity(), None, "not read on the destination"),
        (identity(None, None), identity(None, None), "there is no WWID on the source"),
        (identity(None, None), identity(), "there is no unit serial on the source"),
        (identity(), identity(None, None), "there is no WWID on the destination"),
        (identity(None, "beaf11"), identity(None, "beaf11"), "default"),
        (identity(None, "LAB0001"), identity(None, "LAB0001", vendor="OTHER"), "vendor or model differ"),
        (identity(size_bytes=0), identity(), "size_bytes was not told"),
        (identity(physical_block_bytes=None), identity(), "physical_block_bytes was not told"),
    ],
)
def test_unproven_until_the_operator_accepts_it(source: t.Any, destination: t.Any, reason: str) -> None:
    word, reasons = judge(source, destination)
    assert word == "unproven"
    assert reason in reasons
    word, reasons = judge(source, destination, accepted=[ONE, "something else"])
    assert word == "accepted"
    assert "accepted by the operator" in reasons
    assert reason in reasons


@pytest.mark.parametrize(
    "wwid",
    [
        "naa.60000000000000000e00000000010001",  # tgt, target 1, LUN 1
        "naa.60000000000000000e0000000003012c",  # tgt, target 3, LUN 300
        "t10.IET     00010001",
        "naa.3000000300000005",
        "naa.60014050000000000000000000000000",
        "naa.60000000000000000000000000000000",
        "eui.0000000000000000",
        "t10.QEMU    QEMU HARDDISK   drive-scsi0-0-0-0",
        "t10.FREEBSD MYDEVID   0",
    ],
)
def test_wwids_that_targets_make_up(wwid: str) -> None:
    assert judge(identity(wwid, None), identity(wwid, None))[0] == "unproven"
    # Such an id differs between the hosts of one and the same volume.
    assert judge(identity(wwid), identity())[0] == "proven"


@pytest.mark.parametrize("unit_serial", ["beaf11", "beaf3300", "0", "00000000", "MYSERIAL   0", "    ", "none", "FFFF"])
def test_unit_serials_that_targets_make_up(unit_serial: str) -> None:
    assert judge(identity(None, unit_serial), identity(None, unit_serial))[0] == "unproven"
    assert judge(identity(unit_serial=unit_serial), identity())[0] == "proven"


@pytest.mark.parametrize(
    "wwid", ["naa.600000000000000000000000ab0000001", "naa.6001405aaaaaaaaaaaaaaaaaaaaaaaaa", "eui.0025385b71b0a1c2", "t10.NETAPP LUN abc"]
)
def test_wwids_that_count(wwid: str) -> None:
    assert judge(identity(wwid, None), identity(wwid, None))[0] == "proven"


# --- several volumes


def test_swapped_volumes_name_each_other() -> None:
    result = verdict({ONE: identity(), TWO: second()}, {ONE: second(), TWO: identity()})
    assert result["error_id"] == "identity_mismatch"
    assert f"is volume {TWO} of the source" in "; ".join(result["volumes"][ONE]["reasons"])
    assert f"is volume {ONE} of the source" in "; ".join(result["volumes"][TWO]["reasons"])


def test_mismatch_comes_before_unproven() -> None:
    result = verdict({ONE: identity(), TWO: None}, {ONE: identity("naa.600140599999999"), TWO: second()})
    assert (result["error_id"], result["ok"]) == ("identity_mismatch", False)
    assert [volume["verdict"] for volume in result["volumes"].values()] == ["unproven", "mismatch"]


def test_a_unit_serial_may_be_another_volumes_name() -> None:
    mine, other = identity("naa.600140511111111", TWO), identity("naa.600140522222222", ONE)
    assert verdict({ONE: mine, TWO: other}, {ONE: mine, TWO: other})["ok"]


@pytest.mark.parametrize("side", ["source", "destination"])
def test_ids_that_two_asked_volumes_share_do_not_count(side: str) -> None:
    both, apart = {ONE: identity(), TWO: identity()}, {ONE: identity(), TWO: second()}
    result = verdict(both, apart) if side == "source" else verdict(apart, both)
    assert {volume["verdict"] for volume in result["volumes"].values()} == {"unproven"}
    assert f"shared by several volumes of the {side}" in result["message"]


@pytest.mark.parametrize("side", ["source_luns", "destination_luns"])
def test_ids_that_another_visible_lun_has_do_not_count(side: str) -> None:
    assert judge(identity(), identity(), **{side: [identity(), identity(size_bytes=MIB)]})[0] == "unproven"
    assert judge(identity(), identity(), **{side: [identity(), second()]})[0] == "proven"
    # The unit serial is unique, so it proves alone.
    assert judge(identity(), identity(), **{side: [identity(), identity(unit_serial="LAB0009")]})[0] == "proven"


def test_paths_to_one_lun_are_no_duplicates() -> None:
    way = {"iqn": "iqn.2026-11.a:a", "lun": 1}
    luns = [{**identity(), "paths": [way]}, {**identity(), "paths": [way, {"iqn": "iqn.2026-11.a:b", "lun": 1}]}]
    assert judge(identity(), identity(), source_luns=luns)[0] == "proven"
    luns.append({**identity(), "paths": [{"iqn": "iqn.2026-11.a:a", "lun": 2}]})
    assert judge(identity(), identity(), source_luns=luns)[0] == "unproven"


def test_a_stale_disk_does_not_make_ids_shared() -> None:
    def lun(*nodes: str) -> dict[str, t.Any]:
        return {**identity(), "paths": [{"iqn": "iqn.2026-11.a:a", "lun": 273, "node": node} for node in nodes]}

    assert judge(identity(), identity(), destination_luns=[lun("sdc"), identity()])[0] == "unproven"
    assert judge(identity(), identity(), destination_luns=[lun("sdc"), identity()], destination_stale=["/dev/sdc"])[0] == "proven"
    # One of its paths is what it says.
    assert judge(identity(), identity(), destination_luns=[lun("sdc", "sdd"), identity()], destination_stale=["/dev/sdc"])[0] == "unproven"


def test_nothing_to_compare_is_fine() -> None:
    assert verdict({}, {}) == {"ok": True, "error_id": None, "volumes": {}, "table": [], "message": ""}


def test_table_and_message_show_what_was_seen_where() -> None:
    result = verdict({ONE: identity()}, {ONE: identity(wwid="naa.5\x1b[2J", size_bytes=MIB)})
    assert [row["field"] for row in result["table"]] == list(identity())
    assert result["table"][4] == {"serial": ONE, "field": "size_bytes", "source": 64 * MIB, "destination": MIB}
    lines = result["message"].splitlines()
    assert lines[0].startswith(f"volume {ONE}: mismatch (size_bytes is")
    assert [line[0] for line in lines[2:]] == ["!", " ", " ", " ", "!", " ", " "]
    assert len({line.index(shown) for line, shown in zip(lines[1:4], ("destination", "naa.5?[2J", "LAB0001   "))}) <= 2
    assert "\x1b" not in result["message"]
    json.dumps(result)


def test_identity_survives_json() -> None:
    here = Identity.from_dict(identity())
    assert Identity.from_dict(json.loads(json.dumps(here.to_dict()))) == here
    assert Identity.from_dict({**identity(), "paths": []}) == here


# --- content

Sample = dict[t.Any, list[t.Optional[str]]]


def sample(count: int = 8, word: str = "a", readings: int = 2) -> Sample:
    return {offset * 4096: [f"{word}{offset}"] * readings for offset in range(count)}


def test_enough_blocks_of_its_own_prove() -> None:
    assert compare_fingerprints(sample(), sample(), []) == "proves"
    assert compare_fingerprints(sample(), sample(), [sample(word="b")]) == "proves"
    assert compare_fingerprints(sample(), {str(offset): digests for offset, digests in sample().items()}, []) == "proves"


@pytest.mark.parametrize(
    "fingerprint",
    [
        sample(7),
        {offset: [None, None] for offset in range(64)},
        {**sample(7), 28672: [None, None]},  # zeros prove nothing, be they equal
        {offset: ["same", "same"] for offset in range(64)},  # a pattern that any volume may be filled with
        {offset: [f"a{offset}", f"b{offset}"] for offset in range(64)},  # the guest is writing
        sample(readings=1),
        {},
    ],
)
def test_too_little_says_nothing(fingerprint: Sample) -> None:
    assert compare_fingerprints(fingerprint, fingerprint, []) == "says_nothing"


def test_one_steady_block_that_differs_refuses() -> None:
    assert compare_fingerprints(sample(64), {**sample(64), 4096: ["x", "x"]}, []) == "differs"
    assert compare_fingerprints(sample(64), {**sample(64), 4096: [None, None]}, []) == "differs"


@pytest.mark.parametrize("changed", [["x", "a1"], ["a1", "x"], ["x", "y"]])
def test_a_block_that_changed_does_not_count(changed: list[str | None]) -> None:
    for source, destination in ((sample(9), {**sample(9), 4096: changed}), ({**sample(9), 4096: changed}, sample(9))):
        assert compare_fingerprints(source, destination, []) == "proves"


def test_blocks_that_another_volume_has_do_not_prove() -> None:
    clone = sample(8)
    assert compare_fingerprints(sample(), sample(), [clone]) == "says_nothing"
    assert compare_fingerprints(sample(), sample(), [{**sample(word="b"), 0: ["b", "a0"]}]) == "says_nothing"
    assert compare_fingerprints(sample(), sample(), [sample(7, "b")]) == "says_nothing", "one block of the other was not read"
    assert compare_fingerprints(sample(9), sample(9), [{**sample(9, "b"), 0: ["a0", "a0"]}]) == "proves"


def test_source_is_read_before_and_after() -> None:
    """A block that the guest writes between the source's readings is no difference."""
    before, after = {"v": {"0": ["old", "old"]}}, {"v": {"0": ["new", "new"]}}
    assert join_readings([before["v"], after["v"]]) == {"0": ["old", "old", "new", "new"]}
    readings = {"source": [before, after], "destination": [{"v": {"0": ["new", "new"]}}]}
    result = verdict({"v": identity(None, None)}, {"v": identity(None, None)}, fingerprints=readings)
    assert result["volumes"]["v"]["verdict"] == "unproven"


def test_a_block_missing_from_one_reading_is_left_out() -> None:
    assert join_readings([{"0": ["a"], "1": ["b"]}, {"1": ["c"]}]) == {"1": ["b", "c"]}
    assert join_readings([]) == {}


def readings(source: Sample, destination: Sample, **others: Sample) -> dict[str, t.Any]:
    return {"source": [{ONE: source, **others}], "destination": [{ONE: destination, **others}]}


NO_IDS = identity("naa.60000000000000000e00000000010001", "beaf11")


def test_content_proves_what_ids_cannot() -> None:
    assert judge(NO_IDS, NO_IDS, fingerprints=readings(sample(), sample()))[0] == "proven"
    assert judge(NO_IDS, NO_IDS, fingerprints=readings(sample(), sample(), other=sample(word="b")))[0] == "proven"


def test_content_proves_nothing_while_another_visible_volume_was_not_sampled() -> None:
    word, reasons = judge(NO_IDS, NO_IDS, fingerprints=readings(sample(), sample()), destination_luns=[NO_IDS, second()])
    assert (word, "not every volume of the destination was sampled" in reasons) == ("unproven", True)


def test_a_volume_that_qemu_opens_itself_is_not_among_the_kernels_luns() -> None:
    other = {**NO_IDS, "unit_serial": "beaf99"}
    agreeing = readings(sample(), sample(), other=sample(word="b"))
    assert judge(NO_IDS, NO_IDS, fingerprints=agreeing, source_luns=[other])[0] == "proven"
    assert judge(NO_IDS, NO_IDS, fingerprints=agreeing, source_luns=[other, second()])[0] == "unproven"
    # and it shares an id with one of them.
    assert judge(identity(), identity(), source_luns=[identity(size_bytes=MIB)])[0] == "unproven"


def test_content_does_not_replace_sizes() -> None:
    assert judge({**NO_IDS, "size_bytes": 0}, NO_IDS, fingerprints=readings(sample(), sample()))[0] == "unproven"
    assert judge({**NO_IDS, "size_bytes": 1}, NO_IDS, fingerprints=readings(sample(), sample()))[0] == "mismatch"


def test_content_refuses_whatever_the_ids_say() -> None:
    for each in (NO_IDS, identity()):
        word, reasons = judge(each, each, fingerprints=readings(sample(), sample(word="b")), accepted=[ONE])
        assert (word, "samples of the content differ" in reasons) == ("mismatch", True)


# --- for all inputs

IDS = st.sampled_from([None, "", "beaf11", "naa.6001405aaa", "naa.6001405bbb", "naa.3000000100000001", "A", "B1", "B2"])
IDENTITIES = st.none() | st.builds(identity, IDS, IDS, size_bytes=st.sampled_from([0, 1, 2]), vendor=st.sampled_from(["x", "y"]))
SEEN = st.dictionaries(st.sampled_from([ONE, TWO, "three"]), IDENTITIES)


@given(SEEN, SEEN, st.lists(st.sampled_from([ONE, TWO])), st.lists(IDENTITIES.filter(bool), max_size=3))
def test_proof_needs_equal_sizes_and_an_equal_id(source: t.Any, destination: t.Any, accepted: list[str], luns: t.Any) -> None:
    result = verdict(source, destination, accepted, luns, luns)
    assert set(result["volumes"]) == {*source, *destination}
    for serial, volume in result["volumes"].items():
        mine, other = source.get(serial), destination.get(serial)
        if volume["verdict"] == "proven":
            assert mine["size_bytes"] == other["size_bytes"] > 0
            assert mine["wwid"] == other["wwid"] or (mine["unit_serial"], mine["vendor"]) == (other["unit_serial"], other["vendor"])
        if volume["verdict"] == "accepted":
            assert serial in accepted
        assert volume["reasons"]
    assert result["ok"] == all(volume["verdict"] in ("proven", "accepted") for volume in result["volumes"].values())
