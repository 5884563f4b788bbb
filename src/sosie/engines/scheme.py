"""What an engine says of itself before it is opened: its scheme; and what it is given: its supplies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sosie.core import Engine, Finding
from sosie.families.contract.draws import Faces, Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.engines.comfy.reach import Graphs
    from sosie.workspace.workspace import Workspace


def unwatched() -> bool:
    """Nobody looks."""
    return False


@dataclass(frozen=True, eq=False)
class Supplies:
    """What an engine works with and does not look for itself.

    `paths` are the files and folders that its scheme `reads`, by the names that plans ask for them; `faces` answers
    what stages ask about faces; `source` gives the image (RGB) whose pixels have a digest. `graphs` is for schemes
    that run ComfyUI's graphs, None for others. `root` is the workspace's folder, for engines whose processes open it.
    `watched` says whether somebody looks at what is drawn, so that previews are worth their time.
    """

    paths: Mapping[str, Path]
    faces: Faces
    source: Callable[[str], Image]
    settings: Settings = field(default_factory=Settings)
    graphs: Graphs | None = None
    root: Path | None = None
    watched: Callable[[], bool] = unwatched


@dataclass(frozen=True)
class Scheme:
    """Engines that are asked for by `NAME` alone or by `NAME:ADDRESS`; `form` is how that is written, for people.

    `open` makes the engine of an address (with its scheme) and loads nothing heavy; it raises `UsageError` for an
    address that is none. `reads` is what it is given paths of: the files that a plan's stages name, by those names,
    or the character's references, by their SHA-256. One that `is_remote` has files of its own: what is missing on
    this machine may be there, and it is not kept loaded by a process of this machine. One that `runs_graphs` is
    given `Supplies.graphs`, takes users' workflows, and its addresses are those of ComfyUI servers. One that
    `has_workers` draws in processes of its own: no others are begun for it. `examine` is what the doctor asks of the
    machines of an address in a workspace: each one's name and findings; None: there are none to ask.
    """

    name: str
    form: str
    open: Callable[[str, Supplies], Engine]
    reads: Literal["models", "references", "nothing"] = "models"
    is_remote: bool = False
    runs_graphs: bool = False
    has_workers: bool = False
    examine: Callable[[str, Workspace], Iterator[tuple[str, tuple[Finding, ...]]]] | None = None
