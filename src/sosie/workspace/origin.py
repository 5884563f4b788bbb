"""Where a model file came from: a hidden file beside it, `.NAME.origin.json`.

Hidden, so that it is no part of the digest of a folder; beside it, so that it goes where the model goes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from sosie.core.errors import SosieError
from sosie.core.recipe import Commercial
from sosie.core.schema import from_table
from sosie.files.foreign import read_object
from sosie.files.whole import write_json


@dataclass(frozen=True)
class Origin:
    """The source, pinned (commit, version), what its publisher says, and what was downloaded when.

    `sha256` and `bytes` are those of the published file. `converted` is the SHA-256 of the file that
    was made of it, where it was a pickle. `fetched` is the time in UTC, ISO 8601; empty while the fetch goes on, or
    where it was killed.
    """

    source: str
    title: str
    licence: str
    commercial: Commercial
    sha256: str
    bytes: int
    fetched: str
    converted: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether the fetch ended."""
        return bool(self.fetched)


def origin_path(model: Path) -> Path:
    """Where the origin of the model file `model` is written."""
    return model.with_name(f".{model.name}.origin.json")


def read_origin(model: Path) -> Origin | None:
    """The origin of a model file; None if it was not fetched, or what is written is damaged."""
    path = origin_path(model)
    try:
        return from_table(Origin, read_object(path), str(path))
    except SosieError:
        return None


def write_origin(model: Path, origin: Origin) -> None:
    """Writes the origin of `model`, whole or not at all."""
    write_json(origin_path(model), asdict(origin))
