"""FaceID Plus v2: FaceID that also looks at the face with CLIP. In graphs it is the same node."""

from __future__ import annotations

from sosie.core.errors import EngineError
from sosie.families.contract.guides import Conditioning, GuideInput, GuideKind, InGraphs, InProcess
from sosie.families.sdxl.guides.faceid import ENCODER, FILES, PACK, draw, files
from sosie.families.sdxl.guides.shared import key_points


def condition(asked: GuideInput) -> Conditioning:
    """The face's embedding, and the aligned face of the best reference."""
    crops = asked.given.faces.crops(asked.guide, asked.given.plan)
    if not crops:
        plan = asked.given.plan.id[:12]
        raise EngineError(f"guide '{asked.guide.kind}' of plan {plan} was given no face to look at")
    return Conditioning(asked.embedding, crops[0], control=key_points(asked))


GUIDE = GuideKind(
    "faceid-plus-v2",
    ("sdxl",),
    encoder=ENCODER,
    pack=PACK,
    needs={**FILES, "image_encoder": "CLIP ViT-H"},
    in_process=InProcess(condition, ("adapter", "control"), "faceid-plus-v2"),
    in_graphs=InGraphs(files, draw),
)
