"""Writing below a character: one command at a time, after what a killed one left was put right."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sosie.core.errors import StoreError
from sosie.files.drafts import sweep
from sosie.files.lock import HeldError, held
from sosie.files.whole import give_name, make_folder, swap_folders, sync_folder
from sosie.store.faults import disk_fault
from sosie.workspace.workspace import Workspace, check_name

PATIENCE = 120.0
"""Seconds to wait for another command that writes to the same character: most take less than one."""

REPLACEMENT = ".replacement"
"""What a character's folder is about to be: its new `character.toml` and references."""

NEW = ".new"
"""Lies in the references that are new, so that they are known before and after they have their place."""

INSIDE = ("references", "dataset", "loras", "calibration")


@contextmanager
def writing(workspace: Workspace, name: str) -> Generator[Path]:
    """The folder of a character, which may not be there yet, for this thread alone to read, change and write.

    Everything that writes below a character does it here. What a killed command left is put right first.
    Raises `StoreError` if another command does not end, or the workspace cannot be written.
    """
    folder = workspace.characters / check_name(name)
    with locked(workspace, f"character-{name.lower()}", f"character '{name}'"):
        try:
            finish_replacement(folder)
        except OSError as error:
            raise disk_fault(folder, error) from error
        for place in (folder, *(folder / inside for inside in INSIDE)):
            sweep(place)
        yield folder


@contextmanager
def locked(workspace: Workspace, name: str, what: str, seconds: float = PATIENCE) -> Generator[None]:
    """Holds the workspace's lock `name`, which guards `what`; waits for it up to `seconds`. Raises `StoreError`."""
    folder = workspace.state / "locks"
    with ExitStack() as stack:
        try:
            make_folder(folder)
            stack.enter_context(held(folder / f"{name}.lock", seconds))
        except OSError as error:
            raise disk_fault(folder, error) from error
        except HeldError:
            raise StoreError(
                f"{what} is being written by another command"
                + (f", which did not end in {seconds:.0f} s" if seconds else ""),
                "wait for it to end, then run the same command again",
            ) from None
        yield


def is_being_replaced(folder: Path) -> bool:
    """Whether new files of a character stand ready: they are put into their places by the next `writing`."""
    return (folder / REPLACEMENT).is_dir()


def finish_replacement(folder: Path) -> None:
    """Gives what stands ready in a character's folder its place, whatever a killed process had done of it."""
    ready = folder / REPLACEMENT
    if not is_being_replaced(folder):
        return
    if (ready / "references" / NEW).exists():
        swap_folders(ready / "references", folder / "references")
    if (ready / "character.toml").exists():
        give_name(ready / "character.toml", folder / "character.toml")
    (folder / "references" / NEW).unlink(missing_ok=True)
    shutil.rmtree(ready)
    sync_folder(folder)
