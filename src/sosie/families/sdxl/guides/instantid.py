"""InstantID (Wang et al. 2024, arXiv:2401.07519): an adapter fed by the raw embedding, and a ControlNet of key points.

In ComfyUI it is cubiq's ComfyUI_InstantID. Of ApplyInstantIDAdvanced, `ip_weight` is the guide's scale, `cn_strength`
that of its key points, `noise` 0 the zero embedding that InstantID was published with. It draws the key points of the
face that it finds in `image_kps`, and takes that picture as it is if it finds none: given Sosie's own drawing, it is
led by exactly the points that Sosie chose.
"""

from __future__ import annotations

from dataclasses import replace

from sosie.core import Guide
from sosie.families.contract.guides import (
    POINTS,
    Conditioning,
    GuideInput,
    GuideKind,
    GuideStage,
    InGraphs,
    InProcess,
    Scene,
)
from sosie.families.sdxl.guides.shared import key_points, references
from sosie.graph.build import Builder, GraphPicture, WantedFile, wanted
from sosie.graph.guides import GuideNode

PACK = "antelopev2"

ADAPTERS = ("ip-adapter.bin", "ip-adapter_instant_id_sdxl.bin")
CONTROLNETS = (
    "instantid/diffusion_pytorch_model.safetensors",
    "SDXL/instantid/diffusion_pytorch_model.safetensors",
    "control_instant_id_sdxl.safetensors",
)
"""Names under which InstantID's two files lie on servers: its own, ComfyUI-Manager's, and sd-webui-controlnet's."""


def condition(asked: GuideInput) -> Conditioning:
    """The face's embedding as its encoder gives it, and where the face is to be."""
    return Conditioning(asked.embedding, control=key_points(asked))


def files(guide: Guide) -> tuple[WantedFile, ...]:
    """Adapter and ControlNet. The face encoder is none of them: the nodes look for their pack by themselves."""
    adapter = wanted(guide.weights, "InstantID", "instantid", (".bin", ".safetensors"), ADAPTERS)
    controlnet = guide.keypoints.controlnet if guide.keypoints else ""
    return (adapter, *((_controlnet(controlnet),) if controlnet else ()))


def draw(build: Builder, stage: GuideStage, scene: Scene) -> Scene:
    """Without a picture of key points InstantID guides by the face alone."""
    guide, points = stage.guide, stage.guide.keypoints
    faces = references(build, stage)
    weights, *controlnets = files(guide)
    (adapter,) = build.add("InstantIDModelLoader", instantid_file=weights)
    (analysis,) = build.add("InstantIDFaceAnalysis")
    if points is None or not stage.has_points:
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
    model, positive, negative = build.add(
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
    return replace(scene, model=model, positive=positive, negative=negative)


def _controlnet(asset: str) -> WantedFile:
    """InstantID's ControlNet: its own file name says nothing, so the names that do come first."""
    found = wanted(asset, "ControlNet", "controlnet")
    return WantedFile(asset, tuple(dict.fromkeys((*CONTROLNETS, *found.names))), found.role, found.folder)


def _node(kind: str, scale: str, *more: str) -> GuideNode:
    return GuideNode(
        kind,
        tuple((name, 0.0) for name in (scale, *more)),
        "instantid",
        scale,
        weights=("instantid", "instantid_file"),
        controlnet=("control_net", "control_net_name"),
    )


NODES = (
    _node("ApplyInstantID", "weight"),
    _node("ApplyInstantIDAdvanced", "ip_weight", "cn_strength"),
    _node("InstantIDAttentionPatch", "weight"),
    GuideNode("ApplyInstantIDControlNet", (("strength", 0.0),)),
    GuideNode("InstantIDFaceAnalysis", (), is_loader=True, pack=PACK, nests=True),
)

GUIDE = GuideKind(
    "instantid",
    ("sdxl",),
    "instantid",
    stand_ins=("faceid, reduced",),
    encoder="glintr100",
    pack=PACK,
    raw=True,
    needs={"weights": "its adapter", "encoder": "its face encoder", "keypoints": "its ControlNet"},
    in_process=InProcess(condition, ("adapter", "control"), "instantid"),
    in_graphs=InGraphs(files, draw),
    nodes=NODES,
)
