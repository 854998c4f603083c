# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the rewriting promises for every domain, tried on made-up ones."""

from __future__ import annotations

import copy
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._domain_xml import disks, rewrite
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=12)
NAMES = st.sampled_from(["vendor", "wwn", "alias", "x-unknown", "{urn:other}thing", f"{{{QEMU}}}arg", "driver", "address"])
ADDRESSES = st.sampled_from(["10.0.0.1", "fd00::2", "storage.example"])


@st.composite
def noise(draw: st.DrawFn, depth: int = 2) -> etree._Element:
    """An element that the rewriting knows nothing about; comments and processing instructions are such, too."""
    kind = draw(st.integers(0, 5))
    if kind == 0:
        return etree.Comment(draw(TEXT).replace("-", " "))
    if kind == 1:
        return etree.ProcessingInstruction("keep", draw(TEXT).replace("?", "").lstrip())
    element = etree.Element(draw(NAMES), {"a": draw(TEXT), "{urn:other}b": draw(TEXT)})
    element.text, element.tail = draw(TEXT), draw(TEXT)
    if depth:
        element.extend(draw(st.lists(noise(depth - 1), max_size=2)))
    return element


@st.composite
def connections(draw: st.DrawFn, number: int) -> dict[str, t.Any]:
    address = draw(ADDRESSES)
    portal = f"[{address}]:3260" if ":" in address else f"{address}:3261"
    data: dict[str, t.Any] = {"target_portal": portal, "target_iqn": f"iqn.2026-11.org.example:t{number}", "target_lun": number}
    libvirt: dict[str, str] = {}
    if draw(st.booleans()):
        data.update(auth_method="CHAP", auth_username="user")
        libvirt["secret_usage"] = "chap"
    if draw(st.booleans()):
        libvirt["initiator_iqn"] = "iqn.2026-11.org.example:initiator"
    return {"driver_volume_type": "iscsi", "data": data, "libvirt": libvirt}


@st.composite
def values(draw: st.DrawFn, number: int) -> t.Any:
    return draw(st.one_of(st.just(f"/dev/disk/by-id/wwn-{number}"), connections(number)))


@st.composite
def maps(draw: st.DrawFn, start: int) -> dict[str, t.Any]:
    return {f"serial-{index}": draw(values(start + index)) for index in range(4)}


@st.composite
def domains(draw: st.DrawFn, noisy: bool) -> str:
    root = etree.Element("domain", {"type": "kvm"}, nsmap={"qemu": QEMU, "o": "urn:other"})
    extra = st.lists(noise(), max_size=2) if noisy else st.just([])
    root.extend(draw(extra))
    devices = etree.SubElement(root, "devices")
    for index in range(draw(st.integers(0, 4))):
        devices.extend(draw(extra))
        disk = etree.SubElement(devices, "disk", {"type": "block", "device": "disk"})
        disk.extend(draw(extra))
        source = etree.SubElement(disk, "source", {"dev": f"/dev/sd{index}", "index": "1"} if noisy else {"dev": f"/dev/sd{index}"})
        source.extend(draw(extra))
        disk.extend(draw(extra))
        etree.SubElement(disk, "target", {"dev": f"vd{'abcd'[index]}", "bus": "virtio"})
        etree.SubElement(disk, "serial").text = f"serial-{index}"
    for kind in draw(st.lists(st.sampled_from(["vnc", "spice", "sdl"]), max_size=2)):
        graphics = etree.SubElement(devices, "graphics", {"type": kind, "listen": "10.9.9.9", "port": "-1"})
        etree.SubElement(graphics, "listen", {"type": "address", "address": "10.9.9.9"})
        graphics.extend(draw(extra))
    if draw(st.booleans()):
        etree.indent(root)
    return etree.tostring(root.getroottree(), encoding="unicode") + draw(st.sampled_from(["", "\n"]))


def canonical(xml: str) -> bytes:
    return t.cast(bytes, etree.tostring(etree.fromstring(xml), method="c14n"))


def without_what_may_change(xml: str) -> bytes:
    """The canonical form with everything gone that the rewriting may touch."""
    root = copy.deepcopy(etree.fromstring(xml))
    for disk in root.findall("devices/disk"):
        if disk.find("source[@dev]") is None and disk.find("source[@protocol='iscsi']") is None:
            continue
        del disk.attrib["type"]
        for child in [*disk.findall("source"), *disk.findall("auth")]:
            following = etree.Element("was-here")
            following.tail = child.tail
            disk.replace(child, following)
    for graphics in root.findall("devices/graphics"):
        graphics.attrib.pop("listen", None)
        for listen in graphics.findall("listen"):
            listen.attrib.pop("address", None)
    return t.cast(bytes, etree.tostring(root, method="c14n"))


def unconcerned_children(xml: str) -> list[bytes]:
    """What stands in <source> besides the way to the data."""
    return [
        # lxml crashes on the canonical form of a lone comment.
        etree.tostring(child, method="c14n" if isinstance(child.tag, str) else "xml", with_tail=False)
        for source in etree.fromstring(xml).findall("devices/disk/source")
        for child in source
        if child.tag not in ("host", "auth", "initiator")
    ]


