# Copyright (c) 2026, the lunshift.migration authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for the repository as a whole: every list names what is there, every file says what it is."""

from __future__ import annotations

import ast
import re
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
VARIABLE = re.compile(r"(?:live|volume)_migrate_[a-z_]+")
LICENCE = (
    "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
)


def _names(kind: str) -> list[str]:
    return sorted(path.stem for path in (PLUGINS / kind).glob("*.py") if not path.stem.startswith("_"))


def _python_files() -> list[Path]:
    found = [path for directory in ("plugins", "tests") for path in (ROOT / directory).rglob("*.py")]
    return sorted(path for path in found if path.stat().st_size and "output" not in path.relative_to(ROOT).parts)


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _literal(path: Path, name: str) -> t.Any:
    """The value of a module-level constant, read without importing the file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(target, ast.Name) and target.id == name for target in node.targets):
            return ast.literal_eval(node.value)
    return None


def _documentation(path: Path) -> dict[str, t.Any]:
    return yaml.safe_load(_literal(path, "DOCUMENTATION"))


@pytest.mark.parametrize("path", _python_files(), ids=_relative)
def test_every_python_file_names_its_licence(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    start = 1 if lines[0].startswith("#!") else 0
    assert lines[start].startswith("# Copyright (c) 2026, the lunshift.migration authors")
    assert tuple(lines[start + 1 : start + 3]) == LICENCE


@pytest.mark.parametrize("path", sorted((PLUGINS / "module_utils").rglob("*.py")), ids=_relative)
def test_utilities_are_private(path: Path) -> None:
    if path.name == "__init__.py":
        assert path.stat().st_size == 0, "Ansible does not run the code of a package"
        return
    relative = path.relative_to(PLUGINS / "module_utils")
    assert relative.parts[0].startswith("_"), "a public name is a promise to users of the collection"
    assert "PRIVATE to the lunshift.migration collection" in path.read_text(encoding="utf-8")
    assert _literal(path, "__all__") is not None


@pytest.mark.parametrize("name", _names("modules"))
def test_module_documentation_states_its_attributes(name: str) -> None:
    documentation = _documentation(PLUGINS / "modules" / f"{name}.py")
    assert documentation["module"] == name
    assert "lunshift.migration.attributes" in documentation["extends_documentation_fragment"]
    assert {"check_mode", "diff_mode", "platform"} <= set(documentation["attributes"])
    assert documentation["attributes"]["platform"]["platforms"] == "linux"


def _tasks(examples: list[dict[str, t.Any]]) -> t.Iterator[dict[str, t.Any]]:
    """Every task of an example, those of plays and blocks included."""
    for entry in examples:
        nested = [entry[key] for key in ("tasks", "block", "rescue", "always") if key in entry]
        for tasks in nested:
            yield from _tasks(tasks)
        if not nested:
            yield entry


@pytest.mark.parametrize("name", _names("modules"))
def test_module_examples_use_documented_options(name: str) -> None:
    path = PLUGINS / "modules" / f"{name}.py"
    options = _documentation(path).get("options", {})
    uses = [task[key] for task in _tasks(yaml.safe_load(_literal(path, "EXAMPLES"))) for key in task if key == f"lunshift.migration.{name}"]
    assert uses
    for arguments in uses:
        given = set(arguments or {})
        assert given <= set(options)
        required = {option for option, details in options.items() if details.get("required")}
        assert required <= given


@pytest.mark.parametrize("kind", ["modules", "filter"])
def test_everything_says_since_when(kind: str) -> None:
    added = {name: str(_documentation(PLUGINS / kind / f"{name}.py").get("version_added")) for name in _names(kind)}
    released = yaml.safe_load((ROOT / "changelogs" / "changelog.yaml").read_text(encoding="utf-8"))["releases"]
    assert set(added.values()) <= {*released, yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]}, added


def test_action_group_holds_the_modules_with_libvirt_options() -> None:
    runtime = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    with_uri = [name for name in _names("modules") if "uri" in _documentation(PLUGINS / "modules" / f"{name}.py").get("options", {})]
    assert runtime["action_groups"] == {"migration": with_uri}


@pytest.mark.parametrize("name", [*_names("modules"), *_names("filter")])
def test_readme_lists_all_content(name: str) -> None:
    assert f"`{name}`" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", _names("action"))
def test_action_plugins_are_documented_by_a_module(name: str) -> None:
    assert name in _names("modules")


def _options(specification: dict[str, t.Any]) -> dict[str, t.Any]:
    """The variables of all entry points."""
    return {name: details for entry in specification["argument_specs"].values() for name, details in entry["options"].items()}


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir()))
def test_role_has_what_the_importer_wants(role: str) -> None:
    path = ROOT / "roles" / role
    for needed in ("README.md", "meta/argument_specs.yml", "defaults/main.yml", "tasks/main.yml"):
        assert (path / needed).is_file(), needed
    specification = yaml.safe_load((path / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    options = _options(specification)
    defaults = yaml.safe_load((path / "defaults" / "main.yml").read_text(encoding="utf-8")) or {}
    readme = (path / "README.md").read_text(encoding="utf-8")
    assert set(defaults) <= set(options)
    for option, details in options.items():
        assert f"`{option}`" in readme, "the README's table names every variable"
        assert option in defaults or details.get("required") or "default" not in details


@pytest.mark.parametrize(
    "scenario", sorted(path.parent for path in (ROOT / "extensions" / "molecule").glob("*/molecule.yml")), ids=lambda path: path.name
)
def test_scenario_names_its_lab(scenario: Path) -> None:
    kinds = (scenario / "lab").read_text(encoding="ascii").split()
    assert kinds
    assert set(kinds) <= {"namespace", "uml", "ceph"}


def _error_ids() -> set[str]:
    """Every id that the code gives an error, wherever it stands as a literal."""
    found = set()
    for path in PLUGINS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            values: list[ast.AST] = []
            if isinstance(node, ast.keyword) and node.arg == "error_id":
                values = [node.value]
            elif isinstance(node, ast.Dict):
                values = [value for key, value in zip(node.keys, node.values) if isinstance(key, ast.Constant) and key.value == "error_id"]
            constants = [constant for value in values for constant in ast.walk(value) if isinstance(constant, ast.Constant)]
            found |= {constant.value for constant in constants if isinstance(constant.value, str)}
    return found


def test_troubleshooting_guide_has_every_error_id() -> None:
    guide = (ROOT / "docs" / "docsite" / "rst" / "guide_troubleshooting.rst").read_text(encoding="utf-8")
    assert {error_id for error_id in _error_ids() if f"``{error_id}``" not in guide} == set()


def test_guides_name_only_variables_that_exist() -> None:
    # The playbooks' own.
    known = {"live_migrate_source", "live_migrate_sweep_hosts"}
    for role in (ROOT / "roles").iterdir():
        known |= set(_options(yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))))
        # Facts and variables of included tasks are in the text of the role's README.
        known |= set(VARIABLE.findall((role / "README.md").read_text(encoding="utf-8")))
    for path in [ROOT / "README.md", *(ROOT / "docs" / "docsite" / "rst").glob("*.rst")]:
        assert set(VARIABLE.findall(path.read_text(encoding="utf-8"))) <= known, path
