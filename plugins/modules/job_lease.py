#!/usr/bin/python
# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: job_lease
short_description: Watch a long job on its host and keep its lease alive
version_added: 0.1.0
author: The lunshift.migration authors (@lunshift)
description:
  - The long jobs of this collection, M(lunshift.migration.domain_migrate) for one, run in the background of their host and hold a lease
    that the controller renews. When the controller is lost the lease lapses, and the job aborts or goes on, as the operator chose.
  - The action plugins of those modules call this module by themselves. By hand it shows what a job is doing, or keeps a job alive whose
    controller is gone.
extends_documentation_fragment:
  - lunshift.migration.attributes
attributes:
  check_mode:
    support: full
    details: In check mode the lease is not renewed.
  diff_mode:
    support: none
    details: Nothing lasting is changed.
  platform:
    platforms: linux
options:
  operation_id:
    description: The operation that the job belongs to.
    type: str
    required: true
  renew:
    description: Whether to renew the lease, or only look.
    type: bool
    default: true
  wait_s:
    description: How many seconds to wait for the job's end before saying that it still runs.
    type: float
    default: 0
  ticket:
    description:
      - What the action plugin started the job with; by it the job's result is found.
      - A result can be read once.
    type: str
seealso:
  - module: lunshift.migration.domain_migrate
"""

EXAMPLES = r"""
- name: Look at a migration without renewing its lease
  lunshift.migration.job_lease:
    operation_id: web1
    renew: false
  register: job

- name: Show how far it is
  ansible.builtin.debug:
    msg: "{{ job.progress.percent }} %, {{ job.progress.remaining_bytes | human_readable }} left"
  when: job.running

- name: Keep a job alive for a while longer, and wait up to a minute for its end
  lunshift.migration.job_lease:
    operation_id: web1
    wait_s: 60
"""

RETURN = r"""
running:
  description: Whether a job for this operation runs on the host.
  returned: success
  type: bool
progress:
  description: What the job last said of itself; empty when it has not said anything yet, or is over.
  returned: success
  type: dict
  sample:
    phase: migrating
    elapsed_s: 3.5
    percent: 42
    total_bytes: 98566144
    remaining_bytes: 57168363
    iteration: 1
    bandwidth_bytes_per_s: 32505856
    dirty_bytes_per_s: 4194304
    seconds_left: 2.0
    lease_lapsed: false
finished:
  description: Whether the result of the job was found by O(ticket).
  returned: success
  type: bool
result:
  description: That result; empty when there is none yet.
  returned: success
  type: dict
"""

import typing as t

from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import watch
from ansible_collections.lunshift.migration.plugins.module_utils._module import make_module, run


def main() -> None:
    module = make_module(
        {
            "operation_id": {"type": "str", "required": True},
            "renew": {"type": "bool", "default": True},
            "wait_s": {"type": "float", "default": 0},
            "ticket": {"type": "str"},
        },
        supports_check_mode=True,
    )
    params = module.params

    def work() -> dict[str, t.Any]:
        seen = watch(
            params["operation_id"],
            params["ticket"],
            renew_lease=params["renew"] and not module.check_mode,
            wait_s=params["wait_s"],
        )
        return {"changed": False, **seen}

    run(module, work)


if __name__ == "__main__":
    main()
