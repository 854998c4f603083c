# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""RBD images through librbd: no device on this host, no file in /etc/ceph.

A source is opened read-only, which nobody notices. A target is opened only while no other client has it open, and is locked as
long as it is open where the image has the feature exclusive-lock; without that feature somebody who opens it later is not kept
out. Images that are mirrored or being migrated are no targets.
"""

from __future__ import annotations

import contextlib
import errno
import time
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._volume import librados, librbd
from ansible_collections.lunshift.migration.plugins.module_utils._volume.buffer import address_of, aligned_buffer
from ansible_collections.lunshift.migration.plugins.module_utils._volume.ceph_calls import CephError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import (
    DATA,
    ZERO,
    Backend,
    Extent,
    Facts,
    VolumeError,
    VolumeIOError,
)
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How, Kind
from ansible_collections.lunshift.migration.plugins.module_utils._volume.rbd_cluster import OP_TIMEOUT, connect
from ansible_collections.lunshift.migration.plugins.module_utils._volume.rbd_connection import RbdConnection, parse

# How long one request may wait for an OSD: long enough for one that is started again.
OP_TIMEOUT_S = 60
# After a request that waited in vain, closing does not wait as long again for each of its steps.
_CLOSING_TIMEOUT_S = 5
# A client that was killed counts as watching for 30 s (osd_client_watch_timeout), and a little more until that is noticed.
_KILLED_CLIENT_S = 40
# One that lives answers at once.
_ANSWER_S = 5
_REQUESTS = 8
_MIN_REQUEST_BYTES, _MAX_REQUEST_BYTES = 1 << 20, 8 << 20
_LOGICAL_BLOCK_BYTES, _PHYSICAL_BLOCK_BYTES = 512, 4096
# One call zeroes so much at most, so that a copy can be stopped in between.
_ZERO_BYTES = 64 << 20
# For so many objects at once extents are asked for: 64 GiB of an ordinary image.
_EXTENT_OBJECTS = 16384
# librbd's own lock has such a name; when its client is gone, librbd shuts that client out and takes the lock over.
_AUTOMATIC_LOCK = "auto "
_NAMES_SHOWN = 10

_NO_TARGET = {
    librbd.FEATURE_JOURNALING: "it is journaled, for mirroring",
    librbd.FEATURE_MIGRATING: "it is being migrated ('rbd migration')",
    librbd.FEATURE_NON_PRIMARY: "it is a mirror of another cluster's image, and not the primary one",
    librbd.FEATURE_DIRTY_CACHE: "a write-back cache of another host holds data of it",
}
_NO_SOURCE = {librbd.FEATURE_DIRTY_CACHE: _NO_TARGET[librbd.FEATURE_DIRTY_CACHE]}


class RbdBackend(Backend):
    """An open image. ``opened`` is given back when it is closed."""

    def __init__(self, image: librbd.Image, facts: Facts, our_id: int, opened: _Opened, set_op_timeout: t.Callable[[int], None]) -> None:
        self.facts = facts
        self._image = image
        self._our_id = our_id
        self._opened = opened
        self._set_op_timeout = set_op_timeout
        self._has_parent = image.parent_overlap_bytes() > 0
        self._period_bytes = image.sizes()[1] * image.stripe_count()
        self._zeros = None if image.can_write_zeroes else aligned_buffer(facts.request_bytes)
        self._is_silent = False

    def read_into(self, view: memoryview, offset: int) -> None:
        self._complete("read", offset, len(view), lambda: self._image.read(offset, len(view), address_of(view)))

    def write_from(self, view: memoryview, offset: int) -> None:
        self._complete("write", offset, len(view), lambda: self._image.write(offset, len(view), address_of(view)))

    def zero(self, offset: int, length: int) -> None:
        """librbd removes whole objects and zeroes parts of others; a discard would leave what it likes."""
        end = offset + length
        piece_bytes = len(self._zeros) if self._zeros else _ZERO_BYTES
        while offset < end:
            piece = min(piece_bytes - offset % piece_bytes, end - offset)
            if self._zeros:
                self.write_from(self._zeros[:piece], offset)
            else:
                with self._failing("zero", offset, piece):
                    self._image.write_zeroes(offset, piece)
            offset += piece

    def extents(self, offset: int, length: int) -> t.Iterator[Extent]:
        end = offset + length
        step = self._period_bytes * _EXTENT_OBJECTS
        # Older versions tell wrong offsets for a range that does not begin at an object.
        for start in range(offset - offset % self._period_bytes, end, step):
            stop = min(start + step, end)
            with self._failing("list the extents of", start, stop - start):
                is_fast = self._has_fast_diff()
                found = self._image.differences_to_nothing(start, stop - start, whole_objects=is_fast)
            yield from _told(found, start, stop, has_parent=self._has_parent)

    def _has_fast_diff(self) -> bool:
        """Whether the map of objects that exist can be trusted."""
        has_it = self._image.features() & librbd.FEATURE_FAST_DIFF
        return bool(has_it) and not self._image.flags() & librbd.FLAG_FAST_DIFF_INVALID

    def flush(self) -> None:
        with self._failing("flush", 0, self.facts.size_bytes):
            self._image.flush()

    def drop_caches(self) -> None:
        """There is no cache unless the image's own metadata ask for one."""
        with self._failing("drop the cache of", 0, self.facts.size_bytes):
            self._image.invalidate_cache()

    def users(self) -> list[str] | None:
        if self.facts.immutable:
            return []
        with self._failing("see who uses", 0, self.facts.size_bytes):
            return _others(self._image, self._our_id)

    def close(self) -> None:
        if self._is_silent:
            self._set_op_timeout(_CLOSING_TIMEOUT_S)
        problems = self._opened.give_back()
        if problems:
            raise VolumeError(
                f"{self.facts.name} was not closed properly: {'; '.join(problems)}", error_id="volume_io_error", volume=self.facts.name
            )

    def _complete(self, action: str, offset: int, length: int, call: t.Callable[[], int]) -> None:
        with self._failing(action, offset, length):
            done = call()
        if done != length:
            raise VolumeIOError(action, self.facts.name, offset, length, f"only {done} bytes were done")

    @contextlib.contextmanager
    def _failing(self, action: str, offset: int, length: int) -> t.Iterator[None]:
        try:
            yield
        except CephError as exc:
            if exc.code == errno.ETIMEDOUT:
                self._is_silent = True
            raise VolumeIOError(action, self.facts.name, offset, length, _cause(exc)) from exc


