# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What an operation made on this host, written down before it is made; what a re-run has to know; and the locks around both.

B(Life of a record.) A record belongs to one operation id (the role uses the domain's UUID) and lives in
C(/var/lib/lunshift-migration/operations) of the host where things are made.

* Attach writes its intent before the first change: which devices, sessions and node records will be made because they
  were not there. What was there before is never entered, so it can never be undone. A run that was killed anywhere
  leaves a record that covers whatever it may have made.
* Attaching again with the same id keeps the entries: what the killed run made still counts as made by the operation.
* C(restored) undoes the entries and removes the record. It is meant for a failed operation. Running it again finds no
  record and changes nothing.
* After success nobody ends the record: the host keeps its volumes, and the record says who made them. That is harmless,
  for only a rollback reads it, and a rollback happens before success. When the volume leaves the host later, C(detached)
  with the same id takes its entries away, and an empty record is removed. So the next migration to this host begins afresh.
* The source of a migration has a record, too: C(move) says, before anything is changed on either host, which domain leaves for which
  host and how this host reaches the volumes. With it a re-run or a sweep finishes what a killed run began, when the domain's own XML
  does not lead back to the source's devices any more. It ends with the migration, and when the volumes come back to this host.
* An entry can go stale when someone else detaches the volume and attaches it again. Kernel state does not outlive a boot,
  and a session keeps its number for life: entries of devices and sessions count only in the boot that made them, and a
  session with another number than the entered one is somebody else's.

A record holds no secrets: connection infos are redacted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
import typing as t
from dataclasses import asdict, dataclass, field, replace

from ansible_collections.lunshift.migration.plugins.module_utils._durable import remove_file, replace_file
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError

RECORDS = "/var/lib/lunshift-migration/operations"
LOCKS = "/run/lunshift-migration/locks"
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SUFFIX = ".json"
_VERSION = 1
_LOCK_PAUSE_S = 0.1


@dataclass(frozen=True)
class MadePath:
    """A device that the operation makes: one volume's LUN over one portal."""

    serial: str
    address: str
    port: int
    iqn: str
    lun: int


@dataclass(frozen=True)
class MadeTarget:
    """What the operation makes for one portal of one target. ``sid`` is known after the login."""

    address: str
    port: int
    iqn: str
    session: bool = False
    sid: int | None = None
    node_record: bool = False
    settings_before: t.Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int, str]:
        return self.address, self.port, self.iqn


@dataclass(frozen=True)
class MadeMap:
    """A WWID that the operation makes multipath remember, in multipath's own spelling."""

    serial: str
    wwid: str


@dataclass(frozen=True)
class Move:
    """A migration away from this host. ``volumes`` are what iscsi_volume takes to detach them here, without secrets."""

    domain: str
    destination: str
    autostart: bool
    volumes: tuple[t.Mapping[str, t.Any], ...] = ()

    def to_dict(self) -> dict[str, t.Any]:
        return {**asdict(self), "volumes": [dict(volume) for volume in self.volumes]}


@dataclass(frozen=True)
class Record:
    """Everything that one operation made, or was about to make, on this host. ``created`` is in UTC."""

    operation_id: str
    boot_id: str
    paths: tuple[MadePath, ...] = ()
    targets: tuple[MadeTarget, ...] = ()
    maps: tuple[MadeMap, ...] = ()
    connection_infos: t.Mapping[str, t.Any] = field(default_factory=dict)
    move: Move | None = None
    created: str | None = None

    @property
    def empty(self) -> bool:
        return not self.paths and not self.targets and not self.maps and self.move is None

    def merged(self, other: Record) -> Record:
        """This record and what a further run of the operation makes."""
        targets = {target.key: target for target in self.targets}
        for new in other.targets:
            old = targets.get(new.key)
            targets[new.key] = new if old is None else _merged_target(old, new)
        return replace(
            other,
            paths=tuple(dict.fromkeys([*self.paths, *other.paths])),
            targets=tuple(targets.values()),
            maps=tuple(dict.fromkeys([*self.maps, *other.maps])),
            connection_infos={**self.connection_infos, **other.connection_infos},
            move=other.move or self.move,
            created=self.created,
        )

    def without_volumes(self, serials: t.Container[str]) -> Record:
        """Without the devices and maps of these volumes."""
        return replace(
            self,
            paths=tuple(path for path in self.paths if path.serial not in serials),
            maps=tuple(made for made in self.maps if made.serial not in serials),
            connection_infos={serial: info for serial, info in self.connection_infos.items() if serial not in serials},
        )

    def of_volumes(self, serials: t.Container[str]) -> Record:
        """With the devices and maps of these volumes alone; they may share the targets with others."""
        return replace(
            self,
            paths=tuple(path for path in self.paths if path.serial in serials),
            maps=tuple(made for made in self.maps if made.serial in serials),
        )

    def without_target(self, key: tuple[str, int, str]) -> Record:
        return replace(self, targets=tuple(target for target in self.targets if target.key != key))

    def with_map(self, made: MadeMap) -> Record:
        return replace(self, maps=tuple(dict.fromkeys([*self.maps, made])))

    def with_sid(self, key: tuple[str, int, str], sid: int) -> Record:
        return replace(self, targets=tuple(replace(target, sid=sid) if target.key == key else target for target in self.targets))

    def in_boot(self, boot_id: str, returned: t.Container[str] = ()) -> Record:
        """The entries that can still be true in this boot.

        Node records and WWIDs are in files; the rest died with the kernel, but for the volumes (``returned``) that come back at boot,
        because this collection has them attached then.
        """
        if boot_id == self.boot_id:
            return self
        paths = tuple(path for path in self.paths if path.serial in returned)
        back = {(path.address, path.port, path.iqn) for path in paths}
        targets = tuple(
            replace(target, session=target.session and target.key in back, sid=None)
            for target in self.targets
            if target.node_record or target.settings_before or target.key in back
        )
        infos = {serial: info for serial, info in self.connection_infos.items() if serial in returned}
        return replace(self, boot_id=boot_id, paths=paths, targets=targets, connection_infos=infos)


