"""The toy as nodes of its own."""

from __future__ import annotations

from sosie.core import Finding, Plan, Stage
from sosie.families import guides_of
from sosie.families.contract.graphs import GraphChoices, GraphStage
from sosie.families.contract.guides import Scene, guide_files, guided
from sosie.graph.build import Builder, WantedFile, wanted
from sosie.graph.graph import Link

VERSION = ""


def check(stage: Stage, plan: Plan, choices: GraphChoices) -> list[Finding]:
    return []


def names(stage: Stage) -> tuple[WantedFile, ...]:
    return (wanted(stage.model, "checkpoint", "checkpoints"), *guide_files(guides_of("toy"), stage.guides))


def draw(build: Builder, given: GraphStage) -> Link:
    (toy,) = build.add("ToyLoader", toy_name=names(given.stage)[0])
    toy = guided(guides_of("toy"), build, given, Scene(toy)).model
    width, height = given.size
    return build.add("ToySampler", toy=toy, seed=given.seed, width=width, height=height, text=given.prompt)[0]
