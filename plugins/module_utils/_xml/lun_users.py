# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What else in a domain names a block device or an iSCSI target, and would go on naming the source host's."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._xml.disks import chain_of, disk_elements, read_layers
from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import parse

if t.TYPE_CHECKING:
    from ansible_collections.lunshift.migration.plugins.module_utils._xml.document import Element

QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"

# Devices that exist on every host, or that a guest gets without any storage behind them. All else below /dev may be a LUN.
_NO_STORAGE = re.compile(
    r"/dev/(null|zero|full|u?random|hwrng|kvm|sev|ptmx|fuse|userfaultfd|udmabuf|tty\w*|pts/\d+|tpm\w*|uhid|uinput|input/[\w./-]+"
    r"|net/tun|tap\d+|vhost-(net|vsock|vdpa-\d+|scsi)|vfio/\w+|dri/\w+|snd/\w+|shm(/[\w./-]*)?|hugepages[\w./-]*|sgx_\w+|bus/usb/[\w/]+)"
)
_DEVICE = re.compile(r"/dev/[^\s,;:'\"\]})=]+")
_ISCSI_URL = re.compile(r"\biscsi://|\"driver\"\s*:\s*\"iscsi\"|\bdriver=iscsi\b", re.IGNORECASE)

Finding = tuple[str, str]


def unmapped_lun_users(xml: str) -> list[dict[str, str]]:
    """Elements that would keep pointing at the source host's devices, as ``{id, message}``.

    The messages hold no value that may be secret.
    """
    return find_lun_users(parse(xml))


def find_lun_users(root: Element) -> list[dict[str, str]]:
    """The same for a domain that was parsed already."""
    findings: list[Finding] = []
    for search in (_in_disks, _in_hostdevs, _in_firmware, _in_other_devices, _in_qemu_arguments):
        findings.extend(search(root))
    return [{"id": identifier, "message": message} for identifier, message in findings]


def _in_disks(root: Element) -> t.Iterator[Finding]:
    for element, disk in read_layers(root):
        name = f"disk {disk.target}"
        if disk.type == "volume" and element.find("source") is not None:
            yield (
                "volume_disk",
                f"{name} is type='volume' ({disk.source}), and its storage pool decides which device that is;"
                " use type='block' or type='network' with a source of its own",
            )
        elif disk.type in ("nvme", "vhostvdpa") and disk.source:
            yield "host_device_disk", f"{name} is type='{disk.type}', a device of this host; detach it before the migration"
        elif disk.type == "file" and _is_storage(disk.source):
            yield "device_as_file", f"{name} is type='file' with the device {disk.source}; make it type='block'"
        elif disk.type == "file" and _is_iscsi_text(disk.source):
            yield "device_as_file", f"{name} is type='file' with an iSCSI address; make it type='network'"
    for element in disk_elements(root):
        yield from _below_disk(element)


def _below_disk(element: Element) -> t.Iterator[Finding]:
    """What belongs to a disk and is neither its source nor the chain below it, which the rewriting takes care of."""
    chain = list(chain_of(element))
    for tag, identifier, remedy in (
        ("backingStore", "backing_store", "end the block job of its disk, or flatten the image, before the migration"),
        ("mirror", "mirror", "end its block job (virsh blockjob --abort or --pivot) before the migration"),
        ("dataStore", "data_store", "move its data to an image without an external data file before the migration"),
    ):
        for inner in element.iter(tag):
            place = None if inner in chain else _lun_of(inner)
            if place:
                target = element.find("target")
                name = f"disk {target.get('dev') if target is not None else None}"
                yield identifier, f"{name} has a <{tag}> on {place}; {remedy}"


def _in_hostdevs(root: Element) -> t.Iterator[Finding]:
    for index, hostdev in enumerate(root.findall("devices/hostdev"), start=1):
        kind = hostdev.get("type")
        if kind in ("scsi", "scsi_host") or (kind == "storage" and hostdev.get("mode") == "capabilities"):
            source = hostdev.find("source")
            protocol = source.get("protocol") if source is not None else None
            through = " through iSCSI" if protocol == "iscsi" else ""
            yield (
                "scsi_hostdev",
                f"hostdev number {index} hands a {kind} device of this host{through} to the guest;"
                " detach it before the migration, or make it a disk with device='lun'",
            )


def _in_firmware(root: Element) -> t.Iterator[Finding]:
    for tag in ("loader", "nvram", "varstore"):
        for element in root.findall(f"os/{tag}"):
            path = (element.text or "").strip() or element.get("path") or ""
            place = path if _is_storage(path) else _lun_of(element)
            if place:
                yield tag, f"os/{tag} is on {place}; move it to a file that both hosts have"


def _in_other_devices(root: Element) -> t.Iterator[Finding]:
    for path, identifier, attribute in (
        ("devices/filesystem/source", "filesystem", "dev"),
        ("devices/filesystem/source", "filesystem", "file"),
        ("devices/memory/source/path", "memory", None),
        ("devices/pstore/path", "pstore", None),
        ("devices/tpm/backend/source", "tpm_state", "path"),
    ):
        for element in root.findall(path):
            place = element.get(attribute) if attribute else (element.text or "").strip()
            if _is_storage(place):
                yield identifier, f"{path} is the device {place} of this host; detach it, or move it to storage that both hosts have"


def _in_qemu_arguments(root: Element) -> t.Iterator[Finding]:
    for section in ("commandline", "override"):
        for element in root.findall(f"{QEMU}{section}"):
            for index, part in enumerate(element.iter(f"{QEMU}arg", f"{QEMU}env", f"{QEMU}property"), start=1):
                value = part.get("value") or ""
                devices = sorted({device for device in _DEVICE.findall(value) if _is_storage(device)})
                # The value itself is not shown: an iSCSI address may carry a password.
                what = ", ".join(devices) or ("an iSCSI target" if _is_iscsi_text(value) else "")
                if what:
                    yield "qemu_commandline", f"qemu:{section} entry number {index} names {what}; make it a <disk> that can be rewritten"


def _lun_of(element: Element) -> str | None:
    """The block device or iSCSI target that an element with type and <source> stands for, in words."""
    source = element.find("source")
    old_form = element.get("file")
    if old_form is not None and _is_storage(old_form):
        return f"the device {old_form}"
    if source is None:
        return None
    kind = element.get("type")
    if kind == "volume":
        return f"the pool volume {source.get('pool')}/{source.get('volume')}"
    if source.get("protocol") == "iscsi":
        return f"the iSCSI target {source.get('name')}"
    place = source.get("dev") or source.get("file")
    if kind in ("block", "nvme", "vhostvdpa") or _is_storage(place):
        return f"the device {place}"
    return None


def _is_storage(path: str | None) -> bool:
    return bool(path and path.startswith("/dev/") and not _NO_STORAGE.fullmatch(path))


def _is_iscsi_text(text: str | None) -> bool:
    return bool(text and _ISCSI_URL.search(text))


__all__ = ("QEMU", "find_lun_users", "unmapped_lun_users")
