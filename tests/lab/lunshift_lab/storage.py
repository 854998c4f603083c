# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's array: one target per host, volumes exported to a host only while asked for.

What shall be is kept in one file (volumes, exports, each host's access); the targets are made to
follow it, so that a daemon that was killed comes back as it was.

Each target is a tgtd of its own. In one tgtd, Debian's 1.0.85 lets an initiator in when its
address OR its name is on a target's list, so that a host with a stolen name could log in to
another host's target. Here the bridge decides by who asks, and tgtd by the name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import subprocess
import typing as t
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from . import network, process
from .context import HOSTS, STORAGE, STORAGE2, Lab, LabError
from .namespace_hosts import first_child

PORT = 3260
DEFAULT_VOLUMES = ("vol1", "vol2", "vol3", "vol4")
DEFAULT_SIZE_MIB = 64
# Where each host's LUN numbers begin; no number means the same volume on two hosts.
FIRST_LUN = {"hosta": 1, "hostb": 101, "uml1": 11, "uml2": 271}
# A number above 255 goes over the wire in SAM-5's flat form; Linux and libiscsi call the LUN by that form.
FLAT_LUN = 0x4000
# tgtd's own limit.
MAX_SCSI_SN = 36
# What a portal is called here, and whose address it has.
PORTALS = {"first": STORAGE, "second": STORAGE2, "ipv6": STORAGE}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,30}")


@dataclass(frozen=True)
class Volume:
    """A volume. ``serial`` is the domain XML's; ``scsi_id`` and ``scsi_sn`` are the array's own (None: tgtd's defaults).

    ``thin``: the array can take back what is unmapped, and tells what it keeps.
    """

    name: str
    size_mib: int
    serial: str
    scsi_id: str | None
    scsi_sn: str | None
    thin: bool = False


@dataclass(frozen=True)
class Export:
    """A volume that one host sees. ``target_lun`` is the array's number of it."""

    host: str
    volume: str
    target_lun: int


@dataclass(frozen=True)
class Account:
    user: str
    password: str


@dataclass(frozen=True)
class Access:
    """How a host reaches its target, the same for all its volumes: tgtd knows no other way.

    ``chap`` is what the target asks for, ``chap_in`` what it proves itself with. Unless ``kept`` it ends with the host's last volume.
    """

    portals: tuple[str, ...] = ("first",)
    chap: Account | None = None
    chap_in: Account | None = None
    kept: bool = False


@dataclass
class State:
    """What shall be."""

    volumes: dict[str, Volume] = field(default_factory=dict)
    exports: list[Export] = field(default_factory=list)
    access: dict[str, Access] = field(default_factory=dict)


def up(lab: Lab) -> None:
    with changing(lab) as state:
        network.bind_hosts_to_their_targets(lab)
        for host in HOSTS:
            _start(lab, host)
            _follow(lab, state, host)
        for number, name in enumerate(DEFAULT_VOLUMES, start=1):
            if name not in state.volumes:
                # The last default volume's unit serial is another volume's serial in the domain: who takes
                # the one for the other finds the wrong volume.
                borrowed = number == len(DEFAULT_VOLUMES)
                _create(lab, state, name, DEFAULT_SIZE_MIB, scsi_sn=_serial_of(DEFAULT_VOLUMES[0]) if borrowed else None)


def down(lab: Lab) -> None:
    for host in HOSTS:
        process.end(_target_directory(lab, host) / "pid")
        network.remove_interface(lab.storage_interface_of(host))


def is_up(lab: Lab) -> bool:
    """Whether every host's target is there."""
    return all(target_pid(lab, host) is not None for host in HOSTS)


def volumes(lab: Lab) -> dict[str, Volume]:
    with changing(lab) as state:
        return dict(state.volumes)


def exports(lab: Lab) -> list[Export]:
    with changing(lab) as state:
        return list(state.exports)


def volume_path(lab: Lab, name: str) -> Path:
    return _directory(lab) / "volumes" / f"{name}.img"


def passphrase_path(lab: Lab, name: str) -> Path:
    return volume_path(lab, name).with_suffix(".passphrase")


def create_volume(
    lab: Lab,
    name: str,
    size_mib: int,
    *,
    serial: str | None = None,
    scsi_sn: str | None = None,
    default_ids: bool = False,
    thin: bool = False,
) -> Volume:
    with changing(lab) as state:
        return _create(lab, state, name, size_mib, serial=serial, scsi_sn=scsi_sn, default_ids=default_ids, thin=thin)


