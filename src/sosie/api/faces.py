"""What engines ask about faces, answered from a character's references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sosie.core import Character, Finding, Guide, Plan, Stage
from sosie.core.errors import NotFoundError
from sosie.core.finding import Rule
from sosie.core.schema import digest
from sosie.faces.choose import choose_face
from sosie.faces.detect import Face
from sosie.faces.encoders import ArcFaceOnnx, similarity
from sosie.faces.references import face_crops, identity_embedding, raw_identity_embedding
from sosie.faces.templates import kept
from sosie.faces.views import asked_turn, views
from sosie.families import guides_of
from sosie.files.images import read_image
from sosie.workspace.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

E020 = Rule("SOS-E020", "warning", "There is no face to draw anew")
E021 = Rule("SOS-E021", "warning", "The face is too small to be drawn anew")
E022 = Rule("SOS-E022", "warning", "The face is turned too far to be drawn anew")
E023 = Rule("SOS-E023", "warning", "Two faces are equally like the character")

LEFT_ALONE = {"no face": E020, "too small": E021, "turned": E022, "ambiguous": E023}
"""Why a face is not drawn anew, as findings."""

HINTS = {
    "no face": "use an image in which the character's face can be seen",
    "too small": "upscale the image first, or lower [stages.detail] min_face in a copy of the recipe",
    "turned": "use a pose that is less turned, or raise [stages.detail] max_yaw in a copy of the recipe",
    "ambiguous": "crop the image to the character",
}


class SessionFaces:
    """Keeps the protocol `families.Faces` for the characters of a session's workspace.

    `files` has the guides' encoders by the names that they are asked by.
    """

    def __init__(self, session: Session, files: Mapping[str, Path]) -> None:
        self._session = session
        self._files = files
        self._encoder = cache(self._open)

    def embedding(self, guide: Guide, plan: Plan) -> NDArray[np.float32]:
        """The embedding [d] that the guide's adapter is fed, kept between commands.

        Of unit norm for FaceID; for InstantID with the norm that its encoder usually gives.
        """
        paths = self._session.reference_paths(plan.character)
        key = digest(["guide", 2, list(paths), plan.asset(guide.encoder).sha256, guide.kind, guide.references])
        folder = self._session.workspace.state / "templates"
        return kept(folder / f"{key[:32]}.npy", partial(self._embed, guide, plan))

    def crops(self, guide: Guide, plan: Plan) -> Sequence[Image]:
        """The aligned faces of the guide's references (RGB, 224x224)."""
        return face_crops(self._references(plan), self._session.detector, guide.references)

    def portraits(self, guide: Guide, plan: Plan) -> Sequence[Image]:
        """The references that show the character best for what the plan's prompt asks, framed as the guide says."""
        people = plan.character.cast or (plan.character,)
        asked, head, each = asked_turn(plan.prompt), guide.framing == "head", guide.references // len(people)
        return [
            view
            for person in people
            for view in views(self._pictures(person), self._session.detector, max(1, each), asked, head=head)
        ]

    def find(self, image: Image, plan: Plan, stage: Stage) -> Face | Finding:
        """The character's face by the encoder of the stage's first guide that has one; the largest one without."""
        pixels = np.asarray(image.convert("RGB"))
        faces = self._session.detector.detect(pixels)
        limits = stage.detail
        guide = next((guide for guide in stage.guides if guide.encoder), None)
        if guide is not None and (len(faces) > 1 or (limits.far and guide.encoder in self._files)):
            encoder, wanted = self._encoder(guide.encoder), self.embedding(guide, plan)
            alike = [similarity("cosine", wanted, encoder.embed(pixels, face)) for face in faces]
            faces = [replace(face, likeness=value) for face, value in zip(faces, alike, strict=True)]
        else:
            alike = [face.box[2] * face.box[3] / pixels.size for face in faces]
        lead = 0.05 if guide is not None else 0.0
        choice = choose_face(faces, alike, min_interocular=limits.min_face, max_yaw=limits.max_yaw, min_lead=lead)
        if choice.index is not None:
            return faces[choice.index]
        why = choice.problem or "no face"
        message = f"the face of '{plan.character.name}' was left as it is: {choice.reason}"
        return LEFT_ALONE[why].at(plan.character.name, message, HINTS[why])

    def _embed(self, guide: Guide, plan: Plan) -> NDArray[np.float32]:
        families = (stage.family for stage in plan.stages if guide in stage.guides)
        kinds = (guides_of(family).kind(guide.kind) for family in families)
        embed = raw_identity_embedding if any(kind and kind.raw for kind in kinds) else identity_embedding
        return embed(self._references(plan), self._session.detector, self._encoder(guide.encoder), guide.references)

    def _references(self, plan: Plan) -> list[Image]:
        return self._pictures(plan.character)

    def _pictures(self, character: Character) -> list[Image]:
        paths = self._session.reference_paths(character)
        if not paths:
            raise NotFoundError(f"character '{character.name}' has no references", "sosie new CHARACTER IMAGES...")
        return [read_image(path) for path in paths.values()]

    def _open(self, name: str) -> ArcFaceOnnx:
        if name not in self._files:
            raise NotFoundError(f"face encoder '{name}' was not found", "sosie model list")
        return ArcFaceOnnx(name, self._files[name])
