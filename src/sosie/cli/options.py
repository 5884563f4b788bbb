"""The options that every command has, and the session that they open."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from sosie.cli.ending import begin
from sosie.cli.output import Output
from sosie.core.errors import UsageError
from sosie.core.schema import shown
from sosie.workspace.leftovers import put_right
from sosie.workspace.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from sosie.workspace.session import Session

LONGEST_NAME, LONGEST_PATH = 255, 4095
"""Bytes of one name and of a whole path, which no usual system exceeds."""


class _PathType(click.Path):
    """As click's, whose check falls over a NUL; a name that no file can have is an error of usage."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        _check(param.name or "" if param else "", Path(value))
        return super().convert(value, param, ctx)


PATH = _PathType(path_type=Path)


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--json`, `-q`, `-v` and `--workspace`; the command gets `output` and `workspace`."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout.")
    @click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr.")
    @click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
    @click.option(
        "--workspace",
        "root",
        type=PATH,
        envvar="SOSIE_WORKSPACE",
        default=Path(),
        show_default="the current folder",
        help="The folder that holds characters, models, recipes and the store.",
    )
    @wraps(function)
    def wrapped(as_json: bool, quiet: bool, verbose: bool, root: Path, **arguments: Any) -> Any:
        for name, value in arguments.items():
            _check(name, value)
        output = Output(as_json, quiet, verbose)
        workspace = open_workspace(root)
        begin(workspace.state)
        put_right(workspace)
        return function(output=output, workspace=workspace, **arguments)

    return wrapped


def declaration(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--likeness` and `--adult`, which `declared` asks for if they are left out."""
    function = click.option(
        "--adult", is_flag=True, default=None, help="Declare that the character is an adult. Asked for if left out."
    )(function)
    return click.option(
        "--likeness", type=click.Choice(["fictional", "consented"]), help="Whose face it is. Asked for if left out."
    )(function)


def declared(likeness: Any, adult: bool | None) -> tuple[Any, bool]:
    """Whose likeness a character has and whether it is an adult. Raises `UsageError` where there is nobody to ask."""
    whose = likeness or _ask("Is the likeness fictional or consented", "--likeness", ("fictional", "consented"))
    return whose, adult or _ask("Is the character an adult", "--adult", ("yes", "no")) == "yes"


def _ask(question: str, flag: str, choices: tuple[str, ...]) -> Any:
    if not sys.stdin.isatty():
        raise UsageError(f"{flag} is missing, and there is no terminal to ask at", f"add {flag} to the command")
    return click.prompt(question, type=click.Choice(choices), err=True)


def _check(name: str, value: object) -> None:
    """Raises `UsageError` for what no file can be called, and for a word that is no text."""
    if isinstance(value, tuple):
        for one in cast("tuple[object, ...]", value):
            _check(name, one)
    elif isinstance(value, str | Path):
        text = str(value)
        subject = f"{name.replace('_', '-')} {shown(text)}"
        if "\0" in text:
            raise UsageError(f"{subject} holds a NUL")
        if isinstance(value, str) and re.search("[\ud800-\udfff]", text) and not Path(text).exists():
            raise UsageError(f"{subject} is not UTF-8 text")
        if isinstance(value, Path):
            longest = max((len(os.fsencode(part)) for part in value.parts), default=0)
            if longest > LONGEST_NAME or len(os.fsencode(text)) > LONGEST_PATH:
                raise UsageError(f"{subject} is longer than the name of a file can be")


@contextmanager
def session(workspace: Workspace) -> Generator[Session]:
    """An open session, closed at the end."""
    from sosie.workspace.session import Session

    with Session(workspace) as opened:
        yield opened
