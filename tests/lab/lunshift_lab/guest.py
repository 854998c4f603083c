# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests: their domain XML, start, and an end that leaves nothing on any host."""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import typing as t
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from xml.sax.saxutils import quoteattr

from . import guest_disks, guest_kit, hosts, kernel_initiator, process, storage, verify
from .context import UML_HOSTS, Lab, LabError
from .guest_disks import Disk

DEFAULT_MEMORY_MIB = 128
NO_OS_MEMORY_MIB = 64
DEFAULT_RAM_MIB = 16
DEFAULT_DIRTY_MIB = 4
# Without comparing one emulated clock with another the kernel boots in half the time.
KERNEL_ARGUMENTS = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off no_timer_check tsc=reliable"
# Long for a machine; a guest within a guest kernel on a busy one takes its time.
BOOT_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Guest:
    """What is remembered of a guest from start to destroy."""

    name: str
    uuid: str
    run: str
    host: str
    has_os: bool
    disks: tuple[Disk, ...]
    other_volumes: dict[str, str]


def start(
    lab: Lab,
    host: str,
    name: str,
    disk_arguments: t.Sequence[str],
    *,
    memory_mib: int | None,
    ram_mib: int,
    dirty_mib: int,
    vnc_password: str | None,
    has_os: bool,
    cdroms: t.Sequence[str] = (),
    devices: str = "",
) -> Path:
    """Export the volumes, attach them, define the domain and start it; gives the path of its XML."""
    if not hosts.is_up(lab, host):
        raise LabError(f"{host} is not up")
    if _record_path(lab, name).exists():
        raise LabError(f"there is a guest {name}; end it with 'lab guest destroy {name}'")
    disks = guest_disks.parse(host, disk_arguments)
    known = storage.volumes(lab)
    missing = [volume for disk in disks for volume in disk.volumes if volume not in known]
    if missing:
        raise LabError(f"there are no volumes {', '.join(missing)}; there are: {', '.join(known)}")
    mine = {disk.volume for disk in disks if disk.written}
    guest = Guest(
        name=name,
        uuid=str(uuid.uuid4()),
        run=secrets.token_hex(8),
        host=host,
        has_os=has_os,
        disks=disks,
        other_volumes={},
    )
    _forget_consoles(lab, name)
    with _records(lab):
        for other in names(lab):
            _save(lab, _without_volumes(load(lab, other), mine))
        _save(lab, guest)
    path = _record_path(lab, name).with_suffix(".xml")
    # A VNC password may be in it.
    path.touch(mode=0o600)
    try:
        infos = _attach(lab, guest)
        # What lies below the guest's images has been made by now, and changes no more.
        others = {volume: verify.fingerprint(storage.volume_path(lab, volume)) for volume in known if volume not in mine}
        with _records(lab):
            # Volumes that other guests write to prove nothing.
            foreign = {disk.volume for other in names(lab) for disk in load(lab, other).disks if disk.written}
            guest = _without_volumes(replace(guest, other_volumes=others), foreign)
            _save(lab, guest)
        xml = domain_xml(
            lab,
            guest,
            infos,
            known,
            memory_mib=memory_mib or (DEFAULT_MEMORY_MIB if has_os else NO_OS_MEMORY_MIB),
            arguments=f"lab.run={guest.run} lab.ram_mib={ram_mib} lab.dirty_mib={dirty_mib} lab.disks={len(mine)}",
            vnc_password=vnc_password,
            cdroms=cdroms,
            devices=devices,
        )
        path.write_text(xml)
        hosts.virsh(lab, host, "define", str(path))
        hosts.virsh(lab, host, "start", name)
        if has_os and disks:
            _wait_until_it_writes(lab, host, name)
    except LabError:
        destroy(lab, name)
        raise
    return path


@contextlib.contextmanager
def _records(lab: Lab) -> t.Iterator[None]:
    """Of guests that start side by side each sees what the other one will write to."""
    directory = _record_path(lab, "any").parent
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _without_volumes(guest: Guest, volumes: set[str]) -> Guest:
    """The same guest, which no longer watches volumes that another guest may change from now on."""
    return replace(guest, other_volumes={name: content for name, content in guest.other_volumes.items() if name not in volumes})


