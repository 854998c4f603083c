# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This file is PRIVATE to the lunshift.migration collection: it may change in any release.

"""How every module of the collection meets Ansible: made by make_module, left by run."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lunshift.migration.plugins.module_utils._connection_info import redact, secrets_of
from ansible_collections.lunshift.migration.plugins.module_utils._errors import MigrationError

# Ansible masks by replacing text in every result. A short secret may well be part of a size or of a device path,
# and a masked path is a wrong path; it is kept out by structure alone. RFC 7143 wants 12 bytes of a CHAP secret.
MIN_MASKED_LENGTH = 8

_ArgumentSpec = t.Mapping[str, t.Mapping[str, t.Any]]


class _Module(AnsibleModule):  # type: ignore[misc]
    """AnsibleModule that tells nobody what stands in nested arguments.

    Two places would show a CHAP password that lies inside a dictionary: the log that every module writes at its
    start (the constructor's ``no_log`` cannot prevent it, for the controller overrides that), and the arguments that
    go back as ``invocation``, even those of a call that was refused.
    """

    shown_arguments: t.Mapping[str, t.Any] = {}

    def log(self, msg: t.Any, log_args: t.Any = None) -> None:
        """Write nothing."""

    def exit_json(self, **kwargs: t.Any) -> None:
        super().exit_json(invocation={"module_args": self.shown_arguments}, **kwargs)

    def fail_json(self, msg: str, **kwargs: t.Any) -> None:
        super().fail_json(msg, invocation={"module_args": self.shown_arguments}, **kwargs)


def make_module(argument_spec: _ArgumentSpec, **kwargs: t.Any) -> AnsibleModule:
    """The module object, with the secrets of nested arguments out of sight."""
    module = _Module(argument_spec=argument_spec, no_log=True, **kwargs)
    module.shown_arguments = redact(module.params)
    module.no_log_values.update(_maskable_secrets(module.params))
    return module


def _maskable_secrets(arguments: t.Mapping[str, t.Any]) -> set[str]:
    """Secrets that can be replaced wherever they stand, without spoiling what is no secret."""
    plain_text = str(redact(arguments))
    return {secret for secret in secrets_of(arguments) if len(secret) >= MIN_MASKED_LENGTH and secret not in plain_text}


def run(module: AnsibleModule, function: t.Callable[[], t.Mapping[str, t.Any]]) -> None:
    """Leave the module with what ``function`` returns, or with the error that it raises.

    Only MigrationError is an answer to the operator; anything else is a defect and keeps its traceback.
    """
    try:
        result = function()
    except MigrationError as exc:
        module.fail_json(msg=str(exc), error_id=exc.error_id, **exc.details)
    else:
        module.exit_json(**result)


__all__ = ("make_module", "run")
