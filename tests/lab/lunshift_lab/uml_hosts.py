# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts with a kernel of their own: User-Mode Linux with systemd, a kernel iSCSI initiator, multipath and libvirt.

Each is a process of this machine in its own pid namespace, so that killing the first process ends all of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
import shlex
import shutil
import socket
import subprocess
import time
import typing as t
from pathlib import Path

from . import context, keys, network, process, rootfs, uml_files
from .context import Lab, LabError
from .namespace_hosts import first_child

host_names = context.UML_HOSTS

KERNEL = "/usr/bin/linux.uml"
SHIM_SOURCE = Path(__file__).resolve().parent / "uml" / "shim.c"
MEMORY = "1G"
# An executable tmpfs: the memory file of a kernel is mapped, and hot.
MEMORY_DIRECTORY = "/dev/shm"
# What both hosts with a guest each have been seen to use; containers often allow 64 MiB.
NEEDED_MEMORY_MIB = 1024
BOOT_TIMEOUT_S = 180.0
UNITS = ("iscsid.service", "libvirtd.service", "multipathd.service", "ssh.service")
SSH_PORT = 22
# Waits for a line, which comes when it is on record: else nobody could end it. It is not the kernel itself, since
# a kernel that panics ends itself by a signal, and the first process of a namespace would not get that.
FIRST_PROCESS = 'read -r _ || exit; "$0" "$@" </dev/null; exit'


def is_up(lab: Lab, host: str) -> bool:
    return process.recorded(lab.host_dir(host) / "pid") is not None


def up(lab: Lab) -> None:
    """Bring both hosts up, at the same time; a host that lives is only checked."""
    asleep = [host for host in host_names if not is_up(lab, host)]
    if asleep:
        _require_memory()
        root, shim = rootfs.ensure(lab), _ensure_shim(lab)
        network.ensure_bridge(lab)
        for host in asleep:
            _boot(lab, host, root, shim)
    for host in host_names:
        _wait_until_ready(lab, host)


def down(lab: Lab) -> None:
    for host in host_names:
        _cut_power(lab, host)
        network.remove_interface(lab.interface_of(host))


def restart(lab: Lab, host: str) -> None:
    """Cut the host's power and boot it again; of what it wrote, only uml_files.KEPT is still there."""
    _boot(lab, host, rootfs.ensure(lab), _ensure_shim(lab))
    _wait_until_ready(lab, host)


def command(lab: Lab, host: str, argv: t.Sequence[str]) -> list[str]:
    """The command that runs argv on the host, over a connection that stays open for a while."""
    if not is_up(lab, host):
        raise LabError(f"{host} is not up; bring it up with 'lab up uml'")
    options = ["BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3"]
    options += ["ControlMaster=auto", "ControlPersist=60", f"ControlPath={_control_socket(lab, host)}"]
    ssh = ["ssh", *keys.CLIENT_OPTIONS, *(f"-o{option}" for option in options), "-i", str(lab.ssh_key)]
    # ssh passes one string to a shell on the host.
    return [*ssh, f"root@{lab.address_of(host)}", "--", shlex.join(argv)]


def execute(lab: Lab, host: str, argv: t.Sequence[str]) -> int:
    """Run a command on the host with this process' own standard streams; gives its exit code."""
    return subprocess.run(command(lab, host, argv), check=False).returncode


def _cut_power(lab: Lab, host: str) -> None:
    # The shared connection would wait for the host until it gives up.
    if _control_socket(lab, host).exists():
        subprocess.run(["ssh", "-O", "exit", "-S", _control_socket(lab, host), host], capture_output=True, check=False)
        _control_socket(lab, host).unlink(missing_ok=True)
    process.end(lab.host_dir(host) / "pid")


def _require_memory() -> None:
    free_mib = shutil.disk_usage(MEMORY_DIRECTORY).free >> 20
    if free_mib < NEEDED_MEMORY_MIB:
        raise LabError(f"{MEMORY_DIRECTORY} has {free_mib} MiB free; User-Mode Linux hosts need {NEEDED_MEMORY_MIB} MiB there")