@settings(max_examples=80, deadline=None)
@given(domains(noisy=True), maps(0), ADDRESSES)
def test_only_what_had_to_change_has_changed(xml: str, device_map: dict[str, t.Any], address: str) -> None:
    after = rewrite(xml, device_map, {"vnc": address})
    assert without_what_may_change(after) == without_what_may_change(xml)
    assert unconcerned_children(after) == unconcerned_children(xml)
    assert after.endswith("\n") == xml.endswith("\n")


@settings(max_examples=50, deadline=None)
@given(domains(noisy=True), maps(0))
def test_every_disk_is_where_the_map_says(xml: str, device_map: dict[str, t.Any]) -> None:
    for disk in disks(rewrite(xml, device_map)):
        value = device_map[disk["serial"]]
        if isinstance(value, str):
            assert (disk["type"], disk["initiator"], disk["source"]) == ("block", "kernel", value)
        else:
            data = value["data"]
            assert (disk["type"], disk["initiator"]) == ("network", "libiscsi")
            assert disk["source"] == f"{data['target_iqn']}/{data['target_lun']}"
            assert disk["portal"] == data["target_portal"]
            assert disk["initiator_iqn"] == value["libvirt"].get("initiator_iqn")


@settings(max_examples=50, deadline=None)
@given(domains(noisy=True), maps(0), maps(10))
def test_twice_is_once(xml: str, first: dict[str, t.Any], second: dict[str, t.Any]) -> None:
    once = rewrite(xml, first, {"vnc": "10.0.0.1"})
    assert rewrite(once, first, {"vnc": "10.0.0.1"}) == once
    # Nothing of a place in between stays behind, but for the order of what means the same in any order.
    direct, detour = (disks(rewrite(each, second)) for each in (xml, once))
    assert direct == detour


@settings(max_examples=50, deadline=None)
@given(domains(noisy=False), maps(0), maps(10), maps(20))
def test_there_and_back(xml: str, home: dict[str, t.Any], away: dict[str, t.Any], further: dict[str, t.Any]) -> None:
    at_home = rewrite(xml, home, {"vnc": "10.0.0.1"})
    moved = rewrite(rewrite(at_home, away, {"vnc": "10.0.0.2"}), further)
    assert canonical(rewrite(moved, home, {"vnc": "10.0.0.1"})) == canonical(at_home)


@st.composite
def chains(draw: st.DrawFn) -> tuple[str, dict[str, t.Any], dict[str, t.Any]]:
    """A domain whose disks stand on images, with noise between, the map of the disks and the overrides of the images."""
    root = etree.Element("domain", {"type": "kvm"}, nsmap={"qemu": QEMU, "o": "urn:other"})
    devices = etree.SubElement(root, "devices")
    device_map, overrides = {}, {}
    for index in range(draw(st.integers(1, 2))):
        element = etree.SubElement(devices, "disk", {"type": "block", "device": "disk"})
        etree.SubElement(element, "target", {"dev": f"vd{index}", "bus": "virtio"})
        etree.SubElement(element, "serial").text = f"serial-{index}"
        device_map[f"serial-{index}"] = draw(values(10 * index))
        for depth in range(draw(st.integers(0, 3)) + 1):
            if depth:
                element = etree.SubElement(element, "backingStore", {"type": "block"})
                overrides[f"vd{index}[{depth}]"] = draw(values(10 * index + depth))
            source = etree.SubElement(element, "source", {"dev": f"/dev/sd{index}{depth}"})
            source.extend(draw(st.lists(noise(), max_size=2)))
            element.extend(draw(st.lists(noise(), max_size=2)))
        etree.SubElement(element, "backingStore")
    return etree.tostring(root.getroottree(), encoding="unicode"), device_map, overrides


def without_chains(xml: str) -> bytes:
    """The canonical form without the sources and the kinds of disks and of the images below them."""
    root = etree.fromstring(xml)
    for element in root.iter("disk", "backingStore"):
        element.attrib.pop("type", None)
        for source in element.findall("source"):
            following = etree.Element("was-here")
            following.tail = source.tail
            element.replace(source, following)
    return t.cast(bytes, etree.tostring(root, method="c14n"))


@settings(max_examples=60, deadline=None)
@given(chains())
def test_every_image_of_a_chain_is_where_the_overrides_say_and_nothing_else_changes(
    made: tuple[str, dict[str, t.Any], dict[str, t.Any]],
) -> None:
    xml, device_map, overrides = made
    after = rewrite(xml, device_map, overrides=overrides)
    assert without_chains(after) == without_chains(xml)
    found = disks(after)
    assert [disk["target"] for disk in found] == [disk["target"] for disk in disks(xml)]
    for disk in found:
        value = overrides[disk["target"]] if disk["layer"] else device_map[disk["serial"]]
        expected = value if isinstance(value, str) else f"{value['data']['target_iqn']}/{value['data']['target_lun']}"
        assert disk["source"] == expected
