# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Checks of the way between the hosts, and of the domain's volumes. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import gate
from ansible_collections.lunshift.migration.plugins.module_utils._migration.failures import remedy
from ansible_collections.lunshift.migration.plugins.module_utils._migration.hand_over import source_side, volume_requests
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.estimate import estimate, in_words
from ansible_collections.lunshift.migration.plugins.module_utils._preflight.needs import needs
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
    part,
)

Verdicts = t.Iterator[Verdict]
Plan = t.Mapping[str, t.Any]
_MIB = 1024**2
_KIB = 1024
# Reading a clock over Ansible takes time itself; less than this is no finding.
_CLOCK_TOLERANCE_S = 1.0


def hosts(seen: Seen, intent: Intent) -> Verdicts:
    here, there = part(seen.source_host, "host", intent.source_name), part(seen.destination_host, "host", intent.destination_name)
    if here["uuid"] == there["uuid"]:
        yield Verdict(
            NO_GO,
            f"{intent.source_name} and {intent.destination_name} have one host UUID ({here['uuid']}), so libvirt takes them for one",
            "set a host_uuid of its own in /etc/libvirt/libvirtd.conf of one of them, and restart its daemon",
        )
    reached = part(seen.way, "control", intent.source_name)["host"]
    if reached and reached["uuid"] != there["uuid"]:
        yield Verdict(
            NO_GO,
            f"{intent.destination_uri} leads to {reached['hostname']} (host UUID {reached['uuid']}), not to {intent.destination_name}",
            f"correct live_migrate_inbound_uri in the host variables of {intent.destination_name}",
        )


def control_channel(seen: Seen, intent: Intent) -> Verdicts:
    control = part(seen.way, "control", intent.source_name)
    if control["hangs"]:
        yield Verdict(
            NO_GO, control["problem"], f"repair libvirt on {intent.destination_name}; a migration would wait for it without a limit"
        )
    elif not control["reached"]:
        advice = remedy(control["problem"]) or (
            f"make the daemon of {intent.destination_name} reachable under this address, for root of {intent.source_name}"
        )
        yield Verdict(NO_GO if control["as_daemon"] else UNPROVEN, control["problem"], advice)
    elif not control["as_daemon"]:
        yield Verdict(
            UNPROVEN,
            f"{intent.destination_uri} was reached by a user other than root, and a migration uses the credentials of libvirt's daemon",
            "run the preflight with become: true",
        )


def data_channel(seen: Seen, intent: Intent) -> Verdicts:
    channel = part(seen.destination_host, "host", intent.destination_name)["data_channel"]
    data = part(seen.way, "data", intent.source_name)
    if not data:
        raise Unread(f"{intent.source_name} did not try")
    if data["problem"]:
        yield Verdict(
            NO_GO,
            data["problem"],
            f"set migration_host in /etc/libvirt/qemu.conf of {intent.destination_name} to an address that {intent.source_name} reaches",
        )
        return
    where = f"{data['host']} ({data['address']})"
    asked = sorted([*data["open"], *data["blocked"]])
    if not asked:
        yield Verdict(
            NO_GO,
            f"all ports of {intent.destination_name} from {channel['first_port']} to {channel['last_port']} are in use",
            "wait for other migrations to end, or widen migration_port_max in /etc/libvirt/qemu.conf there",
        )
    elif data["blocked"]:
        # libvirt takes the lowest free port, and the next ones while it is used.
        first = asked[0] in data["blocked"]
        yield Verdict(
            NO_GO if first else WARNING,
            f"{intent.source_name} cannot reach {where} at port {ranges(data['blocked'])}",
            f"open the ports {channel['first_port']} to {channel['last_port']} in every firewall between the hosts",
        )


def ranges(numbers: t.Iterable[int]) -> str:
    """Numbers as people write them: C(1-3, 7)."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ", ".join("-".join(str(end) for end in each) for each in found)


def clock(seen: Seen, intent: Intent) -> Verdicts:
    """The source was asked before and after the destination, so the destination's time lies between when the clocks agree."""
    before_s = part(seen.source_host, "host", intent.source_name)["time_s"]
    there_s = part(seen.destination_host, "host", intent.destination_name)["time_s"]
    after_s = part(seen.way, "time_s", intent.source_name)
    off_s = max(before_s - there_s, there_s - after_s)
    if off_s > _CLOCK_TOLERANCE_S:
        direction = "behind" if there_s < before_s else "ahead of"
        yield Verdict(
            WARNING,
            f"the clock of {intent.destination_name} is at least {off_s:.0f} s {direction} that of {intent.source_name}",
            "synchronise both clocks (chrony); certificates, logs and the measured times depend on them",
        )


