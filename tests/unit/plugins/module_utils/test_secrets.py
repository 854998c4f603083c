# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets that the destination's libvirt has to have: each use of each kind, and nothing told where nothing is known."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._migration.hand_over import volume_requests
from ansible_collections.lunshift.migration.plugins.module_utils._migration.secrets import missing_chap_secrets, missing_secrets

LUKS = "<encryption format='luks'><secret type='passphrase' uuid='u1'/></encryption>"
USES = {
    "disk vda needs": f"<disk type='block'><source dev='/dev/sda'>{LUKS}</source><target dev='vda'/></disk>",
    "disk vdb needs": f"<disk type='block'><source dev='/dev/sdb'/>{LUKS}<target dev='vdb'/></disk>",
    "disk vdc[1] needs": "<disk type='block'><source dev='/dev/sdc'/><target dev='vdc'/><backingStore type='network'>"
    "<source protocol='rbd' name='p/i'><auth username='a'><secret type='ceph' uuid='u1'/></auth></source></backingStore></disk>",
    "the TPM needs": "<tpm><backend type='emulator'><encryption secret='u1'/></backend></tpm>",
}


def domain(devices: str, os_part: str = "") -> str:
    return f"<domain type='kvm'>{os_part}<devices>{devices}</devices></domain>"


def secret(usage_type: str, uuid: str = "u1", usage: str | None = None) -> dict[str, t.Any]:
    return {"uuid": uuid, "usage_type": usage_type, "usage": usage}


@pytest.mark.parametrize(
    ("who", "devices", "usage_type"), [(who, xml, kind) for (who, xml), kind in zip(USES.items(), ("volume", "volume", "ceph", "vtpm"))]
)
def test_every_use_is_found(who: str, devices: str, usage_type: str) -> None:
    (problem,) = missing_secrets(domain(devices), [], "hostb")
    assert who in problem.replace("which ", "").replace("there, ", "")
    assert problem.startswith(f"hostb: libvirt has no secret of type {usage_type} with UUID u1")
    assert missing_secrets(domain(devices), [secret(usage_type)], "hostb") == []
    assert missing_secrets(domain(devices), None, "hostb") == []


def test_a_secret_is_found_by_its_usage_and_must_be_of_its_type() -> None:
    xml = domain(USES["disk vda needs"].replace("uuid='u1'", "usage='key1'"))
    assert missing_secrets(xml, [secret("volume", "u7", "key1")], "hostb") == []
    for others in ([secret("iscsi", "u7", "key1")], [secret("volume", "key1", "key2")]):
        assert "usage key1" in missing_secrets(xml, others, "hostb")[0]


def test_the_nvram_counts_and_the_chap_secret_of_the_source_does_not() -> None:
    nvram = "<os><nvram type='network'><source protocol='rbd' name='p/i'><auth><secret type='ceph' usage='k'/></auth></source></nvram></os>"
    assert "the NVRAM needs" in missing_secrets(domain("", nvram), [], "hostb")[0]
    chap = "<disk type='network'><source protocol='iscsi' name='iqn.2026-11.a:a/1'><host name='h'/><auth username='u'>"
    chap += "<secret type='iscsi' usage='of-source'/></auth></source><target dev='vda'/></disk>"
    assert missing_secrets(domain(chap), [], "hostb") == []


def connection(**libvirt: str) -> dict[str, t.Any]:
    data = {"target_portal": "10.0.0.1:3260", "target_iqn": "iqn.2026-11.a:b", "target_lun": 1}
    return {
        "driver_volume_type": "iscsi",
        "data": {**data, "auth_method": "CHAP", "auth_username": "u", "auth_password": "pw"},
        "libvirt": libvirt,
    }


def volume(initiator: str = "libiscsi") -> dict[str, t.Any]:
    return {"key": "one", "target": "vda", "destination_initiator": initiator}


def test_chap_secrets_that_the_destination_lacks() -> None:
    (problem,) = missing_chap_secrets([volume()], {"one": connection(secret_usage="chap-b")}, [secret("iscsi", "u", "chap-a")], "hostb")
    assert "secret of type iscsi with usage chap-b there, which disk vda (volume one) needs" in problem
    assert missing_chap_secrets([volume()], {"one": connection(secret_uuid="u1")}, [secret("iscsi")], "hostb") == []
    assert missing_chap_secrets([volume("kernel")], {"one": connection(secret_usage="chap-b")}, [], "hostb") == []
    assert missing_chap_secrets([volume()], {}, [], "hostb") == []


def test_the_attaching_is_refused_before_it_begins() -> None:
    with pytest.raises(InputError) as caught:
        volume_requests([volume()], {"one": connection(secret_usage="chap-b")}, side="destination", host="hostb", secrets=[])
    assert caught.value.error_id == "missing_secret"
    assert "pw" not in str(caught.value)
    known = [secret("iscsi", "u", "chap-b")]
    assert volume_requests([volume()], {"one": connection(secret_usage="chap-b")}, side="destination", host="hostb", secrets=known)
