# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rewriting: the specification's three examples, a domain that libvirt 9.0 wrote, and everything that has to be refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._domain_xml import disks, rewrite, unmapped_lun_users
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from lxml import etree

RECORDED = (Path(__file__).parents[2] / "data" / "domain_libvirt_9_0_inactive.xml").read_text()
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
SERIAL = "58a84f6d-3f0c-4e19-a0af-eb657b790657"
OTHER = "1c2d3e4f-0000-4000-8000-000000000002"
BY_PATH = "/dev/disk/by-path/ip-192.168.0.10:3260-iscsi-iqn.abc.org.{}.opst-lun-{}"

BLOCK = """<disk type="block" device="disk">
      <driver name="qemu" type="raw" cache="none"/>
      <source dev="{source}"/>
      <target dev="vdb" bus="virtio"/>
      <serial>{serial}</serial>
      <address type="pci" domain="0x0" bus="0x0" slot="0x04" function="0x0"/>
    </disk>"""
NETWORK = """<disk type="network" device="disk">
      <driver name="qemu" type="raw"/>
      <source protocol="iscsi" name="{name}">
        <host name="{host}" port="{port}"/>
      </source>
      <serial>{serial}</serial>
      <target dev="vdb" bus="virtio"/>
    </disk>"""


def domain(devices: str, beside: str = "") -> str:
    return f"""<domain xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0" type="kvm">
  <name>web1</name>
  <uuid>8f1f0bb6-0f4e-4b0e-9f3c-2f7d3b3a1a11</uuid>
  <devices>
    {devices}
  </devices>{beside}
</domain>
"""


def block(source: str = "/dev/sda", serial: str = SERIAL) -> str:
    return BLOCK.format(source=source, serial=serial)


def connection(
    iqn: str = "iqn.2026-11.org.abc:host-b", lun: int = 7, portal: str = "192.168.0.10:3260", **beside: t.Any
) -> dict[str, t.Any]:
    data = {"target_portal": portal, "target_iqn": iqn, "target_lun": lun, **beside.pop("data", {})}
    return {"driver_volume_type": "iscsi", "data": data, **beside}


def chap(**libvirt: str) -> dict[str, t.Any]:
    return connection(data={"auth_method": "CHAP", "auth_username": "user-b", "auth_password": "planted-chap"}, libvirt=libvirt)


def refused(xml: str, device_map: dict[str, t.Any], **more: t.Any) -> InputError:
    with pytest.raises(InputError) as caught:
        rewrite(xml, device_map, **more)
    assert caught.value.error_id == "unmapped_disks"
    return caught.value


def only_disk(xml: str) -> etree._Element:
    (disk,) = etree.fromstring(xml).findall("devices/disk")
    return disk


# --- the specification's examples


def test_ex2_kernel_initiator() -> None:
    before = domain(block(BY_PATH.format("12345", "X")))
    assert rewrite(before, {SERIAL: BY_PATH.format("67890", "Z")}) == domain(block(BY_PATH.format("67890", "Z")))


def test_ex3_libiscsi() -> None:
    before = domain(NETWORK.format(name="iqn.2014-12.org.abc:12345.opst/1", host="192.168.0.10", port=3260, serial=SERIAL))
    after = domain(NETWORK.format(name="iqn.2014-12.org.abc:67890.opst/26", host="192.168.0.11", port=3261, serial=SERIAL))
    assert rewrite(before, {SERIAL: connection("iqn.2014-12.org.abc:67890.opst", 26, "192.168.0.11:3261")}) == after


def test_ex1_shape_with_listen_addresses() -> None:
    graphics = (
        '<graphics type="vnc" port="-1" listen="{0}"><listen type="address" address="{0}"/></graphics>'
        '<graphics type="spice"><listen type="address" address="{1}"/></graphics>'
    )
    before = domain(block() + graphics.format("10.0.0.1", "10.0.0.1"))
    result = rewrite(before, {SERIAL: "/dev/sdz"}, {"vnc": "127.0.0.1", "spice": "fd00::2"})
    assert result == domain(block("/dev/sdz") + graphics.format("127.0.0.1", "fd00::2"))


# --- images below a disk

