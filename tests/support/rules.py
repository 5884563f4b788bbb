"""The rules that the source defines: `R010 = Rule("SOS-R010", "error", "A file is not what its place needs")`."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import sosie

SOURCE = Path(sosie.__file__).parent


@dataclass(frozen=True)
class Defined:
    """One call of `Rule`: the name that it is given, its three arguments and its file."""

    name: str
    code: str
    severity: str
    title: str
    path: Path


def rules(*places: str) -> list[Defined]:
    """The rules of these files and folders of the package, or of all of it; each is defined on a line of its own."""
    found: list[Defined] = []
    for place in [SOURCE / place for place in places] or [SOURCE]:
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            found += _defined(path)
    return found


def codes_in(*places: str) -> set[str]:
    """The codes of `rules`."""
    return {rule.code for rule in rules(*places)}


def _defined(path: Path) -> list[Defined]:
    module = ast.parse(path.read_text(encoding="utf-8"))
    found = [
        Defined(node.targets[0].id, *map(ast.literal_eval, node.value.args), path)
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _is_rule(node.value)
    ]
    calls = [node for node in ast.walk(module) if _is_rule(node)]
    assert len(calls) == len(found), f"{path}: a Rule that is not NAME = Rule(code, severity, title) of the module"
    return found


def _is_rule(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Rule"
