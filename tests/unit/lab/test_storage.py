# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lab reads from tgtd (recorded), and the numbers of its LUNs."""

from __future__ import annotations

import pytest
from lunshift_lab import kernel_initiator, storage

LISTING = """\
Target 1: iqn.2026-11.lab.lunshift:hosta
    System information:
        Driver: iscsi
        State: ready
    I_T nexus information:
        I_T nexus: 1
            Initiator: iqn.2026-11.lab.lunshift.initiator:hosta alias: none
            Connection: 0
                IP Address: 10.78.1.11
    LUN information:
        LUN: 0
            Type: controller
            SCSI ID: IET     00010000
            SCSI SN: beaf10
            Size: 0 MB, Block size: 1
            Online: Yes
            Backing store type: null
            Backing store path: None
            Backing store flags:
        LUN: 271
            Type: disk
            SCSI ID: fad833679f7955b3
            SCSI SN: LSLba16602ab5aa
            Size: 67 MB, Block size: 512
            Online: Yes
            Backing store type: rdwr
            Backing store path: /lab/storage/volumes/vol1.img
            Backing store flags:
    Account information:
        joe
    ACL information:
        iqn.2026-11.lab.lunshift.initiator:hosta
"""


def test_a_listing_of_tgtd_is_read() -> None:
    assert storage._parse_targets(LISTING) == [
        {
            "tid": 1,
            "iqn": "iqn.2026-11.lab.lunshift:hosta",
            "luns": [
                {
                    "target_lun": 271,
                    "lun": 16655,
                    "type": "disk",
                    "scsi_id": "fad833679f7955b3",
                    "scsi_sn": "LSLba16602ab5aa",
                    "online": "Yes",
                    "backing_store": "/lab/storage/volumes/vol1.img",
                    "volume": "vol1",
                }
            ],
            "acl": ["iqn.2026-11.lab.lunshift.initiator:hosta"],
            "accounts": ["joe"],
        }
    ]


@pytest.mark.parametrize(
    ("target_lun", "lun", "name"), [(1, 1, "1"), (255, 255, "255"), (256, 16640, "0x4100000000000000"), (271, 16655, "0x410f000000000000")]
)
def test_a_lun_above_255_has_three_names(target_lun: int, lun: int, name: str) -> None:
    assert storage.initiator_lun(target_lun) == lun
    path = kernel_initiator.device({"target_portal": "10.78.1.2:3260", "target_iqn": "iqn.2026-11.lab:x", "target_lun": lun}, None)
    assert path == f"/dev/disk/by-path/ip-10.78.1.2:3260-iscsi-iqn.2026-11.lab:x-lun-{name}"