CHAIN = """<disk type="network" device="disk">
      <driver name="qemu" type="qcow2"/>
      <source protocol="iscsi" name="iqn.2026-11.org.abc:host-a/1">
        <host name="192.168.0.10" port="3260"/>
      </source>
      <backingStore type="network">
        <format type="qcow2"/>
        <source protocol="iscsi" name="iqn.2026-11.org.abc:host-a/2">
          <host name="192.168.0.10" port="3260"/>
        </source>
        <backingStore type="block">
          <format type="raw"/>
          <source dev="/dev/sda"/>
          <backingStore/>
        </backingStore>
      </backingStore>
      <target dev="vda" bus="virtio"/>
      <serial>{serial}</serial>
    </disk>"""
BELOW = {"vda[1]": connection(lun=8), "vda[2]": "/dev/sdz"}


def test_every_image_of_a_chain_is_a_disk_with_the_name_that_libvirt_gives_it() -> None:
    found = disks(domain(CHAIN.format(serial=SERIAL)))
    assert [(disk["target"], disk["layer"], disk["serial"], disk["initiator"], disk["source"]) for disk in found] == [
        ("vda", 0, SERIAL, "libiscsi", "iqn.2026-11.org.abc:host-a/1"),
        ("vda[1]", 1, None, "libiscsi", "iqn.2026-11.org.abc:host-a/2"),
        ("vda[2]", 2, None, "kernel", "/dev/sda"),
    ]


def test_every_image_of_a_chain_is_rewritten_and_nothing_else() -> None:
    before = domain(CHAIN.format(serial=SERIAL))
    after = rewrite(before, {SERIAL: connection()}, overrides=BELOW)
    assert after == (
        before.replace("host-a/1", "host-b/7")
        .replace("host-a/2", "host-b/8")
        .replace('<source dev="/dev/sda"/>', '<source dev="/dev/sdz"/>')
    )


def test_an_image_of_a_chain_may_change_its_kind() -> None:
    after = rewrite(
        domain(CHAIN.format(serial=SERIAL)), {SERIAL: "/dev/sdx"}, overrides={"vda[1]": "/dev/sdy", "vda[2]": chap(secret_usage="u")}
    )
    assert [(disk["type"], disk["source"]) for disk in disks(after)] == [
        ("block", "/dev/sdx"),
        ("block", "/dev/sdy"),
        ("network", "iqn.2026-11.org.abc:host-b/7"),
    ]
    assert only_disk(after).find("backingStore/backingStore/source/auth/secret").get("usage") == "u"
    assert only_disk(after).find("backingStore/format").get("type") == "qcow2"


def test_no_image_of_a_chain_is_skipped() -> None:
    error = refused(domain(CHAIN.format(serial=SERIAL)), {})
    assert [disk["target"] for disk in error.details["disks"]] == ["vda", "vda[1]", "vda[2]"]
    assert "give an override for target dev vda[2]" in str(error)
    error = refused(domain(CHAIN.format(serial=SERIAL)), {SERIAL: "/dev/sdx"}, overrides={**BELOW, "vda[3]": "/dev/sdw"})
    assert "vda[3] fits no disk" in str(error)


def test_a_disk_and_an_image_below_one_cannot_be_the_same_device_but_two_images_can() -> None:
    error = refused(domain(CHAIN.format(serial=SERIAL)), {SERIAL: "/dev/sdz"}, overrides=BELOW)
    assert "same device as that of disk vda" in str(error)
    second = CHAIN.format(serial=OTHER).replace('"vda"', '"vdb"')
    below_both = {**BELOW, "vdb[1]": connection(lun=9), "vdb[2]": "/dev/sdz"}
    rewrite(domain(CHAIN.format(serial=SERIAL) + second), {SERIAL: connection(), OTHER: connection(lun=10)}, overrides=below_both)


# --- media that stay behind

CDROM = """<disk type="{kind}" device="cdrom">
      <driver name="qemu" type="raw"/>{source}
      <target dev="sda" bus="sata"/>
      <readonly/>
    </disk>"""


def test_a_medium_that_the_destination_lacks_is_left_out() -> None:
    iso = CDROM.format(kind="file", source='\n      <source file="/a.iso"/>')
    assert rewrite(domain(iso), {}) == domain(iso)
    assert rewrite(domain(iso), {}, eject=["sda"]) == domain(CDROM.format(kind="file", source=""))
    web = CDROM.format(kind="network", source='\n      <source protocol="http" name="a.iso"><host name="h"/></source>')
    assert rewrite(domain(web), {}, eject=["sda"]) == domain(CDROM.format(kind="file", source=""))