def _save(lab: Lab, guest: Guest) -> None:
    path = _record_path(lab, guest.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(guest), indent=1))


def _attach(lab: Lab, guest: Guest) -> dict[str, dict[str, t.Any]]:
    """Export the guest's volumes to its first host and make them usable there; gives their connection infos."""
    infos = {volume: storage.export(lab, guest.host, volume) for disk in guest.disks for volume in disk.volumes}
    by_kernel = [volume for disk in guest.disks if disk.initiator == "kernel" for volume in disk.volumes]
    if by_kernel:
        known = storage.volumes(lab)
        kernel_initiator.attach(lab, guest.host, [infos[volume] for volume in by_kernel])
        names = [kernel_initiator.device(infos[volume]["data"], known[volume].scsi_id) for volume in by_kernel]
        kernel_initiator.wait_for(lab, guest.host, names)
    define_chap_secret(lab, guest.host)
    for disk in guest.disks:
        guest_disks.format_volumes(lab, disk, infos)
        if disk.image == "luks":
            define_passphrase(lab, guest.host, disk.volume)
    return infos


def _wait_until_it_writes(lab: Lab, host: str, name: str) -> None:
    console = lab.console_dir(host) / f"console-{name}.log"
    what = f"guest {name} to write; its console is {console}"
    process.wait_until(lambda: bool(verify.read_console(console).acknowledged), what, timeout_s=BOOT_TIMEOUT_S)


def load(lab: Lab, name: str) -> Guest:
    path = _record_path(lab, name)
    if not path.exists():
        raise LabError(f"there is no guest {name}; there are: {', '.join(names(lab)) or 'none'}")
    raw = json.loads(path.read_text())
    return Guest(**{**raw, "disks": tuple(Disk.from_dict(disk) for disk in raw["disks"])})


def names(lab: Lab) -> list[str]:
    return sorted(path.stem for path in (lab.state_dir / "guests").glob("*.json"))


def check(lab: Lab, name: str) -> dict[str, t.Any]:
    """The verdict on a guest, running or not; see verify.judge."""
    guest = load(lab, name)
    if not guest.has_os:
        raise LabError(f"guest {name} has no operating system, so it wrote nothing that could be checked")
    consoles = {path.parent.parent.name: verify.read_console(path) for path in _consoles(lab, name)}
    volumes = storage.volumes(lab)
    # In this order: what a running guest writes between the two readings can only make the volume newer.
    contents = {}
    for disk in guest.disks:
        if disk.written:
            contents[disk.volume] = _read_disk(lab, guest, disk, guest_disks.serial_of(disk, volumes))
    unchanged = {
        volume: verify.fingerprint(storage.volume_path(lab, volume)) == before
        for volume, before in guest.other_volumes.items()
        if volume in volumes
    }
    return verify.judge(consoles, contents, unchanged)


def _read_disk(lab: Lab, guest: Guest, disk: Disk, serial: str) -> verify.VolumeContent:
    with guest_disks.plain_copies(lab, disk) as (path, below):
        content = verify.read_volume(path, guest.run, serial)
        if below:
            content = replace(content, foreign=verify.foreign_blocks(path, below, guest.run, serial))
    # A copy of an image that a running guest writes to is no picture of one moment. What is lost is lost in the next copy, too.
    if content.missing and disk.image != "raw":
        with guest_disks.plain_copies(lab, disk) as (path, _below):
            again = verify.read_volume(path, guest.run, serial)
        content = replace(content, missing=tuple(number for number in content.missing if number in again.missing))
    return content


def destroy(lab: Lab, name: str) -> None:
    """End the guest wherever it is, and take its volumes from every host; done twice it does no harm."""
    path = _record_path(lab, name)
    if not path.exists():
        return
    guest = load(lab, name)
    for host in hosts.live(lab):
        if name in hosts.virsh(lab, host, "list", "--name").split():
            hosts.virsh(lab, host, "destroy", name)
        if name in hosts.virsh(lab, host, "list", "--all", "--name").split():
            hosts.virsh(lab, host, "undefine", name)
        infos = storage.connection_infos(lab, host)
        mine = [infos[volume] for disk in guest.disks for volume in disk.volumes if volume in infos]
        if host in UML_HOSTS:
            kernel_initiator.detach(lab, host, mine)
    for entry in storage.exports(lab):
        if any(entry.volume in disk.volumes for disk in guest.disks):
            storage.unexport(lab, entry.host, entry.volume)
    path.with_suffix(".xml").unlink(missing_ok=True)
    path.unlink()


