# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of the machine's apt sources the lab's root file system is made from."""

from __future__ import annotations

from pathlib import Path

from lunshift_lab import rootfs

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
OTHER_KEY = "/etc/apt/keyrings/other.asc"


def _write(directory: Path, lines: str = "", stanzas: str = "") -> None:
    (directory / "sources.list.d").mkdir()
    (directory / "sources.list").write_text(lines)
    (directory / "sources.list.d" / "more.sources").write_text(stanzas)


def test_one_line_sources(tmp_path: Path) -> None:
    _write(
        tmp_path,
        lines=f"""
# deb http://commented/debian bookworm main
deb-src http://source/debian bookworm main
deb http://one/debian bookworm main contrib  # the mirror next door
deb [ arch=amd64 signed-by={KEYRING} ] http://two/debian bookworm-updates main
""",
    )
    assert rootfs.apt_sources(tmp_path) == [
        rootfs.AptSource("http://one/debian", "bookworm", ("main", "contrib"), ""),
        rootfs.AptSource("http://two/debian", "bookworm-updates", ("main",), KEYRING),
    ]


def test_stanzas_with_several_values_comments_and_switched_off(tmp_path: Path) -> None:
    _write(
        tmp_path,
        stanzas=f"""Types: deb deb-src
URIs: http://one/debian
 http://two/debian
# Suites: trixie
Suites: bookworm bookworm-security
Components: main
Signed-By: {KEYRING}

Enabled: no
Types: deb
URIs: http://off/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source/debian
Suites: bookworm
Components: main
""",
    )
    found = [(source.uri, source.suite) for source in rootfs.apt_sources(tmp_path)]
    both = ("bookworm", "bookworm-security")
    assert found == [(uri, suite) for uri in ("http://one/debian", "http://two/debian") for suite in both]


def test_only_debians_own_archives_count() -> None:
    def is_debian(suite: str, component: str, signed_by: str) -> bool:
        return rootfs.AptSource("http://any", suite, (component,), signed_by).is_debian

    assert is_debian("bookworm", "main", KEYRING)
    assert is_debian("bookworm-security", "main", "")
    # Other archives use Debian's names for their suites.
    assert not is_debian("bookworm", "main", OTHER_KEY)
    assert not is_debian("bookworm", "stable", "")
    assert not is_debian("trixie", "main", KEYRING)
    assert not is_debian(
        "bookworm", "main", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQENBFit/abc=\n -----END PGP PUBLIC KEY BLOCK-----"
    )