@pytest.mark.parametrize(
    ("devices", "target", "told"),
    [
        (CDROM.format(kind="block", source='<source dev="/dev/sda"/>'), "sda", "is a LUN"),
        ('<disk type="file"><source file="/x"/><target dev="vda"/></disk>', "vda", "only a CD-ROM or floppy"),
        (CDROM.format(kind="file", source=""), "sdx", "sdx whose medium should be left out is no disk"),
    ],
)
def test_nothing_else_is_left_out(devices: str, target: str, told: str) -> None:
    assert told in str(refused(domain(devices), {}, eject=[target]))


# --- kinds and what belongs to them


def test_block_becomes_network_and_back() -> None:
    before = domain(block("/dev/sda"))
    there = rewrite(before, {SERIAL: connection(libvirt={"initiator_iqn": "iqn.2026-11.org.abc:init-b"})})
    disk = only_disk(there)
    assert (disk.get("type"), dict(disk.find("source").attrib)) == (
        "network",
        {"protocol": "iscsi", "name": "iqn.2026-11.org.abc:host-b/7"},
    )
    assert [child.tag for child in disk.find("source")] == ["host", "initiator"]
    assert disk.find("source/initiator/iqn").get("name") == "iqn.2026-11.org.abc:init-b"
    assert rewrite(there, {SERIAL: "/dev/sda"}) == before


def test_ipv6_address_has_no_brackets() -> None:
    host = only_disk(rewrite(domain(block()), {SERIAL: connection(portal="[fd00:78::2]:3261")})).find("source/host")
    assert dict(host.attrib) == {"name": "fd00:78::2", "port": "3261"}


@pytest.mark.parametrize(
    ("reference", "attributes"), [({"secret_usage": "chap-b"}, {"usage": "chap-b"}), ({"secret_uuid": OTHER}, {"uuid": OTHER})]
)
def test_chap_refers_to_a_secret_of_the_destination(reference: dict[str, str], attributes: dict[str, str]) -> None:
    result = rewrite(domain(block()), {SERIAL: chap(**reference)})
    auth = only_disk(result).find("source/auth")
    assert (auth.get("username"), dict(auth.find("secret").attrib)) == ("user-b", {"type": "iscsi", **attributes})
    assert "planted-chap" not in result


def test_redacted_connection_info_is_enough() -> None:
    redacted = chap(secret_usage="chap-b")
    del redacted["data"]["auth_password"]
    assert rewrite(domain(block()), {SERIAL: redacted}) == rewrite(domain(block()), {SERIAL: chap(secret_usage="chap-b")})


def test_chap_without_a_secret_is_refused() -> None:
    error = refused(domain(block()), {SERIAL: chap()})
    assert "names no secret" in str(error)
    assert "planted-chap" not in str(error) + str(error.details)


@pytest.mark.parametrize("password_in", [{"auth_password_in": "planted-other"}, {}], ids=["as given", "redacted"])
def test_mutual_chap_is_refused_where_qemu_would_not_ask(password_in: dict[str, str]) -> None:
    info = chap(secret_usage="chap-b")
    info["data"].update(auth_username_in="array", **password_in)
    assert "asks that the target proves itself" in str(refused(domain(block()), {SERIAL: info}))


AUTH = '<auth username="user-a"><secret type="iscsi" usage="chap-a"/></auth>'
BESIDE = (
    f'<disk type="network">{AUTH}<source protocol="iscsi" name="iqn.2026-11.a:a/1"><host name="10.0.0.1" port="3260"/></source>'
    f'<target dev="vda"/><serial>{SERIAL}</serial></disk>'
)
INSIDE = BESIDE.replace(AUTH, "").replace("</source>", f"{AUTH}</source>")


@pytest.mark.parametrize("disk", [BESIDE, INSIDE])
@pytest.mark.parametrize("value", ["/dev/sdz", connection()])
def test_auth_that_is_not_needed_any_more_goes(disk: str, value: t.Any) -> None:
    assert not list(only_disk(rewrite(domain(disk), {SERIAL: value})).iter("auth"))