def delete_volume(lab: Lab, name: str) -> None:
    with changing(lab) as state:
        users = [export.host for export in state.exports if export.volume == name]
        if users:
            raise LabError(f"volume {name} is exported to {', '.join(users)}; unexport it first")
        _known(state, name)
        del state.volumes[name]
        volume_path(lab, name).unlink(missing_ok=True)
        passphrase_path(lab, name).unlink(missing_ok=True)


def export(lab: Lab, host: str, volume: str, *, target_lun: int | None = None, chap_user: str | None = None) -> dict[str, t.Any]:
    """Let a host see a volume; gives the host's connection info. Nothing changes when it already does."""
    with changing(lab) as state:
        _known(state, volume)
        found = _find_or_add(state, host, volume, target_lun)
        access = state.access.get(host, Access())
        if chap_user and (access.chap is None or access.chap.user != chap_user):
            state.access[host] = replace(access, chap=_account(chap_user))
        _follow(lab, state, host)
        return _connection_info(lab, state, found)


def set_access(lab: Lab, host: str, portals: t.Sequence[str], chap_user: str | None, chap_in_user: str | None) -> Access:
    """How the host reaches its target from now on, whatever is exported to it; sessions that are there stay."""
    with changing(lab) as state:
        # tgtd does not tell passwords, so the accounts that are there are no accounts to keep.
        state.access.pop(host, None)
        _follow(lab, state, host)
        access = Access(
            portals=tuple(portals) or Access.portals,
            chap=_account(chap_user) if chap_user else None,
            chap_in=_account(chap_in_user) if chap_in_user else None,
        )
        if access != Access():
            state.access[host] = replace(access, kept=True)
        _follow(lab, state, host)
        return access


def access_of(lab: Lab, host: str) -> Access:
    with changing(lab) as state:
        return state.access.get(host, Access())


def _account(user: str) -> Account:
    return Account(user=user, password=secrets.token_hex(8))


def connect(lab: Lab, host: str, serials: t.Sequence[str], *, dry_run: bool = False) -> dict[str, dict[str, t.Any]]:
    """Let a host see the volumes of these serials, as an array's management would; gives serial -> connection info."""
    with changing(lab) as state:
        exports_before = list(state.exports)
        found = {serial: _find_or_add(state, host, _of_serial(state, serial), None) for serial in serials}
        if dry_run:
            state.exports = exports_before
        else:
            _follow(lab, state, host)
        return {serial: _connection_info(lab, state, entry) for serial, entry in found.items()}


def disconnect(lab: Lab, host: str, serials: t.Sequence[str]) -> None:
    """The counterpart of connect."""
    with changing(lab) as state:
        _remove(lab, state, host, {_of_serial(state, serial) for serial in serials})


def unexport(lab: Lab, host: str, volume: str) -> None:
    """The host no longer sees the volume."""
    with changing(lab) as state:
        _remove(lab, state, host, {volume})


def _remove(lab: Lab, state: State, host: str, names: set[str]) -> None:
    state.exports = [entry for entry in state.exports if entry.host != host or entry.volume not in names]
    if not any(entry.host == host for entry in state.exports) and not state.access.get(host, Access()).kept:
        state.access.pop(host, None)
    _follow(lab, state, host)


def _of_serial(state: State, serial: str) -> str:
    for name, volume in state.volumes.items():
        if volume.serial == serial:
            return name
    raise LabError(f"there is no volume with the serial {serial}")


def _find_or_add(state: State, host: str, volume: str, target_lun: int | None) -> Export:
    found = find_export(state.exports, host, volume)
    if found is None:
        taken = {entry.target_lun for entry in state.exports if entry.host == host}
        number = target_lun if target_lun is not None else next(n for n in range(FIRST_LUN[host], FLAT_LUN) if n not in taken)
        if number in taken or not 0 < number < FLAT_LUN:
            raise LabError(f"LUN {number} of {host}'s target is taken, or not between 1 and {FLAT_LUN - 1}")
        found = Export(host=host, volume=volume, target_lun=number)
        state.exports.append(found)
    elif target_lun not in (None, found.target_lun):
        raise LabError(f"{volume} is already exported to {host}, as LUN {found.target_lun}; unexport it first")
    return found


def initiator_lun(target_lun: int) -> int:
    """The number by which initiators ask for the array's LUN."""
    return target_lun if target_lun < 256 else target_lun | FLAT_LUN


def find_export(entries: t.Iterable[Export], host: str, volume: str) -> Export | None:
    return next((entry for entry in entries if (entry.host, entry.volume) == (host, volume)), None)


def connection_infos(lab: Lab, host: str) -> dict[str, dict[str, t.Any]]:
    """Volume name -> connection info of everything exported to the host."""
    with changing(lab) as state:
        return {entry.volume: _connection_info(lab, state, entry) for entry in state.exports if entry.host == host}


