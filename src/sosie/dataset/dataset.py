"""What a LoRA is trained on: pictures with their captions, triggers and faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core.errors import NotFoundError
from sosie.core.notation import literal
from sosie.core.prompt import with_trigger
from sosie.core.schema import digest
from sosie.dataset.given import layout_of, read_captions
from sosie.dataset.names import KINDS

if TYPE_CHECKING:
    from sosie.faces.detect import Face


@dataclass(frozen=True, eq=False)
class TrainingImage:
    """One picture: its file and SHA-256, caption (None: it has none), trigger and face, in the file's upright pixels.

    Without a face every pixel counts alike. `alternatives` are further captions: a step takes one of all. `prompts`, in
    `core.notation`, are read in place of the captions, if there are any. `regularisation` pictures show what the
    class of the character looks like without the trigger; they have none. `repeats` is how often the picture comes
    while one of 1 comes once.
    """

    path: Path
    sha256: str
    caption: str | None = None
    trigger: str = ""
    face: Face | None = None
    character: str = ""
    regularisation: bool = False
    prompts: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    repeats: int = 1

    @property
    def text(self) -> str:
        """The first of `texts`."""
        return self.texts[0]

    @property
    def texts(self) -> tuple[str, ...]:
        """What the text encoders read, in `core.notation`: each caption word for word, the trigger in front."""
        if self.prompts:
            return self.prompts
        triggers = [literal(self.trigger)] if self.trigger else []
        return tuple(with_trigger(literal(text), triggers) for text in (self.caption or "", *self.alternatives))


def read_folder(folder: Path, trigger: str, character: str = "") -> tuple[TrainingImage, ...]:
    """The images of `folder` (`layout_of`) with their captions, by name; faces are left to the caller.

    A folder of regularisation images has the trigger "". NotFoundError if there are no images.
    """
    from sosie.files.images import image_digest

    if not folder.is_dir():
        raise NotFoundError(f"{folder} is not a folder; expected one with images and captions")
    pictures = layout_of(folder).pictures
    if not pictures:
        raise NotFoundError(f"{folder} has no images; {KINDS}, with captions")
    captions = read_captions(folder, [placed.name for placed in pictures])
    return tuple(
        TrainingImage(
            placed.path,
            image_digest(placed.path),
            captions.texts.get(placed.name),
            trigger,
            None,
            character,
            not trigger,
            alternatives=captions.others.get(placed.name, ()),
            repeats=placed.repeats * captions.repeats.get(placed.name, 1),
        )
        for placed in pictures
    )


def dataset_digest(images: Sequence[TrainingImage]) -> str:
    """SHA-256 over the pictures' digests, texts, faces and parts, in their order; 64 hex digits."""
    rows = [
        [
            image.sha256,
            image.text,
            image.trigger,
            image.regularisation,
            None if image.face is None else [float(value) for value in image.face.box],
            *([[*image.texts[1:]], image.repeats] if len(image.texts) > 1 or image.repeats > 1 else []),
        ]
        for image in images
    ]
    return digest(rows)