@pytest.mark.parametrize(("disk", "place"), [(BESIDE, "auth"), (INSIDE, "source/auth")])
def test_auth_is_replaced_where_it_stands(disk: str, place: str) -> None:
    result = only_disk(rewrite(domain(disk), {SERIAL: chap(secret_usage="chap-b")}))
    assert [auth.get("username") for auth in result.iter("auth")] == ["user-b"]
    assert dict(result.find(f"{place}/secret").attrib) == {"type": "iscsi", "usage": "chap-b"}


def test_initiator_of_the_source_does_not_go_along() -> None:
    disk = INSIDE.replace("</source>", '<initiator><iqn name="iqn.2026-11.a:init-a"/></initiator></source>')
    assert "init-a" not in rewrite(domain(disk), {SERIAL: connection()})


@pytest.mark.parametrize("value", ["/dev/sdz", connection()])
def test_children_of_source_that_are_about_the_data_stay(value: t.Any) -> None:
    children = (
        '<seclabel model="dac" relabel="no"/><!-- why --><reservations managed="yes"/>'
        '<encryption format="luks"><secret type="passphrase" uuid="11111111-2222-4333-8444-555555555555"/></encryption>'
        '<slices><slice type="storage" offset="12345" size="123"/></slices>'
    )
    disk = f'<disk type="block"><source dev="/dev/sda" index="3">{children}</source><target dev="vda"/><serial>{SERIAL}</serial></disk>'
    result = rewrite(domain(disk), {SERIAL: value})
    assert children in result
    assert only_disk(result).find("source").get("index") == "3"


def test_a_second_host_and_another_transport_go() -> None:
    disk = INSIDE.replace("<host ", '<host name="10.0.0.9" transport="rdma"/><host ')
    hosts = only_disk(rewrite(domain(disk), {SERIAL: connection()})).findall("source/host")
    assert [dict(host.attrib) for host in hosts] == [{"name": "192.168.0.10", "port": "3260"}]


# --- what must not be touched


def test_other_disks_stay() -> None:
    others = (
        '<disk type="network"><auth username="cinder"><secret type="ceph" uuid="x"/></auth>'
        '<source protocol="rbd" name="p/v"><host name="m"/></source><target dev="vdc"/></disk>'
        '<disk type="file" device="cdrom"><target dev="sda"/></disk>'
        '<disk type="block" device="cdrom"><source startupPolicy="optional"/><target dev="sdb"/></disk>'
        '<disk type="file"><source file="/var/lib/x.img"/><target dev="vdd"/></disk>'
    )
    assert rewrite(domain(block() + others), {SERIAL: "/dev/sdz"}) == domain(block("/dev/sdz") + others)


def test_comments_namespaces_and_lookalikes_stay() -> None:
    beside = f"""
  <metadata><nova:instance xmlns:nova="urn:nova"><disk type="block"><source dev="/dev/sdq"/></disk></nova:instance></metadata>
  <!-- {SERIAL} > & -->
  <qemu:commandline><qemu:arg value="-name"/></qemu:commandline>
  <description><![CDATA[<disk type="block"/>]]></description>"""
    before = f"<!-- first -->\n<?keep this?>{domain(block(), beside)}<!-- last -->"
    after = rewrite(before, {SERIAL: "/dev/sdz"})
    assert etree.canonicalize(after, with_comments=True) == etree.canonicalize(before.replace("/dev/sda", "/dev/sdz"), with_comments=True)
    assert "<![CDATA[" in after


LISTENS = [
    '<graphics type="vnc" socket="/run/vnc"><listen type="socket" socket="/run/vnc"/></graphics>',
    '<graphics type="vnc" listen="10.0.0.1"><listen type="network" network="default" address="10.0.0.1"/></graphics>',
    '<graphics type="vnc"><listen type="address"/></graphics>',
    '<graphics type="vnc"><listen type="none"/></graphics>',
    '<graphics type="vnc"/>',
    '<graphics type="rdp" listen="10.0.0.1"><listen type="address" address="10.0.0.1"/></graphics>',
]


@pytest.mark.parametrize("graphics", LISTENS)
def test_only_listen_addresses_are_replaced(graphics: str) -> None:
    assert rewrite(domain(graphics), {}, {"vnc": "127.0.0.1"}) == domain(graphics)


