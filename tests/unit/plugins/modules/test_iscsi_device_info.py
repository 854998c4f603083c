# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import probe, sampling
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.device_info import device_info
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.modules import iscsi_device_info

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmark"))
from synthetic_sysfs import SyntheticSysfs

A, B = "iqn.2026-11.org.example:target-a", "iqn.2026-11.org.example:target-b"
WWID = "60000000000000004c554e5300000001"
IDENTITY = Identity(f"naa.{WWID}", "unit-1", "LUNSHIFT", "VOLUME", 64 << 20, 512, 4096)
DOCUMENTED = yaml.safe_load(iscsi_device_info.RETURN)


def info(lun=1, iqn=A, portal="192.0.2.10:3260", **data):
    return {"driver_volume_type": "iscsi", "data": {"target_portal": portal, "target_iqn": iqn, "target_lun": lun, **data}}


class Host:
    """A synthetic host, and a target that answers as told."""

    def __init__(self, tree, capsys, monkeypatch):
        self.tree = tree
        self.answers, self.asked = {}, []
        self.sampled = []
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def _ask(self, questions):
        self.asked += questions
        return {question.serial: self.answers.get(question.serial, probe.Answer(problem="not exported")) for question in questions}

    def _sample(self, sizes, devices, questions, identities, root):
        self.sampled.append((sorted(sizes), sorted(devices), sorted(question.serial for question in questions)))
        names = [*devices, *(question.serial for question in questions)]
        return sampling.Samples({name: {"0": [None, "x"]} for name in names}, {})

    def run(self, **arguments):
        replaced = functools.partial(device_info, root=str(self.tree.root), ask=self._ask, sample=self._sample)
        self._monkeypatch.setattr(iscsi_device_info, "device_info", replaced)
        with patch_module_args(arguments), pytest.raises(SystemExit):
            iscsi_device_info.main()
        self.output = self._capsys.readouterr().out
        return json.loads(self.output)


@pytest.fixture
def host(tmp_path, capsys, monkeypatch):
    tree = SyntheticSysfs(tmp_path)
    tree.write("etc/iscsi/initiatorname.iscsi", "InitiatorName=iqn.2026-11.org.example:host\n")
    tree.add_session(1, A)
    return Host(tree, capsys, monkeypatch)


def assert_documented(value, documented, where="result"):
    """Every key of a result stands in RETURN, at any depth that RETURN describes."""
    for key, each in value.items():
        assert key in documented, f"{where}.{key} is not documented"
        contains = documented[key].get("contains")
        items = each if isinstance(each, list) else [each]
        if where == "result" and key in ("volumes",):
            items = list(each.values())
        for item in items:
            if contains and isinstance(item, dict):
                assert_documented(item, contains, f"{where}.{key}")


def test_bare_call(host):
    host.tree.add_lun("sda", 1, 1, wwid=WWID)
    result = host.run()
    assert (result["volumes"], result["device_path"]) == ({}, {})
    assert result["initiator_name"] == "iqn.2026-11.org.example:host" == result["connector"]["initiator"]
    assert [session["portal"] for session in result["sessions"]] == ["192.0.2.10:3260"]
    assert result["luns"][0]["wwid"] == f"naa.{WWID}"
    assert result.get("changed", False) is False


def test_everything_is_documented(host):
    host.tree.add_session(2, A, "192.0.2.11")
    host.tree.add_lun("sda", 1, 1, wwid=WWID)
    host.tree.add_lun("sdb", 2, 1, wwid=WWID)
    host.tree.add_dm("dm-0", f"mpath-3{WWID}", "m", ["sda", "sdb"])
    host.tree.add_dm("dm-1", "LVM-x", "vg-lv", ["dm-0"])
    host.answers["far"] = probe.Answer(identity=IDENTITY)
    result = host.run(volumes={"near": info(), "far": info(2)}, fingerprint=["near"])
    result.pop("invocation", None)
    assert_documented(result, DOCUMENTED)
    assert set(result) >= set(DOCUMENTED)
    assert set(result["luns"][0]) == set(DOCUMENTED["luns"]["contains"])
    assert all(set(volume) == set(DOCUMENTED["volumes"]["contains"]) for volume in result["volumes"].values())


def test_attached_volume(host):
    host.tree.add_lun("sda", 1, 1, wwid=WWID)
    result = host.run(volumes={"vol": info()})
    path = f"/dev/disk/by-path/ip-192.0.2.10:3260-iscsi-{A}-lun-1"
    assert result["device_path"] == {"vol": path}
    assert result["volumes"]["vol"] == {
        "initiator": "kernel",
        "attached": True,
        "device_path": path,
        "predicted_device_path": None,
        "identity": IDENTITY.to_dict(),
        "identity_source": "sysfs",
        "problem": None,
        "fingerprint": None,
        "names_backing_image": None,
    }
    assert host.asked == [], "sysfs knows enough"


