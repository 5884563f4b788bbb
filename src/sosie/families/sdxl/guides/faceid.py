"""FaceID: an IP-Adapter that projects a face embedding to tokens.

In ComfyUI it is IPAdapterFaceID of cubiq's ComfyUI_IPAdapter_plus, with the value projection scaled alone, which is
plain IP-Adapter; the node asks for a CLIP vision model even where the weights use none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sosie.core import Guide
from sosie.families.contract.guides import (
    Conditioning,
    GuideInput,
    GuideKind,
    GuideStage,
    InGraphs,
    InProcess,
    Need,
    Scene,
)
from sosie.families.sdxl.guides.shared import key_points, references
from sosie.graph.build import Builder, WantedFile, wanted
from sosie.graph.guides import GuideNode

ENCODER, PACK = "w600k_r50", "buffalo_l"

FILES: Mapping[Need, str] = {"weights": "its adapter", "encoder": "its face encoder"}

VISION = "CLIP-ViT-H-14-laion2B-s32B-b79K"
"""The CLIP vision model that FaceID Plus v2 was trained with."""


def condition(asked: GuideInput) -> Conditioning:
    """The face's embedding, and the key points where the recipe asks for a ControlNet beside it."""
    return Conditioning(asked.embedding, control=key_points(asked))


def files(guide: Guide) -> tuple[WantedFile, ...]:
    """Its face encoder is none of them: the node looks for its pack by itself."""
    return (
        wanted(guide.weights, "IP-Adapter", "ipadapter", (".bin", ".safetensors")),
        wanted(guide.image_encoder or VISION, "image encoder", "clip_vision"),
        *((wanted(guide.lora, "LoRA", "loras"),) if guide.lora else ()),
    )


def draw(build: Builder, stage: GuideStage, scene: Scene) -> Scene:
    """The adapter in the model, with the LoRA that belongs to it."""
    guide = stage.guide
    faces = references(build, stage)
    weights, vision, *loras = files(guide)
    model = scene.model
    for file in loras:
        (model,) = build.add("LoraLoaderModelOnly", model=model, lora_name=file, strength_model=guide.lora_weight)
    (adapter,) = build.add("IPAdapterModelLoader", ipadapter_file=weights)
    (image_encoder,) = build.add("CLIPVisionLoader", clip_name=vision)
    (analysis,) = build.add("IPAdapterInsightFaceLoader", model_name=PACK)
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


NODES = (
    GuideNode(
        "IPAdapterFaceID",
        (("weight", 0.0), ("weight_faceidv2", 0.0)),
        "faceid",
        "weight",
        weights=("ipadapter", "ipadapter_file"),
        encoder=("insightface", "model_name"),
        image_encoder=("clip_vision", "clip_name"),
    ),
    GuideNode("IPAdapterFaceIDKolors", (("weight", 0.0), ("weight_faceidv2", 0.0), ("weight_kolors", 0.0))),
    GuideNode("IPAdapterUnifiedLoaderFaceID", (("lora_strength", 0.0),), is_loader=True, pack=PACK),
    GuideNode("IPAdapterInsightFaceLoader", (), is_loader=True, pack=PACK),
)

GUIDE = GuideKind(
    "faceid",
    ("sdxl",),
    encoder=ENCODER,
    pack=PACK,
    needs=FILES,
    in_process=InProcess(condition, ("adapter", "control"), "faceid"),
    in_graphs=InGraphs(files, draw),
    nodes=NODES,
)