class _Opened:
    """What opening took. It is given back in the opposite order, all of it, whatever fails."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, t.Callable[[], None]]] = []

    def add(self, what: str, give_back: t.Callable[[], None]) -> None:
        self._steps.append((what, give_back))

    def give_back(self) -> list[str]:
        """Gives what failed."""
        problems = []
        while self._steps:
            what, give_back = self._steps.pop()
            try:
                give_back()
            except CephError as exc:
                problems.append(f"{what}: {_cause(exc)}")
        return problems


def _open(connection: RbdConnection, how: How) -> Backend:
    """Raises VolumeError; then nothing stays open."""
    name = f"rbd {connection.spec}"
    if how.writable and connection.snapshot:
        raise _refused(name, "a snapshot cannot be written; name the image without it", "volume_unusable")
    opened = _Opened()
    try:
        # librados takes 0 for no limit.
        cluster = connect(connection, max(how.timeout_s, 1))
        opened.add("the connection", cluster.close)
        pool = _open_pool(cluster, connection)
        opened.add("the pool", pool.close)
        image = _open_image(pool, connection, writable=how.writable)
        opened.add("the image", image.close)
        facts = _facts(cluster, pool, image, connection)
        _require_fit(image, facts.name, writable=how.writable)
        if how.writable:
            _claim(pool, image, facts.name, cluster.instance_id, opened)
        backend = RbdBackend(image, facts, cluster.instance_id, opened, lambda seconds: cluster.set(OP_TIMEOUT, str(seconds)))
        cluster.set(OP_TIMEOUT, str(OP_TIMEOUT_S))
    except CephError as exc:
        opened.give_back()
        raise _refused(name, _cause(exc), "volume_unusable") from exc
    except BaseException:
        opened.give_back()
        raise
    return backend


def _open_pool(cluster: librados.Cluster, connection: RbdConnection) -> librados.Pool:
    try:
        return cluster.open_pool(connection.pool, connection.namespace)
    except CephError as exc:
        if exc.code != errno.ENOENT:
            raise
        cause = f"there is no pool {connection.pool}; there are: {_some(cluster.pool_names())}"
        raise _refused(f"rbd {connection.spec}", cause, "volume_not_found") from None


def _open_image(pool: librados.Pool, connection: RbdConnection, *, writable: bool) -> librbd.Image:
    calls = librbd.library()
    try:
        return librbd.Image(calls, pool, connection.image, connection.snapshot, writable=writable)
    except CephError as exc:
        if exc.code != errno.ENOENT:
            raise
    names = librbd.image_names(calls, pool)
    within = "/".join(filter(None, (connection.pool, connection.namespace)))
    cause = f"there is no such image in {within}; there are: {_some(names)}"
    if connection.snapshot and connection.image in names:
        image = librbd.Image(calls, pool, connection.image, None, writable=False)
        try:
            cause = f"the image has no such snapshot; it has: {_some([snapshot.name for snapshot in image.snapshots()])}"
        finally:
            image.close()
    raise _refused(f"rbd {connection.spec}", cause, "volume_not_found")


def _facts(cluster: librados.Cluster, pool: librados.Pool, image: librbd.Image, connection: RbdConnection) -> Facts:
    size_bytes, object_bytes = image.sizes()
    snapshot_ids = [snapshot.snapshot_id for snapshot in image.snapshots() if snapshot.name == connection.snapshot]
    if connection.snapshot and not snapshot_ids:
        raise _refused(f"rbd {connection.spec}", "its snapshot was removed at this moment", "volume_not_found")
    identity = f"rbd:{cluster.fsid}:{pool.pool_id}:{f'{connection.namespace}/' if connection.namespace else ''}{image.image_id()}"
    return Facts(
        name=f"rbd {connection.spec} (cluster {cluster.fsid[:8]})",
        identity=identity + "".join(f"@{number}" for number in snapshot_ids),
        size_bytes=size_bytes,
        logical_block_bytes=_LOGICAL_BLOCK_BYTES,
        physical_block_bytes=_PHYSICAL_BLOCK_BYTES,
        request_bytes=max(_MIN_REQUEST_BYTES, min(object_bytes, _MAX_REQUEST_BYTES)),
        requests=_REQUESTS,
        immutable=connection.snapshot is not None,
        can_unmap=image.can_write_zeroes,
    )


def _require_fit(image: librbd.Image, name: str, *, writable: bool) -> None:
    """An image whose content is elsewhere cannot be read, and one that others make from elsewhere, or carry away, not be written."""
    features = image.features()
    problems = [words for feature, words in (_NO_TARGET if writable else _NO_SOURCE).items() if features & feature]
    if writable and not problems and image.is_mirrored():
        problems.append("it is mirrored to another cluster")
    if problems:
        raise _refused(name, f"{' and '.join(problems)}; take another image, or end that first", "volume_unusable")


def _claim(pool: librados.Pool, image: librbd.Image, name: str, our_id: int, opened: _Opened) -> None:
    """Make sure that nobody else writes, now and, where the image has a lock, as long as it is open."""
    _wait_for_killed_clients(pool, image, our_id)
    _require_unused(image, name, our_id)
    if not image.features() & librbd.FEATURE_EXCLUSIVE_LOCK:
        return
    try:
        image.acquire_lock()
    except CephError as exc:
        if exc.code in (errno.EPERM, errno.EACCES):
            cause = "its lock belongs to a client that is gone, and this client may not shut that one out; it needs the capability"
            raise _refused(name, f"{cause} mon 'profile rbd' ('ceph auth caps')", "volume_unusable") from exc
        if exc.code not in (errno.EBUSY, errno.EAGAIN, errno.EROFS):
            raise
        _require_unused(image, name, our_id)
        raise _refused(name, f"its lock cannot be had: {_cause(exc)}", "volume_in_use") from exc
    opened.add("the lock", image.release_lock)
    # Somebody may have come between the look and the lock.
    _require_unused(image, name, our_id)


def _wait_for_killed_clients(pool: librados.Pool, image: librbd.Image, our_id: int) -> None:
    """A copy that was killed can be started again at once; who lives is not waited for."""
    deadline = time.monotonic() + _KILLED_CLIENT_S
    if _others(image, our_id) and not pool.answers(f"rbd_header.{image.image_id()}", _ANSWER_S):
        while _others(image, our_id) and time.monotonic() < deadline:
            time.sleep(0.5)


def _require_unused(image: librbd.Image, name: str, our_id: int) -> None:
    users = _others(image, our_id)
    if users:
        raise VolumeError(f"{name} is in use: {'; '.join(users)}; end that use first", error_id="volume_in_use", volume=name, users=users)


def _others(image: librbd.Image, our_id: int) -> list[str]:
    """Who else has it open for writing, or holds a lock on it. A mirror daemon looks like any other client."""
    watchers = [watcher for watcher in image.watchers() if watcher.client_id != our_id]
    watching = {watcher.client_id for watcher in watchers}
    sentences = [f"client.{watcher.client_id} at {watcher.address} has it open" for watcher in watchers]
    for locker in image.lockers():
        is_gone = locker.cookie.startswith(_AUTOMATIC_LOCK)
        if locker.client_id != our_id and locker.client_id not in watching and not is_gone:
            sentences.append(f"client.{locker.client_id} at {locker.address} holds its lock {locker.cookie!r} (see 'rbd lock ls')")
    return sentences


def _told(found: t.Sequence[tuple[int, int, bool]], start: int, stop: int, *, has_parent: bool) -> t.Iterator[Extent]:
    """The range as extents: what was never written reads as zeros, and so does what was removed, but where a parent shows."""
    position = start
    for offset, length, exists in sorted(found):
        if not exists and not has_parent:
            continue
        begin, end = max(offset, position), min(offset + length, stop)
        if end <= begin:
            continue
        if begin > position:
            yield Extent(position, begin - position, ZERO)
        yield Extent(begin, end - begin, DATA)
        position = end
    if position < stop:
        yield Extent(position, stop - position, ZERO)


def _cause(exc: CephError) -> str:
    """What the cluster means."""
    not_permitted = "the cluster does not permit it to this client; look at its capabilities ('ceph auth get')"
    meanings = {
        errno.ETIMEDOUT: "no answer in time; an OSD is down, placement groups are inactive, or the cluster is full",
        errno.EPERM: not_permitted,
        errno.EACCES: not_permitted,
        errno.EROFS: "the image is read-only, or another client has its lock",
        errno.ESHUTDOWN: "the cluster has shut this client out (blocklist), as it does when another one breaks its lock",
        errno.EDQUOT: "the pool's quota is used up",
    }
    return f"{meanings[exc.code]} ({exc})" if exc.code in meanings else str(exc)


def _some(names: t.Sequence[str]) -> str:
    """So many names that an error can be read."""
    rest = len(names) - _NAMES_SHOWN
    return ", ".join(sorted(names)[:_NAMES_SHOWN]) + (f" and {rest} more" if rest > 0 else "") or "none"


def _refused(name: str, cause: str, error_id: str) -> VolumeError:
    return VolumeError(f"{name} cannot be opened: {cause}", error_id=error_id, volume=name)


RBD = Kind(parse, _open)

__all__ = ("OP_TIMEOUT_S", "RBD", "RbdBackend")
