# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import threading
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils import _follow as follow_module
from ansible_collections.lunshift.migration.plugins.module_utils import _leased_job
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection, open_connection
from ansible_collections.lunshift.migration.plugins.module_utils._migration import job as job_module
from ansible_collections.lunshift.migration.plugins.module_utils._migration import migrate as migrate_module
from ansible_collections.lunshift.migration.plugins.module_utils._migration import switchover as switchover_module
from ansible_collections.lunshift.migration.plugins.module_utils._migration.controls import Controls
from ansible_collections.lunshift.migration.plugins.module_utils._migration.failures import remedy
from ansible_collections.lunshift.migration.plugins.module_utils._migration.method import Method
from ansible_collections.lunshift.migration.plugins.module_utils._migration.migrate import Migration
from ansible_collections.lunshift.migration.plugins.module_utils._migration.prepare import Request
from ansible_collections.lunshift.migration.plugins.module_utils._migration.statistics import progress
from ansible_collections.lunshift.migration.plugins.module_utils._migration.switchover import Note, read_note, remove_note, write_note
from ansible_collections.lunshift.migration.plugins.module_utils._operation import Move
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import (
    DESTINATION,
    DESTINATION_PATH,
    SOURCE,
    SOURCE_PATH,
    FakeConnect,
    FakeDomain,
    FakeLibvirt,
    LibvirtError,
    domain_xml,
)

if t.TYPE_CHECKING:
    from pathlib import Path

UUID = "11111111-2222-4333-8444-555555555555"
PENDING = Note(uuid=UUID, name="web1", mode="guarded", resume=True, autostart=False, destination_uri=DESTINATION)


class FakeWatcher:
    """What the job told its watcher, which would be another process."""

    def __init__(self, uri: str) -> None:
        self.said = [uri]

    def arm(self, uuid: str) -> None:
        self.said.append(uuid)

    def release(self) -> None:
        self.said.append("released")


class Bench:
    def __init__(self, **request: t.Any) -> None:
        self.api = FakeLibvirt()
        self.api.domain.release.set()
        self.warnings: list[str] = []
        self.watchers: list[FakeWatcher] = []
        given = domain_xml(source=DESTINATION_PATH, password="(redacted)").replace("192.0.2.11", "192.0.2.12")
        self.request = Request(
            **{
                "name": "web1",
                "uuid": None,
                "uri": SOURCE,
                "destination_uri": DESTINATION,
                "destination_xml": given,
                "persistent_xml": given,
                "operation_id": "web1",
                **request,
            }
        )

    def open(self, uri: str, timeout_s: float, *, watch: bool = False) -> Connection:
        return open_connection(uri, min(timeout_s, 1), watch=watch, api=self.api)

    @property
    def migration(self) -> Migration:
        return Migration(self.request, self.warnings.append, opener=self.open, watcher=self.watch)

    def watch(self, uri: str) -> t.Any:
        self.watchers.append(FakeWatcher(uri))
        return self.watchers[-1]

    def run(self, check_mode: bool = False) -> dict[str, t.Any]:
        return self.migration.migrate(check_mode)

    def refused(self, check_mode: bool = False) -> MigrationError:
        with pytest.raises(MigrationError) as caught:
            self.run(check_mode)
        return caught.value

    @property
    def sent(self) -> tuple[dict[str, t.Any], int]:
        """Parameters and flags of libvirt's call."""
        call = next(call for call in self.api.domain.calls if call[0] == "migrateToURI3")
        return call[2], call[3]

    def arrive(self) -> FakeDomain:
        """A former run has moved the domain."""
        self.api.hosts[SOURCE].domains = []
        self.api.hosts[DESTINATION].domains = [self.api.domain]
        return self.api.domain


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(_leased_job, "JOBS", tmp_path / "run" / "jobs")
    monkeypatch.setattr(switchover_module, "NOTES", tmp_path / "lib" / "switchovers")
    monkeypatch.setattr(switchover_module, "RETRY_S", 0.01)
    monkeypatch.setattr(switchover_module, "RESUME_PATIENCE_S", 0.2)
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(job_module, "EVENT_WAIT_S", 0.2)
    monkeypatch.setattr(migrate_module, "ABORT_WAIT_S", 0.2)


