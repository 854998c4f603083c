# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests' disks: what the words mean, and the XML that libvirt gets."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from lunshift_lab import guest_disks, storage
from lunshift_lab.context import LabError

VOLUMES = {name: storage.Volume(name, 32, f"serial-{name}", None, None) for name in ("a", "b", "c")}
INFOS = {
    name: {
        "data": {"target_portal": "[fd00::2]:3260", "target_iqn": "iqn.2026-11.lab:h", "target_lun": lun, "auth_username": "user"},
        "libvirt": {"initiator_iqn": "iqn.2026-11.lab:init", "secret_usage": "usage"},
    }
    for lun, name in enumerate(VOLUMES, start=1)
}


def test_letters_follow_the_bus() -> None:
    disks = guest_disks.parse("hosta", ["a", "b:scsi", "c:cdrom"])
    assert [(disk.target, disk.bus, disk.written) for disk in disks] == [
        ("vda", "virtio", True),
        ("sda", "scsi", True),
        ("sdb", "sata", False),
    ]


@pytest.mark.parametrize(
    "arguments", [["a:kernel"], ["a:nonsense"], ["a", "a"], ["a:qcow2:base=a"], ["a:base=b"], [f"v{number}" for number in range(27)]]
)
def test_what_cannot_be_is_refused(arguments: list[str]) -> None:
    with pytest.raises(LabError):
        guest_disks.parse("hosta", arguments)
    with pytest.raises(LabError):
        guest_disks.parse("uml1", ["a:qcow2:hidden-base=b"])


def test_a_chain_is_named_at_every_level_and_ends() -> None:
    (disk,) = guest_disks.parse("hosta", ["a:qcow2:base=b:base=c"])
    element = ET.fromstring(guest_disks.to_xml(disk, INFOS, VOLUMES))
    names, formats = [], []
    while element is not None and element.find("source") is not None:
        names.append(element.find("source").get("name"))
        formats.append((element.find("driver") if element.find("driver") is not None else element.find("format")).get("type"))
        last, element = element, element.find("backingStore")
    assert names == ["iqn.2026-11.lab:h/1", "iqn.2026-11.lab:h/2", "iqn.2026-11.lab:h/3"]
    assert formats == ["qcow2", "qcow2", "raw"]
    assert last.find("backingStore") is not None
    assert last.find("source/auth/secret").get("usage") == "usage"
    assert last.find("source/host").get("name") == "fd00::2"


def test_what_only_a_header_names_is_not_in_the_xml() -> None:
    (disk,) = guest_disks.parse("hosta", ["a:qcow2:hidden-base=b"])
    assert "backingStore" not in guest_disks.to_xml(disk, INFOS, VOLUMES)
    assert disk.volumes == ("a", "b")


def test_an_encrypted_disk_names_its_passphrase_and_a_nameless_one_no_serial() -> None:
    encrypted, nameless = guest_disks.parse("hosta", ["a:luks", "b:no-serial"])
    xml = ET.fromstring(guest_disks.to_xml(encrypted, INFOS, VOLUMES))
    assert xml.find("source/encryption/secret").get("usage") == "lunshift-lab-luks-a"
    assert xml.findtext("serial") == "serial-a"
    assert ET.fromstring(guest_disks.to_xml(nameless, INFOS, VOLUMES)).find("serial") is None


def test_a_serial_that_is_not_the_volumes() -> None:
    disks = guest_disks.parse("hosta", ["a:serial=twin", "b:serial=twin", "c:no-serial"])
    assert [guest_disks.serial_of(disk, VOLUMES) for disk in disks] == ["twin", "twin", ""]
    assert {ET.fromstring(guest_disks.to_xml(disk, INFOS, VOLUMES)).findtext("serial") for disk in disks[:2]} == {"twin"}