def _merged_target(old: MadeTarget, new: MadeTarget) -> MadeTarget:
    return replace(
        new,
        session=old.session or new.session,
        # A new login makes a session with a number of its own, which nobody knows yet at first.
        sid=new.sid if new.session else old.sid,
        node_record=old.node_record or new.node_record,
        settings_before={**new.settings_before, **old.settings_before},
    )


class RecordStore:
    """The records of this host, one JSON file each."""

    def __init__(self, directory: str = RECORDS) -> None:
        self._directory = directory

    def load(self, operation_id: str) -> Record | None:
        path = self._path(operation_id)
        try:
            with open(path, encoding="utf-8") as stream:
                return _from_json(operation_id, json.load(stream))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise MigrationError(
                f"operation record {path} cannot be used: {exc}; look at what it lists, undo that by state=detached, then remove the file",
                error_id="operation_record",
            ) from exc

    def save(self, record: Record) -> None:
        """Replace the file as a whole, on disk before this returns. An empty record is no file."""
        path = self._path(record.operation_id)
        if record.empty:
            remove_file(path)
            return
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        record = replace(record, created=record.created or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        replace_file(path, json.dumps({"version": _VERSION, **asdict(record)}, indent=1, sort_keys=True))

    def operation_ids(self) -> list[str]:
        """Of all records that there are."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(name[: -len(_SUFFIX)] for name in os.listdir(self._directory) if name.endswith(_SUFFIX))
        return []

    def age_s(self, operation_id: str) -> float:
        """Since the record was last written; 0 when a clock that was set back says less."""
        return max(0.0, time.time() - os.stat(self._path(operation_id)).st_mtime)

    def _path(self, operation_id: str) -> str:
        return os.path.join(self._directory, f"{checked_id(operation_id)}{_SUFFIX}")


def noted_move(operation_id: str, store: RecordStore | None = None) -> Move | None:
    """The migration that was noted under this id. An id that cannot name a record has none."""
    known = (store or RecordStore()).load(operation_id) if _ID.fullmatch(operation_id) else None
    return known.move if known else None


def checked_id(operation_id: str) -> str:
    """The id itself, which is a file name; an error when it cannot be one."""
    if not _ID.fullmatch(operation_id):
        raise MigrationError(
            f"operation_id {operation_id!r} cannot be used: letters, digits, '.', '_' and '-' only, at most 128",
            error_id="invalid_input",
        )
    return operation_id


def _from_json(operation_id: str, data: t.Mapping[str, t.Any]) -> Record:
    if data["version"] != _VERSION:
        raise ValueError(f"it has version {data['version']!r}, this release reads {_VERSION}")
    return Record(
        operation_id=operation_id,
        boot_id=data["boot_id"],
        paths=tuple(MadePath(**entry) for entry in data["paths"]),
        targets=tuple(MadeTarget(**entry) for entry in data["targets"]),
        connection_infos=data["connection_infos"],
        # Release 0.1.0 wrote none of these.
        maps=tuple(MadeMap(**entry) for entry in data.get("maps", ())),
        move=_move(data.get("move")),
        created=data.get("created"),
    )


def _move(data: t.Mapping[str, t.Any] | None) -> Move | None:
    return Move(**{**data, "volumes": tuple(data["volumes"])}) if data else None


@contextlib.contextmanager
def locked(
    names: t.Iterable[str],
    timeout_s: float,
    clock_s: t.Callable[[], float],
    sleep: t.Callable[[float], None],
    directory: str = LOCKS,
) -> t.Iterator[None]:
    """Hold one lock per name. In sorted order, so that two runs cannot wait for each other; the kernel frees them at death."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    deadline_s = clock_s() + timeout_s
    with contextlib.ExitStack() as held:
        for name in sorted(set(names)):
            # Never removed: a lock on a file that is gone would exclude nobody.
            path = _lock_path(name, directory)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            held.callback(os.close, descriptor)
            while not _try_lock(descriptor):
                if clock_s() >= deadline_s:
                    raise MigrationError(
                        f"{name} is locked by another run on this host for more than {timeout_s:g} s; "
                        f"wait for it to end (the holder: fuser -v {path}), then run again",
                        error_id="locked",
                    )
                sleep(_LOCK_PAUSE_S)
        yield


def is_locked(name: str, directory: str = LOCKS) -> bool:
    """Whether a run on this host holds the lock now."""
    try:
        descriptor = os.open(_lock_path(name, directory), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def lock_of(operation_id: str) -> str:
    """The name of the lock that everybody holds who works on an operation."""
    return f"operation {checked_id(operation_id)}"


def _lock_path(name: str, directory: str) -> str:
    return os.path.join(directory, hashlib.sha256(name.encode()).hexdigest()[:32])


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


__all__ = (
    "LOCKS",
    "RECORDS",
    "MadeMap",
    "MadePath",
    "MadeTarget",
    "Move",
    "Record",
    "RecordStore",
    "checked_id",
    "is_locked",
    "lock_of",
    "locked",
    "noted_move",
)
