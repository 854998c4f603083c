# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What rbd_image would do, does, and refuses, on a cluster in memory."""

from __future__ import annotations

import errno
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError, MigrationError
from ansible_collections.lunshift.migration.plugins.module_utils._volume import rbd_image
from ansible_collections.lunshift.migration.plugins.module_utils._volume.ceph_calls import CephError
from ansible_collections.lunshift.migration.plugins.module_utils._volume.librbd import Snapshot, Watcher
from ansible_collections.lunshift.migration.plugins.module_utils._volume.rbd_image import ImageState, RbdImage, Wanted, plan, problems_of

MIB = 1 << 20
KEY = "AQBpZ2hqAAAAABAA1dFgzKr1nDBJbRzVUZTN0A=="
ALL = ("layering", "exclusive-lock", "object-map", "fast-diff")
FOUND = ImageState("1", MIB, ALL)


def info(name: str = "volumes/web1", **beside: t.Any) -> dict[str, t.Any]:
    data = {"name": name, "hosts": ["192.0.2.1"], "auth_username": "lab", "keyring": f"[client.lab]\n\tkey = {KEY}\n"}
    return {"driver_volume_type": "rbd", "data": data, **beside}


class Cluster:
    """A pool of images; ``refuse`` is what the next call to its library says."""

    def __init__(self) -> None:
        self.images: dict[str, ImageState] = {}
        self.refuse = 0
        self.open = 0

    def connect(self, _connection: t.Any, _timeout_s: int) -> Cluster:
        self.open += 1
        return self

    def open_pool(self, name: str, _namespace: str) -> Cluster:
        if name != "volumes":
            raise CephError("rados_ioctx_create", errno.ENOENT)
        self.open += 1
        return self

    def pool_names(self) -> list[str]:
        return ["volumes", "rbd"]

    def close(self) -> None:
        self.open -= 1

    def create(self, _pool: t.Any, name: str, size_bytes: int, features: int | None) -> None:
        if self.refuse:
            raise CephError("rbd_create4", self.refuse)
        given = tuple(feature for feature, bit in rbd_image.FEATURES.items() if features is None or features & bit)
        self.images[name] = ImageState("new", size_bytes, given)

    def remove(self, _pool: t.Any, name: str) -> None:
        del self.images[name]


class Image:
    """An open image of the cluster, which is its own pool."""

    def __init__(self, pool: Cluster, name: str, *, writable: bool) -> None:
        if name not in pool.images:
            raise CephError("rbd_open", errno.ENOENT)
        self.pool, self.name, self.writable = pool, name, writable
        pool.open += 1

    @property
    def state(self) -> ImageState:
        return self.pool.images[self.name]

    def image_id(self) -> str:
        return self.state.id

    def sizes(self) -> tuple[int, int]:
        return self.state.size_bytes, 4 * MIB

    def features(self) -> int:
        return sum(rbd_image.FEATURES[name] for name in self.state.features)

    def snapshots(self) -> list[Snapshot]:
        return [Snapshot(number, name) for number, name in enumerate(self.state.snapshots)]

    def is_protected(self, snapshot: str) -> bool:
        return snapshot in self.state.protected

    def watchers(self) -> list[Watcher]:
        return [Watcher(number, address) for number, address in enumerate(self.state.users)]

    def set(self, **values: t.Any) -> None:
        assert self.writable
        self.pool.images[self.name] = replace(self.state, **values)

    def grow(self, size_bytes: int) -> None:
        self.set(size_bytes=size_bytes)

    def set_features(self, bits: int, *, enabled: bool) -> None:
        after = self.features() | bits if enabled else self.features() & ~bits
        self.set(features=tuple(name for name, bit in rbd_image.FEATURES.items() if after & bit))

    def create_snapshot(self, name: str) -> None:
        self.set(snapshots=(*self.state.snapshots, name))

    def remove_snapshot(self, name: str) -> None:
        self.set(snapshots=tuple(other for other in self.state.snapshots if other != name))

    def close(self) -> None:
        self.pool.open -= 1


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Cluster]:
    there = Cluster()
    monkeypatch.setattr(rbd_image, "connect", there.connect)
    monkeypatch.setattr(rbd_image, "ManagedImage", Image)
    monkeypatch.setattr(rbd_image, "create_image", there.create)
    monkeypatch.setattr(rbd_image, "remove_image", there.remove)
    yield there
    assert there.open == 0, "everything that was opened is closed"