def test_a_domain_moves() -> None:
    bench = Bench(controls=Controls(bandwidth_mib=100))
    result = bench.run()
    assert result["changed"] is True
    assert result["outcome"] == "moved"
    assert result["statistics"]["downtime_ms"] == 62
    assert result["actions"] == [f"migrated domain web1 from {migrate_module.platform.node()} to {DESTINATION}"]
    assert (result["source"]["exists"], result["destination"]["state"]["reason"]) == (False, "unpaused")
    assert bench.warnings == []
    assert bench.sent[0]["bandwidth"] == 100


def test_secrets_go_to_libvirt_and_nowhere_else() -> None:
    bench = Bench()
    result = bench.run()
    parameters, _flags = bench.sent
    for name in ("destination_xml", "persistent_xml"):
        assert "passwd='topsecret'" in parameters[name].replace('"', "'")
        assert DESTINATION_PATH in parameters[name]
        assert "192.0.2.12" in parameters[name]
    assert "topsecret" not in str(result)
    assert f'+      <source dev="{DESTINATION_PATH}"/>'.replace(" ", "") in result["diff"]["prepared"].replace(" ", "")


def test_live_and_stored_definition_come_each_from_their_own() -> None:
    bench = Bench(persistent_xml=domain_xml(source="/dev/next-boot-b", top="<memory>2</memory>"))
    bench.api.domain.inactive_xml = domain_xml(source="/dev/next-boot-a", top="<memory>2</memory>")
    bench.run()
    parameters, flags = bench.sent
    assert "/dev/next-boot-b" in parameters["persistent_xml"]
    assert "<memory>2</memory>" in parameters["persistent_xml"]
    assert "<memory>" not in parameters["destination_xml"]
    assert flags == 1 | 2 | 8 | 16 | 32 | 4096


def test_a_transient_domain_stays_transient() -> None:
    bench = Bench(persistent_xml=None)
    bench.api.domain.persistent = False
    bench.run()
    parameters, flags = bench.sent
    assert "persistent_xml" not in parameters
    assert flags == 1 | 2 | 32 | 4096


def test_autostart_is_carried_over() -> None:
    bench = Bench()
    bench.api.domain.autostart_value = 1
    result = bench.run()
    assert bench.api.hosts[DESTINATION].domains[0].autostart_value == 1
    assert result["actions"][1] == f"enabled autostart of domain web1 at {DESTINATION}"


def test_autostart_that_cannot_be_carried_over_names_the_command() -> None:
    bench = Bench(switchover="direct")
    bench.api.domain.autostart_value = 1
    bench.api.unreachable = {DESTINATION}
    result = bench.run()
    assert result["changed"] is True
    assert any("run 'virsh autostart web1' on the destination" in warning for warning in bench.warnings)


def test_numbers_come_from_the_destination_when_no_event_came() -> None:
    bench = Bench()
    bench.api.hosts[SOURCE].domainEventRegisterAny = lambda *arguments: (nothing for nothing in ()).throw(LibvirtError("no events", 3))
    assert bench.run()["statistics"]["downtime_ms"] == 77


def test_a_domain_that_has_moved_is_left_alone() -> None:
    bench = Bench(destination_xml=None, persistent_xml=None)
    bench.arrive()
    for check_mode in (True, False):
        result = bench.run(check_mode)
        assert (result["changed"], result["outcome"], result["uuid"]) == (False, "moved", UUID)


def test_what_a_killed_run_left_undone_is_done() -> None:
    bench = Bench()
    arrived = bench.arrive()
    arrived.current_state = [3, 1]
    write_note(replace(PENDING, autostart=True))
    assert bench.run(check_mode=True)["actions"][0] == f"would resume domain web1 at {DESTINATION}"
    result = bench.run()
    assert (result["changed"], arrived.autostart_value, result["destination"]["state"]["state"]) == (True, 1, "running")
    assert read_note(UUID) is None
    assert bench.run()["changed"] is False


def test_a_killed_run_left_autostart_in_the_operation_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate_module, "noted_move", lambda operation_id: Move("web1", "hostb", autostart=True))
    bench = Bench()
    arrived = bench.arrive()
    foretold = bench.run(check_mode=True)
    assert (foretold["changed"], arrived.autostart_value) == (True, 0)
    assert foretold["actions"] == [f"would have enabled autostart of domain web1 at {DESTINATION}"]
    result = bench.run()
    assert (result["changed"], arrived.autostart_value) == (True, 1)
    assert not bench.run()["changed"]


