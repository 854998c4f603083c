# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""What the source host sees of the domain on both hosts, in bounded time.

The source is blind in exactly the faults that matter, so this is told to the operator, but it never
permits to undo anything. That decision is made over each host's own connection.
"""

from __future__ import annotations

import threading
import typing as t
from dataclasses import dataclass

from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.connection import Connection, LibvirtError, open_connection
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.domain import no_job, read_job, read_state
from ansible_collections.lunshift.migration.plugins.module_utils._libvirt.names import DomainState

# A daemon that was just started looks at every emulator before its first answer.
LOOK_TIMEOUT_S = 15.0
Opener = t.Callable[[str, float], Connection]


@dataclass(frozen=True)
class View:
    """One host's say about one domain.

    ``exists`` is None when the host could not be asked; then ``problem`` says why, and ``hangs`` whether it gave no answer at all.
    """

    exists: bool | None
    name: str | None = None
    uuid: str | None = None
    state: DomainState | None = None
    persistent: bool = False
    job: t.Mapping[str, t.Any] | None = None
    switchover: t.Mapping[str, t.Any] | None = None
    problem: str | None = None
    hangs: bool = False

    @property
    def active(self) -> bool:
        return self.state is not None and self.state.active

    def to_dict(self) -> dict[str, t.Any]:
        """The same keys as domain_info returns."""
        return {
            "exists": self.exists,
            "name": self.name,
            "uuid": self.uuid,
            "state": self.state.to_dict() if self.state else None,
            "persistent": self.persistent,
            "job": self.job,
            "switchover": self.switchover,
            "problem": self.problem,
        }

    def __str__(self) -> str:
        if self.exists is None:
            return f"unknown ({self.problem})"
        return str(self.state) if self.exists else "no such domain"


def view(connection: Connection, name: str | None, uuid: str | None) -> View:
    """Look for the domain by its UUID first: another domain may have its name."""
    return connection.call(lambda: _view(connection, name, uuid))


def _view(connection: Connection, name: str | None, uuid: str | None) -> View:
    handle = connection.find(None, uuid) if uuid else None
    if handle is None and name:
        handle = connection.find(name, None)
    absent = View(exists=False, name=name, uuid=uuid)
    if handle is None:
        return absent
    try:
        state = read_state(connection, handle)
        return View(
            exists=True,
            name=str(connection.translate(handle.name)),
            uuid=str(connection.translate(handle.UUIDString)),
            state=state,
            persistent=bool(connection.translate(handle.isPersistent)),
            job=read_job(connection, handle) if state.active else no_job(),
        )
    except LibvirtError as exc:
        if exc.code == connection.api.VIR_ERR_NO_DOMAIN:
            return absent  # It went away while it was read.
        raise


def look(uri: str, name: str | None, uuid: str | None, opener: Opener = open_connection) -> View:
    """Over a connection of its own; a host that cannot be asked is an answer too."""
    try:
        connection = opener(uri, LOOK_TIMEOUT_S)
        try:
            return view(connection, name, uuid)
        finally:
            connection.close()
    except MigrationError as exc:
        return View(exists=None, name=name, uuid=uuid, problem=str(exc), hangs=bool(exc.details.get("timed_out")))


def look_at_both(uri: str, destination_uri: str, name: str, uuid: str, opener: Opener = open_connection) -> tuple[View, View]:
    """Source and destination, at the same time: either may take long."""
    views: dict[str, View] = {}

    def ask(side: str, address: str) -> None:
        views[side] = look(address, name, uuid, opener)

    threads = [threading.Thread(target=ask, args=arguments) for arguments in (("source", uri), ("destination", destination_uri))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return views["source"], views["destination"]


__all__ = ("View", "look", "look_at_both", "view")
