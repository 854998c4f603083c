# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._command import (
    RC_NOT_FOUND,
    RC_TIMED_OUT,
    CommandResult,
    has_command,
    run_command,
)
from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import Chap
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import iscsiadm, node_record
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.session import Target
from ansible_collections.lunshift.migration.tests.unit.fake_host import FakeHost

TARGET = Target("192.0.2.10", 3260, "iqn.2026-11.example:hostb")
NODE = ["iscsiadm", "-m", "node", "-T", TARGET.iqn, "-p", "192.0.2.10:3260", "-I", "default"]


class Answering(FakeHost):
    """Gives one prepared answer to every command."""

    def __init__(self, root: Path, rc: int, stderr: str = "") -> None:
        super().__init__(root)
        self._answer = CommandResult(rc, "", stderr)

    def run(self, argv: object, timeout_s: float) -> CommandResult:
        self.commands.append(list(argv))  # type: ignore[call-overload]
        return self._answer


def test_commands_are_lists_for_one_interface(tmp_path: Path) -> None:
    host = Answering(tmp_path, 0)
    iscsiadm.create_node(host, TARGET)
    iscsiadm.login(host, TARGET, 5)
    iscsiadm.logout(host, TARGET, 7, 5)
    iscsiadm.delete_node(host, TARGET)
    assert host.commands == [
        [*NODE, "--op", "new"],
        [*NODE, "--login"],
        ["iscsiadm", "-m", "session", "-r", "7", "--logout"],
        [*NODE, "--op", "delete"],
    ]


def test_an_ipv6_portal_has_brackets(tmp_path: Path) -> None:
    host = Answering(tmp_path, 0)
    iscsiadm.login(host, Target("fd00::1", 3261, TARGET.iqn), 5)
    assert "[fd00::1]:3261" in host.commands[0]


@pytest.mark.parametrize(
    ("rc", "meaning"),
    [
        (8, "did not answer in time"),
        (18, "iscsid did not answer"),
        (19, "refused the login for good"),
        (24, "refused this host"),
        (RC_NOT_FOUND, "install the package open-iscsi"),
        (RC_TIMED_OUT, "raise 'timeout'"),
    ],
)
def test_an_exit_code_becomes_cause_and_remedy(tmp_path: Path, rc: int, meaning: str) -> None:
    with pytest.raises(MigrationError, match=meaning) as caught:
        iscsiadm.login(Answering(tmp_path, rc, "iscsiadm: so\n it  said"), TARGET, 5)
    assert str(caught.value).startswith("iqn.2026-11.example:hostb at 192.0.2.10:3260: 'iscsiadm -m node")
    assert "(it said: iscsiadm: so it said)" in str(caught.value)


def test_an_unknown_exit_code_gives_what_the_tool_said(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="ended with 9: odd"):
        iscsiadm.login(Answering(tmp_path, 9, "odd"), TARGET, 5)
    with pytest.raises(MigrationError, match="it said nothing"):
        iscsiadm.login(Answering(tmp_path, 9), TARGET, 5)


def test_what_is_done_already_is_no_error(tmp_path: Path) -> None:
    iscsiadm.login(Answering(tmp_path, iscsiadm.RC_SESSION_EXISTS), TARGET, 5)
    iscsiadm.delete_node(Answering(tmp_path, iscsiadm.RC_NO_RECORD), TARGET)
    for rc in (2, 21, 22):
        iscsiadm.logout(Answering(tmp_path, rc), TARGET, 7, 5)


RECORD = "# BEGIN RECORD 2.1.8\nnode.name = x\nnode.startup = automatic\nnode.session.scan = auto\n# END RECORD\n"


@pytest.mark.parametrize(
    "name",
    [
        "etc/iscsi/nodes/{iqn}/192.0.2.10,3260",
        "etc/iscsi/nodes/{iqn}/192.0.2.10,3260,1/default",
        "var/lib/iscsi/nodes/{iqn}/192.0.2.10,3260,1/default",
    ],
)
def test_the_record_is_found_where_distributions_keep_it(tmp_path: Path, name: str) -> None:
    file = tmp_path / name.format(iqn=TARGET.iqn)
    file.parent.mkdir(parents=True)
    file.write_text(RECORD)
    assert node_record.find(FakeHost(tmp_path), TARGET) == f"/{file.relative_to(tmp_path)}"


