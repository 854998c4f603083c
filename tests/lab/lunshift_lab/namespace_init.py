# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first process of a namespace host: makes it look like a machine of its own, then reaps orphans.

Runs as pid 1 of new mount, network, pid, uts and ipc namespaces, with the package's
parent directory on PYTHONPATH. It waits for a line on its standard input, and says C(ready) on
its standard output when done.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import time
from pathlib import Path

from . import context, guest_kit, keys, pki
from .process import run

# Where the machine's own files shine through, but nothing is ever written to them.
OVERLAID = ("/etc", "/var")
STAGE = Path("/mnt")

LIBVIRTD_CONF = """\
host_uuid = "{host_uuid}"
listen_tls = 1
listen_tcp = 1
auth_tcp = "none"
auth_tls = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
keepalive_interval = 2
keepalive_count = 3
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""

# There is no virtlogd, hence stdio_handler; all else is as the distribution has it.
QEMU_CONF = """\
stdio_handler = "file"
vnc_listen = "{address}"
keepalive_interval = 2
keepalive_count = 3
"""

SSHD_CONFIG = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
PidFile /run/sshd.pid
MaxStartups 100
Subsystem sftp internal-sftp
"""


def isolate(lab: context.Lab, host: str) -> None:
    """Give the host its own /proc, /sys, /run, /tmp, /root and writable copies of /etc and /var."""
    run(["mount", "-t", "proc", "proc", "/proc"])
    # With the machine's cgroups in sight both libvirtd would share one tree and collide on guests' names.
    run(["umount", "-R", "/sys"], check=False)
    run(["mount", "-t", "sysfs", "sysfs", "/sys"])
    run(["mount", "-t", "tmpfs", "-o", "mode=755,size=256m", "stage", STAGE])
    # What must stay in sight is held here while directories above it are covered.
    held = {
        lab.share_dir: STAGE / "share",
        lab.lease_dir: STAGE / "leases",
        lab.guest_console_dir: STAGE / "console",
        Path("/var/cache/libvirt"): STAGE / "libvirt-cache",
    }
    outside = (lab.share_dir, lab.lease_dir, lab.console_dir(host), libvirt_cache(lab, host))
    for place, origin in zip(held.values(), outside, strict=True):
        place.mkdir()
        run(["mount", "--bind", origin, place])
    emulator = STAGE / "emulator"
    emulator.touch()
    run(["mount", "--bind", guest_kit.cached_emulator(lab), emulator])
    for path in OVERLAID:
        _overlay(Path(path))
    # libvirt takes ownership of a guest's kernel, and notes that on the file; not on one that other hosts use.
    _overlay(held[lab.share_dir])
    run(["mount", "-t", "tmpfs", "-o", "mode=755,size=256m", "run", "/run"])
    run(["mount", "-t", "tmpfs", "-o", "mode=700,size=256m", "root", "/root"])
    run(["mount", "-t", "tmpfs", "-o", "mode=1777,size=256m", "tmp", "/tmp"])
    for target, place in held.items():
        target.mkdir(parents=True, exist_ok=True)
        run(["mount", "--bind", place, target])
    # libvirt keeps what it learned about an emulator until the file changes; the cached one never does.
    run(["mount", "--bind", emulator, lab.share_dir / guest_kit.EMULATOR])
    run(["umount", "-l", STAGE])


def _overlay(path: Path) -> None:
    """Show a directory as it is, but keep what is written to it in this host."""
    upper, work = STAGE / "upper" / path.name, STAGE / "work" / path.name
    upper.mkdir(parents=True)
    work.mkdir(parents=True)
    run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={path},upperdir={upper},workdir={work}", path])


def libvirt_cache(lab: context.Lab, host: str) -> Path:
    return lab.cache_dir / "libvirt" / f"{lab.lab_id}-{host}"


