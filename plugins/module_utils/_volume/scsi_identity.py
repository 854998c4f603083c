# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""The one text that names a SCSI volume, by whatever initiator or path it is opened."""

from __future__ import annotations

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import IscsiConnection
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.multipath import wwid_of
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.session import kernel_luns


def own_name(seen: Identity) -> str | None:
    """What the volume says of itself; None when other volumes may say the same."""
    if seen.wwid_key:
        return f"wwid:{wwid_of(seen.wwid_key) or seen.wwid_key}"
    return f"serial:{':'.join(seen.serial_key)}" if seen.serial_key else None


def name_behind_iscsi(connection: IscsiConnection, seen: Identity) -> str:
    """Its own name, else its place: the first path of its connection info, with what it says of itself."""
    first = connection.paths[0]
    # Names of targets have no case (RFC 7143, 4.2.7.1), and a LUN number above 255 has two spellings.
    place = f"iscsi:{first.iqn.lower()}/{kernel_luns(first.lun)[0]}"
    return own_name(seen) or (f"{place}/{seen.wwid}" if seen.wwid else place)


__all__ = ("name_behind_iscsi", "own_name")
