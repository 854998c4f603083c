# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Ansible itself shows of the roles' tasks holds no connection info with its passwords.

Modules hide nested secrets in what they return. Loop items, labels, names, facts that are set and messages are shown by
the controller, before or without any module; so no expression there may lead to a password.
"""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
SHOWING_ACTIONS = ("ansible.builtin.set_fact", "ansible.builtin.debug", "ansible.builtin.fail", "ansible.builtin.assert")
SHOWN_KEYWORDS = ("name", "loop", "loop_control", "with_items", "environment", "delegate_to")
# Where passwords come in, and what carries them on. Keys of a mapping are volumes, and no secret.
SECRET = re.compile(
    r"\b(live_migrate_connections|live_migrate_exported|source_connections|__live_migrate_(source|destination)_connections)\b(?!\.keys\(\))"
    # As a whole these hold connection info; their other parts do not.
    r"|\b__live_migrate_(plan|source_side|rewrite)\b(?!\.)"
    r"|\b__live_migrate_(source_side\.connections|rewrite\.map)\b"
    r"|\b(volume_migrate_(source|target|connection|created)|__volume_migrate_target)\b"
)
# Made by filters: what goes in does not come out, but for the parts that SECRET names.
MADE_BY_FILTERS = (
    "__live_migrate_verdict",
    "__live_migrate_plan",
    "__live_migrate_source_side",
    "__live_migrate_rewrite",
    "__live_migrate_findings",
)


def tasks_in(entries: t.Iterable[t.Mapping[str, t.Any]]) -> t.Iterator[t.Mapping[str, t.Any]]:
    for entry in entries:
        yield entry
        for section in ("block", "rescue", "always"):
            yield from tasks_in(entry.get(section, []))


def role_tasks() -> list[t.Any]:
    return [
        pytest.param(path.relative_to(ROLES).parts[0], task, id=f"{path.relative_to(ROLES)}: {task['name']}")
        for path in sorted(ROLES.glob("*/tasks/**/*.yml"))
        for task in tasks_in(yaml.safe_load(path.read_text(encoding="utf-8")))
    ]


def strings_in(value: t.Any) -> t.Iterator[str]:
    """Every text inside a value; the names of facts that are set show nothing."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, str):
        yield value
    elif hasattr(value, "__iter__"):
        for part in value:
            yield from strings_in(part)


def with_variables(text: str, variables: t.Mapping[str, t.Any]) -> str:
    """The text, followed by those of the role's own variables that it uses, and so on."""
    seen: set[str] = set()
    texts, waiting = [], [text]
    while waiting:
        current = waiting.pop()
        texts.append(current)
        for name in set(re.findall(r"\b__(?:live|volume)_migrate_\w+", current)) - seen:
            seen.add(name)
            # What SECRET knows by its name was found already, or only its keys are used.
            if name in variables and name not in MADE_BY_FILTERS and not SECRET.search(name):
                waiting += strings_in(variables[name])
    return "\n".join(texts)


def shown_texts(task: t.Mapping[str, t.Any]) -> list[str]:
    shown = [task[key] for key in (*SHOWN_KEYWORDS, *SHOWING_ACTIONS) if key in task]
    return list(strings_in(shown))


@pytest.mark.parametrize(("role", "task"), role_tasks())
def test_what_a_task_shows_leads_to_no_password(role: str, task: t.Mapping[str, t.Any]) -> None:
    variables = yaml.safe_load((ROLES / role / "vars" / "main.yml").read_text(encoding="utf-8"))
    for text in shown_texts(task):
        found = SECRET.search(with_variables(text, variables))
        assert not found, f"{found[0]} would be shown by {text!r}"


@pytest.mark.parametrize(
    "task",
    [
        {"ansible.builtin.set_fact": {"kept": "{{ __live_migrate_plan }}"}},
        {"ansible.builtin.set_fact": {"kept": "{{ __live_migrate_plan.source_connections }}"}},
        {"ansible.builtin.debug": {"msg": ["{{ live_migrate_exported }}"]}},
        {"loop": "{{ __live_migrate_destination_connections | dict2items }}"},
        {"ansible.builtin.fail": {"msg": "{{ hostvars[live_migrate_destination].live_migrate_connections }}"}},
        {"ansible.builtin.set_fact": {"volume_migrate_result": {"connection_info": "{{ __volume_migrate_target }}"}}},
        {"ansible.builtin.debug": {"msg": "{{ volume_migrate_created.data }}"}},
    ],
)
def test_the_search_finds_a_password(task: t.Mapping[str, t.Any]) -> None:
    assert any(SECRET.search(with_variables(text, {})) for text in shown_texts(task))


def test_the_search_follows_variables() -> None:
    variables = {"__live_migrate_all": {"side": "{{ __live_migrate_one }}"}, "__live_migrate_one": "{{ live_migrate_connections }}"}
    assert SECRET.search(with_variables("{{ __live_migrate_all }}", variables))
