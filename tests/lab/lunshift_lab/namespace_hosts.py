# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts in namespaces: sshd and libvirtd of this machine, with a file system and network of their own."""

from __future__ import annotations

import os
import subprocess
import time
import typing as t
from pathlib import Path

from . import context, keys, network, pki, process
from .context import Lab, LabError

host_names = context.NAMESPACE_HOSTS

PACKAGE_PARENT = Path(__file__).resolve().parent.parent
# At its first start it looks at every emulator of the machine.
LIBVIRT_TIMEOUT_S = 90.0
# What a login shell of root would have on a host; nothing of the caller's own environment.
HOST_ENVIRONMENT = {"PATH": process.SYSTEM_PATH, "HOME": "/root", "USER": "root", "LOGNAME": "root", "LANG": "C.UTF-8"}


def pid_of(lab: Lab, host: str) -> int | None:
    """The host's first process while it lives."""
    return process.recorded(lab.host_dir(host) / "pid")


def is_up(lab: Lab, host: str) -> bool:
    return pid_of(lab, host) is not None


def up(lab: Lab) -> None:
    """Bring both hosts up; a host that lives only gets the daemons that it lost."""
    network.ensure_migration_bridge(lab)
    for host in host_names:
        if not is_up(lab, host):
            _spawn(lab, host)
    for host in host_names:
        _start_daemons(lab, host)
    for host in host_names:
        _wait_for_libvirt(lab, host)


def down(lab: Lab) -> None:
    """Killing a host's first process ends everything in it, mounts and network included."""
    for host in host_names:
        process.end(lab.host_dir(host) / "pid")
        network.remove_interface(lab.interface_of(host))
        network.remove_interface(lab.migration_interface_of(host))


def command(lab: Lab, host: str, argv: t.Sequence[str]) -> list[str]:
    """The command that runs argv inside the host."""
    pid = pid_of(lab, host)
    if pid is None:
        raise LabError(f"{host} is not up; bring it up with 'lab up namespace'")
    environment = [f"{name}={value}" for name, value in HOST_ENVIRONMENT.items()]
    return ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "--", "env", "-i", "-C", "/root", *environment, *argv]


def execute(lab: Lab, host: str, argv: t.Sequence[str]) -> int:
    """Run a command inside the host with this process' own standard streams; gives its exit code."""
    return subprocess.run(command(lab, host, argv), check=False).returncode


def _spawn(lab: Lab, host: str) -> None:
    log = lab.host_dir(host) / "init.log"
    lab.console_dir(host).mkdir(parents=True, exist_ok=True)
    lab.lease_dir.mkdir(exist_ok=True)
    libvirt_cache = lab.cache_dir / "libvirt" / f"{lab.lab_id}-{host}"
    libvirt_cache.mkdir(parents=True, exist_ok=True)
    # QEMU runs as its own user and opens its console file itself.
    lab.console_dir(host).chmod(0o777)
    keys.ensure_key(lab)
    pki.ensure(lab, host)
    argv = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    argv += ["/usr/bin/python3", "-m", f"{__package__}.namespace_init", host]
    environment = {**os.environ, "PATH": process.SYSTEM_PATH, "PYTHONPATH": str(PACKAGE_PARENT), "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("w") as log_file:
        shell = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log_file, env=environment, start_new_session=True
        )
    pid = first_child(shell, f"{host}'s first process")
    process.record(lab.host_dir(host) / "pid", pid)
    network.add_veth(lab, lab.interface_of(host), pid, mac=lab.mac_of(host), address_names=[host])
    network.add_migration_veth(lab, host, pid)
    stdin, stdout = t.cast(t.IO[bytes], shell.stdin), t.cast(t.IO[bytes], shell.stdout)
    stdin.write(b"\n")
    stdin.close()
    if stdout.readline() != b"ready\n":
        raise LabError(f"{host} did not come up: {log.read_text().strip()}")
    stdout.close()


def first_child(shell: subprocess.Popen[bytes], what: str) -> int:
    """The process that unshare forked: pid 1 of the new namespace, by its number out here."""
    children = Path(f"/proc/{shell.pid}/task/{shell.pid}/children")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and shell.poll() is None:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.01)
    raise LabError(f"{what} did not start (unshare ended with {shell.poll()})")


def _start_daemons(lab: Lab, host: str) -> None:
    daemons = (("/run/sshd.pid", ("/usr/sbin/sshd",)), ("/run/libvirtd.pid", ("libvirtd", "--listen", "-d", "-p", "/run/libvirtd.pid")))
    for pid_file, argv in daemons:
        alive = f'test -e {pid_file} && kill -0 "$(cat {pid_file})" 2>/dev/null'
        if subprocess.run(command(lab, host, ["sh", "-c", alive]), check=False).returncode:
            process.run(command(lab, host, argv))


def _wait_for_libvirt(lab: Lab, host: str) -> None:
    process.run(["virsh", "-c", lab.libvirt_uri_of(host), "version"], timeout_s=LIBVIRT_TIMEOUT_S)
