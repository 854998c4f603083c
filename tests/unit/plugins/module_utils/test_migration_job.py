# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time
import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils import _leased_job
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import JobDirectory, Lease
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import open_connection
from ansible_collections.lunshift.migration.plugins.module_utils._migration import job as job_module
from ansible_collections.lunshift.migration.plugins.module_utils._migration import steering
from ansible_collections.lunshift.migration.plugins.module_utils._migration.controls import Controls
from ansible_collections.lunshift.migration.plugins.module_utils._migration.job import JobEnd, MigrationJob
from ansible_collections.lunshift.migration.tests.unit.fake_libvirt import DESTINATION, SOURCE, FakeLibvirt, LibvirtError, domain_xml

if t.TYPE_CHECKING:
    from pathlib import Path


class Bench:
    """A job on the fake host, whose lease the test renews or not."""

    def __init__(self, *, postcopy_allowed: bool = False, **controls: t.Any) -> None:
        self.api = FakeLibvirt()
        self.controls = Controls(**controls)
        self.postcopy_allowed = postcopy_allowed
        self.lease_s: float = 0

    def run(self) -> JobEnd:
        connection = open_connection(SOURCE, 1, api=self.api)
        domain = self.api.domain
        parameters = {self.api.VIR_MIGRATE_PARAM_DEST_XML: domain_xml()}
        with JobDirectory("web1") as directory:
            self.directory = directory
            lease = Lease(directory.lease_path, self.lease_s)
            job = MigrationJob(
                connection,
                domain,
                lambda: connection.translate(domain.migrateToURI3, DESTINATION, parameters, 8),
                directory,
                lease,
                self.controls,
                postcopy_allowed=self.postcopy_allowed,
                interval_s=0.01,
            )
            end = job.run()
            self.last = job.last_progress
            return end

    def release_after(self, seconds: float) -> None:
        threading.Timer(seconds, self.api.domain.release.set).start()


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_leased_job, "JOBS", tmp_path / "run" / "jobs")
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(job_module, "EVENT_WAIT_S", 0.2)


def test_a_success_brings_libvirts_own_numbers() -> None:
    bench = Bench(downtime_ms=500)
    bench.release_after(0.2)
    end = bench.run()
    assert end.error is None
    assert end.statistics is not None
    assert (end.statistics["downtime_ms"], end.statistics["total_time_ms"]) == (62, 1200)
    assert end.statistics["memory_total_bytes"] is None
    assert (bench.last.percent, bench.last.iteration, bench.last.dirty_bytes_per_s) == (60, 2, 100)
    assert bench.last.seconds_left == 4.0
    # Once, and only when the job ran.
    assert [call for call in bench.api.domain.calls if call[0] == "migrateSetMaxDowntime"] == [("migrateSetMaxDowntime", 500)]
    assert bench.api.hosts[SOURCE].callbacks == []


def test_progress_can_be_read_while_it_runs() -> None:
    bench = Bench()
    bench.release_after(0.3)
    seen: list[t.Any] = []
    threading.Timer(0.2, lambda: seen.append(_leased_job.read_progress("web1"))).start()
    bench.run()
    assert seen[0]["percent"] == 60
    assert seen[0]["phase"] == "migrating"


def test_what_libvirt_says_is_handed_on() -> None:
    bench = Bench()
    bench.api.domain.migration_error = LibvirtError("internal error: client socket is closed", 1)
    bench.release_after(0.05)
    end = bench.run()
    assert end.error is not None
    assert end.error.details["libvirt"]["code"] == 1


def test_a_timeout_aborts() -> None:
    bench = Bench(timeout_s=0.1)
    end = bench.run()
    assert ("abortJob",) in bench.api.domain.calls
    assert end.error is not None
    assert end.error.error_id == "timeout"


def test_a_migration_that_does_not_begin_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "BEGIN_LIMIT_S", 0.1)
    bench = Bench()
    bench.api.domain.jobStats = lambda: {"type": 2, "operation": 5}
    end = bench.run()
    assert end.error is not None
    assert end.error.error_id == "not_begun"


def test_force_suspends_and_says_so() -> None:
    bench = Bench(timeout_s=0.05, timeout_action="force")
    bench.release_after(0.3)
    end = bench.run()
    assert end.error is None
    assert end.suspended
    assert bench.api.domain.calls.count(("suspend",)) == 1
    assert "so the guest was suspended" in end.steps[-1]
    assert bench.last.phase == "suspended"
    # It stands still, so all the bandwidth brings the end nearer.
    assert (bench.last.dirty_bytes_per_s, bench.last.seconds_left) == (0, 2.0)


def test_a_suspended_guest_is_not_aborted_by_its_timeout_again() -> None:
    bench = Bench(timeout_s=0.05, timeout_action="force", progress_timeout_s=0)
    bench.release_after(0.4)
    assert bench.run().error is None
    assert ("abortJob",) not in bench.api.domain.calls


