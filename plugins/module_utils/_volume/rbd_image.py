# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""An RBD image, or a snapshot of one, as it is wanted: what differs is told first, every problem at once, and only then changed.

Nothing that holds data is ever made smaller or removed with more than was named: an image with snapshots or users stays.
"""

from __future__ import annotations

import contextlib
import errno
import typing as t
from dataclasses import asdict, dataclass, replace

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import redact
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import VolumeError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.librados import Cluster, Pool
from ansible_collections.lunshift.migration.plugins.module_utils._volume.librbd_admin import (
    CephError,
    ManagedImage,
    create_image,
    remove_image,
)
from ansible_collections.lunshift.migration.plugins.module_utils._volume.rbd_cluster import connect
from ansible_collections.lunshift.migration.plugins.module_utils._volume.rbd_connection import RbdConnection, parse

# Those that an image can be asked to have.
FEATURES = {"layering": 1, "exclusive-lock": 4, "object-map": 8, "fast-diff": 16, "deep-flatten": 32, "journaling": 64}
# Ceph itself gives an image both of object-map and fast-diff, or none.
_NEEDS = (
    ("object-map", "exclusive-lock"),
    ("object-map", "fast-diff"),
    ("fast-diff", "object-map"),
    ("journaling", "exclusive-lock"),
)
# What can be changed after an image was made.
_ENABLED_LATER = ("exclusive-lock", "object-map", "fast-diff", "journaling")
_DISABLED_LATER = (*_ENABLED_LATER, "deep-flatten")


@dataclass(frozen=True)
class Wanted:
    """``features`` None: whatever it has, or the cluster's default. With ``snapshot`` only that one is to be absent."""

    present: bool
    size_bytes: int | None = None
    features: tuple[str, ...] | None = None
    snapshot: str | None = None


@dataclass(frozen=True)
class ImageState:
    """An image. ``users`` have it open for writing; ``protected`` are the snapshots that clones may stand on."""

    id: str
    size_bytes: int
    features: tuple[str, ...]
    snapshots: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """One step: what it is called here, what it is done with, and the sentence about it."""

    step: str
    value: t.Any
    sentence: str


def problems_of(wanted: Wanted) -> list[str]:
    """What is wrong with the values themselves."""
    features = wanted.features or ()
    problems = [f"features has {name}, which needs {other}" for name, other in _NEEDS if name in features and other not in features]
    if wanted.size_bytes is not None and wanted.size_bytes < 1:
        problems.append(f"size_bytes must be at least 1 (it is {wanted.size_bytes})")
    return problems


def plan(spec: str, wanted: Wanted, found: ImageState | None) -> tuple[list[Change], list[str]]:
    """What is to be done, and every reason against it. Pure."""
    if wanted.present:
        changes, problems = _plan_image(spec, wanted, found)
        if wanted.snapshot and (found is None or wanted.snapshot not in found.snapshots):
            changes.append(Change("create_snapshot", wanted.snapshot, f"make snapshot {wanted.snapshot} of {spec}"))
        return changes, problems
    if found is None:
        return [], []
    if wanted.snapshot:
        return _plan_snapshot_removal(spec, wanted.snapshot, found)
    problems = []
    if found.snapshots:
        problems.append(f"{spec} has snapshots ({', '.join(found.snapshots)}); remove them first, each by its name")
    if found.users:
        problems.append(f"{spec} is in use ({'; '.join(found.users)}); end that use first. A client that was killed counts for 30 s more")
    return [Change("remove", None, f"remove {spec}")], problems