def configure(lab: context.Lab, host: str, public_key: str, certificates: pki.Certificates) -> None:
    """Name, keys, certificates and daemons' configuration; all of it in the host's own copies."""
    socket.sethostname(host)
    machine_id = lab.machine_id_of(host)
    _write("/etc/hostname", f"{host}\n")
    _write("/etc/hosts", lab.etc_hosts())
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        Path(path).unlink(missing_ok=True)
        _write(path, f"{machine_id}\n")
    _write("/etc/iscsi/initiatorname.iscsi", f"InitiatorName={lab.initiator_of(host)}\n", mode=0o600)
    for path in ("/run/lock", "/run/sshd", "/run/libvirt"):
        Path(path).mkdir(parents=True, exist_ok=True)
    # Domains, networks and secrets of the machine's own libvirt are not this host's.
    for path in ("/etc/libvirt/qemu", "/etc/libvirt/secrets", "/etc/libvirt/storage", "/var/lib/libvirt/qemu", "/var/log/libvirt"):
        _empty(Path(path))
    shutil.chown("/var/lib/libvirt/qemu", "libvirt-qemu", "libvirt-qemu")
    host_uuid = re.sub(r"(.{8})(.{4})(.{4})(.{4})(.{12})", r"\1-\2-\3-\4-\5", machine_id[:12] + "40008000" + machine_id[20:])
    _write("/etc/libvirt/libvirtd.conf", LIBVIRTD_CONF.format(host_uuid=host_uuid))
    _write("/etc/libvirt/qemu.conf", QEMU_CONF.format(address=lab.address_of(host)), mode=0o600)
    _install(certificates)
    _write("/etc/ssh/sshd_config", SSHD_CONFIG)
    for key in Path("/etc/ssh").glob("ssh_host_*"):
        key.unlink()
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/etc/ssh/ssh_host_ed25519_key"])
    # Without PAM sshd refuses an account whose password is locked.
    shadow = Path("/etc/shadow")
    shadow.write_text(re.sub(r"(?m)^root:[^:]*:", "root:*:", shadow.read_text()))
    _write("/root/.ssh/authorized_keys", public_key, mode=0o600)
    _write("/root/.ssh/config", keys.CLIENT_CONFIG, mode=0o600)


def _install(certificates: pki.Certificates) -> None:
    """One certificate for both ends of libvirt's and of QEMU's connections, where both look for it."""
    _write("/etc/pki/CA/cacert.pem", certificates.authority)
    _write("/etc/pki/qemu/ca-cert.pem", certificates.authority)
    for side in ("server", "client"):
        _write(f"/etc/pki/libvirt/{side}cert.pem", certificates.certificate)
        _write(f"/etc/pki/libvirt/private/{side}key.pem", certificates.key, mode=0o600)
        _write(f"/etc/pki/qemu/{side}-cert.pem", certificates.certificate)
        _write(f"/etc/pki/qemu/{side}-key.pem", certificates.key, mode=0o640)
        # QEMU reads its key as its own user.
        shutil.chown(f"/etc/pki/qemu/{side}-key.pem", "root", "libvirt-qemu")


def _write(path: str, text: str, *, mode: int = 0o644) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)


def _empty(path: Path) -> None:
    mode = path.stat().st_mode & 0o7777 if path.exists() else 0o755
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True, mode=mode)


def reap_for_ever() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.2)


def main() -> None:
    # The line comes when this process is on record. Without a record nobody could end it, so it ends itself.
    if not sys.stdin.readline():
        sys.exit("the process that started this one is gone")
    lab, host = context.from_environment(), sys.argv[1]
    public_key = keys.ensure_key(lab)
    private_key = lab.ssh_key.read_text()
    certificates = pki.read(lab, host)
    isolate(lab, host)
    configure(lab, host, public_key, certificates)
    _write("/root/.ssh/id_ed25519", private_key, mode=0o600)
    print("ready", flush=True)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    reap_for_ever()


if __name__ == "__main__":
    main()