@pytest.mark.parametrize("name", ["192.0.2.10,32601", "192.0.2.101,3260", "192.0.2.10,3260,1/iface1"])
def test_the_record_of_another_portal_or_interface_is_not_taken(tmp_path: Path, name: str) -> None:
    file = tmp_path / "etc/iscsi/nodes" / TARGET.iqn / name
    file.parent.mkdir(parents=True)
    file.write_text(RECORD)
    assert node_record.find(FakeHost(tmp_path), TARGET) is None


def test_a_change_keeps_the_rest_and_the_mode(tmp_path: Path) -> None:
    host = FakeHost(tmp_path)
    file = tmp_path / "etc/iscsi/nodes" / TARGET.iqn / "192.0.2.10,3260"
    file.parent.mkdir(parents=True)
    file.write_text(RECORD)
    values = {node_record.SCAN: "manual", **node_record.chap_settings(Chap("user", "secret = with # odd"))}
    node_record.change(host, f"/{file.relative_to(tmp_path)}", values)
    assert file.read_text() == (
        "# BEGIN RECORD 2.1.8\nnode.name = x\nnode.startup = automatic\nnode.session.scan = manual\n"
        "node.session.auth.authmethod = CHAP\nnode.session.auth.username = user\nnode.session.auth.password = secret = with # odd\n"
        "# END RECORD\n"
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "etc/iscsi").iterdir()] == ["nodes"]
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_both_directions_of_chap_stand_in_the_record() -> None:
    text = node_record.edited("# END RECORD\n", node_record.chap_settings(Chap("user", "ours", "array", "theirs")))
    assert text.splitlines() == [
        "node.session.auth.authmethod = CHAP",
        "node.session.auth.username = user",
        "node.session.auth.password = ours",
        "node.session.auth.username_in = array",
        "node.session.auth.password_in = theirs",
        "# END RECORD",
    ]


def test_a_database_that_is_a_mount_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_paths: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    file = tmp_path / "etc/iscsi/nodes" / TARGET.iqn / "192.0.2.10,3260"
    file.parent.mkdir(parents=True)
    file.write_text(RECORD + "# a longer old end\n" * 20)
    file.chmod(0o600)
    monkeypatch.setattr(os, "replace", refuse)
    node_record.change(FakeHost(tmp_path), f"/{file.relative_to(tmp_path)}", {node_record.SCAN: "manual"})
    assert "node.session.scan = manual\n" in file.read_text()
    assert file.read_text().endswith("# a longer old end\n")
    assert [path.name for path in (tmp_path / "etc/iscsi").iterdir()] == ["nodes"]
    monkeypatch.undo()
    node_record._write(str(file), "short\n")
    assert file.read_text() == "short\n"


def test_a_changed_secret_replaces_the_old_one() -> None:
    once = node_record.edited(RECORD, {"node.session.auth.password": "old"})
    twice = node_record.edited(once, {"node.session.auth.password": "new"})
    assert "old" not in twice
    assert twice.count("node.session.auth.password = new\n") == 1


def test_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "record").write_text(RECORD)
    names = (node_record.SCAN, node_record.STARTUP, "node.none")
    found = node_record.settings(FakeHost(tmp_path), "/record", names)
    assert found == {node_record.SCAN: "auto", node_record.STARTUP: "automatic"}


def test_a_command_runs_in_the_c_locale_without_input() -> None:
    result = run_command([sys.executable, "-c", "import os,sys; print(os.environ['LC_ALL'], sys.stdin.read()); sys.exit(3)"], 20)
    assert (result.rc, result.stdout) == (3, "C \n")


def test_a_command_that_is_not_there() -> None:
    result = run_command(["lunshift-no-such-command"], 5)
    assert (result.rc, result.stderr) == (RC_NOT_FOUND, "lunshift-no-such-command: command not found")
    assert not has_command("lunshift-no-such-command")
    assert has_command("sh")


def test_a_command_that_does_not_end_is_given_up() -> None:
    before_s = time.monotonic()
    result = run_command(["sleep", "30"], 0.1)
    assert result.rc == RC_TIMED_OUT
    assert time.monotonic() - before_s < 10
    assert threading.active_count() < 50
