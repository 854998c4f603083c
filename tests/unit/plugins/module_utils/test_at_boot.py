# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The list of volumes that come back at boot. That they do is tested on a host that restarts."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import at_boot
from ansible_collections.lunshift.migration.tests.unit.fake_host import IQN, PORTAL, Bench, Killed, identity, volume

BY_PATH = f"/dev/disk/by-path/ip-{PORTAL}-iscsi-{IQN}-lun-"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.host.add_target((1, identity(1)), (2, identity(2)), (16655, identity(3)))
    return bench


def files(bench: Bench) -> list[str]:
    """Everything that there is for the boot, directories too."""
    places = (Path(bench.host.at("/var/lib/lunshift-migration")), Path(bench.host.at("/usr/local")))
    found = [path for place in places for path in place.rglob("*")]
    return sorted(str(path)[len(bench.host.root) :] for path in found if path.is_symlink() or path.is_file())


def listed(bench: Bench) -> list[str]:
    return (bench.host.read(at_boot.LIST) or "").splitlines()


def test_volumes_come_on_the_list_and_go_with_a_detach(bench: Bench) -> None:
    outcome = bench.attach(volume("vol1", 1), volume("vol 3", 271), at_boot=True)
    assert listed(bench) == [
        f"{BY_PATH}1 192.0.2.10 3260 {IQN} 1 vol1",
        f"{BY_PATH}0x410f000000000000 192.0.2.10 3260 {IQN} 16655 vol 3",
    ]
    assert files(bench) == sorted([at_boot.LIST, at_boot.SCRIPT, at_boot.UNIT, at_boot.LINK])
    assert outcome.actions[-2:] == ["attach volume vol1 at boot", "attach volume vol 3 at boot"]
    assert outcome.to_dict()["diff"] == {
        "before": {"vol1": "absent", "vol 3": "absent"},
        "after": {"vol1": "attached, comes back at boot", "vol 3": "attached, comes back at boot"},
    }
    assert outcome.volumes["vol1"]["at_boot"]
    gone = bench.detach(volume("vol1", 1))
    assert gone.actions[0] == "no longer attach volume vol1 at boot"
    assert [line.rpartition(f"{IQN} ")[2] for line in listed(bench)] == ["16655 vol 3"]
    bench.detach(volume("vol 3", 271))
    assert files(bench) == []
    assert not bench.host.exists(at_boot.DIRECTORY)
    assert bench.host.clean()


def test_only_root_reads_what_is_run_and_nothing_secret_is_in_it(bench: Bench) -> None:
    bench.host.add_target((1, identity(1)), password="planted-secret")
    bench.attach(volume("vol1", 1, password="planted-secret"), at_boot=True)
    assert stat.S_IMODE(Path(bench.host.at(at_boot.LIST)).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(bench.host.at(at_boot.SCRIPT)).stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(bench.host.at(at_boot.UNIT)).stat().st_mode) == 0o644
    assert "planted-secret" in bench.host.record_text()
    assert "planted-secret" not in "".join(Path(bench.host.at(path)).read_text() for path in files(bench))


def test_again_nothing_changes_and_left_out_it_stays(bench: Bench) -> None:
    bench.attach(volume("vol1", 1), at_boot=True)
    for choice in (True, None):
        again = bench.attach(volume("vol1", 1), at_boot=choice)
        assert not again.to_dict()["changed"]
        assert again.volumes["vol1"]["at_boot"]
        assert again.before == again.after == {"vol1": "attached, comes back at boot"}
    off = bench.attach(volume("vol1", 1), at_boot=False)
    assert off.actions == ["no longer attach volume vol1 at boot"]
    assert files(bench) == []
    assert bench.host.disks() == ["sda"]


def test_check_mode_foretells_and_changes_nothing(bench: Bench) -> None:
    foretold = bench.attach(volume("vol1", 1), at_boot=True, check=True)
    assert files(bench) == []
    done = bench.attach(volume("vol1", 1), at_boot=True)
    assert (foretold.actions, foretold.before, foretold.after) == (done.actions, done.before, done.after)
    assert foretold.volumes["vol1"]["at_boot"]
    foretold = bench.detach(volume("vol1", 1), check=True)
    assert len(listed(bench)) == 1
    done = bench.detach(volume("vol1", 1))
    assert (foretold.actions, foretold.before, foretold.after) == (done.actions, done.before, done.after)


def test_a_volume_that_did_not_come_back_leaves_the_list_too(bench: Bench) -> None:
    bench.attach(volume("vol1", 1), volume("vol2", 2), at_boot=True)
    bench.host.write("/sys/devices/platform/host0/session0/target0:0:0/0:0:0:1/delete", "1")
    gone = bench.detach(volume("vol1", 1))
    assert gone.before == {"vol1": "absent, comes back at boot"}
    assert [line.split()[-1] for line in listed(bench)] == ["vol2"]


def test_what_is_in_use_stays_on_the_list(bench: Bench) -> None:
    bench.attach(volume("vol1", 1), at_boot=True)
    bench.host.mount("sda", "/srv")
    with pytest.raises(MigrationError, match="in use"):
        bench.detach(volume("vol1", 1))
    assert len(listed(bench)) == 1


def test_the_list_goes_before_the_devices(bench: Bench) -> None:
    """Killed at the first step of a detach: a host that restarts now does not bring the volume back."""
    bench.attach(volume("vol1", 1), at_boot=True)
    bench.host.kill_at = len(bench.host.steps) + 1
    with pytest.raises(Killed):
        bench.detach(volume("vol1", 1))
    assert bench.host.disks() == ["sda"]
    assert files(bench) == []


def test_a_restored_operation_is_not_at_boot_even_after_a_restart(bench: Bench) -> None:
    bench.attach(volume("vol1", 1), at_boot=True)
    # The restart: another boot, in which the unit has logged in again.
    bench.host._logout("0")
    bench.host._put("/proc/sys/kernel/random/boot_id", "boot-2")
    number = bench.host.add_session()
    bench.host.write(f"/sys/class/scsi_host/host{number}/scan", "0 0 1")
    restored = bench.restore()
    assert restored.before == {"vol1": "attached, comes back at boot"}
    assert files(bench) == []
    assert bench.host.clean()


def test_a_node_record_that_was_there_gets_manual_scanning(bench: Bench) -> None:
    bench.host.run(["iscsiadm", "-m", "node", "-T", IQN, "-p", PORTAL, "--op", "new"], 1)
    bench.host.add_session()
    foretold = bench.attach(volume("vol1", 1), at_boot=True, check=True)
    assert "node.session.scan = auto" in bench.host.record_text()
    done = bench.attach(volume("vol1", 1), at_boot=True)
    assert foretold.actions == done.actions
    assert f"set manual scanning in the node record for {IQN} at {PORTAL}" in done.actions
    assert "node.session.scan = manual" in bench.host.record_text()


def test_a_host_without_systemd_is_refused_before_anything(bench: Bench) -> None:
    shutil.rmtree(bench.host.at("/run/systemd"))
    with pytest.raises(MigrationError, match="needs systemd") as caught:
        bench.attach(volume("vol1", 1), at_boot=True)
    assert caught.value.error_id == "at_boot_unsupported"
    assert bench.host.steps == []


def test_the_script_is_one_for_any_posix_shell(tmp_path: Path) -> None:
    (tmp_path / "attach").write_text(at_boot.SCRIPT_TEXT)
    subprocess.run(["sh", "-n", tmp_path / "attach"], check=True)
