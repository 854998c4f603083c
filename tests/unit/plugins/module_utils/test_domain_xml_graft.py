# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Grafting: the plan's sources on the fresh domain, with its secrets; refused when the domain is another one by now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._domain_xml import disks, graft, redact_xml, rewrite
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from lxml import etree

RECORDED = (Path(__file__).parents[2] / "data" / "domain_libvirt_9_0_inactive.xml").read_text()
MAP = {
    "58a84f6d-3f0c-4e19-a0af-eb657b790657": {
        "driver_volume_type": "iscsi",
        "data": {"target_portal": "10.78.0.2:3260", "target_iqn": "iqn.2026-11.lab.lunshift:hostb", "target_lun": 101},
    },
    "1c2d3e4f-0000-4000-8000-000000000002": "/dev/disk/by-path/ip-10.78.0.2:3260-iscsi-iqn.2026-11.lab.lunshift:hostb-lun-102",
}
OVERRIDES = {"sdb": "/dev/disk/by-id/wwn-0x1"}
LISTEN = {"vnc": "10.78.0.12"}
GIVEN = rewrite(redact_xml(RECORDED), MAP, LISTEN, OVERRIDES)
PLANNED = {disk["target"]: disk["source"] for disk in disks(RECORDED)}


def refused(fresh: str, given: str = GIVEN, planned: dict[str, str | None] | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        graft(fresh, given, planned)
    assert caught.value.error_id == "domain_changed"
    assert "plantvnc" not in str(caught.value)
    return list(caught.value.details["problems"])


def test_result_is_what_rewriting_the_fresh_domain_gives() -> None:
    grafted = graft(RECORDED, GIVEN, PLANNED)
    assert etree.canonicalize(grafted) == etree.canonicalize(rewrite(RECORDED, MAP, LISTEN, OVERRIDES))
    assert 'passwd="plantvnc"' in grafted
    assert "redacted" not in grafted


def test_again_gives_the_same() -> None:
    once = graft(RECORDED, GIVEN)
    assert graft(once, GIVEN) == once


def test_changes_that_do_not_matter_are_carried_along() -> None:
    fresh = RECORDED.replace("<currentMemory unit='KiB'>65536", "<currentMemory unit='KiB'>32768").replace("plantvnc", "newvnc")
    grafted = graft(fresh, GIVEN, PLANNED)
    assert "32768" in grafted
    assert 'passwd="newvnc"' in grafted


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("<name>web1</name>", "<name>web2</name>", "name of the domain is web2"),
        ("8f1f0bb6-0f4e", "8f1f0bb6-0f4f", "uuid of the domain"),
        ("58a84f6d-3f0c-4e19-a0af-eb657b790657", "58a84f6d-3f0c-4e19-a0af-eb657b790658", "disk vdb: its serial"),
        ("<target dev='vdb' bus='virtio'/>", "<target dev='vdd' bus='virtio'/>", "the disks of the domain are sdb, vdd, vdc, sda"),
        ("<target dev='vdb' bus='virtio'/>", "<target dev='vdb' bus='sata'/>", "disk vdb: its bus is sata"),
        ("device='cdrom'", "device='disk'", "disk sda: its device is disk"),
        ("<target dev='sda'", "<source file='/x.iso'/><target dev='sda'", "disk sda: its source is present, but absent"),
        ("<graphics type='vnc'", "<graphics type='spice'", "graphics of the domain"),
        ("<video>", "<graphics type='sdl'/><video>", "graphics of the domain"),
        ("<listen type='address' address='127.0.0.1'/>", "<listen type='socket' socket='/run/x'/>", "graphics of the domain"),
        ("<memballoon", "<hostdev mode='subsystem' type='scsi'/><memballoon", "hostdev number 1"),
    ],
)
def test_a_changed_domain_is_refused(old: str, new: str, told: str) -> None:
    assert old in RECORDED
    (problem,) = refused(RECORDED.replace(old, new), planned=PLANNED if "<source file" not in new and "dev='vdd'" not in new else None)
    assert told in problem
    assert problem.endswith("plan the migration again")


def test_a_disk_more_or_in_another_order_is_refused() -> None:
    extra = "<disk type='block'><source dev='/dev/sdx'/><target dev='vdx' bus='virtio'/></disk>"
    assert "vdx" in refused(RECORDED.replace("<controller type='usb'", f"{extra}<controller type='usb'"))[0]
    assert (
        "disks of the domain"
        in refused(RECORDED, GIVEN.replace('dev="vdb"', 'dev="tmp"').replace('dev="vdc"', 'dev="vdb"').replace('"tmp"', '"vdc"'))[0]
    )


def test_all_differences_are_told_at_once() -> None:
    fresh = RECORDED.replace("<name>web1", "<name>web2").replace("device='cdrom'", "device='disk'").replace("type='vnc'", "type='spice'")
    assert len(refused(fresh)) == 3


def test_storage_that_moved_since_the_plan() -> None:
    """A block copy that pivoted: the same disk, and another volume behind it."""
    fresh = RECORDED.replace("name='iqn.2026-11.lab.lunshift:hosta/1'", "name='iqn.2026-11.lab.lunshift:hosta/9'")
    assert graft(fresh, GIVEN)
    (problem,) = refused(fresh, planned=PLANNED)
    assert "its source is iqn.2026-11.lab.lunshift:hosta/9, but was iqn.2026-11.lab.lunshift:hosta/1" in problem


def test_a_lun_that_became_a_file_is_noticed_without_the_plan() -> None:
    fresh = RECORDED.replace("<disk type='block' device='lun'>", "<disk type='file' device='lun'>").replace("<source dev=", "<source file=")
    fresh = fresh.replace("/dev/disk/by-path/ip-10.78.0.2:3260-iscsi-iqn.2026-11.lab.lunshift:hosta-lun-1", "/var/lib/x.img")
    (problem,) = refused(fresh)
    assert "disk sdb: its kind is file, but a LUN" in problem


