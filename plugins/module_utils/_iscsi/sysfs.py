# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What iSCSI devices this host has: one pass over sysfs and udev's links, without any command.

Everything may vanish while it is read, for sessions and devices come and go; what is gone is left out.
"""

from __future__ import annotations

import os
import re
import typing as t
from collections import defaultdict
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import IscsiConnection, IscsiPath, normal_address
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.vpd import parse_inquiry, unit_serial_from_page80, wwid_from_page83

SECTOR_BYTES = 512  # The unit of sysfs' "size", whatever the device's own block size is.

_SCSI_DISK = re.compile(r"/session(\d+)/target[^/]+/(\d+:\d+:\d+:(\d+))/block/(sd[a-z]+)$")
_PARTITION = re.compile(r"/block/(sd[a-z]+)/(sd[a-z]+\d+)$")
_HOST = re.compile(r"/host(\d+)/session\d+/")
# How the iSCSI class writes "not set".
_UNSET = ("", "(null)", "<NULL>", "<empty>")


@dataclass(frozen=True)
class Session:
    """One logged-in connection to a target.

    ``portals`` are the addresses under which it may be looked up: the configured one first, then the one that
    the target may have redirected to.
    """

    sid: int
    state: str
    iqn: str
    tpgt: int | None
    portals: tuple[tuple[str, int], ...]
    interface: str | None
    host_no: int | None

    @property
    def portal(self) -> str:
        """C(address:port), with brackets around an IPv6 address; empty while the session has no connection."""
        return IscsiPath(*self.portals[0], iqn=self.iqn, lun=0).portal if self.portals else ""


@dataclass(frozen=True)
class DevicePath:
    """One SCSI disk of the kernel: one way to one LUN. ``lun`` is the kernel's number, ``hctl`` the SCSI address."""

    node: str
    hctl: str
    lun: int
    session: Session
    state: str
    identity: Identity
    by_path: tuple[str, ...]
    by_id: tuple[str, ...]

    @property
    def usable(self) -> bool:
        return self.session.state == "LOGGED_IN" and self.state == "running"


@dataclass(frozen=True)
class Multipath:
    """A device-mapper map over paths. ``uuid`` is device-mapper's, C(mpath-) and the WWID as multipath writes it."""

    name: str
    device: str
    uuid: str
    by_id: tuple[str, ...]


@dataclass(frozen=True)
class Holder:
    """Who holds a LUN: a device built on it, a mount point, swap space."""

    kind: str
    name: str


@dataclass(frozen=True)
class Lun:
    """One LUN with all its paths; they share ``identity``."""

    identity: Identity
    paths: tuple[DevicePath, ...]
    multipath: Multipath | None
    holders: tuple[Holder, ...]

    @property
    def node(self) -> str:
        """The first path's device node; names the LUN within one inventory."""
        return self.paths[0].node


@dataclass(frozen=True)
class Inventory:
    sessions: tuple[Session, ...]
    luns: tuple[Lun, ...]


class _Tree:
    """Reads files below a root directory; None or nothing for what is not there."""

    def __init__(self, root: str) -> None:
        self._root = root.rstrip("/")

    def data(self, path: str) -> bytes | None:
        # The three system calls that are needed; open() makes as many again, and there are ten files per LUN.
        try:
            descriptor = os.open(self._root + path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.read(descriptor, 65536)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def text(self, path: str) -> str | None:
        data = self.data(path)
        text = data.decode("utf-8", "replace").strip() if data is not None else ""
        return None if text in _UNSET else text

    def number(self, path: str) -> int | None:
        text = self.text(path)
        return int(text) if text and text.isdecimal() else None

    def names(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self._root + path))
        except OSError:
            return []

    def link(self, path: str) -> str:
        try:
            return os.readlink(self._root + path)
        except OSError:
            return ""

    def links_to_devices(self, directory: str) -> dict[str, list[str]]:
        """The links of one udev directory by the name of the device node that they lead to."""
        result: dict[str, list[str]] = defaultdict(list)
        for name in self.names(directory):
            target = self.link(f"{directory}/{name}")
            if target:
                result[os.path.basename(target)].append(f"{directory}/{name}")
        return result


def gather(root: str = "/", connections: t.Iterable[IscsiConnection] = ()) -> Inventory:
    """Read sessions and LUNs. Several paths of one of ``connections`` count as one LUN when they look the same.

    The VPD pages are those that the kernel read when it found the device; it does not notice when an array gives a
    LUN number to another volume. Who changes anything asks the device itself first.
    """
    tree = _Tree(root)
    sessions = _sessions(tree)
    blocks = _BlockDevices(tree)
    paths = _paths(tree, blocks, {session.sid: session for session in sessions})
    return Inventory(sessions=tuple(sessions), luns=tuple(_luns(paths, blocks, connections)))


