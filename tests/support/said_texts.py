"""The texts that the source can say: templates of progress and notes, of reasons of scores, and of the page's errors.

A template is the text with `{}` where a value stands, as `studio/french/texts.toml` has it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import sosie

SOURCE = Path(sosie.__file__).parent

DESCRIBED = {
    "api/generation.py": ("described",),
    "api/training.py": ("described", "forecast"),
    "api/trainings/work.py": ("_chosen",),
}
"""Functions whose text is a progress or a note."""

REASONS = ("scorers", "faces/choose.py", "loop/judge.py", "lab/assemble.py", "lab/forecast.py")
"""Where reasons of scores, and limits of what an experiment shows, are written."""

REFUSALS = ("diffusion/face_pass.py", "engines/blank.py")
"""Whose findings refuse a picture: their messages are among the reasons of its verdict."""

PAGE = (
    "api/jobs",
    "api/characters.py",
    "api/character_files.py",
    "api/views",
    "store/gallery.py",
    "store/jobs.py",
    "studio",
    "workspace/characters.py",
    "workspace/workspace.py",
    "files/images.py",
    "files/safetensors.py",
)
"""Whose errors are those of the page's own routes, and the doctor's of a file that was dropped."""


def progress() -> set[str]:
    """Of everything that takes time: its progress and its notes."""
    found = {text for call in _calls({"Progress", "Note"}) for text in templates(call.args[0])}
    for place, names in DESCRIBED.items():
        functions = [node for node in _nodes([SOURCE / place]) if isinstance(node, ast.FunctionDef)]
        for node in (part for one in functions if one.name in names for part in ast.walk(one)):
            if isinstance(node, ast.Return | ast.Assign) and node.value is not None:
                found |= set(templates(node.value))
    return _worded(found)


def reasons() -> set[str]:
    """Why a score has no value or did not pass, why a picture is refused, and what an experiment's answers lack."""
    found = {text for node in _nodes(_files(REASONS)) for part in _reason(node) for text in templates(part)}
    found = {text for text in found if "{}" in text or " " in text.strip()}
    for node in _nodes(_files(REFUSALS)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "message":
            found |= set(templates(node.value))
    return _worded(found)


def errors() -> set[str]:
    """What the errors of the page's own routes say, and their hints that are no commands."""
    found: set[str] = set()
    for node in _nodes(_files(PAGE)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Error"):
            found |= {text for part in node.args[:2] for text in templates(part)}
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            told = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "error"]
            found |= {text for part in told for text in templates(part)}
    return {text for text in _worded(found) if not re.match(r"(sosie|pip|mkdir) ", text)}


def is_quoted(text: str) -> bool:
    """Whether a literal of the source is, or begins, with this text and a colon."""
    quoted = (f'"{text}"', f"'{text}'", f'"{text}: ')
    return any(one in source for source in map(_source, _files(("",))) for one in quoted)


def templates(node: ast.expr) -> list[str]:
    """What an expression can be: each branch of a choice, sums of each; nothing where that cannot be read."""
    match node:
        case ast.Constant(value=str() as text):
            return [text]
        case ast.JoinedStr():
            return ["".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)]
        case ast.IfExp():
            return [*templates(node.body), *templates(node.orelse)]
        case ast.BoolOp():
            return [text for part in node.values for text in templates(part)]
        case ast.BinOp(op=ast.Add()):
            return [a + b for a in templates(node.left) for b in templates(node.right)]
        case _:
            return []


def _worded(found: Iterable[str]) -> set[str]:
    return {text for text in found if re.search(r"[a-z]{2}", text) and len(text) < 300}


def _reason(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Return(value=ast.expr() as value) | ast.Yield(value=ast.expr() as value):
            return [value]
        case ast.Assign(targets=[ast.Name(id="why" | "reason" | "note")], value=value) | ast.keyword("basis", value):
            return [value]
        case ast.IfExp():
            return [node.body, node.orelse]
        case ast.Call(func=ast.Attribute(attr="score" | "unmeasured") | ast.Name(id="Adherence" | "Look")):
            return [*node.args]
        case _:
            return []


def _calls(names: set[str]) -> Iterator[ast.Call]:
    called = [path for path in _files(("",)) if any(f"{name}(" in _source(path) for name in names)]
    for node in _nodes(called):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names and node.args:
            yield node


def _nodes(files: Iterable[Path]) -> Iterator[ast.AST]:
    for path in files:
        yield from _parsed(path)


@cache
def _parsed(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(_source(path))))


@cache
def _source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _files(places: Iterable[str]) -> Iterator[Path]:
    for place in places:
        path = SOURCE / place
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]