def test_old_form_of_listen_address() -> None:
    assert 'listen="::1"' in rewrite(domain('<graphics type="vnc" listen="10.0.0.1"/>'), {}, {"vnc": "::1", "spice": None})


def test_domain_that_libvirt_wrote() -> None:
    device_map = {
        SERIAL: connection(lun=101, libvirt={"initiator_iqn": "iqn.2026-11.lab.lunshift:init-hostb"}),
        OTHER: "/dev/disk/by-path/ip-10.78.0.2:3260-iscsi-iqn.2026-11.lab.lunshift:hostb-lun-102",
    }
    # libvirt allows no serial on device='lun', so it takes an override.
    after = rewrite(RECORDED, device_map, {"vnc": "10.78.0.12"}, {"sdb": "/dev/disk/by-id/wwn-0x1"})
    changed = [
        line.strip()
        for line in after.splitlines()
        if line.replace('"', "'") not in {known.replace('"', "'") for known in RECORDED.splitlines()}
    ]
    assert changed == [
        '<domain xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0" type="qemu">',  # in another order, which means nothing
        '<source dev="/dev/disk/by-id/wwn-0x1">',
        '<source protocol="iscsi" name="iqn.2026-11.org.abc:host-b/101">',
        '<host name="192.168.0.10" port="3260"/>',
        '<iqn name="iqn.2026-11.lab.lunshift:init-hostb"/>',
        '<disk type="block" device="disk">',
        '<source dev="/dev/disk/by-path/ip-10.78.0.2:3260-iscsi-iqn.2026-11.lab.lunshift:hostb-lun-102"/>',
        '<graphics type="vnc" port="-1" autoport="yes" listen="10.78.0.12" passwd="plantvnc">',
        '<listen type="address" address="10.78.0.12"/>',
    ]


@pytest.mark.parametrize("value", ["/dev/sdz", connection(libvirt={"initiator_iqn": "iqn.2026-11.a:b"}), chap(secret_usage="chap-b")])
def test_result_fits_the_schema_of_libvirt(value: t.Any) -> None:
    schema = etree.RelaxNG(etree.parse(str(SCHEMA)))
    after = etree.fromstring(rewrite(RECORDED, {SERIAL: value, OTHER: "/dev/sdy"}, {"vnc": "fd00::1"}, {"sdb": "/dev/sdx"}))
    assert schema.validate(after), schema.error_log


# --- what is refused, and that it is all said at once


def test_every_problem_is_named_at_once() -> None:
    def disk(target: str, source: str, serial: str) -> str:
        return f'<disk type="block"><source dev="{source}"/><target dev="{target}"/>{serial}</disk>'

    xml = domain(
        disk("vda", "/dev/sda", "<serial>unknown</serial>")
        + disk("vdb", "/dev/sdb", "")
        + disk("vdc", "/dev/sdc", "<serial>twice</serial>")
        + disk("vdd", "/dev/sdd", "<serial> twice </serial>")
        + disk("vde", "/dev/sde", f"<serial>{SERIAL}</serial>")
        + disk("vdf", "/dev/sdf", "<serial>relative</serial>")
        + '<disk type="volume"><source pool="p" volume="v"/><target dev="vdg"/></disk>'
    )
    error = refused(xml, {SERIAL: "/dev/sdz", "twice": "/dev/sdy", "relative": "sdx"}, overrides={"vdq": "/dev/sdq"})
    assert [disk["target"] for disk in error.details["disks"]] == ["vda", "vdb", "vdc", "vdd", "vdf"]
    assert all(set(disk) == {"target", "serial", "source", "cause", "remedy"} for disk in error.details["disks"])
    for part in ("/dev/sda", "no serial", "same serial", "'sdx'", "vdg is type='volume'", "target dev vdq fits no disk"):
        assert part in str(error)


def test_serials_are_compared_exactly() -> None:
    assert "no entry for its serial" in str(refused(domain(block(serial=SERIAL.upper())), {SERIAL: "/dev/sdz"}))
    assert rewrite(domain(block(serial=f" {SERIAL}\n")), {f"{SERIAL} ": "/dev/sdz"})