def _sessions(tree: _Tree) -> list[Session]:
    portals = _portals_by_sid(tree)
    sessions = []
    for name in tree.names("/sys/class/iscsi_session"):
        directory = f"/sys/class/iscsi_session/{name}"
        iqn, number = tree.text(f"{directory}/targetname"), name[len("session") :]
        if not iqn or not number.isdecimal():
            continue
        host = _HOST.search(tree.link(directory))
        sessions.append(
            Session(
                sid=int(number),
                state=tree.text(f"{directory}/state") or "unknown",
                iqn=iqn,
                tpgt=tree.number(f"{directory}/tpgt"),
                portals=portals.get(int(number), ()),
                interface=tree.text(f"{directory}/ifacename"),
                host_no=int(host[1]) if host else None,
            )
        )
    return sorted(sessions, key=lambda session: session.sid)


def _portals_by_sid(tree: _Tree) -> dict[int, tuple[tuple[str, int], ...]]:
    result: dict[int, tuple[tuple[str, int], ...]] = {}
    for name in tree.names("/sys/class/iscsi_connection"):
        sid = name[len("connection") :].partition(":")[0]
        if not sid.isdecimal():
            continue
        found = []
        for prefix in ("persistent_", ""):
            address = tree.text(f"/sys/class/iscsi_connection/{name}/{prefix}address")
            port = tree.number(f"/sys/class/iscsi_connection/{name}/{prefix}port")
            if address and port:
                found.append((normal_address(address), port))
        result[int(sid)] = tuple(dict.fromkeys([*result.get(int(sid), ()), *found]))
    return result


class _BlockDevices:
    """All block devices: which are disks of iSCSI sessions, and what stands on what."""

    def __init__(self, tree: _Tree) -> None:
        self._tree = tree
        self.disks: dict[str, tuple[int, str, int]] = {}
        self.maps: dict[str, Multipath] = {}
        self._partitions: dict[str, list[str]] = defaultdict(list)
        self._holders: dict[str, list[str]] = defaultdict(list)
        self.by_id = tree.links_to_devices("/dev/disk/by-id")
        self.by_path = tree.links_to_devices("/dev/disk/by-path")
        for name in tree.names("/sys/class/block"):
            self._classify(name)
        self._users = self._mounts_and_swap()

    def _classify(self, name: str) -> None:
        target = self._tree.link(f"/sys/class/block/{name}")
        disk, partition = _SCSI_DISK.search(target), _PARTITION.search(target)
        if disk:
            self.disks[name] = (int(disk[1]), disk[2], int(disk[3]))
        elif partition:
            self._partitions[partition[1]].append(name)
        elif "/virtual/block/" in target:
            # What stands on others is a virtual device, and there are few of them; the LUNs' own lists of holders are many.
            for device in self._tree.names(f"/sys/class/block/{name}/slaves"):
                self._holders[device].append(name)
            uuid = self._tree.text(f"/sys/class/block/{name}/dm/uuid") or ""
            if uuid.startswith("mpath-"):
                self.maps[name] = Multipath(
                    name=self._tree.text(f"/sys/class/block/{name}/dm/name") or name,
                    device=f"/dev/{name}",
                    uuid=uuid,
                    by_id=tuple(self.by_id.get(name, ())),
                )

    def _mounts_and_swap(self) -> dict[str, list[Holder]]:
        users: dict[str, list[Holder]] = defaultdict(list)
        for line in (self._tree.text("/proc/self/mountinfo") or "").splitlines():
            fields = line.split(" ")
            # Only what has a block device below /sys/dev/block; that is the number of mounts, not of LUNs.
            device = os.path.basename(self._tree.link(f"/sys/dev/block/{fields[2]}")) if len(fields) > 4 else ""
            if device:
                users[device].append(Holder("mount", fields[4].replace("\\040", " ")))
        for line in (self._tree.text("/proc/swaps") or "").splitlines()[1:]:
            users[os.path.basename(line.split()[0])].append(Holder("swap", line.split()[0]))
        return users

    def map_on(self, device: str) -> str | None:
        """The multipath map that the device is a path of."""
        return next((name for name in self._holders.get(device, ()) if name in self.maps), None)

    def who_holds(self, devices: t.Iterable[str]) -> tuple[Holder, ...]:
        """Everything that stands on these disks, however high; the multipath maps themselves are no users."""
        found: dict[Holder, None] = {}
        pending = list(devices)
        for device in pending:
            pending += [partition for partition in self._partitions.get(device, ()) if partition not in pending]
            found.update(dict.fromkeys(self._users.get(device, ())))
            for holder in self._holders.get(device, ()):
                if holder not in self.maps:
                    found[self._describe(holder)] = None
                if holder not in pending:
                    pending.append(holder)
        return tuple(found)

    def _describe(self, device: str) -> Holder:
        uuid = self._tree.text(f"/sys/class/block/{device}/dm/uuid")
        if uuid is None:
            return Holder("md" if device.startswith("md") else "device", device)
        # "LVM-...", "CRYPT-LUKS2-...", "part1-mpath-...": the maker's name comes first.
        return Holder(uuid.partition("-")[0].lower(), self._tree.text(f"/sys/class/block/{device}/dm/name") or device)