def run(wanted: Wanted, *, check_mode: bool = False, **beside: t.Any) -> dict[str, t.Any]:
    return RbdImage(info(**beside), wanted, 5).run(check_mode=check_mode)


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        (None, Wanted(True, MIB, ALL)),
        (None, Wanted(True, MIB, ALL, "s1")),
        (FOUND, Wanted(True, 2 * MIB, (*ALL, "journaling"), "s1")),
        (replace(FOUND, features=("layering", "deep-flatten")), Wanted(True, None, ALL)),
        (FOUND, Wanted(True, None, ("layering",))),
        (replace(FOUND, snapshots=("s1", "s2")), Wanted(False, snapshot="s1")),
        (FOUND, Wanted(False)),
    ],
)
def test_check_mode_says_what_a_run_does_and_a_second_run_does_nothing(cluster: Cluster, before: ImageState | None, wanted: Wanted) -> None:
    if before:
        cluster.images["web1"] = before
    told = run(wanted, check_mode=True)
    assert cluster.images == ({"web1": before} if before else {})
    done = run(wanted)
    assert told["changed"] and done["changed"] and told["actions"] == done["actions"]
    if done["image"] and told["image"]:
        assert {**told["image"], "id": done["image"]["id"]} == done["image"]
    else:
        assert told["image"] is done["image"] is None and not cluster.images
    again = run(wanted)
    assert not again["changed"] and again["actions"] == [] and again["image"] == done["image"]


def test_without_features_the_cluster_chooses_and_they_stay(cluster: Cluster) -> None:
    assert run(Wanted(True, MIB))["image"]["features"] == list(rbd_image.FEATURES)
    assert not run(Wanted(True, MIB))["changed"] and not run(Wanted(True))["changed"]


def test_every_problem_is_told_at_once() -> None:
    _changes, problems = plan("rbd p/i", Wanted(True, MIB // 2, ("exclusive-lock", "deep-flatten")), FOUND)
    assert len(problems) == 3 and "smaller" in problems[0] and "deep-flatten cannot be enabled" in problems[1]
    assert "layering cannot be disabled" in problems[2]
    _changes, problems = plan("rbd p/i", Wanted(False), replace(FOUND, snapshots=("s1",), users=("client.1 at x has it open",)))
    assert len(problems) == 2
    assert plan("rbd p/i", Wanted(True), None)[1] == ["rbd p/i is not there, and without size_bytes it cannot be made"]


@pytest.mark.parametrize(
    ("before", "wanted", "words"),
    [
        (replace(FOUND, snapshots=("s1",)), Wanted(False), "has snapshots"),
        (replace(FOUND, users=("192.0.2.9:0/1",)), Wanted(False), "client.0 at 192.0.2.9:0/1 has it open"),
        (replace(FOUND, snapshots=("s1",), protected=("s1",)), Wanted(False, snapshot="s1"), "protected"),
        (FOUND, Wanted(True, MIB - 1), "not made smaller"),
    ],
)
@pytest.mark.parametrize("check_mode", [True, False])
def test_what_holds_data_stays(cluster: Cluster, before: ImageState, wanted: Wanted, words: str, check_mode: bool) -> None:
    cluster.images["web1"] = before
    with pytest.raises(MigrationError, match=words) as caught:
        run(wanted, check_mode=check_mode)
    assert caught.value.error_id == "rbd_image_refused" and cluster.images == {"web1": before}


def test_a_snapshot_is_named_by_either_and_never_by_both(cluster: Cluster) -> None:
    cluster.images["web1"] = FOUND
    made = run(Wanted(True, snapshot="s1"))
    assert made["connection_info"]["ceph"] == {"snapshot": "s1"}
    for named in ({"name": "volumes/web1@s1"}, {"ceph": {"snapshot": "s1"}}):
        assert not run(Wanted(True), **named)["changed"]
    # Never the image instead of its snapshot.
    assert run(Wanted(False), name="volumes/web1@s1")["actions"] == ["remove snapshot s1 of rbd volumes/web1"]
    assert "web1" in cluster.images
    with pytest.raises(InputError, match="has the snapshot s1, and snapshot is s2"):
        run(Wanted(True, snapshot="s2"), name="volumes/web1@s1")


def test_bad_input_is_told_at_once_and_without_the_key() -> None:
    bad = {**info("web1"), "driver_volume_type": "iscsi"}
    with pytest.raises(InputError) as caught:
        RbdImage(bad, Wanted(True, 0, ("fast-diff", "journaling")), 5).run(check_mode=False)
    assert len(caught.value.details["problems"]) == 5 and KEY not in str(caught.value)
    assert problems_of(Wanted(True, 1, ALL)) == []


def test_nothing_that_is_told_holds_the_key(cluster: Cluster) -> None:
    assert KEY not in str(run(Wanted(True, MIB)))


def test_a_failure_of_the_library_is_explained(cluster: Cluster) -> None:
    cluster.refuse = errno.EPERM
    with pytest.raises(MigrationError, match="profile rbd") as caught:
        run(Wanted(True, MIB))
    assert caught.value.error_id == "rbd_image_failed"


def test_a_pool_that_is_not_there_is_told_with_those_that_are(cluster: Cluster) -> None:
    with pytest.raises(MigrationError, match="no pool vols; there are: volumes, rbd") as caught:
        run(Wanted(True, MIB), name="vols/web1")
    assert caught.value.error_id == "volume_not_found"