def test_what_halted_a_guest_has_to_be_repaired_before_it_is_resumed() -> None:
    bench = Bench()
    bench.arrive().current_state = [3, 5]
    write_note(PENDING)
    result = bench.run()
    assert (result["changed"], result["outcome"]) == (False, "paused_on_destination")
    assert read_note(UUID) == PENDING


def test_a_left_over_definition_is_told() -> None:
    bench = Bench()
    bench.api.domain.current_state = [5, 4]
    arrived = FakeDomain(bench.api)
    bench.api.hosts[DESTINATION].domains = [arrived]
    assert bench.run()["changed"] is False
    assert "virsh undefine web1" in bench.warnings[0]


def test_a_domain_on_neither_host() -> None:
    bench = Bench()
    bench.api.hosts[SOURCE].domains = []
    error = bench.refused()
    assert error.error_id == "domain_not_found"
    assert f"{DESTINATION}: no such domain" in str(error)
    assert error.details["outcome"] == "gone"


def test_a_destination_that_does_not_answer_is_no_absence() -> None:
    bench = Bench()
    bench.api.hosts[SOURCE].domains = []
    bench.api.unreachable = {DESTINATION}
    error = bench.refused()
    assert error.details["destination"]["exists"] is None
    assert error.details["outcome"] == "unknown"


def test_check_mode_says_what_would_happen_and_does_nothing() -> None:
    bench = Bench()
    result = bench.run(check_mode=True)
    assert result["changed"] is True
    assert DESTINATION_PATH in result["diff"]["prepared"]
    assert bench.api.domain.calls == []
    assert not _leased_job.JOBS.exists()


@pytest.mark.parametrize("check_mode", [True, False])
def test_everything_that_stands_against_it_at_once(check_mode: bool) -> None:
    bench = Bench(persistent_xml=None, destination_xml=None)
    bench.api.domain.snapshots = 1
    error = bench.refused(check_mode)
    assert error.error_id == "blocked"
    assert [blocker["id"] for blocker in error.details["blockers"]] == ["snapshots", "destination_xml_missing", "persistent_xml_missing"]
    assert bench.api.domain.calls == []


def test_options_that_do_not_go_together_are_told_at_once_and_before_anything_starts() -> None:
    method = Method(postcopy=True, auto_converge=True, parallel_connections=4, compression=("mt", "zstd"), tls_destination="b")
    bench = Bench(method=method, controls=Controls(downtime_steps=0))
    bench.api.domain.current_state = [3, 1]
    error = bench.refused()
    assert {blocker["id"] for blocker in error.details["blockers"]} == {"options"}
    for part in (
        "downtime_steps must be",
        "tls_destination needs tls",
        "mt does not go with parallel_connections",
        "does not go with auto_converge",
        "postcopy does not go with compression mt",
        "libvirt has only xbzrle and mt",
        "from QEMU 10.1 on",
        "a guest that is paused",
        "needs switchover direct",
    ):
        assert part in str(error)
    assert bench.api.domain.calls == []


def test_how_it_is_done_reaches_libvirt() -> None:
    bench = Bench(
        method=Method(
            auto_converge=True,
            auto_converge_initial_percent=30,
            parallel_connections=2,
            compression=("xbzrle",),
            compression_cache_mib=32,
            migrate_uri="tcp://[fd00::12]:49160",
            listen_address="fd00::12",
            tls=True,
            tls_destination="hostb",
        )
    )
    bench.run()
    parameters, flags = bench.sent
    assert {name: value for name, value in parameters.items() if not name.endswith("_xml")} == {
        "auto_converge.initial": 30,
        "parallel.connections": 2,
        "compression": ["xbzrle"],
        "compression.xbzrle.cache": 32 << 20,
        "migrate_uri": "tcp://[fd00::12]:49160",
        "listen_address": "fd00::12",
        "tls.destination": "hostb",
    }
    api = bench.api
    assert flags & (api.VIR_MIGRATE_AUTO_CONVERGE | api.VIR_MIGRATE_PARALLEL | api.VIR_MIGRATE_COMPRESSED | api.VIR_MIGRATE_TLS) == (
        8192 | 131072 | 2048 | 65536
    )
    assert not flags & api.VIR_MIGRATE_POSTCOPY


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Method(migrate_uri="hostb"), "tcp://ADDRESS"),
        (Method(migrate_uri="tcp://fd00::1"), "IPv6 in brackets"),
        (Method(parallel_connections=-1), "0 to 255"),
        (Method(auto_converge_initial_percent=30), "need auto_converge"),
        (Method(auto_converge=True, auto_converge_increment_percent=100), "0 to 99 percent"),
        (Method(compression_cache_mib=10), "does not name"),
        (Method(compression=("xbzrle",), compression_cache_mib=-1), "must not be negative"),
        (Method(compression=("zstd",)), "need parallel_connections"),
    ],
)
def test_what_is_wrong_with_a_method(method: Method, said: str) -> None:
    (problem,) = method.problems()
    assert said in problem


