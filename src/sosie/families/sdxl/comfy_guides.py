"""Identity guides as nodes: cubiq's ComfyUI_InstantID and ComfyUI_IPAdapter_plus.

InstantID: of ApplyInstantIDAdvanced, `ip_weight` is the guide's scale, `cn_strength` that of its key points,
`noise` 0 the zero embedding that InstantID was published with. It draws the key points of the face that it
finds in `image_kps`, and takes that picture as it is if it finds none: given Sosie's own drawing, it is led by
exactly the points that Sosie chose. FaceID: IPAdapterFaceID with the value projection scaled alone, which is plain
IP-Adapter; its node asks for a CLIP vision model even where the weights use none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from sosie.core import Guide
from sosie.core.finding import Rule
from sosie.core.stage_rules import E008, E012
from sosie.families.sdxl.guides import GUIDES
from sosie.graph.build import Builder, GraphPicture, WantedFile, wanted
from sosie.graph.graph import Link

E013 = Rule("SOS-E013", "error", "A guide is fed by a face encoder that ComfyUI's node does not use")

POINTS = "key points"
"""What the picture of the key points is called."""

PACKS = {kind.name: kind.pack for kind in GUIDES.kinds if kind.pack}
"""InsightFace's pack that the node of a guide reads by itself."""

ENCODERS = {kind.pack: (kind.encoder, kind.pack) for kind in GUIDES.kinds if kind.pack}
"""The face encoder of a pack, by the names that recipes may give it."""

VISION = "CLIP-ViT-H-14-laion2B-s32B-b79K"
"""The CLIP vision model that FaceID Plus v2 was trained with."""

INSTANTID_FILES = ("ip-adapter.bin", "ip-adapter_instant_id_sdxl.bin")
CONTROLNETS = (
    "instantid/diffusion_pytorch_model.safetensors",
    "SDXL/instantid/diffusion_pytorch_model.safetensors",
    "control_instant_id_sdxl.safetensors",
)
"""Names under which InstantID's two files lie on servers: its own, ComfyUI-Manager's, and sd-webui-controlnet's."""


@dataclass(frozen=True)
class Scene:
    """What a sampler draws with: the patched model and both texts."""

    model: Link
    positive: Link
    negative: Link

    @property
    def inputs(self) -> dict[str, Link]:
        """As inputs of a sampling node."""
        return {"model": self.model, "positive": self.positive, "negative": self.negative}


def complaint(guide: Guide) -> tuple[Rule, str] | None:
    """Rule and sentence of why a guide cannot be run on ComfyUI; None if it can."""
    if guide.kind not in PACKS:
        return E012, f"guide '{guide.kind}' has no node for SDXL; expected {', '.join(PACKS)}"
    pack = PACKS[guide.kind]
    stem = PurePosixPath(guide.encoder.rpartition(":")[2].replace("\\", "/")).stem
    if stem not in ENCODERS[pack]:
        message = (
            f"guide '{guide.kind}' is fed by the face encoder '{guide.encoder}'; ComfyUI's node measures faces by "
            f"{ENCODERS[pack][0]} of {pack}, and takes no other"
        )
        return E013, message
    if guide.kind == "instantid" and guide.keypoints is None:
        return E008, "guide 'instantid' has no [stages.guides.keypoints]; expected its ControlNet"
    if guide.kind == "faceid-plus-v2" and not guide.image_encoder:
        return E008, "guide 'faceid-plus-v2' has no image_encoder; expected CLIP ViT-H"
    points = guide.keypoints
    if points and not 0 <= points.start < points.end <= 1:
        return E008, f"its key points act from {points.start:g} to {points.end:g}; expected 0 to 1"
    return None


def names(guide: Guide) -> tuple[WantedFile, ...]:
    """The guide's files. Its face encoder is none of them: the nodes look for their packs by themselves."""
    if guide.kind == "instantid":
        controlnet = guide.keypoints.controlnet if guide.keypoints else ""
        files = [wanted(guide.weights, "InstantID", "instantid", (".bin", ".safetensors"), INSTANTID_FILES)]
        return (*files, _controlnet(controlnet)) if controlnet else tuple(files)
    return (
        wanted(guide.weights, "IP-Adapter", "ipadapter", (".bin", ".safetensors")),
        wanted(guide.image_encoder or VISION, "image encoder", "clip_vision"),
        *((wanted(guide.lora, "LoRA", "loras"),) if guide.lora else ()),
    )


def apply(build: Builder, guide: Guide, scene: Scene, portraits: int, *, has_points: bool) -> Scene:
    """Adds a guide's nodes. Without `has_points` there is no picture of key points, and InstantID guides by the face.

    `portraits` is how many pictures of the character there are; the guide's number of references is taken.
    """
    faces = _references(build, max(1, min(guide.references, portraits)))
    if guide.kind == "instantid":
        return _instantid(build, guide, scene, faces, has_points)
    weights, vision, *loras = names(guide)
    model = scene.model
    for file in loras:
        (model,) = build.add("LoraLoaderModelOnly", model=model, lora_name=file, strength_model=guide.lora_weight)
    (adapter,) = build.add("IPAdapterModelLoader", ipadapter_file=weights)
    (image_encoder,) = build.add("CLIPVisionLoader", clip_name=vision)
    (analysis,) = build.add("IPAdapterInsightFaceLoader", model_name=PACKS[guide.kind])
    model, _ = build.add(
        "IPAdapterFaceID",
        model=model,
        ipadapter=adapter,
        image=faces,
        weight=guide.scale,
        weight_faceidv2=1.0,
        combine_embeds="average",
        embeds_scaling="V only",
        clip_vision=image_encoder,
        insightface=analysis,
    )
    return replace(scene, model=model)


def _instantid(build: Builder, guide: Guide, scene: Scene, faces: Link, has_points: bool) -> Scene:
    weights, *controlnets = names(guide)
    (adapter,) = build.add("InstantIDModelLoader", instantid_file=weights)
    (analysis,) = build.add("InstantIDFaceAnalysis")
    points = guide.keypoints
    if points is None or not has_points:
        model, _ = build.add(
            "InstantIDAttentionPatch",
            instantid=adapter,
            insightface=analysis,
            image=faces,
            model=scene.model,
            weight=guide.scale,
        )
        return replace(scene, model=model)
    (controlnet,) = build.add("ControlNetLoader", control_net_name=controlnets[0])
    (drawn,) = build.add("LoadImage", "Key points", image=GraphPicture(POINTS))[:1]
    patched = build.add(
        "ApplyInstantIDAdvanced",
        instantid=adapter,
        insightface=analysis,
        control_net=controlnet,
        image=faces,
        **scene.inputs,
        ip_weight=guide.scale,
        cn_strength=points.scale,
        start_at=points.start,
        end_at=points.end,
        noise=0.0,
        image_kps=drawn,
    )
    return Scene(*patched)


def _controlnet(asset: str) -> WantedFile:
    """InstantID's ControlNet: its own file name says nothing, so the names that do come first."""
    found = wanted(asset, "ControlNet", "controlnet")
    return WantedFile(asset, tuple(dict.fromkeys((*CONTROLNETS, *found.names))), found.role, found.folder)


def _references(build: Builder, count: int) -> Link:
    """The pictures of the character as one batch. They are squares of one size, so that nothing is cut off."""
    batch, *others = (
        build.add("LoadImage", f"Reference {number}", image=GraphPicture(f"reference {number}"))[0]
        for number in range(1, count + 1)
    )
    for picture in others:
        (batch,) = build.add("ImageBatch", image1=batch, image2=picture)
    return batch