def forget_lun(lab: Lab, host: str, volume: str) -> None:
    """The host's target loses the LUN, also under an open session, though it shall be there: the next change mends it."""
    with changing(lab) as state:
        found = find_export(state.exports, host, volume)
        if found is None:
            raise LabError(f"{volume} is not exported to {host}")
        _tgtadm(lab, host, "--mode", "logicalunit", "--op", "delete", *_TID, "--lun", str(found.target_lun))


def target_pid(lab: Lab, host: str) -> int | None:
    """The process that is the host's target, while it lives."""
    return process.recorded(_target_directory(lab, host) / "pid")


def target_state(lab: Lab) -> list[dict[str, t.Any]]:
    """The targets as tgtd itself lists them, not as they shall be."""
    found = []
    for host in HOSTS:
        target = _target_of(lab, host)
        if target is not None:
            found.append({"host": host, **target, "sessions": _sessions(lab, host)})
    return found


# --- what shall be ---------------------------------------------------------------------------------------


def _directory(lab: Lab) -> Path:
    return lab.state_dir / "storage"


def _target_directory(lab: Lab, host: str) -> Path:
    return _directory(lab) / host


@contextlib.contextmanager
def changing(lab: Lab) -> t.Iterator[State]:
    """The state, for one process at a time; written back when the block ends well."""
    directory = _directory(lab)
    if not lab.state_dir.exists():
        raise LabError(f"lab {lab.lab_id} is not up; bring it up with 'lab up'")
    (directory / "volumes").mkdir(parents=True, exist_ok=True)
    path = directory / "state.json"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = path.read_text() if path.exists() else "{}"
        state = _load(before)
        yield state
        after = json.dumps(
            {
                "volumes": [asdict(volume) for volume in state.volumes.values()],
                "exports": [asdict(entry) for entry in state.exports],
                "access": {host: asdict(access) for host, access in state.access.items()},
            },
            indent=1,
        )
        if after != before:
            # CHAP passwords are in it.
            fresh = path.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_text(after)
            fresh.replace(path)


def _load(text: str) -> State:
    raw = json.loads(text)
    return State(
        volumes={entry["name"]: Volume(**entry) for entry in raw.get("volumes", [])},
        exports=[Export(**entry) for entry in raw.get("exports", [])],
        access={host: _load_access(entry) for host, entry in raw.get("access", {}).items()},
    )


def _load_access(entry: dict[str, t.Any]) -> Access:
    accounts = {name: Account(**entry[name]) if entry[name] else None for name in ("chap", "chap_in")}
    return Access(**{**entry, **accounts, "portals": tuple(entry["portals"])})


def _known(state: State, name: str) -> Volume:
    if name not in state.volumes:
        raise LabError(f"there is no volume {name}; there are: {', '.join(state.volumes) or 'none'}")
    return state.volumes[name]


def _serial_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"lunshift-lab/volume/{name}"))


def _create(
    lab: Lab,
    state: State,
    name: str,
    size_mib: int,
    *,
    serial: str | None = None,
    scsi_sn: str | None = None,
    default_ids: bool = False,
    thin: bool = False,
) -> Volume:
    if not _NAME.fullmatch(name) or size_mib < 1:
        raise LabError(f"volume name {name!r} or size {size_mib} MiB cannot be used")
    volume = Volume(
        name=name,
        size_mib=size_mib,
        serial=serial or _serial_of(name),
        # tgtd makes the NAA identifier from the hexadecimal digits of scsi_id, so it has no others.
        scsi_id=None if default_ids else uuid.uuid5(uuid.NAMESPACE_URL, f"lunshift-lab/id/{name}").hex[:16],
        scsi_sn=None if default_ids else scsi_sn or f"LSL{uuid.uuid5(uuid.NAMESPACE_URL, f'lunshift-lab/sn/{name}').hex[:12]}",
        thin=thin,
    )
    if len(volume.scsi_sn or "") > MAX_SCSI_SN:
        raise LabError(f"unit serial {volume.scsi_sn!r} is longer than {MAX_SCSI_SN} characters")
    if name in state.volumes:
        if state.volumes[name] != volume:
            raise LabError(f"volume {name} exists, and is another: {asdict(state.volumes[name])}")
        return volume
    with volume_path(lab, name).open("wb") as image:
        image.truncate(size_mib << 20)
    state.volumes[name] = volume
    return volume


