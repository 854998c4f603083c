# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One instance's certificate authority, and a certificate for each namespace host.

A certificate names its host and the host's address on the lab's bridge, but not its address in the migration network.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from .context import Lab
from .process import run

DAYS = "30"
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """What a host needs, as PEM."""

    authority: str
    certificate: str
    key: str = field(repr=False)


def ensure(lab: Lab, host: str) -> None:
    """Make the authority and the host's certificate once."""
    directory = _directory(lab)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority, key = directory / "ca.pem", directory / "ca.key"
    if not authority.exists():
        subject = ["-subj", f"/CN=lunshift-lab-{lab.lab_id}", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        _openssl("req", "-x509", *NEW_KEY, "-days", DAYS, *subject, "-keyout", key, "-out", authority)
    if (directory / f"{host}.pem").exists():
        return
    extensions = directory / f"{host}.ext"
    extensions.write_text(
        f"subjectAltName=DNS:{host},IP:{lab.address_of(host)}\n"
        "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage=serverAuth,clientAuth\n"
    )
    request = directory / f"{host}.csr"
    _openssl("req", *NEW_KEY, "-subj", f"/CN={host}", "-keyout", directory / f"{host}.key", "-out", request)
    signed_by: list[str | Path] = ["-CA", authority, "-CAkey", key, "-CAcreateserial", "-days", DAYS]
    _openssl("x509", "-req", "-in", request, *signed_by, "-extfile", extensions, "-out", directory / f"{host}.pem")


def read(lab: Lab, host: str) -> Certificates:
    directory = _directory(lab)
    return Certificates(
        authority=(directory / "ca.pem").read_text(),
        certificate=(directory / f"{host}.pem").read_text(),
        key=(directory / f"{host}.key").read_text(),
    )


def _openssl(*arguments: str | Path) -> None:
    # Keys are born without rights for others.
    before = os.umask(0o077)
    try:
        run(["openssl", *arguments])
    finally:
        os.umask(before)


def _directory(lab: Lab) -> Path:
    return lab.state_dir / "pki"
