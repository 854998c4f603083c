# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""How a module leaves its work in the background of its host, for C(plugin_utils/_leased_job.py) to follow.

Ansible's own asynchronous wrapper would do, but it takes six trips to the host and a second interpreter before the
module starts. A module that forks by itself is one trip, and when its work ends soon, its result comes back with it.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lunshift.migration.plugins.module_utils._leased_job import (
    RESULTS,
    forget_results,
    leave_result,
    result_path,
    watch,
)
from ansible_collections.lunshift.migration.plugins.module_utils._module import run

# Long enough for everything that needs no job: a refusal, a domain that has moved already, an idle small guest.
START_WAIT_S = 2.0


def run_in_background(module: AnsibleModule, function: t.Callable[[], t.Mapping[str, t.Any]], operation_id: str, ticket: str) -> t.NoReturn:
    """Fork. This process says what job_lease would say of the job; the other one does the work.

    All that the work imports has to be imported by now: the file that Ansible packed the code in goes with this process.
    """
    _rehearse_leaving(module)
    for directory in (RESULTS.parent, RESULTS):
        directory.mkdir(mode=0o700, exist_ok=True)
    path = result_path(operation_id, ticket)
    forget_results(operation_id)
    if os.fork():
        run(module, lambda: {"changed": False, **watch(operation_id, ticket, renew_lease=True, wait_s=START_WAIT_S)})
    try:
        _leave_session()
        _write_result(module, function, path)
    finally:
        # Neither Ansible's frames around the module nor a connection that hangs may run on from here.
        os._exit(0)


def _rehearse_leaving(module: AnsibleModule) -> None:
    """Ansible imports the last of what a module's end needs at that end."""
    for leave in (module.exit_json, lambda: module.fail_json(msg="rehearsal")):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            leave()


def _leave_session() -> None:
    """From here on, no terminal, no connection and no signal to the session's processes reaches this one."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


def _write_result(module: AnsibleModule, function: t.Callable[[], t.Mapping[str, t.Any]], path: Path) -> None:
    """The result that Ansible would have got, masked like every other, in a file that appears only when it is whole."""
    temporary = path.with_name(f"{path.name}.part")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        sys.stdout = stream
        try:
            try:
                run(module, function)
            except Exception as exc:  # noqa: BLE001 (a defect has to be told; nobody else would see it)
                module.fail_json(msg=f"The job ended by a defect: {exc!r}", error_id="defect", exception=traceback.format_exc())
        except SystemExit:
            pass  # That is how exit_json and fail_json leave.
    leave_result(temporary, path)


__all__ = ("run_in_background",)
