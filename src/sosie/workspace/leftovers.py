"""What killed commands left in a workspace: removed, or ended, when the next one opens it."""

from __future__ import annotations

from contextlib import suppress

from sosie.core.errors import SosieError
from sosie.files.drafts import sweep
from sosie.workspace.workspace import Workspace
from sosie.workspace.writing import is_being_replaced, writing

PLACES = (
    *("characters", "characters/*", "characters/*/*", "models", "models/*", "recipes"),
    *(
        "outputs/*",
        "outputs/*/*",
        ".sosie",
        ".sosie/*",
        ".sosie/experiments/*",
        ".sosie/training/*",
        ".sosie/training/*/*",
    ),
)
"""Where Sosie writes in a workspace. The store sweeps its images itself, and who writes elsewhere sweeps there."""


def put_right(workspace: Workspace) -> None:
    """Removes the drafts that no process holds, and ends replacements that were cut off. What cannot be done waits."""
    sweep(workspace.root)
    for pattern in PLACES:
        for folder in workspace.root.glob(pattern):
            if folder.is_dir():
                sweep(folder)
    for folder in workspace.characters.glob("*"):
        if is_being_replaced(folder):
            with suppress(SosieError), writing(workspace, folder.name):
                pass