def test_a_newer_libvirt_and_qemu_allow_more() -> None:
    class Newer(FakeLibvirt):
        VIR_MIGRATE_PARAM_COMPRESSION_ZSTD_LEVEL = "compression.zstd.level"

    method = Method(postcopy=True, parallel_connections=2, compression=("zstd",))
    assert method.problems() == []
    assert method.problems_of_host(Newer(), 10_001_000, guest_paused=False) == []
    assert len(method.problems_of_host(FakeLibvirt(), 7_002_022, guest_paused=False)) == 2


def test_a_guest_that_was_suspended_as_the_migration_failed_runs_again() -> None:
    """libvirt resumes what it finds suspended when the job ends; not what is suspended a moment later."""
    for paused_before, resumed in ((False, True), (True, False)):
        bench = Bench(controls=Controls(timeout_s=0.05, timeout_action="force"))
        domain = bench.api.domain
        domain.release.clear()
        domain.arrives = False
        domain.migration_error = LibvirtError("operation failed: job 'migration out' failed", 9)
        if paused_before:
            domain.current_state = [3, 1]

        def suspend(domain: FakeDomain = domain) -> None:
            domain.current_state = [3, 1]
            domain.release.set()

        domain.suspend = suspend
        error = bench.refused()
        assert (("resume",) in domain.calls) is resumed
        assert error.details["source"]["state"]["state"] == ("running" if resumed else "paused")
        assert "so the guest was suspended" in error.details["steps"][0]


def test_a_suspended_guest_is_left_alone_when_it_may_be_on_the_destination() -> None:
    bench = Bench(controls=Controls(timeout_s=0.05, timeout_action="force"))
    domain = bench.api.domain
    domain.release.clear()
    domain.arrives = False
    domain.migration_error = LibvirtError("internal error: client socket is closed", 1)

    def suspend() -> None:
        domain.current_state = [3, 1]
        bench.api.unreachable = {DESTINATION}
        domain.release.set()

    domain.suspend = suspend
    assert bench.refused().details["source"]["state"]["state"] == "paused"
    assert ("resume",) not in domain.calls


def test_what_the_destination_has_already() -> None:
    bench = Bench()
    bench.api.hosts[DESTINATION].domains = [FakeDomain(bench.api)]
    assert [blocker["id"] for blocker in bench.refused().details["blockers"]] == ["active_on_both"]
    other = FakeDomain(bench.api)
    other.UUIDString = lambda: "99999999-2222-4333-8444-555555555555"
    bench.api.hosts[DESTINATION].domains = [other]
    assert [blocker["id"] for blocker in bench.refused().details["blockers"]] == ["name_taken"]


def test_a_destination_that_hangs_would_hang_libvirt_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.lunshift.migration.plugins.module_utils._migration.peers.LOOK_TIMEOUT_S", 0.1)
    bench = Bench()
    bench.api.hosts[DESTINATION].lookupByUUIDString = lambda uuid: threading.Event().wait(3600)
    assert [blocker["id"] for blocker in bench.refused().details["blockers"]] == ["destination_hangs"]
    assert bench.api.domain.calls == []


def test_novas_domains_only_when_one_insists() -> None:
    top = "<metadata><i:instance xmlns:i='http://openstack.org/xmlns/libvirt/nova/1.1'/></metadata>"
    for allow in (False, True):
        given = domain_xml(source=DESTINATION_PATH, top=top)
        bench = Bench(allow_nova_managed=allow, destination_xml=given, persistent_xml=given)
        bench.api.domain.xml = bench.api.domain.inactive_xml = domain_xml(top=top)
        if allow:
            assert bench.run()["changed"] is True
        else:
            assert bench.refused().details["blockers"][0]["id"] == "nova_managed"


