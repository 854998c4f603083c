#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rbd_image
short_description: Make or remove an RBD image of Ceph, or a snapshot of one
version_added: 0.2.0
author: The lunshift.migration authors (@lunshift)
description:
  - Makes an image that a volume is to be copied to, or a snapshot that one is to be copied from, by the same connection info that
    M(lunshift.migration.volume_copy) takes. No device is mapped, and nothing is read from C(/etc/ceph) that is not named.
  - An image is never made smaller, and never removed while it has snapshots or while a client has it open.
extends_documentation_fragment:
  - lunshift.migration.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: linux
requirements:
  - librbd1 and librados2
options:
  connection_info:
    description:
      - Where the image is and who asks, in the form that Cinder gives it. C(data.name) is C(POOL/IMAGE) or C(POOL/NAMESPACE/IMAGE).
      - The key is given as C(data.keyring), the text of a keyring file, or as C(ceph.keyring_path), the path of one on this host.
      - A snapshot that it names (C(ceph.snapshot) or C(data.name) with C(@SNAPSHOT)) counts as O(snapshot).
    type: dict
    required: true
  state:
    description:
      - V(present) makes what is not there, and grows an image that is smaller than O(size_bytes).
      - V(absent) removes the image; with O(snapshot), only that snapshot.
    type: str
    choices: [present, absent]
    default: present
  size_bytes:
    description: Size of the image. Needed to make one.
    type: int
  features:
    description:
      - What the image is to have of these features; by default the cluster's choice when it is made, and what it has later.
      - V(object-map) and V(fast-diff) go together and need V(exclusive-lock), as V(journaling) does. With them a copy knows what an image
        holds without reading it.
    type: list
    elements: str
    choices: [layering, exclusive-lock, object-map, fast-diff, deep-flatten, journaling]
  snapshot:
    description: A snapshot of the image.
    type: str
  timeout:
    description: Seconds that the cluster may take to answer each question.
    type: int
    default: 30
seealso:
  - module: lunshift.migration.volume_copy
"""

EXAMPLES = r"""
- name: Make an image as large as the volume that is to be copied to it
  lunshift.migration.rbd_image:
    connection_info: "{{ target }}"
    size_bytes: "{{ source.facts.size_bytes }}"
  vars:
    target:
      driver_volume_type: rbd
      data:
        name: volumes/web1
        hosts: [192.0.2.31, 192.0.2.32, 192.0.2.33]
        auth_username: migration
      ceph:
        keyring_path: /etc/ceph/ceph.client.migration.keyring

- name: Make a snapshot, which cannot change while it is copied
  lunshift.migration.rbd_image:
    connection_info: "{{ web1 }}"
    snapshot: before-move
  register: frozen

- name: Remove the image
  lunshift.migration.rbd_image:
    connection_info: "{{ web1 }}"
    state: absent
"""

RETURN = r"""
image:
  description: The image as it is now, or in check mode would be; V(null) when it is not there.
  returned: success
  type: dict
  contains:
    id:
      description: What tells it from every other image of the pool, empty in check mode for one that would be made.
      type: str
    size_bytes:
      description: Its size.
      type: int
    features:
      description: What it has of the features that can be chosen.
      type: list
      elements: str
    snapshots:
      description: Its snapshots.
      type: list
      elements: str
    protected:
      description: The snapshots that are protected, because clones may stand on them.
      type: list
      elements: str
connection_info:
  description: What leads to the image or the snapshot, without its key.
  returned: success
  type: dict
actions:
  description: What was done, or in check mode would be done, one sentence each.
  returned: success
  type: list
  elements: str
error_id:
  description: >-
    What kind of failure it was, for example V(rbd_image_refused), V(rbd_image_failed), V(volume_not_found), V(ceph_unreachable),
    V(ceph_authentication) or V(librbd_missing).
  returned: failure
  type: str
problems:
  description: Each problem as one sentence.
  returned: failure, when there can be several
  type: list
  elements: str
"""

from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run
from ansible_collections.lunshift.migration.plugins.module_utils._volume.rbd_image import RbdImage, Wanted


def main() -> None:
    module = make_module(
        {
            "connection_info": {"type": "dict", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "size_bytes": {"type": "int"},
            "features": {
                "type": "list",
                "elements": "str",
                "choices": ["layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten", "journaling"],
            },
            "snapshot": {"type": "str"},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = Wanted(
        present=params["state"] == "present",
        size_bytes=params["size_bytes"],
        features=None if params["features"] is None else tuple(params["features"]),
        snapshot=params["snapshot"],
    )
    job = RbdImage(params["connection_info"], wanted, params["timeout"])
    run(module, lambda: job.run(check_mode=module.check_mode))


if __name__ == "__main__":
    main()
