# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The root file system of User-Mode Linux hosts: Debian packages, unpacked once into the cache directory.

It is never written to afterwards. What makes a host of it lies over it; see uml_files.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import sys
import typing as t
from dataclasses import dataclass
from pathlib import Path

from .context import Lab, LabError
from .process import run

SOURCES = Path(__file__).resolve().parent / "uml"
RELEASE = "bookworm"
SUITES = (RELEASE, f"{RELEASE}-updates", f"{RELEASE}-security")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
APT_DIRECTORY = Path("/etc/apt")
# Nobody reads them there.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")


@dataclass(frozen=True)
class AptSource:
    """One archive of the machine, from either of apt's two forms. ``signed_by`` is empty for apt's default keys."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str

    @property
    def is_debian(self) -> bool:
        """Whether Debian itself signs it: other archives may carry Debian's suite names."""
        signer = Path(self.signed_by).name
        return self.suite in SUITES and "main" in self.components and (not signer or signer.startswith("debian-archive-"))


def ensure(lab: Lab) -> Path:
    """The directory of the root file system, built when there is none for exactly these inputs."""
    lines = debian_lines()
    packages = (SOURCES / "packages.txt").read_text().split()
    digest = hashlib.sha256("\n".join([*lines, *packages]).encode())
    for source in (SOURCES / "umlinit", Path(__file__)):
        digest.update(source.read_bytes())
    home = lab.cache_dir / "uml"
    result = home / f"rootfs-{digest.hexdigest()[:16]}"
    home.mkdir(parents=True, exist_ok=True)
    # The cache is shared by all instances.
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            print("lab: building the root file system of User-Mode Linux hosts (once, about a minute)", file=sys.stderr)
            _build(home / "building", lines, packages)
            (home / "building").rename(result)
    return result


def debian_lines() -> list[str]:
    """The machine's own Debian archives as one-line sources."""
    wanted = [source for source in apt_sources(APT_DIRECTORY) if source.is_debian]
    if not wanted:
        raise LabError(f"no apt source for Debian {RELEASE} (component main, signed by Debian) was found in {APT_DIRECTORY}")
    return [f"deb [signed-by={KEYRING}] {source.uri} {source.suite} main" for source in wanted]


def apt_sources(directory: Path) -> list[AptSource]:
    """Every archive of binary packages that apt is told of, in apt's order."""
    found: list[AptSource] = []
    for path in (directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))):
        if path.suffix == ".list" and path.exists():
            found += _from_lines(path.read_text())
        elif path.suffix == ".sources":
            found += _from_stanzas(path.read_text())
    return list(dict.fromkeys(found))


def _from_lines(text: str) -> t.Iterator[AptSource]:
    for line in text.splitlines():
        match = re.fullmatch(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)(?:#.*)?", line)
        if match:
            options = dict(option.partition("=")[::2] for option in (match[1] or "").split())
            yield AptSource(match[2], match[3], tuple(match[4].split()), options.get("signed-by", ""))


def _from_stanzas(text: str) -> t.Iterator[AptSource]:
    without_comments = re.sub(r"(?m)^#.*\n?", "", text)
    for stanza in re.split(r"\n\s*\n", without_comments):
        fields = {name.lower(): value for name, value in re.findall(r"(?m)^([\w-]+):((?:.*\n?)(?:[ \t].*\n?)*)", stanza)}
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").strip().lower() == "no":
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield AptSource(uri, suite, tuple(fields.get("components", "").split()), fields.get("signed-by", "").strip())


def _build(directory: Path, lines: t.Sequence[str], packages: t.Sequence[str]) -> None:
    # A build that was killed may have left mounts behind: nothing beyond them is touched.
    run(["rm", "-rf", "--one-file-system", directory])
    command: list[str | Path] = ["mmdebstrap", "--mode=root", "--format=directory", "--variant=minbase", f"--include={','.join(packages)}"]
    command += [f"--aptopt={option}" for option in ('APT::Install-Recommends "false"', *_proxies())]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    run([*command, RELEASE, directory, "-"], stdin="\n".join(lines) + "\n")
    shutil.copy(SOURCES / "umlinit", directory / "umlinit")
    (directory / "umlinit").chmod(0o755)
    (directory / "lib/modules").mkdir(exist_ok=True)
    for key in (directory / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    # libvirt asks every emulator what it can do; guests use one.
    (directory / "usr/bin/qemu-system-i386").unlink()


def _proxies() -> list[str]:
    """The machine's apt proxies, as options."""
    settings = run(["apt-config", "dump", "--no-empty", "--format", '%f "%v"%n', "Acquire"])
    return [line for line in settings.splitlines() if re.match(r"Acquire::https?(::.+)?::proxy ", line, re.IGNORECASE)]