def test_override_by_target_dev() -> None:
    twice = block("/dev/sda") + block("/dev/sdb").replace("vdb", "vdc")
    result = rewrite(domain(twice), {SERIAL: "/dev/sdy"}, overrides={"vdc": "/dev/sdz"})
    assert [disk["source"] for disk in disks(result)] == ["/dev/sdy", "/dev/sdz"]


def test_override_for_a_disk_that_has_no_lun() -> None:
    assert "remove the override" in str(refused(domain('<disk type="file"><target dev="sda"/></disk>'), {}, overrides={"sda": "/dev/sdz"}))


def test_entries_that_no_disk_uses_are_fine() -> None:
    assert rewrite(domain(""), {SERIAL: "/dev/sdz", "broken": 1}) == domain("")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/dev/sdz", "/dev/sdz"),
        (connection(), connection(libvirt={"initiator_iqn": "iqn.2026-11.a:b"})),
        (connection(), "/dev/disk/by-path/ip-192.168.0.10:3260-iscsi-iqn.2026-11.org.abc:host-b-lun-7"),
    ],
)
def test_two_disks_cannot_become_one_device(first: t.Any, second: t.Any) -> None:
    xml = domain(block() + block("/dev/sdb", OTHER).replace("vdb", "vdc"))
    assert "same device as that of disk vdb" in str(refused(xml, {SERIAL: first, OTHER: second}))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "sda",
        "/dev/",
        "/dev",
        "/etc/passwd",
        "/dev/../etc/passwd",
        "/dev//sda",
        "/dev/sda/",
        "/dev/./sda",
        "/dev/sda\n",
        "/dev/s a",
        "/dev/s\x01",
        "/dev/\ud800",
        None,
        5,
        ["/dev/sda"],
        True,
    ],
)
def test_values_that_are_no_device(value: t.Any) -> None:
    assert refused(domain(block()), {SERIAL: value}).details["disks"][0]["target"] == "vdb"


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"driver_volume_type": "rbd", "data": {}},
        connection(lun=70000),
        connection(iqn="iqn.2026-11.a:b\x01"),
        connection(libvirt={"initiator_iqn": "iqn\x00"}),
        connection(portal="host:port"),
    ],
)
def test_connection_info_that_cannot_be_used(value: dict[str, t.Any]) -> None:
    refused(domain(block()), {SERIAL: value})


def test_listen_address_that_is_none() -> None:
    assert "'10.0.0.1 x'" in str(refused(domain(""), {}, graphics_listen_addrs={"vnc": "10.0.0.1 x"}))


def test_startup_policy_does_not_fit_a_network_disk() -> None:
    xml = domain(
        f'<disk type="block" device="cdrom"><source dev="/dev/sr0" startupPolicy="optional"/>'
        f'<target dev="sda"/><serial>{SERIAL}</serial></disk>'
    )
    assert "startupPolicy" in str(refused(xml, {SERIAL: connection()}))
    assert rewrite(xml, {SERIAL: "/dev/sdz"})


def test_a_second_source_is_not_overlooked() -> None:
    xml = domain('<disk type="block"><source/><source dev="/dev/sdb"/><target dev="vda"/></disk>')
    assert "more than one <source>" in str(refused(xml, {}))


# --- hostile and broken documents


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<domain>",
        "<domainsnapshot><domain/></domainsnapshot>",
        '<d:domain xmlns:d="x"/>',
        "<domain>&undefined;</domain>",
        "<domain>\x00</domain>",
        "<domain>\ud800</domain>",
        '<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/passwd">]><domain><name>&x;</name></domain>',
        '<!DOCTYPE domain SYSTEM "http://127.0.0.1:9/x.dtd"><domain/>',
        '<!DOCTYPE domain [<!ATTLIST disk type CDATA "block">]><domain/>',
        "<!DOCTYPE domain [<!ENTITY a 'aaaaaaaaaa'>"
        + "".join(f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefgh", "bcdefghi"))
        + "]><domain n='&i;'/>",
    ],
)
def test_documents_that_are_no_domain(xml: str) -> None:
    with pytest.raises(InputError) as caught:
        rewrite(xml, {})
    assert caught.value.error_id == "invalid_xml"


