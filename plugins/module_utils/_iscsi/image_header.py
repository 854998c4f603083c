# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""Whether an image on a volume stands on another one, which only its header names.

libvirt does not read headers over iSCSI, so it does not know; QEMU on the destination would follow the header to the source's target.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._iscsi import fingerprint, probe
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.sysfs import Lun

_QCOW2_MAGIC = b"QFI\xfb"


def names_backing_image(head: bytes) -> bool | None:
    """Of a qcow2 image by its first bytes; None for anything else."""
    if not head.startswith(_QCOW2_MAGIC) or len(head) < 16:
        return None
    # The header says at which offset the name of the other image stands; 0 when there is none.
    return any(head[8:16])


def read(
    attached: t.Mapping[str, Lun],
    questions: t.Sequence[probe.Question],
    identities: t.Mapping[str, Identity],
    *,
    root: str = "/",
    read_by_session: t.Callable[..., t.Mapping[str, probe.Answer]] = probe.read_heads,
) -> dict[str, bool | None]:
    """The same for volumes by serial: ``attached`` ones by their devices, those of ``questions`` by sessions."""
    heads = {serial: _head_of_device(lun, root) for serial, lun in attached.items()}
    heads.update((serial, answer.head or b"") for serial, answer in read_by_session(questions, identities).items())
    return {serial: names_backing_image(head) for serial, head in heads.items()}


def _head_of_device(lun: Lun, root: str) -> bytes:
    device = lun.multipath.device if lun.multipath else f"/dev/{lun.node}"
    try:
        with fingerprint.DirectReader(os.path.join(root, device.lstrip("/"))) as read_block:
            return read_block(0)
    except OSError:
        return b""


__all__ = ("names_backing_image", "read")