def _paths(tree: _Tree, blocks: _BlockDevices, sessions: t.Mapping[int, Session]) -> list[DevicePath]:
    paths = []
    for node, (sid, hctl, lun) in blocks.disks.items():
        identity = _identity(tree, f"/sys/class/block/{node}")
        session = sessions.get(sid)
        if identity is None or session is None:
            continue
        paths.append(
            DevicePath(
                node=node,
                hctl=hctl,
                lun=lun,
                session=session,
                state=tree.text(f"/sys/class/block/{node}/device/state") or "unknown",
                identity=identity,
                by_path=tuple(blocks.by_path.get(node, ())),
                by_id=tuple(blocks.by_id.get(node, ())),
            )
        )
    return paths


def _identity(tree: _Tree, directory: str) -> Identity | None:
    sectors = tree.number(f"{directory}/size")
    logical = tree.number(f"{directory}/queue/logical_block_size")
    if sectors is None or logical is None:
        return None
    inquiry = parse_inquiry(tree.data(f"{directory}/device/inquiry") or b"")
    page83, page80 = tree.data(f"{directory}/device/vpd_pg83"), tree.data(f"{directory}/device/vpd_pg80")
    return Identity(
        wwid=wwid_from_page83(page83) if page83 else None,
        unit_serial=unit_serial_from_page80(page80) if page80 else None,
        vendor=inquiry.vendor,
        model=inquiry.model,
        size_bytes=sectors * SECTOR_BYTES,
        logical_block_bytes=logical,
        physical_block_bytes=tree.number(f"{directory}/queue/physical_block_size") or logical,
    )


# What makes two SCSI disks paths of one LUN: same target, same LUN number, same looks. A stale device, whose number
# the array has given away meanwhile, looks different and must not pass for a path of the new volume.
_Key = tuple[str, int, Identity]


def _luns(paths: t.Sequence[DevicePath], blocks: _BlockDevices, connections: t.Iterable[IscsiConnection]) -> t.Iterator[Lun]:
    groups: dict[_Key, list[DevicePath]] = defaultdict(list)
    for path in paths:
        groups[path.session.iqn, path.lun, path.identity].append(path)
    merged: dict[_Key, list[_Key]] = {key: [key] for key in groups}
    map_of = {path.node: name for path in paths for name in [blocks.map_on(path.node)] if name}
    keys_of_map: dict[str, list[_Key]] = defaultdict(list)
    for key, members in groups.items():
        for name in dict.fromkeys(map_of[path.node] for path in members if path.node in map_of):
            keys_of_map[name].append(key)
    for keys in keys_of_map.values():
        _merge(keys, merged, lambda key: [key[0]])
    # An array may number one volume differently at each of its portals; a connection info is its owner's word for that.
    for keys in _keys_of_connections(paths, connections):
        _merge(keys, merged, lambda key: sorted({path.session.sid for path in groups[key]}))
    for keys in {id(keys): keys for keys in merged.values()}.values():
        members = [path for key in keys for path in groups[key]]
        map_name = next((map_of[path.node] for path in members if path.node in map_of), None)
        yield Lun(
            identity=members[0].identity,
            paths=tuple(members),
            multipath=blocks.maps[map_name] if map_name else None,
            holders=blocks.who_holds([path.node for path in members]),
        )


def _keys_of_connections(paths: t.Sequence[DevicePath], connections: t.Iterable[IscsiConnection]) -> t.Iterator[list[_Key]]:
    by_address = _index(paths)
    for connection in connections:
        found = [path for wanted in connection.paths for path in by_address.get(wanted, ())]
        yield list(dict.fromkeys((path.session.iqn, path.lun, path.identity) for path in found))


def _merge(keys: t.Sequence[_Key], merged: dict[_Key, list[_Key]], shown_by: t.Callable[[_Key], t.Sequence[t.Any]]) -> None:
    """Make one LUN of several, unless they differ, or are shown under two numbers by the same target, or session.

    Arrays that give every LUN the same WWID exist, and multipath then makes one map of several volumes. Kept apart,
    they show as duplicates, which prove nothing.
    """
    everything = list(dict.fromkeys(other for key in keys for other in merged[key]))
    showing = [one for key in everything for one in shown_by(key)]
    if len({identity for _iqn, _lun, identity in everything}) == 1 and len(set(showing)) == len(showing):
        for key in everything:
            merged[key] = everything


def _index(paths: t.Iterable[DevicePath]) -> dict[IscsiPath, list[DevicePath]]:
    result: dict[IscsiPath, list[DevicePath]] = defaultdict(list)
    for path in paths:
        for address, port in path.session.portals:
            result[IscsiPath(address, port, path.session.iqn, path.lun)].append(path)
    return result


def find(inventory: Inventory, connections: t.Mapping[str, IscsiConnection]) -> dict[str, list[DevicePath]]:
    """For each serial the devices found by portal, IQN and LUN, in the order of the connection's own paths."""
    by_address = _index(path for lun in inventory.luns for path in lun.paths)
    result: dict[str, list[DevicePath]] = {}
    for serial, connection in connections.items():
        result[serial] = list({device.node: device for path in connection.paths for device in by_address.get(path, ())}.values())
    return result


__all__ = (
    "DevicePath",
    "Holder",
    "Inventory",
    "Lun",
    "Multipath",
    "Session",
    "find",
    "gather",
)
