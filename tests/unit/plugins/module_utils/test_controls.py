# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.lunshift.migration.plugins.module_utils._migration.controls import Controls


def test_what_was_written_is_read() -> None:
    controls = Controls(bandwidth_mib=5, downtime_ms=900, downtime_start_ms=100, downtime_steps=4, timeout_s=60, timeout_action="force")
    assert Controls.from_dict(controls.to_dict()) == controls


def test_another_release_may_have_other_keys() -> None:
    assert Controls.from_dict({"bandwidth_mib": 5, "of_the_future": 1}) == Controls(bandwidth_mib=5)


def test_all_problems_at_once() -> None:
    wrong = Controls(
        bandwidth_mib=-1, downtime_ms=100, downtime_start_ms=200, downtime_steps=0, timeout_s=-2, timeout_action="pray", lease_s=-3
    )
    told = " | ".join(wrong.problems())
    for name in ("bandwidth_mib", "downtime_steps", "downtime_start_ms (200)", "timeout must", "'pray'", "lease_s"):
        assert name in told
    assert len(wrong.problems()) == 6


def test_nothing_is_wrong_with_the_defaults() -> None:
    assert Controls().problems() == []