def test_multipath_volume(host):
    host.tree.add_session(2, A, "192.0.2.11")
    host.tree.add_lun("sda", 1, 1, wwid=WWID)
    host.tree.add_lun("sdb", 2, 1, wwid=WWID)
    host.tree.add_dm("dm-0", f"mpath-3{WWID}", f"3{WWID}", ["sda", "sdb"])
    result = host.run(volumes={"vol": info()})
    assert result["device_path"] == {"vol": f"/dev/disk/by-id/dm-uuid-mpath-3{WWID}"}


def test_volume_that_is_not_attached_is_asked_for(host):
    host.answers["vol"] = probe.Answer(identity=IDENTITY)
    result = host.run(volumes={"vol": info(271)})
    volume = result["volumes"]["vol"]
    assert (volume["attached"], volume["identity"], volume["identity_source"]) == (False, IDENTITY.to_dict(), "session")
    assert volume["predicted_device_path"] == f"/dev/disk/by-path/ip-192.0.2.10:3260-iscsi-{A}-lun-0x010f000000000000"
    assert result["device_path"] == {}, "nothing that could be opened"
    assert host.asked[0].initiator_iqn == "iqn.2026-11.org.example:host"


def test_predicted_path_with_multipath(host):
    host.tree.write("run/multipathd.pid", "77")
    host.tree.write("proc/77/comm", "multipathd")
    host.answers = {serial: probe.Answer(identity=IDENTITY) for serial in ("one", "two")}
    two = info(target_portals=["192.0.2.10", "192.0.2.11"], target_iqns=[A, A], target_luns=[2, 2])
    volumes = host.run(volumes={"one": info(1), "two": two})["volumes"]
    assert volumes["one"]["predicted_device_path"].startswith("/dev/disk/by-path/")
    assert volumes["two"]["predicted_device_path"] == f"/dev/disk/by-id/dm-uuid-mpath-3{WWID}"


def test_no_probe(host):
    volume = host.run(volumes={"vol": info()}, probe=False)["volumes"]["vol"]
    assert (volume["identity"], volume["problem"], volume["attached"]) == (None, None, False)
    assert host.asked == []


def test_problem_of_the_target_is_told(host):
    result = host.run(volumes={"vol": info()})
    assert result["volumes"]["vol"]["problem"] == "not exported"
    assert result["device_path"] == {}


def test_libiscsi_volume_is_asked_for_even_when_a_device_is_there(host):
    host.tree.add_lun("sda", 1, 1, wwid=WWID)
    host.answers["vol"] = probe.Answer(identity=IDENTITY)
    connection_info = {
        **info(auth_method="CHAP", auth_username="user", auth_password="planted-secret-1"),
        "libvirt": {"initiator_iqn": "iqn.2026-11.org.example:guest", "secret_usage": "chap"},
    }
    result = host.run(volumes={"vol": connection_info}, libiscsi_serials=["vol"])
    assert result["volumes"]["vol"]["initiator"] == "libiscsi"
    assert result["volumes"]["vol"]["predicted_device_path"] is None
    shown = {**info(auth_method="CHAP", auth_username="user"), "libvirt": connection_info["libvirt"]}
    assert result["device_path"] == {"vol": shown}
    assert host.asked[0].initiator_iqn == "iqn.2026-11.org.example:guest"
    assert host.asked[0].connection.chap.password == "planted-secret-1"
    assert "planted-secret-1" not in host.output


def test_libiscsi_volume_with_a_problem_is_not_in_the_map(host):
    assert host.run(volumes={"vol": info()}, libiscsi_serials=["vol"])["device_path"] == {}


def test_libiscsi_volume_is_in_the_map_when_nobody_asks(host):
    assert host.run(volumes={"vol": info()}, libiscsi_serials=["vol"], probe=False)["device_path"] == {"vol": info()}


def test_no_initiator_name(host):
    (host.tree.root / "etc/iscsi/initiatorname.iscsi").unlink()
    result = host.run(volumes={"vol": info()})
    assert result["initiator_name"] is None
    assert "no initiator name is known" in result["volumes"]["vol"]["problem"]


def test_link_that_leads_elsewhere_is_not_handed_out(host):
    """A by-path link that exists proves nothing: Linux leaves stale ones behind."""
    host.tree.add_lun("sda", 1, 1, wwid=WWID)
    link = host.tree.root / f"dev/disk/by-path/ip-192.0.2.10:3260-iscsi-{A}-lun-1"
    link.unlink()
    host.tree.link(str(link.relative_to(host.tree.root)), "dev/sdz")
    result = host.run(volumes={"vol": info()})
    assert result["device_path"] == {}
    assert "udev has made no link in /dev/disk/by-path to sda" in result["volumes"]["vol"]["problem"]


def test_map_without_its_link(host):
    host.tree.add_lun("sda", 1, 1, wwid=WWID)
    host.tree.add_dm("dm-0", f"mpath-3{WWID}", "m", ["sda"])
    (host.tree.root / f"dev/disk/by-id/dm-uuid-mpath-3{WWID}").unlink()
    assert "to multipath map m" in host.run(volumes={"vol": info()})["volumes"]["vol"]["problem"]


