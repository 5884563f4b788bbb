"""A session: one command's open store, face detector and judges, each made when first used."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sosie.core import Character
from sosie.core.errors import BadModelError, NotFoundError
from sosie.files.digest import asset_digest
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

    from sosie.faces.detect import Detector
    from sosie.faces.encoders import Encoder
    from sosie.store import Store


class Session:
    """What the use cases share. `close`, or the end of a `with` block, closes what it opened."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._store: Store | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens what it uses anew."""
        return Session, (self.workspace,)

    def close(self) -> None:
        """Closes the store, if it was opened."""
        if self._store is not None:
            self._store.close()

    @property
    def store(self) -> Store:
        """The workspace's store, opened (and migrated) at first use."""
        if self._store is None:
            from sosie.store import Store

            self._store = Store.open(self.workspace.state)
        return self._store

    @cached_property
    def detector(self) -> Detector:
        """YuNet."""
        from sosie.faces.detect import Detector

        return Detector()

    @cached_property
    def judges(self) -> tuple[Mapping[str, Encoder], Mapping[str, str]]:
        """The installed judges by name, and why the others are absent."""
        from sosie.faces.encoders import judge_encoders

        plugged: dict[str, Path] = {}
        for name, judge in self.workspace.config.judges.items():
            path = plugged[name] = self.workspace.path(judge.onnx)
            if not path.is_file():
                raise NotFoundError(f"judge '{name}' in sosie.toml: {path} does not exist", "edit sosie.toml")
            if judge.sha256 and asset_digest(path) != judge.sha256:
                raise BadModelError(
                    f"judge '{name}' in sosie.toml: {path} has another SHA-256 than the one written there"
                )
        return judge_encoders(plugged)

    def reference_paths(self, character: Character) -> dict[str, Path]:
        """SHA-256 to file, for every reference of a character, or of all in its cast."""
        if character.cast:
            return {key: path for person in character.cast for key, path in self.reference_paths(person).items()}
        folder = self.workspace.character_folder(character.name)
        return {reference.sha256: folder / reference.file for reference in character.references}

    def source_image(self, pixels: str) -> Image:
        """The stored image (RGB) whose decoded pixels have that digest."""
        from sosie.files.images import read_image

        return read_image(self.store.find_image(pixels))
