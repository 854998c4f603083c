# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Every finding about one planned migration, from what was seen of both hosts and of the way between them. Pure.

What the run itself would refuse comes from the run itself (its plan, its identity gate, domain_migrate in check mode), so that
nothing can be "go" here and be refused there.
"""

from __future__ import annotations

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._preflight import destination_checks, way_checks
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.seen import (
    GO,
    NO_GO,
    UNPROVEN,
    WARNING,
    Intent,
    Seen,
    Unread,
    Verdict,
    failure,
    halves,
)

Finding = dict[str, str]
Plan = t.Mapping[str, t.Any]

# What the ids of blockers and cautions are about. An id that is not here is about disks, or a caution of its own.
_ITEM_OF = {
    "not_running": "domain",
    "job_running": "domain",
    "managed_save": "domain",
    "nova_managed": "domain",
    "name_taken": "name",
    "active_on_both": "name",
    "snapshots": "snapshots",
    "checkpoints": "snapshots",
    "block_job": "block_jobs",
    "mirror": "block_jobs",
    "unsafe_cache": "cache",
    "error_policy": "error_policy",
    "host_device": "devices",
    "scsi_hostdev": "devices",
    "host_device_disk": "devices",
    "shared_memory": "devices",
    "filesystem": "devices",
    "launch_security": "devices",
    "persistent_reservations": "devices",
    "invtsc": "cpu",
    "destination_hangs": "control_channel",
}
# What the plan says of the destination, by words of its own; all else of it is about the domain's name there.
_WORDS_OF = (("libvirt has no secret", "secrets"), ("there is no file", "files"), ("post-copy would be refused", "postcopy"))
# Items that the plan decides alone.
_DOMAIN_ITEMS = ("domain", "name", "snapshots", "block_jobs", "cache", "error_policy", "devices", "disks")

_Check = t.Callable[[Seen, Intent], t.Iterator[Verdict]]
_CHECKS: tuple[tuple[str, _Check], ...] = (
    ("hosts", way_checks.hosts),
    ("control_channel", way_checks.control_channel),
    ("data_channel", way_checks.data_channel),
    ("versions", destination_checks.versions),
    ("machine", destination_checks.machine),
    ("cpu", destination_checks.cpu),
    ("memory", destination_checks.memory),
    ("huge_pages", destination_checks.huge_pages),
    ("secrets", destination_checks.secrets),
    ("networks", destination_checks.networks),
    ("graphics", destination_checks.graphics),
    ("files", destination_checks.files),
    ("lock_manager", destination_checks.lock_manager),
    ("postcopy", destination_checks.postcopy),
    ("clock", way_checks.clock),
    ("convergence", way_checks.convergence),
)
ITEMS = ("source", "destination", *_DOMAIN_ITEMS, *(item for item, _check in _CHECKS), "volumes", "check_run")
# What a run would do with a domain that an earlier one has begun to move.
_BEGUN = {
    "finish": (GO, "a run would only clean the source up"),
    "follow": (WARNING, "a run would take the job over"),
    "settle": (WARNING, "a run would first end what was left half done"),
}
_ORDER = {item: number for number, item in enumerate(ITEMS)}


def findings(seen: Seen, intent: Intent, plan: Plan) -> list[Finding]:
    """One finding or more for each item, each C({domain, item, verdict, cause, remedy}). ``plan`` is that of the run."""
    found: list[tuple[str, Verdict]] = [*_host("source", seen.source, intent.source_name)]
    found += _host("destination", seen.destination, intent.destination_name)
    if failure(seen.source) is None:
        # An unread destination is no reason to be silent about the source.
        if plan["action"] in _BEGUN:
            verdict, words = _BEGUN[plan["action"]]
            said = [Verdict(NO_GO, *halves(problem)) for problem in plan["problems"]]
            begun = Verdict(verdict, f"{plan['outcome']['message']}; {words}")
            return _told([*found, *(("domain", each) for each in [begun, *said])], intent)
        found += _of_plan(plan, seen, intent)
        if not seen.source.get("exists"):
            return _told(found, intent)
    else:
        found += [(item, Verdict(UNPROVEN, f"{intent.source_name} was not read")) for item in _DOMAIN_ITEMS]
    for item, check in _CHECKS:
        found += [(item, verdict) for verdict in _guarded(lambda check=check: check(seen, intent))]  # type: ignore[misc]
    volumes = way_checks.volumes(seen, intent, plan)
    found += [("volumes", verdict) for verdict in _guarded(lambda: volumes)]
    found += _check_run(seen, intent.complete, [verdict.cause for _item, verdict in found])
    return _told(_with_silent_items(found), intent)


def _host(item: str, result: t.Mapping[str, t.Any], name: str) -> list[tuple[str, Verdict]]:
    problem = failure(result)
    if problem is None:
        return [(item, Verdict(GO, f"{name} answers"))]
    return [(item, Verdict(NO_GO, f"{name}: {problem}", f"repair it; what depends on {name} was not checked"))]


def _of_plan(plan: Plan, seen: Seen, intent: Intent) -> list[tuple[str, Verdict]]:
    """Every problem and warning of the plan, under the item that it is about."""
    item_of: dict[str, str] = {}
    for said in [*(seen.source.get("blockers") or []), *(seen.source.get("cautions") or [])]:
        item_of[f"{intent.source_name}: {said['message']}"] = _ITEM_OF.get(said["id"], "disks")
    found = []
    for verdict, messages in ((NO_GO, plan["problems"]), (WARNING, plan["warnings"])):
        for message in messages:
            of_destination = next((item for words, item in _WORDS_OF if words in message), "name")
            of_source = "disks" if seen.source.get("exists") and plan["action"] != "none" else "domain"
            other = of_destination if message.startswith(f"{intent.destination_name}: ") else of_source
            found.append((item_of.get(message, other), Verdict(verdict, *halves(message))))
    if failure(seen.destination):
        found.append(("name", Verdict(UNPROVEN, f"{intent.destination_name} was not read")))
    return found


def _guarded(check: t.Callable[[], t.Iterator[Verdict]]) -> list[Verdict]:
    try:
        return list(check())
    except Unread as exc:
        return [Verdict(UNPROVEN, str(exc))]


def _check_run(seen: Seen, complete: bool, told: t.Sequence[str]) -> list[tuple[str, Verdict]]:
    """What domain_migrate itself said in check mode, as far as it is news."""
    result = seen.dry_run
    problem = failure(result)
    if problem is None:
        places = "" if complete else ", whatever the volumes' places will be"
        return [("check_run", Verdict(GO, f"domain_migrate accepts the changed definition{places}"))]
    if not result or result.get("skipped"):
        return [("check_run", Verdict(UNPROVEN, "there is no changed definition that could be tried; see the other items"))]
    blockers = result.get("blockers")
    if not blockers:
        return [("check_run", Verdict(NO_GO, *halves(problem)))]
    news = [blocker for blocker in blockers if not any(halves(blocker["message"])[0] in cause for cause in told)]
    return [(_ITEM_OF.get(blocker["id"], "check_run"), Verdict(NO_GO, *halves(blocker["message"]))) for blocker in news]


def _with_silent_items(found: list[tuple[str, Verdict]]) -> list[tuple[str, Verdict]]:
    """An item about which nothing was said is a good one, and is told too."""
    said = {item for item, _verdict in found}
    return [*found, *((item, Verdict(GO, "")) for item in ITEMS if item not in said)]


def _told(found: t.Sequence[tuple[str, Verdict]], intent: Intent) -> list[Finding]:
    """In the order of the items. What two checks refuse in the same words is told once, where it was said first."""
    news: dict[tuple[str, str | None], tuple[str, Verdict]] = {}
    for item, verdict in found:
        news.setdefault((verdict.cause, None if verdict.verdict == NO_GO else item), (item, verdict))
    return [
        {"domain": intent.domain, "item": item, "verdict": verdict.verdict, "cause": verdict.cause, "remedy": verdict.remedy}
        for item, verdict in sorted(news.values(), key=lambda each: _ORDER[each[0]])
    ]


__all__ = ("ITEMS", "findings")