def test_declared_encoding_does_not_matter() -> None:
    assert "<name>Zoë</name>" in rewrite('<?xml version="1.0" encoding="UTF-16"?><domain><name>Zoë</name></domain>', {})


def test_missing_lxml_is_told_when_it_is_needed() -> None:
    script = (
        "import sys; sys.modules['lxml'] = None\n"
        "from ansible_collections.lunshift.migration.plugins.module_utils import _domain_xml, _errors\n"
        "try: _domain_xml.disks('<domain/>')\n"
        "except _errors.MigrationError as exc: print(exc.error_id, exc)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env={"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.stdout.startswith(f"lxml_missing The Python library lxml is missing for {sys.executable} on ")
    assert "python3-lxml" in done.stdout


# --- disks and other users of LUNs


def test_disks_in_plain_types() -> None:
    assert [(disk["target"], disk["serial"], disk["initiator"], disk["source"], disk["needs_entry"]) for disk in disks(RECORDED)] == [
        ("sdb", None, "kernel", "/dev/disk/by-path/ip-10.78.0.2:3260-iscsi-iqn.2026-11.lab.lunshift:hosta-lun-1", True),
        ("vdb", SERIAL, "libiscsi", "iqn.2026-11.lab.lunshift:hosta/1", True),
        ("vdc", OTHER, "libiscsi", "iqn.2026-11.lab.lunshift:hosta-chap/2", True),
        ("sda", None, None, None, False),
    ]
    assert disks(RECORDED)[1] == {
        "target": "vdb",
        "serial": SERIAL,
        "type": "network",
        "device": "disk",
        "protocol": "iscsi",
        "source": "iqn.2026-11.lab.lunshift:hosta/1",
        "portal": "127.0.0.1:13260",
        "initiator": "libiscsi",
        "initiator_iqn": "iqn.2026-11.lab.lunshift:init-hosta",
        "needs_entry": True,
        "layer": 0,
        "chain_untold": False,
        "error_policy": None,
        "rerror_policy": None,
    }


def test_portal_of_an_ipv6_host_is_as_in_connection_info() -> None:
    xml = domain(NETWORK.format(name="iqn.2026-11.a:a/1", host="fd00::2", port=3260, serial=SERIAL))
    assert disks(xml)[0]["portal"] == "[fd00::2]:3260"
    assert disks(domain('<disk type="network"><source protocol="iscsi" name="iqn.2026-11.a:a/1"/></disk>'))[0]["portal"] is None


def file_disk(inner: str, in_source: str = "") -> str:
    return f'<disk type="file"><source file="/x">{in_source}</source>{inner}<target dev="vda"/></disk>'


LUN_USERS = {
    "volume_disk": '<disk type="volume"><source pool="p" volume="v"/><target dev="vda"/></disk>',
    "host_device_disk": '<disk type="nvme"><source type="pci" namespace="1"><address bus="0x01"/></source><target dev="vda"/></disk>',
    "device_as_file": '<disk type="file"><source file="/dev/sdb"/><target dev="vda"/></disk>',
    "backing_store": file_disk(
        '<mirror type="file" job="copy"><source file="/y"/><backingStore type="block"><source dev="/dev/sdb"/></backingStore></mirror>'
    ),
    "mirror": file_disk('<mirror type="network" job="copy"><source protocol="iscsi" name="iqn.2026-11.a:a/1"/></mirror>'),
    "data_store": file_disk("", '<dataStore type="block"><source dev="/dev/sdb"/></dataStore>'),
    "scsi_hostdev": '<hostdev mode="subsystem" type="scsi"><source protocol="iscsi" name="iqn.2026-11.a:a/1"/></hostdev>',
    "filesystem": '<filesystem type="block"><source dev="/dev/sdb"/><target dir="/"/></filesystem>',
    "memory": '<memory model="nvdimm"><source><path>/dev/pmem0</path></source></memory>',
    "tpm_state": '<tpm><backend type="emulator"><source type="file" path="/dev/sdb"/></backend></tpm>',
    "pstore": '<pstore backend="acpi-erst"><path>/dev/sdb</path></pstore>',
}
BESIDE_DEVICES = {
    "nvram": '<os><nvram type="block"><source dev="/dev/sdb"/></nvram></os>',
    "loader": "<os><loader>/dev/sdb</loader></os>",
    "varstore": '<os><varstore path="/dev/sdb"/></os>',
    "qemu_commandline": '<qemu:commandline><qemu:arg value="-drive"/>'
    '<qemu:arg value="file=iscsi://user%secretword@10.0.0.1/iqn.2026-11.a:a/1"/></qemu:commandline>',
}
MORE = [
    ("scsi_hostdev", '<hostdev mode="subsystem" type="scsi"><source><adapter name="scsi_host0"/><address bus="0"/></source></hostdev>', ""),
    ("scsi_hostdev", '<hostdev mode="subsystem" type="scsi_host"><source protocol="vhost" wwpn="naa.5"/></hostdev>', ""),
    ("scsi_hostdev", '<hostdev mode="capabilities" type="storage"><source><block>/dev/sdb</block></source></hostdev>', ""),
    ("mirror", '<disk type="file"><source file="/x"/><mirror file="/dev/sdb" job="copy"/><target dev="vda"/></disk>', ""),
    ("device_as_file", '<disk type="file"><source file="iscsi://10.0.0.1/iqn/1"/><target dev="vda"/></disk>', ""),
    (
        "volume_disk",
        file_disk('<backingStore type="volume"><source pool="p" volume="v"/></backingStore>'),
        "",
    ),
    ("nvram", "", "<os><nvram>/dev/sdb</nvram></os>"),
    ("nvram", "", '<os><nvram type="network"><source protocol="iscsi" name="iqn.2026-11.a:a/1"/></nvram></os>'),
    ("qemu_commandline", "", '<qemu:commandline><qemu:env name="X" value="/dev/disk/by-path/x"/></qemu:commandline>'),
    (
        "qemu_commandline",
        "",
        '<qemu:override><qemu:device><qemu:frontend><qemu:property value="/dev/sdb"/></qemu:frontend></qemu:device></qemu:override>',
    ),
]


@pytest.mark.parametrize(
    ("identifier", "devices", "beside"),
    [*((key, value, "") for key, value in LUN_USERS.items()), *((key, "", value) for key, value in BESIDE_DEVICES.items()), *MORE],
)
def test_other_users_of_luns_are_named(identifier: str, devices: str, beside: str) -> None:
    xml = domain(devices, beside)
    (found,) = unmapped_lun_users(xml)
    assert found["id"] == identifier
    assert "secretword" not in found["message"]
    assert found["message"] in str(refused(xml, {}))


@pytest.mark.parametrize(
    ("devices", "beside"),
    [
        ('<disk type="volume" device="cdrom"><target dev="sda"/></disk>', ""),
        ('<serial type="dev"><source path="/dev/ttyS0"/></serial><rng><backend model="random">/dev/urandom</backend></rng>', ""),
        ('<input type="evdev"><source dev="/dev/input/event1"/></input><interface type="direct"><source dev="eth0"/></interface>', ""),
        ('<tpm><backend type="passthrough"><device path="/dev/tpm0"/></backend></tpm>', ""),
        ('<hostdev mode="subsystem" type="pci"/><hostdev mode="subsystem" type="usb"/>', ""),
        ('<filesystem type="mount"><source dir="/dev/shm"/></filesystem>', ""),
        ("", '<os><loader readonly="yes" type="pflash">/usr/share/OVMF/OVMF_CODE.fd</loader><nvram>/var/lib/x_VARS.fd</nvram></os>'),
        ("", '<qemu:commandline><qemu:arg value="-object"/><qemu:arg value="rng-random,filename=/dev/urandom,id=r"/></qemu:commandline>'),
        ("", '<qemu:commandline><qemu:arg value="vhost=/dev/vhost-net,tap=/dev/net/tun"/></qemu:commandline>'),
        (
            file_disk('<backingStore type="file"><source file="/y"/><backingStore/></backingStore>'),
            "",
        ),
    ],
)
def test_what_uses_no_lun_is_left_alone(devices: str, beside: str) -> None:
    assert unmapped_lun_users(domain(devices, beside)) == []


def test_messages_fit_on_a_screen() -> None:
    for found in unmapped_lun_users(domain("".join(LUN_USERS.values()), "".join(BESIDE_DEVICES.values()))):
        assert len(found["message"]) < 240
        assert re.search("; [a-z]", found["message"]), "cause, then remedy"