COOKIE = (
    '<disk type="network" device="cdrom"><source protocol="https" name="a.iso"><host name="h" port="443"/>'
    '<cookies><cookie name="c">planted</cookie></cookies></source><target dev="sda" bus="sata"/></disk>'
)


def http_domain() -> str:
    return f"<domain><name>a</name><uuid>b</uuid><devices>{COOKIE}</devices></domain>"


def test_secrets_inside_sources_that_stay_are_kept() -> None:
    assert "planted" in graft(http_domain(), redact_xml(http_domain()))


def test_a_redacted_secret_is_never_written() -> None:
    (problem,) = refused(http_domain(), redact_xml(http_domain()).replace("a.iso", "b.iso"))
    assert "secret that was redacted" in problem


@pytest.mark.parametrize("auth_is_inside", [True, False])
def test_auth_beside_source_follows(auth_is_inside: bool) -> None:
    auth = '<auth username="user-{0}"><secret type="iscsi" usage="chap-{0}"/></auth>'
    source = '<source protocol="iscsi" name="iqn.2026-11.a:{0}/1"><host name="h" port="3260"/>{1}</source>'

    def domain(host: str, inside: bool, beside: bool) -> str:
        disk = (auth.format(host) if beside else "") + source.format(host, auth.format(host) if inside else "")
        return f'<domain><name>a</name><uuid>b</uuid><devices><disk type="network">{disk}<target dev="vda"/></disk></devices></domain>'

    fresh = domain("a", inside=False, beside=True)
    given = domain("b", inside=auth_is_inside, beside=not auth_is_inside)
    assert graft(fresh, given) == given
    assert graft(given, domain("c", False, False)) == domain("c", False, False)
    assert graft(domain("c", False, False), given) == given


def test_disk_level_auth_goes_when_the_given_xml_has_none() -> None:
    plain = (
        "<domain><name>a</name><uuid>b</uuid><devices><disk type='network'>{}"
        "<source protocol='iscsi' name='iqn.2026-11.a:{}/1'/></disk></devices></domain>"
    )
    given = plain.format("", "b")
    grafted = graft(plain.format("<auth username='u'><secret type='iscsi' usage='x'/></auth>", "a"), given)
    assert etree.canonicalize(grafted) == etree.canonicalize(given)


def test_a_listen_address_that_is_left_to_the_destination() -> None:
    given = GIVEN.replace(' listen="10.78.0.12"', "").replace(' address="10.78.0.12"', "")
    assert "127.0.0.1" not in graft(RECORDED, given).partition("<graphics")[2].partition("</graphics>")[0]


CHAIN = """<disk type='network' device='disk'><driver name='qemu' type='qcow2'/>
<source protocol='iscsi' name='iqn.2026-11.org.abc:host-a/1'><host name='h' port='3260'/></source>
<backingStore type='network'><format type='raw'/>
<source protocol='iscsi' name='iqn.2026-11.org.abc:host-a/2' index='4'><host name='h' port='3260'/></source>
<backingStore/></backingStore>
<target dev='vdx' bus='virtio'/><serial>chain</serial></disk>
<disk type='file' device='cdrom'><source file='/a.iso'/><target dev='sdx' bus='sata'/></disk>
</devices>"""
WITH_CHAIN = RECORDED.replace("</devices>", CHAIN)
BELOW = {**OVERRIDES, "vdx[1]": "/dev/disk/by-id/wwn-0x2"}
MAP_OF_CHAIN = {**MAP, "chain": "/dev/disk/by-id/wwn-0x3"}


def test_images_below_a_disk_and_media_are_carried_over() -> None:
    given = rewrite(redact_xml(WITH_CHAIN), MAP_OF_CHAIN, LISTEN, BELOW, ["sdx"])
    planned = {disk["target"]: disk["source"] for disk in disks(WITH_CHAIN)}
    grafted = graft(WITH_CHAIN, given, planned, ["sdx"])
    assert etree.canonicalize(grafted) == etree.canonicalize(rewrite(WITH_CHAIN, MAP_OF_CHAIN, LISTEN, BELOW, ["sdx"]))
    assert [disk["source"] for disk in disks(grafted)][-3:] == ["/dev/disk/by-id/wwn-0x3", "/dev/disk/by-id/wwn-0x2", None]


def test_a_medium_is_left_out_only_on_purpose() -> None:
    given = rewrite(redact_xml(WITH_CHAIN), MAP_OF_CHAIN, LISTEN, BELOW, ["sdx"])
    assert refused(WITH_CHAIN, given) == ["disk sdx: its source is present, but absent in the given XML; plan the migration again"]


def test_a_chain_or_a_medium_that_changed_meanwhile_is_refused() -> None:
    given = rewrite(redact_xml(WITH_CHAIN), MAP_OF_CHAIN, LISTEN, BELOW)
    planned = {disk["target"]: disk["source"] for disk in disks(WITH_CHAIN)}
    flattened = re.sub(r"<backingStore type.*</backingStore>", "", WITH_CHAIN, flags=re.DOTALL)
    assert any("vdx[1]" in problem for problem in refused(flattened, given, planned))
    assert any("vdx[1]: its source is" in problem for problem in refused(WITH_CHAIN.replace("host-a/2", "host-a/9"), given, planned))
    assert any("sdx: its source is /b.iso" in problem for problem in refused(WITH_CHAIN.replace("/a.iso", "/b.iso"), given, planned))
    without_medium = WITH_CHAIN.replace("<source file='/a.iso'/>", "")
    assert any("sdx: its source is absent" in problem for problem in refused(without_medium, given))
