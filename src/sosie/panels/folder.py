"""A panel's folder in the workspace: the panel, its images by digest, and the votes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sosie.core.errors import ConfigError, NotFoundError, StoreError, UsageError, nearest
from sosie.core.schema import from_table, to_table
from sosie.files.foreign import parse_object
from sosie.files.regular import read_bytes
from sosie.files.whole import make_folder, whole_folder, write_json
from sosie.panels.panel import Panel
from sosie.panels.votes import Votes
from sosie.store import images
from sosie.workspace.workspace import Workspace, check_name

FILE, IMAGES, VOTES = "panel.json", "images", "votes.jsonl"
MOST_BYTES = 20_000_000


@dataclass(frozen=True)
class PanelFolder:
    """A panel that is there."""

    path: Path
    panel: Panel

    @property
    def votes(self) -> Votes:
        """What people answered."""
        return Votes(self.path / VOTES)

    def image(self, sha256: str) -> bytes:
        """The PNG of one of the panel's own digests. `StoreError` if it is missing or damaged."""
        if sha256 not in self.panel.files:
            raise StoreError(f"panel '{self.panel.name}' has no image {sha256[:12]}; expected one of its own")
        return images.read(self.path / IMAGES, sha256)

    def image_path(self, sha256: str) -> Path:
        """Where an image lies; its bytes are not checked."""
        return images.path_of(self.path / IMAGES, sha256)


def make_panel(workspace: Workspace, panel: Panel, pictures: Iterable[images.Encoded]) -> PanelFolder:
    """Writes a panel whole or not at all. `UsageError` if there is one of the name: a panel never changes."""
    path = workspace.panels / check_name(panel.name)
    try:
        make_folder(path.parent)
        with whole_folder(path, 0o700) as part:
            for picture in pictures:
                images.write(part / IMAGES, picture)
            write_json(part / FILE, to_table(panel))
    except FileExistsError:
        raise UsageError(
            f"panel '{panel.name}' exists already in {workspace.panels}; a panel stays as people saw it",
            "take another name",
        ) from None
    except OSError as error:
        raise StoreError(f"{path} could not be written: {error.strerror or error}", "free some space") from None
    return PanelFolder(path, panel)


def open_panel(workspace: Workspace, name: str) -> PanelFolder:
    """The panel of a name. `NotFoundError` names the nearest; `ConfigError` for one that is not whole."""
    path = workspace.panels / check_name(name)
    file = path / FILE
    if not file.is_file():
        known = sorted(one.parent.name for one in workspace.panels.glob(f"*/{FILE}"))
        raise NotFoundError(
            f"panel '{name}' does not exist in {workspace.panels}{nearest(name, known)}",
            f"sosie panel new {name} A B --character NAME",
        )
    table = parse_object(read_bytes(file, MOST_BYTES))
    if table is None:
        raise ConfigError(f"{file} is not a JSON object; expected a panel")
    return PanelFolder(path, from_table(Panel, table, str(file)))