def _ensure_shim(lab: Lab) -> Path:
    """What lets the kernel run on CPUs with AMX, and reboot; see its source."""
    shim = lab.cache_dir / "uml" / f"shim-{hashlib.sha256(SHIM_SOURCE.read_bytes()).hexdigest()[:16]}.so"
    if not shim.exists():
        made = shim.with_suffix(f".{os.getpid()}")
        process.run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", made, SHIM_SOURCE])
        made.rename(shim)
    return shim


def _boot(lab: Lab, host: str, root: Path, shim: Path) -> None:
    _cut_power(lab, host)
    uml_files.write(lab, host)
    directory = lab.host_dir(host)
    shutil.rmtree(directory / "uml", ignore_errors=True)
    tap = network.add_tap(lab, host)
    kernel_arguments = (
        f"mem={MEMORY} umid={host} uml_dir={directory / 'uml'} con=null con0=null,fd:1 ssl=null quiet"
        f" root=/dev/root rootfstype=hostfs rootflags={root} ro init=/umlinit"
        f" vec0:transport=tap,ifname={tap},depth=128,gro=1,mac={lab.mac_of(host)}"
        f" lab.host={host} lab.dir={directory}"
        f" lab.address={lab.address_of(host)}/{lab.prefix_length} lab.address6={lab.address6_of(host)}/64"
    )
    # The kernel holds one descriptor for every file of the root file system that it knows.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with _console(lab, host).open("w") as console:
        shell = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", FIRST_PROCESS, KERNEL, *kernel_arguments.split()],
            stdin=subprocess.PIPE,
            stdout=console,
            stderr=console,
            env={"PATH": process.SYSTEM_PATH, "TMPDIR": MEMORY_DIRECTORY, "LD_PRELOAD": str(shim)},
            start_new_session=True,
        )
    process.record(directory / "pid", first_child(shell, f"{host}'s first process"))
    stdin = t.cast(t.IO[bytes], shell.stdin)
    stdin.write(b"\n")
    stdin.close()


def _wait_until_ready(lab: Lab, host: str) -> None:
    """Until it answers, or at once when its kernel is gone: User-Mode Linux cannot run everywhere."""
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while not _listens(lab, host):
        if not is_up(lab, host):
            raise LabError(f"{host}: User-Mode Linux ended while it booted, so it may not run on this machine; {_last_lines(lab, host)}")
        if time.monotonic() > deadline:
            _cut_power(lab, host)
            raise LabError(f"{host} did not boot in {BOOT_TIMEOUT_S:g} s; {_last_lines(lab, host)}")
        time.sleep(0.2)
    # ssh answers before the last services are started.
    subprocess.run(command(lab, host, ["systemctl", "--quiet", "is-system-running", "--wait"]), capture_output=True, check=False)
    states = subprocess.run(command(lab, host, ["systemctl", "is-active", *UNITS]), capture_output=True, text=True, check=False)
    if states.returncode:
        raise LabError(f"{host} booted, but {', '.join(UNITS)} are {', '.join(states.stdout.split())}; {_last_lines(lab, host)}")
    process.run(["virsh", "-c", lab.libvirt_uri_of(host), "version"])


def _listens(lab: Lab, host: str) -> bool:
    try:
        with socket.create_connection((lab.address_of(host), SSH_PORT), timeout=1):
            return True
    except OSError:
        return False


def _control_socket(lab: Lab, host: str) -> Path:
    return lab.ssh_key.parent / f"{host}.control"


def _console(lab: Lab, host: str) -> Path:
    return lab.host_dir(host) / "console.log"


def _last_lines(lab: Lab, host: str) -> str:
    """The end of the console without the addresses of a panic, which would hide its reason."""
    lines = [line for line in _console(lab, host).read_text(errors="replace").splitlines() if not re.match(r"\s\[?<?[0-9a-f]{8}", line)]
    return "the end of its console ({}):\n{}".format(_console(lab, host), "\n".join(lines[-15:]))
