"""A guide of SDXL as another distribution brings it: the colours of a face as one more word of the prompt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from safetensors.numpy import load_file

from sosie.core import Guide
from sosie.families.contract.guides import Conditioning, GuideInput, GuideKind, GuideStage, InGraphs, InProcess, Scene
from sosie.files.signature import Mark, Part
from sosie.graph.build import Builder, GraphPicture, WantedFile, wanted
from sosie.graph.guides import GuideNode
from sosie.graph.nodes import NodePack


def condition(asked: GuideInput) -> Conditioning:
    (face, *_) = asked.given.faces.crops(asked.guide, asked.given.plan)
    weight = load_file(asked.given.paths[asked.guide.weights])["face_token.weight"]
    return Conditioning(text=asked.guide.scale * (np.asarray(face, np.float32).mean((0, 1)) / 255)[None] @ weight)


def files(guide: Guide) -> tuple[WantedFile, ...]:
    return (wanted(guide.weights, "face token", "ipadapter"),)


def draw(build: Builder, stage: GuideStage, scene: Scene) -> Scene:
    (faces, _) = build.add("LoadImage", image=GraphPicture("reference 1"))
    inputs = {"conditioning": scene.positive, "faces": faces, "strength": stage.guide.scale}
    (positive,) = build.add("FaceToken", token_name=files(stage.guide)[0], **inputs)
    return replace(scene, positive=positive)


PACK = NodePack(
    "Face tokens",
    "https://example.org/face-tokens",
    """
FaceToken -> CONDITIONING
  token_name FILE ipadapter, conditioning CONDITIONING, faces IMAGE, strength FLOAT 1 0:10
""",
)

GUIDE = GuideKind(
    "facetoken",
    ("sdxl",),
    needs={"weights": "the face token"},
    in_process=InProcess(condition, ("text",)),
    in_graphs=InGraphs(files, draw),
    nodes=(GuideNode("FaceToken", (("strength", 0.0),), "facetoken", "strength", weights=("", "token_name")),),
    packs=(PACK,),
    parts=(Part("ip-adapter", "face token", (Mark("face_token.weight"),), variant="facetoken"),),
)