def test_a_domain_that_changed_since_the_plan() -> None:
    bench = Bench(
        destination_xml=domain_xml(disk="<disk type='block'><source dev='{source}'/><target dev='vdz'/><serial>s-9</serial></disk>")
    )
    assert bench.refused().error_id == "domain_changed"
    bench = Bench(planned_sources={"vda": "/dev/other"})
    assert bench.refused().error_id == "domain_changed"
    assert Bench(planned_sources={"vda": SOURCE_PATH}).run()["changed"] is True


def test_an_error_is_told_with_what_both_hosts_say() -> None:
    bench = Bench()
    bench.api.domain.arrives = False
    bench.api.domain.migration_error = LibvirtError("internal error: Failed to bind socket for topsecret", 1)
    error = bench.refused()
    assert error.error_id == "libvirt_error"
    assert "A graphics listen address of the XML does not exist on the destination" in str(error)
    assert error.details["outcome"] == "stayed"
    assert error.details["source"]["state"]["state"] == "running"
    assert error.details["destination"]["exists"] is False
    assert "topsecret" not in str(error) + str(error.details)


def test_an_error_with_a_destination_that_does_not_answer() -> None:
    bench = Bench(switchover="direct")
    bench.api.domain.arrives = False
    bench.api.domain.migration_error = LibvirtError("internal error: client socket is closed", 1)
    bench.api.unreachable = {DESTINATION}
    error = bench.refused()
    assert error.details["outcome"] == "unknown"
    assert "destination unknown (" in str(error)
    assert len(bench.warnings) == 1


def test_an_error_after_the_domain_has_arrived_is_no_failure() -> None:
    bench = Bench()
    bench.api.domain.migration_error = LibvirtError("internal error: finish reply with password topsecret", 1)
    assert bench.run()["outcome"] == "moved"
    assert "libvirt said" in bench.warnings[0]
    assert "topsecret" not in bench.warnings[0]


def test_a_success_after_which_the_guest_stands_still_is_told() -> None:
    bench = Bench(switchover="direct")
    bench.api.domain.arrives_as = [3, 5]
    assert bench.run()["outcome"] == "paused_on_destination"
    assert "destination paused (ioerror)" in bench.warnings[0]


def test_a_guarded_guest_runs_only_when_the_source_has_it_no_more() -> None:
    bench = Bench()
    result = bench.run()
    assert bench.sent[1] & 32
    assert bench.api.hosts[DESTINATION].domains[0].calls == [("resume",)]
    assert (result["destination"]["state"]["state"], result["source"]["switchover"]) == ("running", None)
    assert result["resume_ms"] >= 0
    assert bench.watchers[0].said == [SOURCE, UUID, "released"]
    assert read_note(UUID) is None


