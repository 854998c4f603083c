# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import inspect
import json

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.lunshift.migration.plugins.module_utils import _module
from ansible_collections.lunshift.migration.plugins.module_utils._errors import InputError, MigrationError

SPEC = {"volumes": {"type": "dict", "default": {}}, "name": {"type": "str"}, "count": {"type": "int"}}


def volumes(secret, **more):
    return {"a": {"data": {"auth_password": secret, "target_lun": 1, **more}}}


# Newer cores return the invocation only when the controller asks for it (as it does with -vvv); older ones refuse to be asked.
ASKS_FOR_INVOCATION = {"_ansible_inject_invocation": True} if "_ansible_inject_invocation" in inspect.getsource(basic) else {}


def leave(capsys, arguments, function, **kwargs):
    """Run a module to its end; returns what it printed."""
    with patch_module_args({**arguments, **ASKS_FOR_INVOCATION}), pytest.raises(SystemExit):
        _module.run(_module.make_module(SPEC, **kwargs), function)
    return capsys.readouterr().out


def test_result(capsys):
    result = json.loads(leave(capsys, {"name": "x"}, lambda: {"changed": True, "answer": 42}))
    assert result["answer"] == 42
    assert result["changed"] is True
    assert result["invocation"] == {"module_args": {"volumes": {}, "name": "x", "count": None}}


def test_known_error(capsys):
    def fail():
        raise MigrationError("host a: it is so; do that", error_id="so", found=[1, 2])

    result = json.loads(leave(capsys, {}, fail))
    assert result["failed"] is True
    assert result["msg"] == "host a: it is so; do that"
    assert result["error_id"] == "so"
    assert result["found"] == [1, 2]


def test_input_error_lists_all_problems(capsys):
    def fail():
        raise InputError(["first", "second"])

    result = json.loads(leave(capsys, {}, fail))
    assert result["msg"] == "first; second"
    assert result["problems"] == ["first", "second"]
    assert result["error_id"] == "invalid_input"


def test_defect_keeps_its_traceback():
    def fail():
        raise KeyError("defect")

    with patch_module_args({}):
        module = _module.make_module(SPEC)
    with pytest.raises(KeyError):
        _module.run(module, fail)


@pytest.mark.parametrize("secret", ["planted-secret-1", "1", 12345678, "iqn.2026-11.org.example"])
def test_nested_secret_is_not_in_the_invocation(capsys, secret):
    result = json.loads(leave(capsys, {"volumes": volumes(secret)}, lambda: {"path": "/dev/x"}))
    assert result["invocation"]["module_args"]["volumes"] == {"a": {"data": {"target_lun": 1}}}


def test_secret_is_masked_wherever_else_it_turns_up(capsys):
    def fail():
        raise MigrationError("the target said: planted-secret-1", error_id="x", text=["has planted-secret-1 inside"])

    output = leave(capsys, {"volumes": volumes("planted-secret-1")}, fail)
    assert "planted-secret-1" not in output
    assert json.loads(output)["text"] == ["has ******** inside"]


def test_trivial_secret_spoils_no_result(capsys):
    """Ansible replaces text; a size or a path with a hole in it would be a wrong one."""
    facts = {"size_bytes": 67108864, "path": "/dev/disk/by-path/ip-192.0.2.10:3260-iscsi-iqn.2026-11.org.example:a-lun-1"}
    for secret in ("1", "6710886", "iqn"):
        result = json.loads(leave(capsys, {"volumes": volumes(secret)}, lambda: facts))
        assert {key: result[key] for key in facts} == facts


def test_secret_that_is_part_of_a_plain_argument_spoils_no_result(capsys):
    arguments = {"volumes": volumes("org.example", target_iqn="iqn.2026-11.org.example:a")}
    assert "iqn.2026-11.org.example:a" in leave(capsys, arguments, lambda: {"path": "iqn.2026-11.org.example:a"})


@pytest.mark.parametrize(
    "arguments",
    [
        {"volumes": volumes("planted-secret-1"), "count": "many"},
        {"volumes": volumes("planted-secret-1"), "unknown": 1},
        {"volumes": "auth_password planted-secret-1"},
    ],
)
def test_refused_arguments_do_not_show_secrets(capsys, arguments):
    output = leave(capsys, arguments, dict)
    assert json.loads(output)["failed"] is True
    assert "planted-secret-1" not in output


def test_nothing_goes_to_the_system_log(capsys, monkeypatch):
    """The controller sends _ansible_no_log: false, which overrides the constructor's no_log."""
    logged = []
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule._log_to_syslog", lambda self, text: logged.append(text))
    monkeypatch.setattr("ansible.module_utils.basic.has_journal", False)
    arguments = {"volumes": volumes("planted-secret-1"), "_ansible_no_log": False}
    leave(capsys, arguments, dict)
    assert logged == []
    # The same call without our class is what this guards against.
    from ansible.module_utils.basic import AnsibleModule

    with patch_module_args(arguments):
        AnsibleModule(argument_spec=SPEC, no_log=True)
    assert "planted-secret-1" in logged[0]


def test_check_mode_is_passed_on(capsys):
    with patch_module_args({"_ansible_check_mode": True}):
        assert _module.make_module(SPEC, supports_check_mode=True).check_mode is True
    assert json.loads(leave(capsys, {"_ansible_check_mode": True}, dict))["skipped"] is True
