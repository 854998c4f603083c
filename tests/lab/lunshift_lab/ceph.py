# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ceph: two clusters that know nothing of each other, each with one monitor and one OSD, ready after a second or two.

The OSD keeps its data in memory, or, so that it survives being killed, in a sparse file. Nothing outside of the lab's
directory is read or written: /etc/ceph stays what it is.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import struct
import subprocess
import time
import typing as t
import uuid
from pathlib import Path

from . import process
from .context import Lab, LabError

KIND = "ceph"
CLUSTERS = ("ceph1", "ceph2")
MEMORY, FILE = "memstore", "bluestore"
POOL = "volumes"
# Who may do in the pool what librbd has to, and nothing else.
CLIENT = "lab"
ADMIN = "admin"

# The second cluster's ports come after the first one's. Both have the address of the control node.
_V2_PORT, _V1_PORT, _OSD_PORT, _OSD_PORTS = 3300, 6789, 6800, 100
_MONITOR, _OSD = "mon.a", "osd.0"
_TIMEOUT_S = 60.0

_CAPABILITIES = {
    "mon.": {"mon": "allow *"},
    f"client.{ADMIN}": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    f"client.{CLIENT}": {"mon": "profile rbd", "osd": f"profile rbd pool={POOL}"},
    _OSD: {"mon": "allow profile osd", "osd": "allow *"},
}

# Nobody stores anything here twice, nobody asks for statistics (there is no manager), and nobody waits for other monitors,
# or (the lease) for what an OSD that was killed might still answer.
_CONF = """\
[global]
fsid = {fsid}
mon host = {monitor}
public addr = {address}
cluster addr = {address}
ms bind port min = {osd_port}
ms bind port max = {osd_port_end}
keyring = {directory}/$name.keyring
admin socket =
pid file =
log file =
run dir = {directory}
crash dir = {directory}
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default read lease ratio = 0.05
osd crush chooseleaf type = 0
osd crush update on start = false
[mon]
mon data = {directory}/mon
mon initial members = a
log file = {directory}/$name.log
mon cluster log file = {directory}/cluster.log
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mon mgr mkfs grace = 86400
mon mgr beacon grace = 86400
mon data avail warn = 1
mon data avail crit = 1
mon tick interval = 1
paxos propose interval = 0.05
paxos min wait = 0.01
[osd]
osd data = {directory}/osd
log file = {directory}/$name.log
osd objectstore = {store}
osd op queue = wpq
osd op num shards = 2
memstore device bytes = 2147483648
bluestore block size = 25769803776
bluestore block create = true
bluestore block wal create = false
bluestore block db create = false
bluestore fsck on mount = false
bluestore cache autotune = false
bluestore cache size = 134217728
osd memory target = 939524096
[client]
rbd default features = 61
rbd default pool = {pool}
"""


def up(lab: Lab, in_files: t.Collection[str] = ()) -> None:
    """Both clusters. Those of ``in_files`` keep their data in a file; one that lives stays as it is."""
    for cluster in CLUSTERS:
        store = FILE if cluster in in_files else MEMORY
        if _directory(lab, cluster).exists() and not _mended(lab, cluster, store):
            _remove(lab, cluster)
        if not _directory(lab, cluster).exists():
            _make(lab, cluster, store)


def down(lab: Lab) -> None:
    for cluster in CLUSTERS:
        _remove(lab, cluster)


def live(lab: Lab) -> list[str]:
    """The clusters whose monitor and OSD run."""
    return [cluster for cluster in CLUSTERS if all(_is_running(lab, cluster, name) for name in (_MONITOR, _OSD))]


def conf_path(lab: Lab, cluster: str) -> Path:
    """What ``rbd --conf`` takes; as client.admin, or as client.lab with ``--id lab``."""
    return _known(lab, cluster) / "ceph.conf"


def connection_info(lab: Lab, cluster: str, image: str, client: str = CLIENT) -> dict[str, t.Any]:
    """How Cinder would tell where an image is; the image is not looked at."""
    keyring = _known(lab, cluster) / f"client.{client}.keyring"
    data = {
        "name": f"{POOL}/{image}",
        "hosts": [lab.address_of("control")],
        "ports": [str(_V1_PORT + CLUSTERS.index(cluster))],
        "cluster_name": "ceph",
        "auth_enabled": True,
        "auth_username": client,
        "keyring": keyring.read_text(),
        "secret_type": "ceph",
        "secret_uuid": None,
        "volume_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"lunshift-lab/{cluster}/{image}")),
        "discard": True,
        "access_mode": "rw",
    }
    return {"driver_volume_type": "rbd", "data": data}


