"""Plans as programs for ComfyUI: which stages share a graph, and what Sosie does between two graphs.

Stages that need nothing of Sosie in between are one graph, so that no image travels for nothing. A face pass is a
graph of its own: its square, mask and key points are made from the image so far, and its composite is made
here. Why: `docs/decisions/0008-comfy-graphs.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core import Finding, Plan, Stage
from sosie.core.errors import NotFoundError, UsageError
from sosie.core.finding import Rule, has_errors
from sosie.engines.comfy.program import CompiledGraph, GraphProgram, Step, from_built, png
from sosie.engines.guide_checks import check_guides
from sosie.families import families, grapher_of, guides_of
from sosie.families.contract.draws import Faces, StageInput, StageOutput
from sosie.families.contract.graphs import DrawsFaces, DrawsTiles, GraphChoices, GraphStage, Prepared
from sosie.families.contract.guides import GuideInput
from sosie.graph import Graph
from sosie.graph.build import Builder, BuiltGraph, GraphPicture

if TYPE_CHECKING:
    from PIL.Image import Image

E017 = Rule("SOS-E017", "error", "ComfyUI cannot load a model as it is stored")
E019 = Rule("SOS-E019", "error", "Sosie draws no graphs for a family")

PREFIX = "sosie"
"""What files are called on the server. Nothing of the user's is in it."""

TILED_DENOISE = 0.2
"""How much noise an enlarged image is drawn over with: the default of Ultimate SD Upscale's own node."""

IDS = 100
"""Ids of a plan's n-th graph begin after n times this many, so that all of them can be looked at as one."""


@dataclass(frozen=True, eq=False)
class GraphSupplies:
    """What compiling works with and does not look for itself.

    `called` maps assets to their files' names, where known; `unfit` those that no ComfyUI can load to the reason.
    `portraits` gives squares of one size (RGB) around the character's face, the most frontal first. `memory` is
    how many bytes of a GPU the plans want, as far as their families' figures and the files tell (0: not known).
    """

    faces: Faces
    portraits: Callable[[Plan], Sequence[Image]]
    paths: Mapping[str, Path] = field(default_factory=dict[str, Path])
    called: Mapping[str, str] = field(default_factory=dict[str, str])
    unfit: Mapping[str, str] = field(default_factory=dict[str, str])
    memory: int = 0


@dataclass(frozen=True)
class GraphPart:
    """Stages of a plan (their places in it) that are its `place`-th graph; `size` is that of the image it begins with.

    One that stands `alone` works on a piece of the image that Sosie cuts out and puts back.
    """

    place: int
    stages: tuple[int, ...]
    size: tuple[int, int]
    alone: bool = False


@dataclass(frozen=True, eq=False)
class GraphCompiler:
    """Turns plans into programs; keeps the protocol `engines.comfy.program.Compiler`."""

    supplies: GraphSupplies
    choices: GraphChoices = field(default_factory=GraphChoices)

    def __call__(self, plan: Plan, *, smaller: bool = False) -> GraphProgram:
        """The program of a plan; without steps if an error is among its findings."""
        choices = replace(self.choices, smaller=smaller or self.choices.smaller)
        findings = check_plan(plan, self.supplies.unfit, choices)
        if has_errors(findings):
            return GraphProgram((), tuple(findings))
        works = [_Work(plan, part, self.supplies, choices) for part in parts_of(plan, choices)]
        versions = (grapher_of(stage.family).VERSION for stage in plan.stages)
        newest = max(versions, key=lambda version: [int(number) for number in version.split(".") if number])
        return GraphProgram(tuple(work.step() for work in works), tuple(findings), self.supplies.memory, newest)


def check_plan(plan: Plan, unfit: Mapping[str, str], choices: GraphChoices) -> list[Finding]:
    """What cannot be done on ComfyUI, each thing once."""
    findings: list[Finding] = []
    for stage in plan.stages:
        try:
            family = grapher_of(stage.family)
        except NotFoundError as error:
            findings.append(E019.at(plan.recipe, error.message, error.hint))
            continue
        for asset in (file.asset for file in family.names(stage) if file.asset in unfit):
            message = f"'{asset}' cannot be loaded by ComfyUI: {unfit[asset]}"
            hint = f"sosie recipe copy {plan.recipe} NEW-NAME, and name a single file"
            findings.append(E017.at(plan.recipe, message, hint))
        findings += family.check(stage, plan, choices)
        findings += check_guides(stage, plan, "in graphs")
    return list(dict.fromkeys(findings))


