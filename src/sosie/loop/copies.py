"""Whether images of a recipe repeat what guided them: the copy-paste index of a `generate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sosie.core import Character, Guide
from sosie.core.errors import SosieError
from sosie.core.schema import digest
from sosie.faces.encoders import ArcFaceOnnx, Encoder
from sosie.faces.references import guiding_places
from sosie.faces.templates import kept
from sosie.faces.views import viewing_places
from sosie.families import families
from sosie.files.images import read_image
from sosie.scorers.copy_paste import COPY_PASTE, CopyPaste
from sosie.scorers.scorer import Scale
from sosie.workspace.bill import Bill
from sosie.workspace.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sosie.core import Score
    from sosie.scorers.sample import Sample

VERSION = 2


@dataclass(frozen=True, eq=False)
class Copies:
    """The scorer `copy_paste` of a recipe's images; what it compares with is looked at when the first is scored."""

    open: Callable[[], CopyPaste]
    name: str = "copy_paste"
    needs: tuple[str, ...] = ()
    scales: tuple[Scale, ...] = (COPY_PASTE,)

    @cached_property
    def _index(self) -> CopyPaste | str:
        """What measures, or why it is not known what guided."""
        try:
            return self.open()
        except SosieError as error:
            return error.message

    def score(self, sample: Sample, /) -> list[Score]:
        """As `CopyPaste`; no value, and why, where it is not known what guided."""
        index = self._index
        return [COPY_PASTE.unmeasured(index)] if isinstance(index, str) else index.score(sample)


def copies_of(session: Session, character: Character, untaught: Character, bill: Bill) -> Copies | None:
    """The index of the images that a bill's stages draw; None if nothing guides them, or every judge does.

    The references that guide are those that its guides choose, and those that the character's LoRAs have seen, where
    one acts: all but those of `untaught`. The others of `untaught` are what the person looks like beside them.
    """
    guides = tuple(dict.fromkeys(guide for stage in bill.stages for guide in stage.guides))
    own = {character.lora_name(lora) for lora in character.loras}
    learned = any(use.file in own for stage in bill.stages for use in stage.loras)
    guiding = {bill.digests[guide.encoder] for guide in guides if guide.encoder}
    encoder = next((one for one in session.judges[0].values() if one.sha256 not in guiding), None)
    if encoder is None or not (guides or learned):
        return None
    here = () if bill.remote else [guide.encoder for guide in guides if guide.encoder]
    encoders = {name: (bill.digests[name], bill[name].located) for name in here}
    unseen = frozenset(reference.sha256 for reference in untaught.references)
    taught = frozenset(reference.sha256 for reference in character.references) - unseen if learned else frozenset[str]()
    return Copies(_Index(session, character, encoder, guides, encoders, taught, unseen))


@dataclass(frozen=True, eq=False)
class _Index:
    """The references of a character, by their SHA-256; what is seen in them is kept between commands.

    `encoders` are digest and file of the guides' encoders that are here. Of the references, `taught` are those that a
    LoRA has seen, and `unseen` those that none may have.
    """

    session: Session
    character: Character
    encoder: Encoder
    guides: tuple[Guide, ...]
    encoders: Mapping[str, tuple[str, Path]]
    taught: frozenset[str]
    unseen: frozenset[str]

    def __call__(self) -> CopyPaste:
        """What measures: it looks at the references now."""
        chosen = {*self.taught, *(sha256 for guide in self.guides for sha256 in self.guiding(guide))}
        return CopyPaste(self.encoder, self.vectors(chosen), self.vectors(self.unseen - chosen))

    @cached_property
    def paths(self) -> Mapping[str, Path]:
        return self.session.reference_paths(self.character)

    @property
    def _folder(self) -> Path:
        return self.session.workspace.state / "templates"

    def guiding(self, guide: Guide) -> list[str]:
        """The references that a guide chooses; where its encoder is not here, a server takes the most frontal ones.

        Of a guide by which the model sees them, those that it is shown unless the prompt asks for a turned head.
        """
        by, path = self.encoders.get(guide.encoder, ("", None))
        shown = [guide.kind] if self._shows(guide) else []
        key = digest(["guiding", VERSION, list(self.paths), by, guide.references, *shown])

        def compute() -> NDArray[np.float32]:
            encoder = ArcFaceOnnx(guide.encoder, path) if path else None
            images = [read_image(path) for path in self.paths.values()]
            if shown:
                return np.asarray(viewing_places(images, self.session.detector, guide.references), np.float32)
            places = guiding_places(images, self.session.detector, guide.references, encoder)
            return np.asarray(places, np.float32)

        names = list(self.paths)
        return [names[int(place)] for place in kept(self._folder / f"{key[:32]}.npy", compute)]

    def _shows(self, guide: Guide) -> bool:
        """Whether the model sees the references themselves by it."""
        return any(kind.name == guide.kind and kind.shows for family in families() for kind in family.guides.kinds)

    def vectors(self, chosen: Set[str]) -> NDArray[np.float32]:
        """The embeddings [n, d] of these references, without those that show no face."""
        found = [vector for sha256 in self.paths if sha256 in chosen for vector in self._vector(sha256)]
        return np.stack(found) if found else np.zeros((0, 1), np.float32)

    def _vector(self, sha256: str) -> Iterator[NDArray[np.float32]]:
        key = digest(["reference", VERSION, sha256, self.encoder.sha256])

        def compute() -> NDArray[np.float32]:
            pixels = np.asarray(read_image(self.paths[sha256]))
            faces = self.session.detector.detect(pixels)
            return self.encoder.embed(pixels, faces[0]) if faces else np.zeros(0, np.float32)

        vector = kept(self._folder / f"{key[:32]}.npy", compute)
        if len(vector):
            yield vector
