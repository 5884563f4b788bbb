"""The options that every command has, and the session that they open."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from sosie.workspace.session import Session


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--json`, `-q`, `-v` and `--workspace`; the command gets `output` and `workspace`."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout.")
    @click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr.")
    @click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
    @click.option(
        "--workspace",
        "root",
        type=click.Path(path_type=Path),
        envvar="SOSIE_WORKSPACE",
        default=Path(),
        show_default="the current folder",
        help="The folder that holds characters, models, recipes and the store.",
    )
    @wraps(function)
    def wrapped(as_json: bool, quiet: bool, verbose: bool, root: Path, **arguments: Any) -> Any:
        output = Output(as_json, quiet, verbose)
        return function(output=output, workspace=open_workspace(root), **arguments)

    return wrapped


@contextmanager
def session(workspace: Workspace) -> Generator[Session]:
    """An open session, closed at the end."""
    from sosie.workspace.session import Session

    with Session(workspace) as opened:
        yield opened
