# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""A volume behind iSCSI through the kernel's initiator: attached with its identity looked at, opened as a block device.

What an opening attaches, closing detaches, and no more: a volume that was attached before stays. What is made stands in the
operation's record until then, so a run that was killed leaves nothing that cannot be found (C(iscsi_volume), C(state=restored)). The
two sides of a copy share the operation's record, for they may share a session: whoever closes last ends it.
"""

from __future__ import annotations

import contextlib
import os
import typing as t
import uuid

from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import IscsiConnection
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.host import Host
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.identity import Identity
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.request import KERNEL, VolumeRequest
from ansible_collections.lunshift.migration.plugins.module_utils._iscsi.volumes import Call, attach_volumes, restore
from ansible_collections.lunshift.migration.plugins.module_utils._volume.block import open_block
from ansible_collections.lunshift.migration.plugins.module_utils._volume.handle import Backend, Extent, VolumeError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.kind import How
from ansible_collections.lunshift.migration.plugins.module_utils._volume.scsi_identity import name_behind_iscsi

# The record of all that this process opens without an operation.
_OWN_OPERATION = f"volumes-{uuid.uuid4().hex}"

_Open = t.Callable[..., Backend]


def open_kernel(
    connection: IscsiConnection,
    redacted_info: t.Mapping[str, t.Any],
    how: How,
    *,
    make_call: t.Callable[..., Call] = Call,
    open_device: _Open = open_block,
) -> IscsiKernelVolume:
    """Attach the volume and open its device; an error undoes the attachment."""
    first = connection.paths[0]
    name = f"LUN {first.lun} of {first.iqn} at portal {first.portal}"
    if os.geteuid() != 0:
        raise VolumeError(
            f"{name}: only root can attach a volume to the kernel; set become: true, or initiator: libiscsi in its connection info",
            error_id="not_root",
        )
    # Where a volume lies names it as well as its owner could, and is the same in the next run.
    serial = f"{first.iqn}-lun-{first.lun}"
    call = make_call(host=Host(), check_mode=False, timeout_s=how.timeout_s, operation_id=how.operation_id or _OWN_OPERATION)
    request = VolumeRequest(serial=serial, initiator=KERNEL, connection=connection, redacted_info=redacted_info)
    found = attach_volumes(call, [request]).volumes[serial]
    identity = name_behind_iscsi(connection, Identity.from_dict(found["identity"]))
    with contextlib.ExitStack() as undo:
        # What was attached already may be open for the other side of this operation. If a killed run left it, its record stays.
        if found["made"]:
            undo.callback(restore, call, {serial})
        device = open_device(found["device_path"], how, identity=identity, name=name)
        undo.pop_all()
    return IscsiKernelVolume(device, lambda: restore(call, {serial}))


class IscsiKernelVolume(Backend):
    """A block device and what has to be undone when it is closed."""

    def __init__(self, device: Backend, detach: t.Callable[[], object]) -> None:
        self._device = device
        self._detach = detach
        self.facts = device.facts

    def read_into(self, view: memoryview, offset: int) -> None:
        self._device.read_into(view, offset)

    def write_from(self, view: memoryview, offset: int) -> None:
        self._device.write_from(view, offset)

    def zero(self, offset: int, length: int) -> None:
        self._device.zero(offset, length)

    def extents(self, offset: int, length: int) -> t.Iterator[Extent]:
        return self._device.extents(offset, length)

    def flush(self) -> None:
        self._device.flush()

    def drop_caches(self) -> None:
        self._device.drop_caches()

    def users(self) -> list[str] | None:
        """Of this host. None when it has none, for what other initiators do cannot be known."""
        return self._device.users() or None

    def close(self) -> None:
        try:
            self._device.close()
        finally:
            self._detach()


__all__ = ("IscsiKernelVolume", "open_kernel")