def _connection_info(lab: Lab, state: State, entry: Export) -> dict[str, t.Any]:
    access = state.access.get(entry.host, Access())
    columns: dict[str, list[t.Any]] = {
        "target_portals": [_portal(lab, name) for name in access.portals],
        "target_iqns": [lab.iqn_of(entry.host)] * len(access.portals),
        "target_luns": [initiator_lun(entry.target_lun)] * len(access.portals),
    }
    data: dict[str, t.Any] = {
        "target_discovered": False,
        **{name[:-1]: values[0] for name, values in columns.items()},
        **(columns if len(access.portals) > 1 else {}),
        "volume_id": state.volumes[entry.volume].serial,
        "access_mode": "rw",
    }
    reference = {"initiator_iqn": lab.initiator_of(entry.host)}
    if access.chap:
        data |= {"auth_method": "CHAP", "auth_username": access.chap.user, "auth_password": access.chap.password}
        reference["secret_usage"] = secret_usage(access.chap.user)
    if access.chap_in:
        data |= {"auth_username_in": access.chap_in.user, "auth_password_in": access.chap_in.password}
    return {"driver_volume_type": "iscsi", "data": data, "libvirt": reference}


def _portal(lab: Lab, name: str) -> str:
    return f"[{lab.address6_of(PORTALS[name])}]:{PORT}" if name == "ipv6" else f"{lab.address_of(PORTALS[name])}:{PORT}"


def secret_usage(chap_user: str) -> str:
    """The name under which a host's libvirt keeps a CHAP password."""
    return f"lunshift-lab-{chap_user}"


# --- tgtd ------------------------------------------------------------------------------------------------


# Each host's target is the only one of its tgtd.
_TID = ("--tid", "1")
# How tgtd marks the account that the target proves itself with.
_OUTGOING = " (outgoing)"


def _start(lab: Lab, host: str) -> None:
    directory = _target_directory(lab, host)
    if process.recorded(directory / "pid") is not None:
        return
    directory.mkdir(exist_ok=True)
    # A socket of its own: tgtadm talks to whoever answers, also when this tgtd did not start.
    for leftover in directory.glob("tgtd.sock*"):
        leftover.unlink()
    # The address is bound at start, so the daemon waits until the network is there. Two threads for each
    # LUN, not sixteen: hundreds of LUNs are tested.
    wait = 'read _ && exec tgtd -f -t 2 --iscsi "$0"'
    portals = ",".join(f"portal={_portal(lab, name)}" for name in PORTALS)
    # As arrays do, it gives up an initiator that went silent: after half a minute, longer than any storage fault that has to be outlived.
    settings = f"{portals},nop_interval=5,nop_count=6"
    with (directory / "tgtd.log").open("w") as log:
        shell = subprocess.Popen(
            ["unshare", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", wait, settings],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": process.SYSTEM_PATH, "TGT_IPC_SOCKET": str(directory / "tgtd.sock")},
            start_new_session=True,
        )
    pid = first_child(shell, f"the target of {host}")
    process.record(directory / "pid", pid)
    network.add_veth(lab, lab.storage_interface_of(host), pid, mac=lab.storage_mac_of(host), address_names=[STORAGE, STORAGE2])
    t.cast(t.IO[bytes], shell.stdin).write(b"\n")
    t.cast(t.IO[bytes], shell.stdin).close()

    def answers() -> bool:
        if shell.poll() is not None:
            raise LabError(f"tgtd did not start: {(directory / 'tgtd.log').read_text().strip()}")
        listens = any(directory.glob("tgtd.sock.[0-9]"))
        return listens and "State: ready" in _tgtadm(lab, host, "--mode", "sys", "--op", "show", check=False)

    process.wait_until(answers, f"the target of {host} to answer", timeout_s=10)


def _tgtadm(lab: Lab, host: str, *arguments: str, check: bool = True) -> str:
    if target_pid(lab, host) is None:
        raise LabError(f"the target of {host} is not up; 'lab up' mends it")
    socket = _target_directory(lab, host) / "tgtd.sock"
    return process.run(["tgtadm", "--lld", "iscsi", *arguments], check=check, env={"TGT_IPC_SOCKET": str(socket)})


def _target_of(lab: Lab, host: str) -> dict[str, t.Any] | None:
    targets = _parse_targets(_tgtadm(lab, host, "--mode", "target", "--op", "show"))
    return targets[0] if targets else None


def _follow(lab: Lab, state: State, host: str) -> None:
    """Make a host's target, its LUNs and its account what they shall be."""
    target = _target_of(lab, host)
    if target is None:
        _tgtadm(lab, host, "--mode", "target", "--op", "new", *_TID, "--targetname", lab.iqn_of(host))
        _tgtadm(lab, host, "--mode", "target", "--op", "bind", *_TID, "--initiator-name", lab.initiator_of(host))
        target = {"luns": [], "accounts": []}
    _follow_luns(lab, state, host, target["luns"])
    _follow_account(lab, state, host, target["accounts"])


