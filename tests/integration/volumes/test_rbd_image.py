# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""RBD images made, changed and removed on a real cluster, looked at by Ceph's own command."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.opening import How, close_volume, open_volume
from ansible_collections.lunshift.migration.plugins.module_utils._volume.rbd_image import RbdImage, Wanted
from clusters import POOL, Cluster

MIB = 1 << 20
NAME = "managed"


def run(cluster: Cluster, wanted: Wanted, *, check_mode: bool = False, **beside: t.Any) -> dict[str, t.Any]:
    return RbdImage(cluster.info(NAME, **beside), wanted, 10).run(check_mode=check_mode)


def told(cluster: Cluster) -> dict[str, t.Any]:
    return json.loads(cluster.rbd("info", "--format", "json", f"{POOL}/{NAME}"))


@pytest.fixture
def absent(ceph1: Cluster) -> t.Iterator[None]:
    assert NAME not in ceph1.rbd("ls", POOL).split()
    yield
    if NAME in ceph1.rbd("ls", POOL).split():
        for snapshot in json.loads(ceph1.rbd("snap", "ls", "--format", "json", f"{POOL}/{NAME}")):
            if snapshot["protected"] == "true":
                ceph1.rbd("snap", "unprotect", f"{POOL}/{NAME}@{snapshot['name']}")
        ceph1.rbd("snap", "purge", f"{POOL}/{NAME}")
        ceph1.rbd("rm", f"{POOL}/{NAME}")


@pytest.mark.usefixtures("absent")
def test_from_nothing_to_nothing(ceph1: Cluster) -> None:
    assert run(ceph1, Wanted(True, 8 * MIB), check_mode=True)["changed"] and NAME not in ceph1.rbd("ls", POOL).split()
    made = run(ceph1, Wanted(True, 8 * MIB))
    seen = told(ceph1)
    assert (seen["size"], seen["id"], seen["features"]) == (8 * MIB, made["image"]["id"], made["image"]["features"])
    assert not run(ceph1, Wanted(True, 8 * MIB))["changed"]

    few = ("layering", "exclusive-lock", "deep-flatten")
    changed = run(ceph1, Wanted(True, 12 * MIB + 512, few, "s1"))
    assert (told(ceph1)["size"], set(told(ceph1)["features"])) == (12 * MIB + 512, set(few)) and changed["image"]["snapshots"] == ["s1"]
    many = ("layering", "exclusive-lock", "object-map", "fast-diff", "journaling")
    run(ceph1, Wanted(True, features=many))
    assert set(told(ceph1)["features"]) == set(many) and not run(ceph1, Wanted(True, features=many))["changed"]

    handle = open_volume(ceph1.info(NAME, ceph=changed["connection_info"]["ceph"]), How())
    assert handle.facts.immutable and handle.facts.size_bytes == 12 * MIB + 512
    close_volume(handle)

    assert run(ceph1, Wanted(False, snapshot="s1"))["changed"] and told(ceph1)["snapshot_count"] == 0
    assert run(ceph1, Wanted(False))["changed"] and NAME not in ceph1.rbd("ls", POOL).split()
    assert not run(ceph1, Wanted(False))["changed"]


@pytest.mark.usefixtures("absent")
def test_an_image_in_use_with_snapshots_stays(ceph1: Cluster) -> None:
    ceph1.create(NAME, 4 * MIB)
    ceph1.rbd("snap", "create", f"{POOL}/{NAME}@s1")
    ceph1.rbd("snap", "protect", f"{POOL}/{NAME}@s1")
    handle = open_volume(ceph1.info(NAME), How(writable=True))
    with pytest.raises(MigrationError, match=r"has snapshots .* is in use"):
        run(ceph1, Wanted(False))
    close_volume(handle)
    with pytest.raises(MigrationError, match="protected"):
        run(ceph1, Wanted(False, snapshot="s1"))
    with pytest.raises(MigrationError, match="not made smaller"):
        run(ceph1, Wanted(True, 4 * MIB - 1))
    assert (told(ceph1)["size"], told(ceph1)["snapshot_count"]) == (4 * MIB, 1)


def test_who_may_not_is_told_so(ceph1: Cluster) -> None:
    with pytest.raises(MigrationError, match="there is no pool none; there are: "):
        run(ceph1, Wanted(True, MIB), name="none/managed")
