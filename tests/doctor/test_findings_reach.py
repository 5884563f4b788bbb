"""Every documented code can be given: something that a command calls has it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from rules import codes_in

import sosie as package

SOURCE = Path(package.__file__).parent
CODE = re.compile(r"SOS-[A-Z]\d{3}")

NOT_FROM_A_COMMAND: dict[str, str] = {}
"""Codes that no command can give, each with the reason."""


def definitions(module: ast.Module) -> list[tuple[str, ast.AST]]:
    """Functions, classes and module-level values by name."""
    found: list[tuple[str, ast.AST]] = []
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append((node.name, node))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            found += [(name, node) for name in names if name != "__all__"]
    return found


def words(node: ast.AST) -> tuple[set[str], set[str]]:
    """Every name that a definition uses, and every code in its strings."""
    names: set[str] = set()
    given: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            names.add(part.id)
        elif isinstance(part, ast.Attribute):
            names.add(part.attr)
        elif isinstance(part, ast.alias):
            names.add(part.name)
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            given |= {part.value} if CODE.fullmatch(part.value) else set()
    return names, given


def reachable() -> set[str]:
    """The codes in what the commands call, by name, from definition to definition."""
    by_name: dict[str, list[ast.AST]] = defaultdict(list)
    waiting: list[ast.AST] = []
    for path in SOURCE.rglob("*.py"):
        for name, node in definitions(ast.parse(path.read_text())):
            by_name[name].append(node)
            if "cli" in path.relative_to(SOURCE).parts:
                waiting.append(node)
    seen: set[ast.AST] = set()
    given: set[str] = set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        names, found = words(node)
        given |= found
        waiting.extend(node for name in names for node in by_name.get(name, ()))
    return given


def test_every_documented_code_is_given_by_something_that_a_command_calls() -> None:
    missing = codes_in() - reachable()
    assert missing == set(NOT_FROM_A_COMMAND)


def test_a_check_that_nothing_calls_is_noticed() -> None:
    module = ast.parse(
        'def called():\n    return "SOS-X001"\n\ndef command():\n    called()\n\ndef idle():\n    "SOS-X002"\n'
    )
    found = dict(definitions(module))
    assert words(found["command"]) == ({"called"}, set())
    assert words(found["called"])[1] == {"SOS-X001"}