def draw_plan(plan: Plan, called: Mapping[str, str], choices: GraphChoices) -> BuiltGraph:
    """All graphs of a plan next to each other, to be looked at; `called` as in `GraphSupplies`."""
    built = [draw_part(plan, part, called, choices) for part in parts_of(plan, choices)]
    return BuiltGraph(
        Graph({node.id: node for one in built for node in one.graph}),
        {at: file for one in built for at, file in one.files.items()},
        {at: picture for one in built for at, picture in one.pictures.items()},
        {node: group for one in built for node, group in one.groups.items()},
    )


def draw_part(
    plan: Plan, part: GraphPart, called: Mapping[str, str], choices: GraphChoices, portraits: int | None = None
) -> BuiltGraph:
    """One graph; its last node saves the image.

    Without a number of `portraits` there are as many as the character has references, or as the guides ask for.
    """
    stages = [(index, plan.stages[index]) for index in part.stages]
    if portraits is None:
        asked = max((guide.references for _, stage in stages for guide in stage.guides), default=0)
        portraits = len(plan.character.references) or asked
    build = Builder(1 + IDS * part.place, called)
    image, size = None, part.size
    build.group = _title(*stages[0])
    if part.place or plan.source:
        image = build.add("LoadImage", "Image so far", image=GraphPicture("source"))[0]
    for index, stage in stages:
        build.group = _title(index, stage)
        given = GraphStage(stage, plan, index, size, image, portraits, choices)
        image = grapher_of(stage.family).draw(build, given)
        size = _after(stage, size)
        if again := redrawn(plan, index, size, choices):
            build.group = f"{build.group}, redrawn in tiles"
            image = grapher_of(again.family).draw(build, replace(given, stage=again, size=size, source=image))
    build.add("SaveImage", "Result", images=image, filename_prefix=PREFIX)
    return build.built()


def redrawn(plan: Plan, index: int, size: tuple[int, int], choices: GraphChoices) -> Stage | None:
    """The stage by which an upscale of a plan is drawn over in tiles, `size` being what it has made; None: it is not.

    It is the last one that drew the whole picture, without its guides, which would see a face in every tile. A
    recipe whose own `refine` comes later has no need of it.
    """
    kinds = [stage.kind for stage in plan.stages[index:]]
    if not choices.tiles or kinds[0] != "upscale" or "refine" in kinds:
        return None
    whole = [stage for stage in plan.stages[:index] if stage.kind in ("generate", "refine")]
    draws = grapher_of(whole[-1].family) if whole else None
    if not isinstance(draws, DrawsTiles) or size[0] * size[1] <= draws.LARGE:
        return None
    sampler = replace(whole[-1].sampler, denoise=TILED_DENOISE)
    return replace(whole[-1], kind="refine", sampler=sampler, guides=())


def expect_effect(plans: Sequence[Plan], choices: GraphChoices) -> None:
    """Raises `UsageError` for a choice that changes no graph of any of the plans."""
    able = (family.title for family in families() if family.on_comfy and isinstance(family.on_comfy(), DrawsTiles))
    tiles = f"has no stage of {' or '.join(able)} that enlarges or refines a large image"
    wanted = {
        "--face-detailer": (GraphChoices(faces=choices.faces), "has no face pass"),
        "--tiles": (GraphChoices(tiles=choices.tiles), tiles),
    }
    for flag, (choice, why) in wanted.items():
        same = (draw_plan(plan, {}, choice).graph == draw_plan(plan, {}, GraphChoices()).graph for plan in plans)
        if choice != GraphChoices() and all(same):
            message = f"{flag} would change nothing: recipe '{plans[0].recipe}' {why}"
            raise UsageError(message, f"leave {flag} out, or sosie recipe show {plans[0].recipe}")


def parts_of(plan: Plan, choices: GraphChoices) -> tuple[GraphPart, ...]:
    """The plan's stages, as few graphs as can be."""
    parts: list[GraphPart] = []
    size = (plan.width, plan.height)
    for index, stage in enumerate(plan.stages):
        alone = _stands_alone(stage, size, choices, index > 0 or bool(plan.source))
        if parts and not alone and not parts[-1].alone:
            parts[-1] = replace(parts[-1], stages=(*parts[-1].stages, index))
        else:
            parts.append(GraphPart(len(parts), (index,), size, alone))
        size = _after(stage, size)
    return tuple(parts)


