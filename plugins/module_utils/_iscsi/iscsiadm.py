# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The four things that open-iscsi's tool is asked to do, and what its exit codes mean."""

from __future__ import annotations

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._command import RC_NOT_FOUND, RC_TIMED_OUT, CommandResult
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import node_record
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.session import Target

# enum iscsi_err of open-iscsi: the ones with a remedy of their own.
RC_SESSION_EXISTS = 15
RC_NO_RECORD = 21
_SESSION_NOT_FOUND = 2
_SYSFS_LOOKUP = 22
_MEANING = {
    4: "the connection to the portal failed; check address, port, route and firewall",
    5: "the target refused the login; read the target's log",
    6: "open-iscsi's database of nodes cannot be read or written; check its directory and free space",
    8: "the portal did not answer in time; check address, port, route and firewall, and that the target is running",
    11: "the target accepted the connection but did not answer in time; read the target's log",
    13: "permission denied; run this as root (become: true)",
    18: "iscsid did not answer; check that the service iscsid runs and that the modules iscsi_tcp and scsi_transport_iscsi load",
    19: (
        "the target refused the login for good, or did not prove itself by auth_password_in; check that it exists at this portal and that"
        " its ACL allows this host's initiator name"
    ),
    20: "iscsid is not running; start the service iscsid",
    24: "the target refused this host; check auth_username and auth_password, and that its ACL has this host's initiator name and address",
    28: "the session is busy; look for other users of its devices",
    RC_NOT_FOUND: "install the package open-iscsi (Debian) or iscsi-initiator-utils (RHEL)",
    RC_TIMED_OUT: "raise 'timeout' or check the portal",
}
_SHORT_S = 30.0


def create_node(host: Host, target: Target) -> list[str]:
    """Make the node record. An existing one would be reset to defaults: look first."""
    return _checked(host, target, [*_node(target), "--op", "new"], _SHORT_S)


def login(host: Host, target: Target, timeout_s: float) -> list[str]:
    # A session that appeared meanwhile is what was wanted.
    return _checked(host, target, [*_node(node_record.as_recorded(host, target)), "--login"], timeout_s, accepted=(RC_SESSION_EXISTS,))


def logout(host: Host, target: Target, sid: int, timeout_s: float) -> list[str]:
    argv = ["iscsiadm", "-m", "session", "-r", str(sid), "--logout"]
    return _checked(host, target, argv, timeout_s, accepted=(_SESSION_NOT_FOUND, RC_NO_RECORD, _SYSFS_LOOKUP))


def delete_node(host: Host, target: Target) -> list[str]:
    return _checked(host, target, [*_node(node_record.as_recorded(host, target)), "--op", "delete"], _SHORT_S, accepted=(RC_NO_RECORD,))


def _node(target: Target) -> list[str]:
    return ["iscsiadm", "-m", "node", "-T", target.iqn, "-p", target.portal, "-I", "default"]


def _checked(host: Host, target: Target, argv: list[str], timeout_s: float, accepted: t.Sequence[int] = ()) -> list[str]:
    """Run it and return what was run."""
    result = host.run(argv, timeout_s)
    if result.rc and result.rc not in accepted:
        raise MigrationError(f"{target}: {explain(argv, result)}", error_id="iscsiadm_failed")
    return argv


def explain(argv: t.Sequence[str], result: CommandResult) -> str:
    """One sentence with command, cause and remedy."""
    said = " ".join(result.stderr.split())
    meaning = _MEANING.get(result.rc)
    sentence = f"'{' '.join(argv)}' ended with {result.rc}"
    return f"{sentence}: {meaning}" + (f" (it said: {said})" if said else "") if meaning else f"{sentence}: {said or 'it said nothing'}"


__all__ = ("RC_NO_RECORD", "RC_SESSION_EXISTS", "create_node", "delete_node", "explain", "login", "logout")