def _plan_image(spec: str, wanted: Wanted, found: ImageState | None) -> tuple[list[Change], list[str]]:
    size = wanted.size_bytes
    if found is None:
        problems = [] if size else [f"{spec} is not there, and without size_bytes it cannot be made"]
        return [Change("create", size, f"make {spec} with {size} bytes")], problems
    changes, problems = [], []
    if size and size > found.size_bytes:
        changes.append(Change("grow", size, f"grow {spec} from {found.size_bytes} to {size} bytes"))
    if size and size < found.size_bytes:
        problems.append(f"{spec} has {found.size_bytes} bytes, and is not made smaller ({size} are asked for), for that would lose data")
    if wanted.features is not None:
        enable = [name for name in FEATURES if name in wanted.features and name not in found.features]
        disable = [name for name in FEATURES if name not in wanted.features and name in found.features]
        for word, names, possible in (("enable", enable, _ENABLED_LATER), ("disable", disable, _DISABLED_LATER)):
            fixed = [name for name in names if name not in possible]
            problems += [f"{spec}: {name} cannot be {word}d any more, only be chosen when an image is made" for name in fixed]
            if names:
                changes.append(Change(word, tuple(names), f"{word} {', '.join(names)} of {spec}"))
    return changes, problems


def _plan_snapshot_removal(spec: str, snapshot: str, found: ImageState) -> tuple[list[Change], list[str]]:
    if snapshot not in found.snapshots:
        return [], []
    problems = []
    if snapshot in found.protected:
        problems.append(f"snapshot {snapshot} of {spec} is protected, for clones stand on it, or may; flatten them, and unprotect it first")
    return [Change("remove_snapshot", snapshot, f"remove snapshot {snapshot} of {spec}")], problems


@dataclass
class RbdImage:
    """One run of the module rbd_image."""

    connection_info: t.Mapping[str, t.Any]
    wanted: Wanted
    timeout_s: int

    def run(self, *, check_mode: bool) -> dict[str, t.Any]:
        connection, wanted = self._parsed()
        spec = f"rbd {connection.spec}"
        with contextlib.ExitStack() as opened, _explained(spec):
            cluster = connect(connection, self.timeout_s)
            opened.callback(cluster.close)
            pool = _open_pool(cluster, connection, spec)
            opened.callback(pool.close)
            before = _look(pool, connection.image)
            changes, problems = plan(spec, wanted, before)
            if problems:
                raise VolumeError("; ".join(problems), error_id="rbd_image_refused", volume=spec, problems=problems)
            if not check_mode:
                for change in changes:
                    _do(pool, connection.image, change, wanted)
                after = _look(pool, connection.image) if changes else before
            else:
                after = _expected(before, changes, wanted)
        return {
            "changed": bool(changes),
            "actions": [change.sentence for change in changes],
            "image": _told(after),
            "connection_info": self._told_info(wanted.snapshot),
            "diff": {"before": _told(before) or {}, "after": _told(after) or {}},
        }

    def _parsed(self) -> tuple[RbdConnection, Wanted]:
        """The image's connection, and what is wanted of it; the snapshot may be named by either."""
        problems = problems_of(self.wanted)
        if self.connection_info.get("driver_volume_type") != "rbd":
            problems.append(f"driver_volume_type is {self.connection_info.get('driver_volume_type')!r}, only 'rbd' can be used here")
        connection = None
        try:
            connection = parse("", self.connection_info)
        except InputError as exc:
            problems += exc.details["problems"]
        named = connection.snapshot if connection else None
        if named and self.wanted.snapshot and named != self.wanted.snapshot:
            problems.append(f"connection_info has the snapshot {named}, and snapshot is {self.wanted.snapshot}")
        if problems or connection is None:
            raise InputError(problems)
        return replace(connection, snapshot=None), replace(self.wanted, snapshot=self.wanted.snapshot or named)

    def _told_info(self, snapshot: str | None) -> dict[str, t.Any]:
        """What leads to it, as volume_copy takes it, without the key."""
        told: dict[str, t.Any] = redact(self.connection_info)
        if snapshot and f"@{snapshot}" not in str(told["data"]["name"]):
            told["ceph"] = {**(told.get("ceph") or {}), "snapshot": snapshot}
        return told


def _told(state: ImageState | None) -> dict[str, t.Any] | None:
    if state is None:
        return None
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(state).items() if name != "users"}