@dataclass(frozen=True, eq=False)
class _Work:
    """One graph of a plan, before its pictures are there."""

    plan: Plan
    part: GraphPart
    supplies: GraphSupplies
    choices: GraphChoices

    def step(self) -> Step:
        draft = self._compiled(draw_part(self.plan, self.part, self.supplies.called, self.choices))
        phase = " + ".join(stage.kind for stage in self._stages)
        return Step(phase, draft, self._compile if draft.uploads else None)

    @property
    def _stages(self) -> tuple[Stage, ...]:
        return tuple(self.plan.stages[index] for index in self.part.stages)

    def _compile(self, image: Image | None) -> CompiledGraph | StageOutput:
        """The graph with its pictures, from the image so far; the output, where nothing is to be drawn."""
        prepared = _whole(image) if image is None or not self.part.alone else self._prepare(image)
        if isinstance(prepared, StageOutput):
            return prepared
        portraits = self.supplies.portraits(self.plan) if any(stage.guides for stage in self._stages) else ()
        pictures = {f"reference {number}": picture for number, picture in enumerate(portraits, 1)}
        pictures |= self._guiding()
        built = draw_part(self.plan, self.part, self.supplies.called, self.choices, len(portraits))
        compiled = self._compiled(built, {**pictures, **prepared.pictures})
        return replace(compiled, finish=prepared.finish)

    def _guiding(self) -> dict[str, Image]:
        """The pictures that guides bring of their own."""
        found: dict[str, Image] = {}
        size = self.part.size
        for index, stage in zip(self.part.stages, self._stages, strict=True):
            known = guides_of(stage.family)
            given = StageInput(stage, self.plan, index, None, self.supplies.paths, self.supplies.faces, _unheard)
            for guide in stage.guides:
                kind = known.kind(guide.kind)
                if kind is None or kind.in_graphs is None:
                    continue
                if kind.in_graphs.pictures is not None:
                    found |= kind.in_graphs.pictures(guide, self.supplies.paths, size)
                if kind.in_graphs.shown is not None:
                    found |= kind.in_graphs.shown(GuideInput(guide, given))
            size = _after(stage, size)
        return found

    def _compiled(self, built: BuiltGraph, pictures: Mapping[str, Image] | None = None) -> CompiledGraph:
        needed = {picture.what for picture in built.pictures.values()}
        data = {what: png(picture) for what, picture in (pictures or {}).items() if what in needed}
        stamps = {asset.name: asset.sha256 for asset in self.plan.assets}
        compiled = from_built(built, list(built.graph.nodes)[-1], data, stamps)
        size = self.part.size
        for stage in self._stages:
            size = _after(stage, size)
        return replace(compiled, pixels=size[0] * size[1])

    def _prepare(self, image: Image) -> Prepared | StageOutput:
        """What Sosie does around a part that stands alone."""
        index, stage = self.part.stages[0], self._stages[0]
        if stage.kind != "detail":
            return _trimmed(image)
        draws = grapher_of(stage.family)
        if not isinstance(draws, DrawsFaces):
            raise NotFoundError(f"family '{stage.family}' has no face pass on ComfyUI", "take the stage out")
        given = StageInput(stage, self.plan, index, image, self.supplies.paths, self.supplies.faces, _unheard)
        return draws.prepare(given)


def _title(index: int, stage: Stage) -> str:
    return f"{index + 1}. {stage.kind} ({stage.family})"


def _stands_alone(stage: Stage, size: tuple[int, int], choices: GraphChoices, has_image: bool) -> bool:
    if stage.kind == "detail":
        return choices.faces == "sosie"
    # A VAE works on blocks of 8 x 8 pixels; ComfyUI would cut the rest off.
    return stage.kind == "refine" and has_image and any(side % 8 for side in size)


def _after(stage: Stage, size: tuple[int, int]) -> tuple[int, int]:
    if stage.kind != "upscale":
        return size
    return round(size[0] * stage.upscale.factor), round(size[1] * stage.upscale.factor)


def _whole(image: Image | None) -> Prepared:
    return Prepared({} if image is None else {"source": image}, StageOutput)


def _trimmed(image: Image) -> Prepared:
    """The part of an image that a VAE can encode; what comes back is put into a copy of the image."""
    width, height = (side - side % 8 for side in image.size)

    def finish(drawn: Image) -> StageOutput:
        whole = image.copy()
        whole.paste(drawn, (0, 0))
        return StageOutput(whole)

    return Prepared({"source": image.crop((0, 0, width, height))}, finish)


def _unheard(done: int, steps: int) -> None:
    """Steps are told by the server."""
