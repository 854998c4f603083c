# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest's disks: what they are made of, their XML, and what the guest sees of them."""

from __future__ import annotations

import contextlib
import json
import secrets
import string
import tempfile
import typing as t
from dataclasses import dataclass
from pathlib import Path

from . import kernel_initiator, storage
from .context import UML_HOSTS, Lab, LabError
from .process import run

Infos = t.Mapping[str, t.Mapping[str, t.Any]]

# Room on the volume for what the format needs beside the guest's data.
FORMAT_MIB = 4
_CREATE_TRIES = 10
WORDS = "kernel, libiscsi, scsi, cdrom, luks, qcow2, base=VOLUME, hidden-base=VOLUME, no-serial, serial=TEXT"
_MEANING: t.Mapping[str, dict[str, t.Any]] = {
    "kernel": {"initiator": "kernel"},
    "libiscsi": {"initiator": "libiscsi"},
    "scsi": {"bus": "scsi"},
    "cdrom": {"bus": "sata"},
    "luks": {"image": "luks"},
    "qcow2": {"image": "qcow2"},
    "no-serial": {"has_serial": False},
}


@dataclass(frozen=True)
class Disk:
    """A volume as the guest has it. ``initiator`` is who opens it at the start: "kernel" or "libiscsi".

    ``image`` is what the volume holds for the guest. ``bases`` are the volumes below a qcow2 image, the last of them raw;
    ``hidden`` says that only the image's header names them. ``serial`` is another one than the volume's.
    """

    volume: str
    initiator: str
    target: str
    bus: str = "virtio"
    image: str = "raw"
    bases: tuple[str, ...] = ()
    hidden: bool = False
    has_serial: bool = True
    serial: str | None = None

    @property
    def written(self) -> bool:
        return self.bus != "sata"

    @property
    def volumes(self) -> tuple[str, ...]:
        return (self.volume, *self.bases)

    @classmethod
    def from_dict(cls, raw: dict[str, t.Any]) -> Disk:
        return cls(**{**raw, "bases": tuple(raw["bases"])})


def parse(host: str, arguments: t.Sequence[str]) -> tuple[Disk, ...]:
    """C(VOLUME[:WORD]...); the initiator is by default what the kind of host is there for."""
    letters = {prefix: iter(string.ascii_lowercase) for prefix in ("vd", "sd")}
    disks = [_parse(host, argument, letters) for argument in arguments]
    named = [volume for disk in disks for volume in disk.volumes]
    if len(set(named)) != len(named):
        raise LabError("a volume is named twice")
    return tuple(disks)


def _parse(host: str, argument: str, letters: t.Mapping[str, t.Iterator[str]]) -> Disk:
    volume, *words = argument.split(":")
    values: dict[str, t.Any] = {"initiator": "kernel" if host in UML_HOSTS else "libiscsi", "bus": "virtio"}
    bases: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if word in _MEANING:
            values.update(_MEANING[word])
        elif equals and name == "serial":
            values["serial"] = value
        elif equals and name in ("base", "hidden-base"):
            bases.append(value)
            values["hidden"] = name == "hidden-base"
        else:
            raise LabError(f"{argument!r}: there is no {word!r}; there are: {WORDS}")
    if values["initiator"] == "kernel" and host not in UML_HOSTS:
        raise LabError(f"{argument!r}: {host} has no kernel initiator; only {', '.join(UML_HOSTS)} have")
    if bases and (values.get("image") != "qcow2" or (values["hidden"] and values["initiator"] == "kernel")):
        raise LabError(f"{argument!r}: only a qcow2 image stands on another, and only QEMU's own initiator finds that by a header")
    letter = next(letters["vd" if values["bus"] == "virtio" else "sd"], None)
    if letter is None:
        raise LabError("these are more disks than a guest can have")
    return Disk(volume=volume, target=("vd" if values["bus"] == "virtio" else "sd") + letter, bases=tuple(bases), **values)


# --- images -----------------------------------------------------------------------------------------------


def format_volumes(lab: Lab, disk: Disk, infos: Infos) -> None:
    """Make the images of a disk on its volumes, which keep their size. A raw one stays as it is."""
    known = storage.volumes(lab)
    images = [disk.image, *("qcow2" for _base in disk.bases[:-1])]
    for volume, image, below in zip(disk.volumes, images, [*disk.bases, None]):
        if image == "raw":
            continue
        path, size_mib = storage.volume_path(lab, volume), known[volume].size_mib
        options: list[str | Path] = ["-f", image]
        if image == "luks":
            passphrase(lab, volume)
            options += ["--object", _secret_object(lab, volume), "-o", "key-secret=passphrase,iter-time=10"]
        elif below and disk.initiator == "libiscsi":
            # As qemu-img on the host would have written it: by the host's own way to the volume.
            raw = below == disk.bases[-1]
            options += ["-u", "-F", "raw" if raw else "qcow2", "-b", f"json:{json.dumps(_by_libiscsi(infos[below], raw))}"]
        _create_image([*options, path, f"{size_mib - FORMAT_MIB}M"])
        with path.open("r+b") as stream:
            stream.truncate(size_mib << 20)


def _create_image(arguments: t.Sequence[str | Path]) -> None:
    """For LUKS qemu-img measures how fast it is, in the kernel's coarse CPU time; on a busy machine that may be no time at all."""
    for remaining in reversed(range(_CREATE_TRIES)):
        try:
            run(["qemu-img", "create", "-q", *arguments])
        except LabError as exc:
            if not remaining or "accurate CPU usage" not in str(exc):
                raise
        else:
            return


