# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""What a running copy says of itself, and what it is told meanwhile: progress, limits, lease, and an end from outside."""

from __future__ import annotations

import collections
import platform
import signal
import typing as t
from dataclasses import asdict, dataclass, fields

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import Clock, JobDirectory, Lease
from ansible_collections.lunshift.migration.plugins.module_utils._volume.passes import MIB, Passes

# The rate is that of the last seconds.
_WINDOW_S = 5.0
_TELL_EVERY_S = 0.5
_GOES_ON = "nothing is lost: run the same task again, and it goes on where it was"


@dataclass(frozen=True)
class Controls:
    """Limits of a running copy. 0 means no limit."""

    bandwidth_mib: int = 0
    lease_s: float = 0
    abort_without_controller: bool = False
    abort: bool = False

    def to_dict(self) -> dict[str, t.Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: t.Mapping[str, t.Any]) -> Controls:
        """What another release of the collection wrote may have more keys, or fewer."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})


class Supervisor:
    """Is asked by the passes all the time (look), and ends the copy by raising."""

    def __init__(self, directory: JobDirectory, controls: Controls, clock: Clock) -> None:
        self._directory = directory
        self._controls = controls
        self._lease = Lease(directory.lease_path, controls.lease_s, clock)
        self._clock = clock
        self._started = clock()
        self._told_at = 0.0
        self._phase = ""
        self._terminated = False
        self._seen: collections.deque[tuple[float, int]] = collections.deque()
        # Somebody who ends the process means the copy; it has to give back what it attached.
        signal.signal(signal.SIGTERM, self._terminate)

    def watch(self, passes: Passes) -> None:
        """From now on these are the passes that look() is about."""
        self._passes = passes

    def _terminate(self, _number: int, _frame: t.Any) -> None:
        self._terminated = True

    def elapsed_s(self) -> float:
        return self._clock() - self._started

    def opening(self) -> None:
        self._directory.write_progress({"phase": "opening", "elapsed_s": round(self.elapsed_s(), 1), "percent": 0})

    def look(self, phase: str) -> None:
        self._follow_controls()
        if self._terminated:
            raise MigrationError(f"{platform.node()}: the copy was ended by a signal; {_GOES_ON}", error_id="aborted")
        if self._controls.abort:
            raise MigrationError(f"{platform.node()}: the copy was aborted, as another task asked for; {_GOES_ON}", error_id="aborted")
        if self._controls.abort_without_controller and self._lease.lapsed():
            raise MigrationError(
                f"{platform.node()}: the controller did not renew the copy's lease for {self._controls.lease_s:g} s; {_GOES_ON}",
                error_id="lease_lapsed",
            )
        now = self._clock()
        if phase != self._phase or now - self._told_at >= _TELL_EVERY_S:
            self._phase, self._told_at = phase, now
            self._directory.write_progress(self._progress(phase, now))

    def _follow_controls(self) -> None:
        given = self._directory.read_controls()
        controls = Controls.from_dict(given) if given is not None else self._controls
        if controls != self._controls:
            self._controls = controls
            self._lease.change(controls.lease_s)
            self._passes.limiter.change(controls.bandwidth_mib * MIB)

    def _progress(self, phase: str, now: float) -> dict[str, t.Any]:
        passes = self._passes
        done, total = min(passes.tally.done_bytes, passes.total_bytes), passes.total_bytes
        self._seen.append((now, done))
        while now - self._seen[0][0] > _WINDOW_S and len(self._seen) > 2:
            self._seen.popleft()
        since, before = self._seen[0]
        rate = int((done - before) / (now - since)) if now > since else 0
        return {
            "phase": phase,
            "elapsed_s": round(now - self._started, 1),
            "percent": done * 100 // total if total else 100,
            "done_bytes": done,
            "total_bytes": total,
            "bytes_per_s": rate,
            "seconds_left": round((total - done) / rate, 1) if rate else None,
            "bandwidth_limit_bytes_per_s": passes.limiter.bytes_per_s,
            **passes.tally.counts(),
        }


__all__ = ("Controls", "Supervisor")
