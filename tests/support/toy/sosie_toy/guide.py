"""The toy's guide: the toy takes the reference itself."""

from __future__ import annotations

from dataclasses import replace

from sosie.core import Guide
from sosie.families.contract.guides import Conditioning, GuideInput, GuideKind, GuideStage, InGraphs, InProcess, Scene
from sosie.graph.build import Builder, GraphPicture, WantedFile


def condition(asked: GuideInput) -> Conditioning:
    return Conditioning(images=tuple(asked.given.faces.crops(asked.guide, asked.given.plan)))


def files(guide: Guide) -> tuple[WantedFile, ...]:
    return ()


def draw(build: Builder, stage: GuideStage, scene: Scene) -> Scene:
    (faces, _) = build.add("LoadImage", image=GraphPicture("reference 1"))
    return replace(scene, model=build.add("ToyFace", toy=scene.model, faces=faces)[0])


TOYFACE = GuideKind(
    "toyface",
    ("toy",),
    encoder="w600k_r50",
    pack="buffalo_l",
    needs={"encoder": "its face encoder"},
    in_process=InProcess(condition, ("images",)),
    in_graphs=InGraphs(files, draw),
)