def osd_down(lab: Lab, cluster: str) -> None:
    """Kill the OSD; what it holds must be in a file."""
    if _store_of(_known(lab, cluster)) == MEMORY:
        raise LabError(f"{cluster} keeps its volumes in its OSD's memory; bring it up with 'lab up ceph --in-file {cluster}'")
    process.end(_pid_path(lab, cluster, _OSD))
    with _Monitor(_known(lab, cluster)) as monitor:
        # What its neighbours would tell, if it had any. Who tries to reach it before it is ready waits for 10 s.
        monitor.ask("osd down", ids=["0"])


def osd_up(lab: Lab, cluster: str) -> None:
    """Start the OSD again and wait until volumes can be read and written."""
    if not _is_running(lab, cluster, _OSD):
        osd_down(lab, cluster)
        _start(lab, cluster, _OSD)
    _wait_until_usable(lab, cluster)


def _directory(lab: Lab, cluster: str) -> Path:
    return lab.state_dir / "ceph" / cluster


def _known(lab: Lab, cluster: str) -> Path:
    directory = _directory(lab, cluster)
    if not directory.exists():
        raise LabError(f"{cluster} of lab {lab.lab_id} is not up; bring it up with 'lab up ceph'")
    return directory


def _pid_path(lab: Lab, cluster: str, daemon: str) -> Path:
    return _directory(lab, cluster) / f"{daemon}.pid"


def _is_running(lab: Lab, cluster: str, daemon: str) -> bool:
    return process.recorded(_pid_path(lab, cluster, daemon)) is not None


def _store_of(directory: Path) -> str:
    return FILE if f"osd objectstore = {FILE}\n" in (directory / "ceph.conf").read_text() else MEMORY


def _mended(lab: Lab, cluster: str, store: str) -> bool:
    """Whether a cluster of this kind is up (again); one that was not made completely, or forgot its data, cannot be."""
    directory = _directory(lab, cluster)
    if not (directory / "made").exists():
        return False
    if store == FILE and _store_of(directory) == MEMORY:
        raise LabError(f"{cluster} is up already, with its data in memory; 'lab down' first")
    if _store_of(directory) == MEMORY and not _is_running(lab, cluster, _OSD):
        return False
    if not _is_running(lab, cluster, _MONITOR):
        _start(lab, cluster, _MONITOR)
    osd_up(lab, cluster)
    return True


def _remove(lab: Lab, cluster: str) -> None:
    for daemon in (_OSD, _MONITOR):
        process.end(_pid_path(lab, cluster, daemon))
    shutil.rmtree(_directory(lab, cluster), ignore_errors=True)


def _make(lab: Lab, cluster: str, store: str) -> None:
    directory = _directory(lab, cluster)
    for name in ("mon", "osd"):
        (directory / name).mkdir(parents=True)
    fsid = str(uuid.uuid4())
    (directory / "ceph.conf").write_text(_conf(lab, cluster, fsid, store))
    _write_keyrings(directory)
    # Without a map a monitor takes the usual ports, which are the first cluster's.
    monitor_map = directory / "monmap"
    process.run(["monmaptool", "--create", "--fsid", fsid, "--addv", "a", _monitor_address(lab, cluster), monitor_map])
    _daemon(directory, "ceph-mon", "-i", "a", "--mkfs", "--monmap", str(monitor_map), "--keyring", str(directory / "all.keyring"))
    _start(lab, cluster, _MONITOR)
    osd_uuid = str(uuid.uuid4())
    with _Monitor(directory) as monitor:
        monitor.ask("osd new", uuid=osd_uuid)
        monitor.ask("osd crush add", id=0, weight=1.0, args=["host=lab", "root=default"])
        _daemon(directory, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_uuid)
        _start(lab, cluster, _OSD)
        monitor.ask("osd pool create", pool=POOL, pg_num=8)
        monitor.ask("osd pool application enable", pool=POOL, app="rbd")
    _wait_until_usable(lab, cluster)
    (directory / "made").touch()


def _monitor_address(lab: Lab, cluster: str) -> str:
    """Both protocols: Cinder names the old one's port alone."""
    address, number = lab.address_of("control"), CLUSTERS.index(cluster)
    return f"[v2:{address}:{_V2_PORT + number}/0,v1:{address}:{_V1_PORT + number}/0]"


