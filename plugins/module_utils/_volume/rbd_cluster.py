# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.
"""Connecting to the cluster of an RBD image: bounded in time, and with words for what can go wrong.

The key goes from the connection info into librados' memory, and nowhere else.
"""

from __future__ import annotations

import errno
import socket
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._volume import librados
from ansible_collections.lunshift.migration.plugins.module_utils._volume.ceph_calls import CephError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import VolumeError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.rbd_connection import Monitor, RbdConnection

# Nothing is logged, and no socket is made, whatever a ceph.conf says; every write goes to the OSDs before it is acknowledged.
_SETTINGS = {
    "admin_socket": "",
    "log_file": "",
    "log_to_stderr": "false",
    "err_to_stderr": "false",
    "log_to_syslog": "false",
    "rbd_cache": "false",
}
OP_TIMEOUT = "rados_osd_op_timeout"
# A monitor says who it is as soon as it is connected to; this is for one that is near.
_GREETING_S = 3.0
_GREETING = b"ceph v"


def connect(connection: RbdConnection, timeout_s: int) -> librados.Cluster:
    """A connected client; raises VolumeError. ``timeout_s`` bounds the whole of it, and then each question to the cluster."""
    _require_files(connection)
    monitors = _resolved(connection)
    cluster = librados.Cluster(librados.library(), connection.cluster_name, f"client.{connection.user}")
    try:
        if connection.conf_path:
            _read_conf(cluster, connection, connection.conf_path)
        _configure(cluster, connection, monitors, timeout_s)
        cluster.connect()
    except CephError as exc:
        error = _explained(exc, connection, cluster, monitors, timeout_s)
        cluster.close()
        raise error from None
    except BaseException:
        cluster.close()
        raise
    return cluster


def _require_files(connection: RbdConnection) -> None:
    """librados says of a file that it cannot read no more than that something is missing."""
    problems = []
    for name, path in (("ceph.conf_path", connection.conf_path), ("ceph.keyring_path", connection.keyring_path)):
        if path:
            try:
                with open(path, "rb"):
                    pass
            except OSError as exc:
                problems.append(f"{name} {path} cannot be read: {exc.strerror}")
    if problems:
        raise _error(connection, "; ".join(problems), "volume_unusable")


def _resolved(connection: RbdConnection) -> tuple[Monitor, ...]:
    """The monitors by address: librados complains about a name on standard error."""
    found, problems = [], []
    for monitor in connection.monitors:
        try:
            answer = socket.getaddrinfo(monitor.host, None, type=socket.SOCK_STREAM)
            found.append(Monitor(str(answer[0][4][0]), monitor.port))
        except OSError as exc:
            problems.append(f"{monitor.host} ({exc.strerror})")
    if problems and not found:
        raise _error(connection, f"none of its monitors' names has an address: {', '.join(problems)}", "ceph_unreachable")
    return tuple(found)


def _read_conf(cluster: librados.Cluster, connection: RbdConnection, path: str) -> None:
    try:
        cluster.read_conf(path)
    except CephError as exc:
        raise _error(connection, f"ceph.conf_path {path} is no ceph.conf that can be read ({exc})", "volume_unusable") from None
    if not connection.monitors and not cluster.get("mon_host"):
        raise _error(connection, f"ceph.conf_path {path} names no monitor (mon_host), and hosts is empty", "volume_unusable")


def _configure(cluster: librados.Cluster, connection: RbdConnection, monitors: t.Sequence[Monitor], timeout_s: int) -> None:
    settings = {**_SETTINGS, "client_mount_timeout": str(timeout_s), "rados_mon_op_timeout": str(timeout_s), OP_TIMEOUT: str(timeout_s)}
    if monitors:
        settings["mon_host"] = ",".join(map(str, monitors))
    if connection.keyring_path:
        settings["keyring"] = connection.keyring_path
    if connection.key:
        settings.update(keyring="", key=connection.key)
    if not connection.has_cephx:
        settings["auth_client_required"] = "none"
    for name, value in settings.items():
        cluster.set(name, value)


def _explained(
    exc: CephError, connection: RbdConnection, cluster: librados.Cluster, monitors: t.Sequence[Monitor], timeout_s: int
) -> VolumeError:
    """What the cluster's answer, or its silence, means."""
    who = f"client.{connection.user}"
    named = ", ".join(map(str, monitors)) or cluster.get("mon_host")
    if exc.code in (errno.EACCES, errno.EPERM):
        cause = f"authentication failed: the cluster ({named}) does not know {who} by {_origin(connection, cluster)}; give it the right key"
        return _error(connection, cause, "ceph_authentication")
    if exc.code in (errno.ENOENT, errno.EOPNOTSUPP):
        has_none = f"there is no key of {who} in {_origin(connection, cluster)}; give it as keyring or ceph.keyring_path"
        cause = has_none if connection.has_cephx else f"the cluster ({named}) wants a key, and auth_enabled is false"
        return _error(connection, f"authentication failed: {cause}", "ceph_authentication")
    if exc.code == errno.ETIMEDOUT:
        answering = [str(monitor) for monitor in monitors if _answers(monitor)]
        if answering:
            cause = f"{', '.join(answering)} answers, but did not let {who} in within {timeout_s} s; the key is another cluster's,"
            return _error(connection, f"{cause} or its monitors have no quorum", "ceph_unreachable")
        return _error(connection, f"none of its monitors answers within {timeout_s} s: {named}", "ceph_unreachable")
    return _error(connection, f"connecting to {named} failed: {exc}", "ceph_unreachable")


def _origin(connection: RbdConnection, cluster: librados.Cluster) -> str:
    """Where the key comes from."""
    return "the keyring given" if connection.key else cluster.get("keyring")


def _answers(monitor: Monitor) -> bool:
    """Whether a monitor listens there."""
    try:
        with socket.create_connection((monitor.host, monitor.port or 6789), _GREETING_S) as connected:
            return connected.recv(len(_GREETING)) == _GREETING
    except OSError:
        return False


def _error(connection: RbdConnection, cause: str, error_id: str) -> VolumeError:
    return VolumeError(f"rbd {connection.spec} cannot be opened: {cause}", error_id=error_id, volume=f"rbd {connection.spec}")


__all__ = ("OP_TIMEOUT", "connect")