def test_postcopy_is_started_once_and_never_aborted() -> None:
    bench = Bench(timeout_s=0.05, timeout_action="postcopy", postcopy_allowed=True)
    bench.lease_s = 0.1
    bench.release_after(0.4)
    end = bench.run()
    assert end.error is None
    assert end.lease_lapsed
    assert bench.api.domain.calls.count(("migrateStartPostCopy",)) == 1
    assert ("abortJob",) not in bench.api.domain.calls
    assert bench.last.phase == "postcopy"


def test_what_libvirt_refuses_again_and_again_ends_in_an_abort() -> None:
    bench = Bench(timeout_s=0.05, timeout_action="force")

    def refuse() -> t.NoReturn:
        raise LibvirtError("cannot suspend", 55)

    bench.api.domain.suspend = refuse
    end = bench.run()
    assert end.error is not None
    assert end.error.error_id == "timeout"
    assert "refused timeout_action force 5 times" in str(end.error)


def test_limits_that_are_handed_over_are_followed() -> None:
    bench = Bench(bandwidth_mib=10, timeout_s=0.2)
    handed = Controls(bandwidth_mib=0, downtime_ms=900, timeout_s=0, lease_s=30)
    threading.Timer(0.1, lambda: _leased_job.write_controls("web1", handed.to_dict())).start()
    bench.release_after(0.5)
    end = bench.run()
    assert end.error is None
    assert ("migrateSetMaxSpeed", job_module.UNLIMITED_MIB) in bench.api.domain.calls
    assert ("migrateSetMaxDowntime", 900) in bench.api.domain.calls
    assert [step.split(": ")[1] for step in end.steps] == [
        "other limits were handed over, and are followed from now on",
        "the bandwidth limit was lifted",
    ]


def test_a_lapsed_lease_aborts() -> None:
    bench = Bench()
    bench.lease_s = 0.1
    end = bench.run()
    assert end.error is not None
    assert end.error.error_id == "lease_lapsed"
    assert end.lease_lapsed


def test_a_lapsed_lease_can_be_ignored() -> None:
    bench = Bench(abort_without_controller=False)
    bench.lease_s = 0.05
    bench.release_after(0.3)
    end = bench.run()
    assert end.error is None
    assert end.lease_lapsed
    assert ("abortJob",) not in bench.api.domain.calls


def test_the_downtime_limit_goes_up_with_each_iteration_in_vain() -> None:
    bench = Bench(downtime_start_ms=100, downtime_ms=400, downtime_steps=2)
    iteration = iter(range(2, 1000))
    bench.api.domain.jobStats = lambda: {
        "type": 2,
        "data_total": 1000,
        "data_remaining": 400,
        "data_processed": (number := next(iteration)) * 100,
        "memory_iteration": number,
    }
    bench.release_after(0.4)
    end = bench.run()
    assert [call for call in bench.api.domain.calls if call[0] == "migrateSetMaxDowntime"] == [
        ("migrateSetMaxDowntime", 100),
        ("migrateSetMaxDowntime", 200),
        ("migrateSetMaxDowntime", 400),
    ]
    assert [step.split(": ")[1] for step in end.steps] == [
        "the downtime limit was raised to 200 ms",
        "the downtime limit was raised to 400 ms",
    ]
    assert bench.last.converges is False
    assert bench.last.downtime_limit_ms == 400


def test_a_renewed_lease_holds() -> None:
    bench = Bench()
    bench.lease_s = 0.2
    bench.release_after(0.6)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(0.03):
            _leased_job.renew("web1")

    threading.Thread(target=renew).start()
    try:
        end = bench.run()
    finally:
        stop.set()
    assert end.error is None
    assert not end.lease_lapsed


def test_a_domain_that_arrived_before_the_abort_has_arrived() -> None:
    bench = Bench(timeout_s=0.05)
    bench.api.domain.abortJob = bench.api.domain.release.set
    assert bench.run().error is None


def test_an_abort_that_does_not_end_the_job_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "ABORT_WAIT_S", 0.1)
    bench = Bench(timeout_s=0.05)

    def refuse() -> t.NoReturn:
        raise LibvirtError("cannot abort migration in post-copy mode", 55)

    bench.api.domain.abortJob = refuse
    with pytest.raises(_leased_job.MigrationError, match="the domain may still move") as caught:
        bench.run()
    assert caught.value.error_id == "abort_failed"
    bench.api.domain.release.set()


def test_a_defect_in_the_thread_is_no_success() -> None:
    bench = Bench()
    bench.api.domain.migrateToURI3 = lambda *arguments: 1 // 0
    with pytest.raises(ZeroDivisionError):
        bench.run()


def test_numbers_that_do_not_come_are_not_waited_for_long() -> None:
    bench = Bench()
    bench.api.hosts[SOURCE].domainEventRegisterAny = lambda *arguments: (nothing for nothing in ()).throw(LibvirtError("no events", 3))
    bench.release_after(0.05)
    began = time.monotonic()
    assert bench.run().statistics is None
    assert time.monotonic() - began < 2


def test_a_daemon_that_does_not_answer_in_the_middle_ends_nothing() -> None:
    bench = Bench()

    def refuse() -> t.NoReturn:
        raise LibvirtError("migration was active, but no RAM info was set", 1)

    bench.api.domain.jobStats = refuse
    bench.release_after(0.1)
    assert bench.run().error is None
