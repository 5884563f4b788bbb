"""The toy as nodes of its own."""

from __future__ import annotations

from sosie.core import Finding, Plan, Stage
from sosie.families.contract.graphs import GraphChoices, GraphStage
from sosie.graph.build import Builder, GraphPicture, WantedFile, wanted
from sosie.graph.graph import Link

VERSION = ""


def check(stage: Stage, plan: Plan, choices: GraphChoices) -> list[Finding]:
    return []


def names(stage: Stage) -> tuple[WantedFile, ...]:
    return (wanted(stage.model, "checkpoint", "checkpoints"),)


def draw(build: Builder, given: GraphStage) -> Link:
    (toy,) = build.add("ToyLoader", toy_name=names(given.stage)[0])
    faces = {"faces": build.add("LoadImage", image=GraphPicture("reference 1"))[0]} if given.portraits else {}
    width, height = given.size
    return build.add("ToySampler", toy=toy, seed=given.seed, width=width, height=height, text=given.prompt, **faces)[0]