@pytest.mark.parametrize(("session", "device"), [("FAILED", "running"), ("LOGGED_IN", "transport-offline")])
def test_no_usable_path(host, session, device):
    host.tree.add_session(2, B, state=session)
    host.tree.add_lun("sda", 2, 1, state=device)
    result = host.run(volumes={"vol": info(iqn=B)})
    problem = result["volumes"]["vol"]["problem"]
    assert result["device_path"] == {}
    assert f"sda is {device}" in problem
    assert f"is {session}" in problem


def test_usable_path_is_preferred(host):
    host.tree.add_session(2, A, "192.0.2.11")
    host.tree.add_lun("sda", 1, 1, wwid=WWID, state="transport-offline")
    host.tree.add_lun("sdb", 2, 1, wwid=WWID)
    both = info(target_portals=["192.0.2.10", "192.0.2.11"], target_iqns=[A, A], target_luns=[1, 1])
    result = host.run(volumes={"vol": both})
    assert result["device_path"] == {"vol": f"/dev/disk/by-path/ip-192.0.2.11:3260-iscsi-{A}-lun-1"}
    assert result["volumes"]["vol"]["problem"] is None


def test_device_without_size(host):
    host.tree.add_lun("sda", 1, 1, size_bytes=0)
    assert "has no size yet" in host.run(volumes={"vol": info()})["volumes"]["vol"]["problem"]


def test_paths_that_show_different_volumes(host):
    host.tree.add_session(2, A, "192.0.2.11")
    host.tree.add_lun("sda", 1, 1, wwid=WWID)
    host.tree.add_lun("sdb", 2, 1, wwid=f"{5:032x}")
    both = info(target_portals=["192.0.2.10", "192.0.2.11"], target_iqns=[A, A], target_luns=[1, 1])
    result = host.run(volumes={"vol": both})
    assert "look like different volumes" in result["volumes"]["vol"]["problem"]
    assert result["device_path"] == {}


def test_fingerprints_of_everything_that_is_visible(host):
    host.tree.add_lun("sda", 1, 1, wwid=WWID)
    host.tree.add_lun("sdb", 1, 2, wwid=f"{5:032x}")
    host.answers["far"] = probe.Answer(identity=IDENTITY)
    result = host.run(volumes={"near": info(), "far": info(7, B), "absent": info(8, B)}, fingerprint=["near", "far"])
    assert host.sampled == [([64 << 20, 64 << 20], ["near", "sdb"], ["far"])]
    sampled = {"0": [None, "x"]}
    assert {serial: volume["fingerprint"] for serial, volume in result["volumes"].items()} == {
        "near": sampled,
        "far": sampled,
        "absent": None,
    }
    of_luns = {lun["paths"][0]["node"]: lun["fingerprint"] for lun in result["luns"]}
    assert of_luns == {"sda": None, "sdb": sampled}, "a volume must not count as its own double"


def test_no_fingerprint_unless_asked(host):
    host.tree.add_lun("sda", 1, 1)
    host.run(volumes={"vol": info()})
    assert host.sampled == []


def test_all_problems_of_the_options_at_once(host):
    result = host.run(
        volumes={"a": info(1), "b": info(1), "c": {"driver_volume_type": "rbd", "data": {}}, "d": "text"},
        libiscsi_serials=["x", "a"],
        fingerprint=["y"],
    )
    assert result["failed"] is True
    assert result["error_id"] == "invalid_input"
    text = result["msg"]
    assert "volumes a and b have the same connection: LUN 1" in text
    assert "volume c: driver_volume_type is 'rbd'" in text
    assert "volume d: its connection info is no mapping" in text
    assert "libiscsi_serials names volumes that are not in volumes: x" in text
    assert "fingerprint names volumes that are not in volumes: y" in text
    assert host.asked == []


def test_check_mode_makes_no_difference(host):
    host.tree.add_lun("sda", 1, 1)
    first = host.run(volumes={"vol": info()})
    assert host.run(volumes={"vol": info()}, _ansible_check_mode=True) == first


def test_no_command_is_run(host):
    """A password cannot show in the list of processes, and nothing costs a process per LUN."""
    events = []
    watching = [True]
    started = ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "pty.spawn")
    sys.addaudithook(lambda event, _arguments: events.append(event) if watching and event in started else None)
    host.tree.add_lun("sda", 1, 1)
    host.run(volumes={"vol": info(), "other": info(2)})
    watching.clear()
    assert events == []


def test_nothing_is_written(host):
    host.tree.add_lun("sda", 1, 1)
    before = {path: path.lstat() for path in sorted(host.tree.root.rglob("*"))}
    host.run(volumes={"vol": info(), "other": info(2)})
    after = {path: path.lstat() for path in sorted(host.tree.root.rglob("*"))}
    assert [(path, stat.st_mtime_ns, stat.st_size) for path, stat in before.items()] == [
        (path, stat.st_mtime_ns, stat.st_size) for path, stat in after.items()
    ]