def _open_pool(cluster: Cluster, connection: RbdConnection, spec: str) -> Pool:
    try:
        return cluster.open_pool(connection.pool, connection.namespace)
    except CephError as exc:
        if exc.code != errno.ENOENT:
            raise
        there = ", ".join(cluster.pool_names()) or "none"
        raise VolumeError(
            f"{spec}: there is no pool {connection.pool}; there are: {there}", error_id="volume_not_found", volume=spec
        ) from None


def _look(pool: Pool, name: str) -> ImageState | None:
    try:
        image = ManagedImage(pool, name, writable=False)
    except CephError as exc:
        if exc.code == errno.ENOENT:
            return None
        raise
    with contextlib.closing(image):
        snapshots = tuple(snapshot.name for snapshot in image.snapshots())
        bits = image.features()
        return ImageState(
            id=image.image_id(),
            size_bytes=image.sizes()[0],
            features=tuple(feature for feature, bit in FEATURES.items() if bits & bit),
            snapshots=snapshots,
            protected=tuple(snapshot for snapshot in snapshots if image.is_protected(snapshot)),
            users=tuple(f"client.{watcher.client_id} at {watcher.address} has it open" for watcher in image.watchers()),
        )


def _bits(features: t.Iterable[str]) -> int:
    return sum(FEATURES[feature] for feature in set(features))


def _do(pool: Pool, name: str, change: Change, wanted: Wanted) -> None:
    if change.step == "create":
        create_image(pool, name, change.value, None if wanted.features is None else _bits(wanted.features))
        return
    if change.step == "remove":
        remove_image(pool, name)
        return
    with contextlib.closing(ManagedImage(pool, name, writable=True)) as image:
        if change.step == "grow":
            image.grow(change.value)
        elif change.step == "create_snapshot":
            image.create_snapshot(change.value)
        elif change.step == "remove_snapshot":
            image.remove_snapshot(change.value)
        else:
            image.set_features(_bits(change.value), enabled=change.step == "enable")


def _expected(before: ImageState | None, changes: t.Sequence[Change], wanted: Wanted) -> ImageState | None:
    """What would be there after the changes. The features that a cluster gives by default are known when an image is made."""
    after = before
    for change in changes:
        if change.step == "remove":
            after = None
        elif change.step == "create":
            after = ImageState("", change.value, tuple(feature for feature in FEATURES if feature in (wanted.features or ())))
        elif after is not None:
            after = _changed(after, change)
    return after


def _changed(state: ImageState, change: Change) -> ImageState:
    if change.step == "grow":
        return replace(state, size_bytes=change.value)
    if change.step == "create_snapshot":
        return replace(state, snapshots=(*state.snapshots, change.value))
    if change.step == "remove_snapshot":
        return replace(state, snapshots=tuple(name for name in state.snapshots if name != change.value))
    has = {*state.features, *change.value} if change.step == "enable" else {*state.features}.difference(change.value)
    return replace(state, features=tuple(feature for feature in FEATURES if feature in has))


@contextlib.contextmanager
def _explained(spec: str) -> t.Iterator[None]:
    """A failure of the library, in the words of the operator."""
    causes = {
        errno.EBUSY: "somebody has begun to use it",
        errno.ENOTEMPTY: "a snapshot of it has been made",
        errno.EPERM: "the user may not do this; give its key the profile rbd in this pool",
        errno.EACCES: "the user may not do this; give its key the profile rbd in this pool",
        errno.ETIMEDOUT: "the cluster does not answer in time",
    }
    try:
        yield
    except CephError as exc:
        cause = causes.get(exc.code)
        raise VolumeError(
            f"{spec} could not be made what it should be: {exc}{f' ({cause})' if cause else ''}; run again to see what is left to do",
            error_id="rbd_image_failed",
            volume=spec,
        ) from exc


__all__ = ("FEATURES", "Change", "ImageState", "RbdImage", "Wanted", "plan", "problems_of")
