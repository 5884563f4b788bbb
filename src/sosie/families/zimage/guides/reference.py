"""Reference images, as Z-Image Omni takes them: tokens of SigLIP2, and latents beside the picture's own.

Weights without `siglip_*` tensors have no place for the first and were never trained on the second; Omni's are not
published (November 2026). In ComfyUI it is TextEncodeZImageOmni, which takes up to three pictures.
"""

from __future__ import annotations

from dataclasses import replace

from sosie.core import Guide
from sosie.families.contract.guides import GuideKind, GuideStage, InGraphs, Scene
from sosie.graph.build import Builder, GraphPicture, WantedFile, wanted
from sosie.graph.guides import GuideNode

SLOTS = ("image1", "image2", "image3")

NODE = GuideNode("TextEncodeZImageOmni", tuple((slot, None) for slot in SLOTS))


def files(guide: Guide) -> tuple[WantedFile, ...]:
    """SigLIP2 alone."""
    return (wanted(guide.image_encoder, "image encoder", "clip_vision"),)


def draw(build: Builder, stage: GuideStage, scene: Scene) -> Scene:
    """The prompt is encoded anew, with the pictures."""
    (encoder,) = build.add("CLIPVisionLoader", clip_name=files(stage.guide)[0])
    count = max(1, min(stage.guide.references, stage.given.portraits, len(SLOTS)))
    pictures = {
        slot: build.add("LoadImage", f"Reference {number}", image=GraphPicture(f"reference {number}"))[0]
        for number, slot in enumerate(SLOTS[:count], 1)
    }
    words = {"clip": scene.clip, "prompt": stage.given.words, "vae": scene.vae, "image_encoder": encoder}
    (positive,) = build.add(NODE.kind, "Positive prompt with references", **words, **pictures)
    return replace(scene, positive=positive)


GUIDE = GuideKind(
    "reference",
    ("zimage",),
    role="",
    needs={"image_encoder": "SigLIP2"},
    in_graphs=InGraphs(files, draw),
)
