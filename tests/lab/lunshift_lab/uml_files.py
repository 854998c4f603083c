# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What makes one User-Mode Linux host of the common root file system: its own files and mounts."""

from __future__ import annotations

import shutil
import string
import uuid
from pathlib import Path

from . import guest_kit, keys
from .context import Lab
from .process import run

SOURCES = Path(__file__).resolve().parent / "uml"
# These survive a restart, as a real host's disk would; all else that a host writes is gone with it.
KEPT = (
    "/etc/iscsi/nodes",
    "/etc/iscsi/send_targets",
    "/etc/libvirt/qemu",
    "/etc/libvirt/secrets",
    "/usr/local/lib/systemd/system",
    "/var/lib/lunshift-migration",
)

# Target -> what it shall start beside Debian's choice. iscsid would start with the first login, and make that slow.
ENABLED = {"sockets.target": "libvirtd-tcp.socket", "multi-user.target": "iscsid.service"}


def write(lab: Lab, host: str) -> None:
    """Make the host's directory, from which umlinit takes everything."""
    lab.console_dir(host).mkdir(parents=True, exist_ok=True)
    _write_mounts(lab, host)
    root = lab.host_dir(host) / "files"
    shutil.rmtree(root, ignore_errors=True)
    _write_configuration(lab, host, root)
    _write_keys(lab, root)
    _choose_units(root / "etc/systemd/system")


def _write_mounts(lab: Lab, host: str) -> None:
    mounts = {
        lab.share_dir: lab.share_dir,
        lab.console_dir(host): lab.guest_console_dir,
        # libvirt asks an emulator again when its file changed or the cache is empty: 10 s.
        lab.cache_dir / "libvirt" / f"{lab.lab_id}-{host}": Path("/var/cache/libvirt"),
        guest_kit.cached_emulator(lab).parent: Path("/mnt/guest-kit"),
        **{lab.host_dir(host) / f"disk{path}": Path(path) for path in KEPT},
    }
    for source in mounts:
        source.mkdir(parents=True, exist_ok=True)
    for path in KEPT:
        (lab.host_dir(host) / f"disk{path}").chmod(0o700)
    lines = [f"hostfs {source} {target}" for source, target in mounts.items()]
    lines.append(f"bind /mnt/guest-kit/{guest_kit.EMULATOR} {lab.share_dir / guest_kit.EMULATOR}")
    (lab.host_dir(host) / "mounts").write_text("\n".join(lines) + "\n")


def _write_configuration(lab: Lab, host: str, root: Path) -> None:
    machine_id = lab.machine_id_of(host)
    values = {"address": lab.address_of(host), "libvirt_uuid": str(uuid.UUID(machine_id))}
    for source in sorted((SOURCES / "files").rglob("*")):
        if source.is_file():
            _write(root / source.relative_to(SOURCES / "files"), string.Template(source.read_text()).substitute(values))
    _write(root / "etc/hostname", f"{host}\n")
    _write(root / "etc/hosts", lab.etc_hosts())
    _write(root / "etc/machine-id", f"{machine_id}\n")
    _write(root / "etc/iscsi/initiatorname.iscsi", f"InitiatorName={lab.initiator_of(host)}\n", mode=0o600)


def _write_keys(lab: Lab, root: Path) -> None:
    _write(root / "root/.ssh/authorized_keys", keys.ensure_key(lab), mode=0o600)
    _write(root / "root/.ssh/id_ed25519", lab.ssh_key.read_text(), mode=0o600)
    _write(root / "root/.ssh/config", keys.CLIENT_CONFIG, mode=0o600)
    # sshd refuses keys in directories that others may write to.
    for directory in (root / "root", root / "root/.ssh"):
        directory.chmod(0o700)
    (root / "etc/ssh").mkdir(exist_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / "etc/ssh/ssh_host_ed25519_key"])


def _choose_units(units: Path) -> None:
    """No console logins, timers and one-time services: a host boots in half the time."""
    for name in (SOURCES / "masked-units.txt").read_text().split():
        (units / name).symlink_to("/dev/null")
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    for target, unit in ENABLED.items():
        (units / f"{target}.wants").mkdir()
        (units / f"{target}.wants" / unit).symlink_to(f"/lib/systemd/system/{unit}")


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