class FakeEmulator:
    """The source's emulator, whose end the test decides on."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def has_ended(self, timeout_s: float | None) -> bool:
        return self.ended.wait(timeout_s)

    def close(self) -> None:
        pass


def test_the_end_of_the_sources_emulator_is_enough_to_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, emulator = Bench(), FakeEmulator()
    monkeypatch.setattr(switchover_module.SourceProcess, "find", lambda name, uuid: emulator if (name, uuid) == ("web1", UUID) else None)
    original = bench.api.domain.migrateToURI3
    resumed = threading.Event()

    def end_it_slowly(uri: str, parameters: dict[str, t.Any], flags: int) -> None:
        original(uri, parameters, flags)
        # libvirt has not noticed it yet: its own word would permit nothing.
        bench.api.hosts[SOURCE].domains = [bench.api.domain]
        arrived = bench.api.hosts[DESTINATION].domains[0]
        arrived.resume = lambda: (FakeDomain.resume(arrived), resumed.set())
        assert not resumed.wait(0.1)
        emulator.ended.set()
        assert resumed.wait(10)
        bench.api.hosts[SOURCE].domains = []

    bench.api.domain.migrateToURI3 = end_it_slowly
    result = bench.run()
    assert bench.api.hosts[DESTINATION].domains[0].calls == [("resume",)]
    assert (result["outcome"], result["source"]["switchover"]) == ("moved", None)
    assert result["resume_ms"] >= 0


def test_an_emulator_that_ends_before_the_guest_has_arrived_resumes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, emulator = Bench(), FakeEmulator()
    monkeypatch.setattr(switchover_module.SourceProcess, "find", lambda *_known: emulator)
    half, asked = FakeDomain(bench.api), threading.Event()

    def state() -> list[int]:
        asked.set()
        return [3, 2]  # Paused, for it is being migrated.

    def crash(_uri: str, _parameters: dict[str, t.Any], _flags: int) -> None:
        half.state = state
        bench.api.hosts[DESTINATION].domains = [half]
        emulator.ended.set()
        assert asked.wait(10)
        raise LibvirtError("operation failed: domain is not running", 9)

    bench.api.domain.migrateToURI3 = crash
    assert "domain is not running" in str(bench.refused())
    assert half.calls == []


def test_a_source_that_still_has_the_domain_lets_nobody_resume() -> None:
    bench = Bench()
    stays = bench.api.domain
    original = stays.migrateToURI3

    def call_it_a_success(uri: str, parameters: dict[str, t.Any], flags: int) -> None:
        original(uri, parameters, flags)
        bench.api.hosts[SOURCE].domains = [stays]

    stays.migrateToURI3 = call_it_a_success
    error = bench.refused()
    assert error.error_id == "resume_pending"
    assert "is still active here" in str(error)
    assert bench.api.hosts[DESTINATION].domains[0].calls == []
    assert read_note(UUID) == PENDING


def test_a_destination_that_cannot_be_asked_for_the_last_step_leaves_a_note() -> None:
    bench = Bench()
    original = bench.api.domain.migrateToURI3

    def lose_it(uri: str, parameters: dict[str, t.Any], flags: int) -> None:
        original(uri, parameters, flags)
        bench.api.hosts[DESTINATION].lookupByUUIDString = lambda uuid: (nothing for nothing in ()).throw(LibvirtError("closed", 1))

    bench.api.domain.migrateToURI3 = lose_it
    error = bench.refused()
    assert error.error_id == "resume_pending"
    assert error.details["source"]["switchover"] == {"mode": "guarded", "resume": True, "uuid": UUID, "suspect": False}
    assert read_note(UUID) == PENDING
    assert bench.watchers[0].said[-1] == "released"


def test_a_guest_that_was_paused_before_stays_paused() -> None:
    bench = Bench()
    bench.api.domain.current_state = [3, 1]
    result = bench.run()
    assert (result["outcome"], result["destination"]["state"]["state"]) == ("moved", "paused")
    assert bench.api.hosts[DESTINATION].domains[0].calls == []


def test_a_guarded_switchover_needs_the_destination_from_the_start() -> None:
    bench = Bench()
    bench.api.unreachable = {DESTINATION}
    assert [blocker["id"] for blocker in bench.refused().details["blockers"]] == ["destination_not_seen"]
    assert bench.api.domain.calls == []


def test_a_direct_switchover_is_libvirts_own() -> None:
    bench = Bench(switchover="direct")
    result = bench.run()
    assert not bench.sent[1] & 32
    assert (result["destination"]["state"]["reason"], result["resume_ms"]) == ("migrated", None)
    assert bench.watchers == []
    assert read_note(UUID) is None


def test_a_domain_that_stayed_leaves_nothing_pending() -> None:
    bench = Bench()
    bench.api.domain.arrives = False
    bench.api.domain.migration_error = LibvirtError("internal error: something", 1)
    assert bench.refused().details["outcome"] == "stayed"
    assert read_note(UUID) is None


def test_an_end_that_is_not_known_stays_pending() -> None:
    bench = Bench()
    original = bench.api.domain.migrateToURI3

    def fail(uri: str, parameters: dict[str, t.Any], flags: int) -> None:
        bench.api.unreachable = {DESTINATION}
        original(uri, parameters, flags)

    bench.api.domain.arrives = False
    bench.api.domain.migration_error = LibvirtError("internal error: client socket is closed", 1)
    bench.api.domain.migrateToURI3 = fail
    error = bench.refused()
    assert error.details["outcome"] == "unknown"
    assert read_note(UUID) == PENDING


def test_an_abort_by_others_has_its_own_id() -> None:
    bench = Bench()
    bench.api.domain.release.clear()
    bench.api.domain.aborted.set()
    assert bench.refused().error_id == "aborted"


def test_a_timeout_is_told_with_both_states() -> None:
    bench = Bench(controls=Controls(timeout_s=0.1))
    bench.api.domain.release.clear()
    error = bench.refused()
    assert error.error_id == "timeout"
    assert error.details["outcome"] == "stayed"


def test_abort() -> None:
    bench = Bench()
    assert bench.migration.abort(False)["changed"] is False
    bench.api.domain.job = {"type": 2, "operation": 5}
    assert bench.migration.abort(True)["changed"] is True
    assert bench.api.domain.calls == []
    result = bench.migration.abort(False)
    assert (result["changed"], result["source"]["state"]["state"]) == (True, "running")
    assert bench.api.domain.calls == [("abortJob",)]
    assert bench.migration.abort(False)["changed"] is False


def test_abort_leaves_other_jobs_alone() -> None:
    bench = Bench()
    bench.api.domain.job = {"type": 2, "operation": 9}
    assert bench.migration.abort(False)["changed"] is False
    assert bench.api.domain.calls == []


def test_an_abort_that_does_not_end_the_job() -> None:
    bench = Bench()
    bench.api.domain.job = {"type": 2, "operation": 5}
    bench.api.domain.abortJob = lambda: None
    with pytest.raises(MigrationError) as caught:
        bench.migration.abort(False)
    assert caught.value.error_id == "abort_failed"


def test_abort_of_a_domain_that_is_not_there() -> None:
    bench = Bench()
    bench.api.hosts[SOURCE] = FakeConnect(bench.api, [])
    assert bench.migration.abort(False)["source"]["exists"] is False


def test_progress_never_falls_and_never_says_100() -> None:
    stats = {"data_total": 100, "data_remaining": 0}
    assert progress("migrating", 1, stats).percent == 99
    assert progress("migrating", 1, {"data_total": 100, "data_remaining": 90}, 40).percent == 40
    assert progress("starting", 0, {}).percent == 0
    slow = progress("migrating", 1, {"memory_bps": 100, "memory_dirty_rate": 1, "memory_page_size": 4096})
    assert slow.seconds_left is None


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("iSCSI: Failed to connect to LUN : Failed to log in to target. Status: Target not found(515)", "export it to the destination"),
        ("Failed to log in to target. Status: Authentication failure(513)", "CHAP"),
        ("Secret not found: no secret with matching usage 'chap-a'", "libvirt secret"),
        ("unable to connect to server at '10.78.0.99:16509': No route to host", "SOURCE's libvirt daemon"),
        ("internal error: client socket is closed", "Read both hosts"),
        ("unsupported configuration: Target disk serial 2222 does not match source 1111", "only sources may change"),
        ("unsupported configuration: Target disk vdb does not match source vda", "only sources may change"),
        ("operation failed: domain 'g6' already exists with uuid 1111", "same name or UUID"),
        ("qemu-system-x86_64: Cannot read from TLS channel: Input/output error", "tls_destination"),
        ("authentication failed: Failed to verify peer's certificate", "tls_destination"),
        ("Unable to access credentials /etc/pki/qemu/ca-cert.pem: No such file or directory", "TLS is not set up"),
        ("unable to execute QEMU command 'migrate-set-capabilities': Postcopy is not supported", "vm.unprivileged_userfaultfd=1"),
        ("migrate-set-capabilities': Multifd is not compatible with compress", "cannot combine"),
        ("something new", ""),
    ],
)
def test_remedies_for_what_libvirt_really_says(said: str, expected: str) -> None:
    assert expected in remedy(said)
    assert expected or not remedy(said)


class TestTakingOver:
    def running(self, bench: Bench, *, destination_uri: str = DESTINATION) -> None:
        """A process that began a migration is dead, and libvirt goes on with it."""
        write_note(replace(PENDING, destination_uri=destination_uri))
        bench.api.domain.job = {"type": 2, "operation": 5, "data_total": 1000, "data_remaining": 400}

    def arrive_later(self, bench: Bench, state: list[int]) -> None:
        def end() -> None:
            arrived = FakeDomain(bench.api)
            arrived.current_state = state
            bench.api.domain.job = {"type": 0}
            bench.api.hosts[DESTINATION].domains = [arrived]
            bench.api.hosts[SOURCE].domains = []

        threading.Timer(0.3, end).start()

    def test_libvirts_job_is_watched_to_its_end(self) -> None:
        bench = Bench(destination_xml=None, persistent_xml=None)
        self.running(bench)
        self.arrive_later(bench, [3, 1])
        result = bench.run()
        assert (result["outcome"], result["followed"], result["changed"]) == ("moved", True, True)
        assert bench.api.hosts[DESTINATION].domains[0].calls == [("resume",)]
        assert not [call for call in bench.api.domain.calls if call[0] == "migrateToURI3"]
        assert read_note(UUID) is None

    def test_its_limits_are_those_of_the_run_that_took_over(self) -> None:
        bench = Bench(controls=Controls(timeout_s=1, bandwidth_mib=7))
        self.running(bench)
        error = bench.refused()
        assert error.error_id == "timeout"
        assert error.details["outcome"] == "stayed"
        assert ("abortJob",) in bench.api.domain.calls
        assert ("migrateSetMaxSpeed", 7) in [call[:2] for call in bench.api.domain.calls]
        assert read_note(UUID) is None

    def test_a_job_that_ends_in_vain_is_told(self) -> None:
        bench = Bench()
        self.running(bench)
        threading.Timer(0.3, lambda: bench.api.domain.job.update({"type": 0})).start()
        error = bench.refused()
        assert (error.error_id, error.details["outcome"]) == ("taken_over_failed", "stayed")

    @pytest.mark.parametrize("destination_uri", ["qemu+tcp://hostc/system", None])
    def test_a_migration_that_is_not_ours_is_left_alone(self, destination_uri: str | None) -> None:
        bench = Bench()
        self.running(bench, destination_uri=destination_uri or DESTINATION)
        if destination_uri is None:
            remove_note(UUID)
        assert "job_running" in [blocker["id"] for blocker in bench.refused().details["blockers"]]
        assert bench.api.domain.calls == []

    def test_check_mode_says_so(self) -> None:
        bench = Bench()
        self.running(bench)
        assert bench.run(check_mode=True)["actions"] == [f"would take over the running migration of domain web1 to {DESTINATION}"]


class TestFollowing:
    """Another process runs the job."""

    @pytest.fixture(autouse=True)
    def _results(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_leased_job, "RESULTS", tmp_path / "run" / "results")
        monkeypatch.setattr(_leased_job, "LOCK_PATIENCE_S", 0.05)
        monkeypatch.setattr(follow_module, "LOOK_EVERY_S", 0.01)

    def end_with(self, tmp_path: Path, result: dict[str, t.Any] | None) -> t.Callable[[], None]:
        directory = _leased_job.JobDirectory("web1")
        directory.__enter__()

        def end() -> None:
            self.controls = directory.read_controls()
            directory.__exit__()
            if result is not None:
                written = tmp_path / "run" / "results" / "web1.one.part"
                written.write_text(json.dumps(result))
                _leased_job.leave_result(written, written.with_name("web1.one"))

        return end

    def test_its_result_is_that_of_this_run_too(self, tmp_path: Path) -> None:
        bench = Bench(controls=Controls(timeout_s=77))
        result = {"changed": True, "outcome": "moved", "warnings": ["look"], "invocation": {}}
        threading.Timer(0.3, self.end_with(tmp_path, result)).start()
        assert bench.run() == {"changed": True, "outcome": "moved", "followed": True}
        assert bench.warnings == ["look"]
        assert bench.api.domain.calls == []
        assert self.controls is not None
        assert self.controls["timeout_s"] == 77
        assert [path.name for path in (tmp_path / "run" / "results").iterdir()] == ["web1.one"]

    def test_its_failure_too(self, tmp_path: Path) -> None:
        bench = Bench()
        result = {"failed": True, "msg": "it took too long", "error_id": "timeout", "outcome": "stayed", "changed": False}
        threading.Timer(0.3, self.end_with(tmp_path, result)).start()
        error = bench.refused()
        assert (str(error), error.error_id, error.details) == ("it took too long", "timeout", {"outcome": "stayed"})

    def test_one_that_leaves_none_is_followed_by_a_job_of_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(follow_module, "RESULT_WAIT_S", 0.1)
        bench = Bench()
        threading.Timer(0.2, self.end_with(tmp_path, None)).start()
        assert (bench.run()["outcome"], list((tmp_path / "run" / "results").iterdir())) == ("moved", [])