def _conf(lab: Lab, cluster: str, fsid: str, store: str) -> str:
    osd_port = _OSD_PORT + CLUSTERS.index(cluster) * _OSD_PORTS
    return _CONF.format(
        fsid=fsid,
        monitor=_monitor_address(lab, cluster),
        address=lab.address_of("control"),
        osd_port=osd_port,
        osd_port_end=osd_port + _OSD_PORTS - 1,
        directory=_directory(lab, cluster),
        store=store,
        pool=POOL,
    )


def _write_keyrings(directory: Path) -> None:
    """A file for each that has a key, and one with all of them, which the monitor starts from."""
    keyrings = {entity: _keyring(entity, _new_key(), capabilities) for entity, capabilities in _CAPABILITIES.items()}
    files = {_MONITOR if entity == "mon." else entity: text for entity, text in keyrings.items()}
    for name, text in {**files, "all": "".join(keyrings.values())}.items():
        path = directory / f"{name}.keyring"
        path.touch(mode=0o600)
        path.write_text(text)


def _keyring(entity: str, key: str, capabilities: t.Mapping[str, str]) -> str:
    lines = [f"[{entity}]", f"\tkey = {key}", *(f'\tcaps {name} = "{words}"' for name, words in capabilities.items())]
    return "\n".join(lines) + "\n"


def _new_key() -> str:
    """Ceph's own form: AES, when it was made (seconds, nanoseconds), and 16 bytes."""
    return base64.b64encode(struct.pack("<HIIH", 1, int(time.time()), 0, 16) + os.urandom(16)).decode()


def _daemon(directory: Path, program: str, *arguments: str) -> None:
    process.run([program, "--conf", directory / "ceph.conf", *arguments], timeout_s=_TIMEOUT_S)


def _start(lab: Lab, cluster: str, daemon: str) -> None:
    """In the foreground of a session of its own, so that its process is the one that is recorded."""
    directory = _known(lab, cluster)
    kind, _dot, name = daemon.partition(".")
    with (directory / f"{daemon}.out").open("ab") as output:
        started = subprocess.Popen(
            [f"ceph-{kind}", "--conf", str(directory / "ceph.conf"), "-f", "-i", name],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": process.SYSTEM_PATH, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
    process.record(_pid_path(lab, cluster, daemon), started.pid)


def _wait_until_usable(lab: Lab, cluster: str) -> None:
    """An object can be written."""
    with _Monitor(_known(lab, cluster)) as monitor:
        what = f"{cluster} to have its OSD; see {_directory(lab, cluster)}/{_OSD}.log"
        process.wait_until(lambda: monitor.ask("osd stat", format="json")["num_up_osds"] > 0, what, timeout_s=_TIMEOUT_S)
        monitor.write_probe()


class _Monitor:
    """A client of one cluster, as its administrator."""

    def __init__(self, directory: Path) -> None:
        # ceph-common brings it along; a lab without Ceph can do without.
        import rados

        settings = {"client_mount_timeout": "20", "rados_mon_op_timeout": "20", "rados_osd_op_timeout": "30"}
        self._cluster = rados.Rados(conffile=str(directory / "ceph.conf"), name=f"client.{ADMIN}", conf=settings)
        self._failure = rados.Error
        self._name = directory.name

    def __enter__(self) -> _Monitor:
        try:
            self._cluster.connect()
        except self._failure as exc:
            raise LabError(f"{self._name} has no monitor: {exc}") from exc
        return self

    def __exit__(self, *_error: object) -> None:
        self._cluster.shutdown()

    def ask(self, prefix: str, **arguments: t.Any) -> t.Any:
        """One command of Ceph; gives its answer where that was asked for as JSON."""
        code, output, words = self._cluster.mon_command(json.dumps({"prefix": prefix, **arguments}), b"")
        if code:
            raise LabError(f"{self._name}: 'ceph {prefix}' failed with {code}: {words}")
        return json.loads(output) if arguments.get("format") == "json" else None

    def write_probe(self) -> None:
        try:
            with self._cluster.open_ioctx(POOL) as pool:
                pool.write_full("lab-probe", b"1")
                pool.remove_object("lab-probe")
        except self._failure as exc:
            raise LabError(f"{self._name}: its pool cannot be written: {exc}") from exc