def _by_libiscsi(info: t.Mapping[str, t.Any], raw: bool) -> dict[str, t.Any]:
    data = info["data"]
    place = {
        "driver": "iscsi",
        "transport": "tcp",
        "portal": data["target_portal"],
        "target": data["target_iqn"],
        "lun": str(data["target_lun"]),
        "initiator-name": info["libvirt"]["initiator_iqn"],
    }
    return {"driver": "raw" if raw else "qcow2", "file": place}


def passphrase(lab: Lab, volume: str) -> str:
    """The passphrase of an encrypted volume; made when there is none."""
    path = storage.passphrase_path(lab, volume)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(8))
    return path.read_text()


def passphrase_usage(volume: str) -> str:
    """The name under which a host's libvirt keeps it."""
    return f"lunshift-lab-luks-{volume}"


def _secret_object(lab: Lab, volume: str) -> str:
    return f"secret,id=passphrase,file={storage.passphrase_path(lab, volume)}"


@contextlib.contextmanager
def plain_copies(lab: Lab, disk: Disk) -> t.Iterator[tuple[Path, Path | None]]:
    """What the guest sees of the disk, as a file, and the same of what is below the disk; both from the storage's own files."""
    if disk.image == "raw":
        yield storage.volume_path(lab, disk.volume), None
        return
    with tempfile.TemporaryDirectory(dir=lab.state_dir) as scratch:
        yield (
            _plain(lab, disk.image, disk.volumes, Path(scratch) / "disk"),
            (_plain(lab, "qcow2" if disk.bases[1:] else "raw", disk.bases, Path(scratch) / "below") if disk.bases else None),
        )


def _plain(lab: Lab, image: str, volumes: t.Sequence[str], result: Path) -> Path:
    secret = ["--object", _secret_object(lab, volumes[0])] if image == "luks" else []
    run(["qemu-img", "convert", "-q", *secret, "-O", "raw", f"json:{json.dumps(_on_storage(lab, image, volumes))}", result])
    return result


def _on_storage(lab: Lab, image: str, volumes: t.Sequence[str]) -> dict[str, t.Any]:
    """The chain as the storage has it, whatever the headers say."""
    node: dict[str, t.Any] = {"driver": image, "file": {"driver": "file", "filename": str(storage.volume_path(lab, volumes[0]))}}
    if image == "luks":
        node["key-secret"] = "passphrase"
    if image == "qcow2":
        below = volumes[1:]
        node["backing"] = _on_storage(lab, "qcow2" if below[1:] else "raw", below) if below else None
    return node


# --- XML --------------------------------------------------------------------------------------------------


def to_xml(disk: Disk, infos: Infos, volumes: t.Mapping[str, storage.Volume]) -> str:
    device = "disk" if disk.written else "cdrom"
    driver = f"<driver name='qemu' type='{'qcow2' if disk.image == 'qcow2' else 'raw'}' cache='none' error_policy='stop'"
    io = " io='native'" if disk.initiator == "kernel" else ""
    encryption = ""
    if disk.image == "luks":
        encryption = f"<encryption format='luks'><secret type='passphrase' usage='{passphrase_usage(disk.volume)}'/></encryption>"
    serial = f"<serial>{serial_of(disk, volumes)}</serial>" if disk.has_serial else ""
    readonly = "" if disk.written else "<readonly/>"
    return (
        f"    <disk type='{_kind(disk)}' device='{device}'>{driver}{io}/>{_source(disk, disk.volume, infos, volumes, encryption)}"
        f"{'' if disk.hidden else _below(disk, disk.bases, infos, volumes)}"
        f"<target dev='{disk.target}' bus='{disk.bus}'/>{serial}{readonly}</disk>"
    )


def serial_of(disk: Disk, volumes: t.Mapping[str, storage.Volume]) -> str:
    """The serial that domain and guest see, empty for a disk without one."""
    return (disk.serial or volumes[disk.volume].serial) if disk.has_serial else ""


def cdrom_xml(path: str, target: str) -> str:
    """A drive with a file of the host, or an empty one."""
    source = f"<source file='{path}'/>" if path else ""
    return (
        f"    <disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{source}<target dev='{target}' bus='sata'/>"
        "<readonly/></disk>"
    )


def _kind(disk: Disk) -> str:
    return "block" if disk.initiator == "kernel" else "network"


def _below(disk: Disk, bases: t.Sequence[str], infos: Infos, volumes: t.Mapping[str, storage.Volume]) -> str:
    if not bases:
        return "<backingStore/>" if disk.bases else ""
    return (
        f"<backingStore type='{_kind(disk)}'><format type='{'qcow2' if bases[1:] else 'raw'}'/>{_source(disk, bases[0], infos, volumes)}"
        f"{_below(disk, bases[1:], infos, volumes)}</backingStore>"
    )


def _source(disk: Disk, volume: str, infos: Infos, volumes: t.Mapping[str, storage.Volume], encryption: str = "") -> str:
    data, reference = infos[volume]["data"], infos[volume]["libvirt"]
    if disk.initiator == "kernel":
        return f"<source dev='{kernel_initiator.device(data, volumes[volume].scsi_id)}'>{encryption}</source>"
    address, _colon, port = data["target_portal"].rpartition(":")
    auth = ""
    if "secret_usage" in reference:
        auth = f"<auth username='{data['auth_username']}'><secret type='iscsi' usage='{reference['secret_usage']}'/></auth>"
    host = address.strip("[]")
    return (
        f"<source protocol='iscsi' name='{data['target_iqn']}/{data['target_lun']}'><host name='{host}' port='{port}'/>"
        f"<initiator><iqn name='{reference['initiator_iqn']}'/></initiator>{auth}{encryption}</source>"
    )
