# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What guests are made of: Debian's cloud kernel, an initramfs with one program, and the emulator.

Made once, kept in the cache directory, and copied to the share that every host sees.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import tempfile
from pathlib import Path

from .context import Lab, LabError
from .process import run

KERNEL, INITRAMFS, EMULATOR = "vmlinuz", "initramfs", "qemu-system-lab"
META_PACKAGE = "linux-image-cloud-amd64"
SOURCES = Path(__file__).resolve().parent / "guest"
# In the order in which they need each other.
MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"),
    *("scsi_common", "scsi_mod", "sd_mod", "virtio_scsi"),
)
COMPILER = ("gcc", "-O2", "-static", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-pthread")


def ensure(lab: Lab) -> None:
    """Build what is missing in the cache, and put it on the share."""
    kit = _kit(lab)
    kit.parent.mkdir(parents=True, exist_ok=True)
    with (kit.parent / "lock").open("w") as lock:
        # Instances with other ids use the same cache.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kit / "complete").exists():
            _build(kit)
    lab.share_dir.mkdir(parents=True, exist_ok=True)
    lab.share_dir.chmod(0o755)
    lab.state_dir.chmod(0o755)
    for name in (KERNEL, INITRAMFS, EMULATOR):
        if not (lab.share_dir / name).exists():
            shutil.copy(kit / name, lab.share_dir / name)


def cached_emulator(lab: Lab) -> Path:
    return _kit(lab) / EMULATOR


def _kit(lab: Lab) -> Path:
    """The cache's directory for exactly these sources."""
    digest = hashlib.sha256()
    for source in (*sorted(SOURCES.glob("*.c")), Path(__file__)):
        digest.update(source.read_bytes())
    return lab.cache_dir / "guest" / digest.hexdigest()[:16]


def _build(kit: Path) -> None:
    with tempfile.TemporaryDirectory(dir=kit.parent) as scratch_name:
        scratch = Path(scratch_name)
        package = _unpacked_kernel(kit.parent, scratch)
        made = scratch / "kit"
        made.mkdir()
        shutil.copy(next(package.glob("boot/vmlinuz-*")), made / KERNEL)
        run([*COMPILER, "-o", made / EMULATOR, SOURCES / "emulator.c"])
        _build_initramfs(package, scratch / "root", made / INITRAMFS)
        for path in made.iterdir():
            path.chmod(0o755 if path.name == EMULATOR else 0o644)
        (made / "complete").touch()
        if kit.exists():
            shutil.rmtree(kit)
        made.rename(kit)


def _build_initramfs(package: Path, root: Path, result: Path) -> None:
    (root / "modules").mkdir(parents=True)
    (root / "dev").mkdir()
    run([*COMPILER, "-o", root / "init", SOURCES / "init.c"])
    for number, name in enumerate(MODULES):
        found = list(package.glob(f"lib/modules/*/kernel/drivers/**/{name}.ko"))
        if not found:
            raise LabError(f"Debian's cloud kernel has no module {name}; the lab's list of modules needs a look")
        shutil.copy(found[0], root / "modules" / f"{number:02}.ko")
    run(["sh", "-c", 'cd "$0" && find . | cpio --quiet -o -H newc -R 0:0 >"$1"', root, result])


def _unpacked_kernel(packages: Path, scratch: Path) -> Path:
    """The kernel package's files. The package itself is kept, so that other sources need no second download."""
    kept = sorted(packages.glob("linux-image-*.deb"))
    if not kept:
        match = re.search(r"Depends: (linux-image-\S+)", run(["apt-cache", "depends", META_PACKAGE], check=False))
        if match is None:
            raise LabError(f"apt knows no {META_PACKAGE}; run 'apt-get update' with Debian's main archive in the sources")
        # apt downloads into the current directory, as the user _apt if that user may write there.
        run(["env", "-C", scratch, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", match[1]])
        kept = [Path(shutil.move(next(scratch.glob("*.deb")), packages))]
    unpacked = scratch / "package"
    run(["dpkg-deb", "-x", kept[-1], unpacked])
    return unpacked