def define_chap_secret(lab: Lab, host: str) -> None:
    """Give a host's libvirt the password that QEMU's own initiator needs."""
    account = storage.access_of(lab, host).chap
    if not account:
        return
    usage = storage.secret_usage(account.user)
    _define_secret(lab, host, usage, f"<usage type='iscsi'><target>{usage}</target></usage>", account.password)


def define_passphrase(lab: Lab, host: str, volume: str) -> None:
    """Give a host's libvirt the passphrase of an encrypted volume."""
    usage = guest_disks.passphrase_usage(volume)
    _define_secret(lab, host, usage, f"<usage type='volume'><volume>{usage}</volume></usage>", guest_disks.passphrase(lab, volume))


def _define_secret(lab: Lab, host: str, usage: str, usage_xml: str, value: str) -> None:
    secret_uuid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{lab.initiator_of(host)}/{usage}"))
    xml = f"<secret ephemeral='no' private='no'><uuid>{secret_uuid}</uuid>{usage_xml}</secret>"
    hosts.virsh(lab, host, "secret-define", "/dev/stdin", stdin=xml)
    hosts.virsh(lab, host, "secret-set-value", secret_uuid, "--file", "/dev/stdin", "--plain", stdin=value)


def domain_xml(
    lab: Lab,
    guest: Guest,
    infos: dict[str, dict[str, t.Any]],
    volumes: dict[str, storage.Volume],
    *,
    memory_mib: int,
    arguments: str,
    vnc_password: str | None,
    cdroms: t.Sequence[str] = (),
    devices: str = "",
) -> str:
    boot = ""
    if guest.has_os:
        boot = (
            f"<kernel>{lab.share_dir / guest_kit.KERNEL}</kernel><initrd>{lab.share_dir / guest_kit.INITRAMFS}</initrd>"
            f"<cmdline>{KERNEL_ARGUMENTS} {arguments}</cmdline>"
        )
    parts = [
        "<domain type='qemu'>",
        f"  <name>{guest.name}</name>",
        f"  <uuid>{guest.uuid}</uuid>",
        f"  <memory unit='MiB'>{memory_mib}</memory>",
        "  <vcpu>1</vcpu>",
        f"  <os><type arch='x86_64' machine='q35'>hvm</type>{boot}</os>",
        "  <features><acpi/></features>",
        "  <cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model></cpu>",
        "  <devices>",
        f"    <emulator>{lab.share_dir / guest_kit.EMULATOR}</emulator>",
        *(guest_disks.to_xml(disk, infos, volumes) for disk in guest.disks),
        # From the end of the alphabet: the disks have taken letters from its beginning.
        *(guest_disks.cdrom_xml(path, f"sd{letter}") for path, letter in zip(cdroms, "zyxw")),
        # append: after a migration back, QEMU would otherwise empty the console that it finds.
        f"    <serial type='file'><source path='{lab.guest_console_dir}/console-{guest.name}.log' append='on'/><target port='0'/></serial>",
    ]
    if vnc_password is not None:
        # The address is the host's own, so that it cannot be bound on another host.
        listen = lab.address_of(guest.host)
        parts.append(
            f"    <graphics type='vnc' port='-1' autoport='yes' listen='{listen}' passwd={quoteattr(vnc_password)}>"
            f"<listen type='address' address='{listen}'/></graphics>"
        )
    if any(disk.bus == "scsi" for disk in guest.disks):
        parts.append("    <controller type='scsi' index='0' model='virtio-scsi'/>")
    return "\n".join([*parts, devices, "    <memballoon model='none'/>", "  </devices>", "</domain>", ""])


def _forget_consoles(lab: Lab, name: str) -> None:
    for path in _consoles(lab, name):
        path.unlink()


def _consoles(lab: Lab, name: str) -> list[Path]:
    return sorted(lab.state_dir.glob(f"hosts/*/console/console-{name}.log"))


def _record_path(lab: Lab, name: str) -> Path:
    return lab.state_dir / "guests" / f"{name}.json"