def _follow_luns(lab: Lab, state: State, host: str, luns: list[dict[str, t.Any]]) -> None:
    wanted = {entry.target_lun: str(volume_path(lab, entry.volume)) for entry in state.exports if entry.host == host}
    for lun in luns:
        if wanted.get(lun["target_lun"]) == lun["backing_store"]:
            del wanted[lun["target_lun"]]
        else:
            _tgtadm(lab, host, "--mode", "logicalunit", "--op", "delete", *_TID, "--lun", str(lun["target_lun"]))
    for number, path in wanted.items():
        volume = state.volumes[Path(path).stem]
        _tgtadm(lab, host, "--mode", "logicalunit", "--op", "new", *_TID, "--lun", str(number), "--backing-store", path)
        parameters = {"vendor_id": "LUNSHIFT", "product_id": "LAB VOLUME", "scsi_id": volume.scsi_id, "scsi_sn": volume.scsi_sn}
        parameters["thin_provisioning"] = "1" if volume.thin else None
        text = ",".join(f"{name}={value}" for name, value in parameters.items() if value)
        _tgtadm(lab, host, "--mode", "logicalunit", "--op", "update", *_TID, "--lun", str(number), "--params", text)


def _follow_account(lab: Lab, state: State, host: str, accounts: list[str]) -> None:
    access = state.access.get(host, Access())
    wanted = {account.user + direction: account for account, direction in ((access.chap, ""), (access.chap_in, _OUTGOING)) if account}
    for shown in set(accounts) - set(wanted):
        user = shown.removesuffix(_OUTGOING)
        _tgtadm(lab, host, "--mode", "account", "--op", "unbind", *_TID, "--user", user, *_direction(shown))
        _tgtadm(lab, host, "--mode", "account", "--op", "delete", "--user", user)
    for shown in set(wanted) - set(accounts):
        account = wanted[shown]
        _tgtadm(lab, host, "--mode", "account", "--op", "new", "--user", account.user, "--password", account.password)
        _tgtadm(lab, host, "--mode", "account", "--op", "bind", *_TID, "--user", account.user, *_direction(shown))


def _direction(shown: str) -> list[str]:
    return ["--outgoing"] if shown.endswith(_OUTGOING) else []


# What tgtd calls it -> what we call it.
_LUN_KEYS = {"Type": "type", "SCSI ID": "scsi_id", "SCSI SN": "scsi_sn", "Backing store path": "backing_store", "Online": "online"}


def _parse_targets(text: str) -> list[dict[str, t.Any]]:
    """tgtadm's listing of targets: sections by indentation, C(name: value) inside."""
    targets: list[dict[str, t.Any]] = []
    section = ""
    for line in text.splitlines():
        key, _colon, value = (part.strip() for part in line.strip().partition(":"))
        if match := re.fullmatch(r"Target (\d+): (\S+)", line):
            targets.append({"tid": int(match[1]), "iqn": match[2], "luns": [], "acl": [], "accounts": []})
        elif re.fullmatch(r" {4}\S.*:", line):
            section = key
        elif section == "LUN information" and key == "LUN":
            number = int(value)
            targets[-1]["luns"].append({"target_lun": number, "lun": initiator_lun(number)})
        elif section == "LUN information" and targets[-1]["luns"]:
            if key in _LUN_KEYS:
                targets[-1]["luns"][-1][_LUN_KEYS[key]] = value
        elif section == "ACL information" and line.strip():
            targets[-1]["acl"].append(line.strip())
        elif section == "Account information" and line.strip():
            targets[-1]["accounts"].append(line.strip())
    for target in targets:
        # LUN 0 is tgtd's controller, not a volume.
        target["luns"] = [{**lun, "volume": Path(lun["backing_store"]).stem} for lun in target["luns"] if lun.get("type") == "disk"]
    return targets


def _sessions(lab: Lab, host: str) -> list[dict[str, t.Any]]:
    sessions: list[dict[str, t.Any]] = []
    for line in _tgtadm(lab, host, "--mode", "conn", "--op", "show", *_TID).splitlines():
        key, _colon, value = (part.strip() for part in line.strip().partition(":"))
        if key == "Session":
            sessions.append({"sid": int(value), "initiator": "", "addresses": []})
        elif key == "Initiator":
            sessions[-1]["initiator"] = value.split()[0]
        elif key == "IP Address":
            sessions[-1]["addresses"].append(value)
    return sessions