def convergence(seen: Seen, intent: Intent) -> Verdicts:
    memory_bytes = needs(part(seen.source, "xml", intent.source_name)).memory_kib * _KIB
    rate = part(seen.way, "dirty_rate", intent.source_name)
    data = seen.way.get("data") or {}
    bandwidth_mib = intent.bandwidth_mib or data.get("link_mib_per_s")
    dirty = rate["bytes_per_s"] if rate else None
    found = estimate(memory_bytes, dirty, bandwidth_mib * _MIB if bandwidth_mib else None, intent.downtime_ms)
    words = in_words(found)
    if dirty is None:
        yield Verdict(UNPROVEN, f"{words}; the dirty rate was not measured ({rate['problem'] if rate else 'not asked for'})")
    elif not bandwidth_mib:
        yield Verdict(UNPROVEN, f"{words}; the bandwidth is not known", "give live_migrate_bandwidth_mib")
    elif not found.converges:
        yield Verdict(
            WARNING,
            f"{words}: the migration would not converge",
            "give it more bandwidth, a longer downtime or auto-converge, or move the domain when it writes less",
        )
    elif intent.timeout_s and found.duration_s is not None and found.duration_s > intent.timeout_s:
        yield Verdict(WARNING, f"{words}, more than the timeout of {intent.timeout_s} s", "raise live_migrate_timeout")
    else:
        yield Verdict(GO, words)


def volumes(seen: Seen, intent: Intent, plan: Plan) -> Verdicts:
    live = [volume for volume in plan["volumes"] if volume["live"]]
    if not live:
        yield Verdict(GO, "the domain has no volumes")
        return
    yield from _connections(live, seen, intent)
    devices = {"luns": part(seen.source_devices, "luns", intent.source_name), "volumes": seen.source_devices.get("volumes") or {}}
    here = source_side(plan, devices)
    for hidden in here["hidden_images"]:
        yield Verdict(NO_GO, *halves(hidden))
    for problem in here["problems"]:
        yield Verdict(NO_GO if intent.identity_gate else WARNING, f"{intent.source_name}: {problem}", "repair its connection first")
    problem = failure(seen.attached)
    if problem and not seen.attached.get("skipped"):
        for each in seen.attached.get("problems") or [problem]:
            yield Verdict(NO_GO, f"{intent.destination_name}: {each}", "correct the volume's connection info, or the storage")
    elif intent.identity_gate:
        yield from _identities(seen, intent, here["identities"], {volume["key"]: volume for volume in live})
    else:
        yield Verdict(WARNING, "the identity gate is switched off: a wrong volume would destroy the guest's data", "switch it on")


def _connections(live: t.Sequence[Plan], seen: Seen, intent: Intent) -> Verdicts:
    for volume in live:
        if volume["key"] not in intent.destination_connections and intent.exports:
            yield Verdict(
                UNPROVEN,
                f"volume {volume['key']} (disk {volume['target']}): its connection info is known only after the export to"
                f" {intent.destination_name}",
                "the run proves it after attaching, before anything is moved",
            )
            continue
        try:
            volume_requests(
                [volume],
                intent.destination_connections,
                side="destination",
                host=intent.destination_name,
                secrets=seen.destination.get("secrets"),
            )
        except MigrationError as exc:
            yield Verdict(NO_GO, *halves(str(exc)))


def _identities(seen: Seen, intent: Intent, identities: t.Mapping[str, t.Any], live: t.Mapping[str, Plan]) -> Verdicts:
    attached = seen.attached.get("volumes") or {}
    there = {key: attached[key].get("identity") for key in live if key in attached}
    known = {key: identity for key, identity in identities.items() if key in intent.destination_connections}
    verdict = gate.verdict(
        known,
        there,
        intent.accept_unproven,
        seen.source_devices.get("luns") or [],
        seen.destination_devices.get("luns") or [],
        destination_stale=seen.attached.get("stale") or (),
    )
    for key, each in verdict["volumes"].items():
        reason = attached.get(key, {}).get("unproven")
        words = f"volume {key} (disk {live[key]['target']}): {'; '.join([*each['reasons'], *([reason] if reason else [])])}"
        yield _as_verdict(each["verdict"], there.get(key) is not None, words, intent)


def _as_verdict(word: str, read: bool, words: str, intent: Intent) -> Verdict:
    if word == gate.MISMATCH:
        return Verdict(NO_GO, words, f"correct the export to {intent.destination_name}: it is another volume")
    if word != gate.UNPROVEN:
        return Verdict(GO if word == gate.PROVEN else WARNING, words)
    if read:
        return Verdict(UNPROVEN, words, "the run compares samples of the content; or accept the volume by live_migrate_accept_unproven")
    if intent.exports:
        return Verdict(UNPROVEN, words, "the run proves it after the export, before anything is moved")
    return Verdict(NO_GO, words, f"make the volume reachable for {intent.destination_name}")


__all__ = ("clock", "control_channel", "convergence", "data_channel", "hosts", "ranges", "volumes")
