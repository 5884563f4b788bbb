"""How the source is laid out: no circle of imports, no folder too wide, and a public front that is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from graphlib import CycleError, TopologicalSorter

import pytest
from places import ROOT

import sosie.api

SOURCE = ROOT / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (SOURCE / "sosie").rglob("*.py")
}


def imported(module: str) -> set[str]:
    """The own modules that a module imports anywhere: in functions and for types, too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            deeper = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in deeper}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(MODULES) - {module}


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({module: imported(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_no_folder_holds_more_than_25_modules() -> None:
    widths = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    assert {str(folder): width for folder, width in widths.items() if width > 25} == {}


def test_the_public_names_are_there_and_stand_in_both_lists() -> None:
    tree = ast.parse(MODULES["sosie.api"].read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    for_types = {(alias.asname, node.module) for node in imports for alias in node.names if alias.asname}
    at_run_time = {(name, module) for module, names in sosie.api._HOMES.items() for name in names.split()}
    assert for_types == at_run_time
    assert [name for name, count in Counter(name for name, _ in at_run_time).items() if count > 1] == []
    for name in dir(sosie.api):
        assert getattr(sosie.api, name) is not None
    assert not hasattr(sosie.api, "nothing")


def test_no_public_name_is_that_of_a_module() -> None:
    # Importing sosie.api.x sets `x` in sosie.api, and would hide a function of that name.
    assert [name for name in dir(sosie.api) if f"sosie.api.{name}" in MODULES] == []


def test_the_public_names_are_imported_without_torch_and_opencv() -> None:
    code = """
import sys
import sosie.api
assert not [name for name in sys.modules if name.startswith("sosie.") and name != "sosie.api"]
for name in dir(sosie.api):
    getattr(sosie.api, name)
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert {"torch", "cv2", "diffusers", "transformers"} & set(done.stdout.split()) == set()
