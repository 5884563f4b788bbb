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

if TYPE_CHECKING:
    from sosie.faces.detect import Face


@dataclass(frozen=True, eq=False)
class TrainingImage:
    """One picture: its file and SHA-256, caption (None: it has none), trigger and face, in the file's upright pixels.

    Without a face every pixel counts alike. `prompt`, in `core.notation`, is read in place of the caption, if
    there is one. `regularisation` pictures show what the class of the character looks like without the trigger;
    they have none.
    """

    path: Path
    sha256: str
    caption: str | None = None
    trigger: str = ""
    face: Face | None = None
    character: str = ""
    regularisation: bool = False
    prompt: str = ""

    @property
    def text(self) -> str:
        """What the text encoders read, in `core.notation`: the caption word for word, the trigger in front."""
        if self.prompt:
            return self.prompt
        return with_trigger(literal(self.caption or ""), [literal(self.trigger)] if self.trigger else [])


def read_folder(folder: Path, trigger: str, character: str = "") -> tuple[TrainingImage, ...]:
    """The images directly in `folder` with their captions, by name; faces are left to the caller.

    A folder of regularisation images has the trigger "". Captions as `doctor.dataset` reads them: a
    `.txt` next to the image, `captions.jsonl` or `metadata.jsonl`. NotFoundError if there are no images.
    """
    from sosie.dataset.check import read_captions
    from sosie.files.images import image_digest
    from sosie.files.picture_kinds import pictures_in

    if not folder.is_dir():
        raise NotFoundError(f"{folder} is not a folder; expected one with images and captions")
    names = [path.name for path in pictures_in(folder)]
    if not names:
        raise NotFoundError(f"{folder} has no images; expected PNG, JPEG or WebP files with captions")
    texts = read_captions(folder, names).texts
    return tuple(
        TrainingImage(
            folder / name, image_digest(folder / name), texts.get(name), trigger, None, character, not trigger
        )
        for name in names
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
        ]
        for image in images
    ]
    return digest(rows)
