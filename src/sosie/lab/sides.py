"""What is compared: an image, a folder of images, a run of `generate`, or a cell of an experiment; in blocks.

Images of two sides belong together when their blocks are the same: the prompt, seed and place in a run, or the name of
a file without its ending.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sosie.core import Plan
from sosie.core.errors import NotFoundError, UsageError, nearest
from sosie.files.picture_kinds import is_picture
from sosie.store.record import Record, StoredRun
from sosie.store.rows import StoredRender
from sosie.workspace.experiments import find_experiment, load_result
from sosie.workspace.workspace import Workspace

MOST = 10_000


@dataclass(frozen=True)
class SideImage:
    """An image, the block that it belongs to, and what is known of it: the encoders that guided it, by SHA-256."""

    path: Path
    block: str
    guides: tuple[str, ...] = ()
    prompt: str = ""


@dataclass(frozen=True)
class Side:
    """Images that have one thing in common, each of another block; `note` says what they are.

    `character` is whom they show, where that is known.
    """

    name: str
    images: tuple[SideImage, ...]
    note: str = ""
    character: str = ""

    @property
    def guides(self) -> frozenset[str]:
        """The encoders that guided any of them: they do not judge."""
        return frozenset(digest for image in self.images for digest in image.guides)


def read_side(workspace: Workspace, text: str) -> Side:
    """The side that a word names: `run:NUMBER`, `cell:EXPERIMENT:ARM`, an image, or a folder of them.

    Raises `SosieError`.
    """
    kind, _, rest = text.partition(":")
    if kind == "run":
        return _run(workspace, rest)
    if kind == "cell":
        return _cell(workspace, *rest.partition(":")[::2])
    path = Path(text)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return Side(path.name, (SideImage(path, ""),), "an image")
    raise NotFoundError(
        f"'{text}' is no image, no folder, no run and no cell",
        "give a path, run:NUMBER or cell:EXPERIMENT:ARM",
    )


def _folder(path: Path) -> Side:
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        if file.name.startswith(".") or not file.is_file() or not is_picture(file):
            continue
        if file.stem in found:
            raise UsageError(
                f"{path} has two images '{file.stem}'; expected one of each name, by which they are paired"
            )
        found[file.stem] = file
    if not found:
        raise NotFoundError(f"{path} holds no image", "give a folder of PNG, JPEG or WebP files")
    if len(found) > MOST:
        raise UsageError(f"{path} holds {len(found):,} images; expected {MOST:,} at most")
    return Side(path.name, tuple(SideImage(file, stem) for stem, file in found.items()), f"{len(found)} files")


def _run(workspace: Workspace, number: str) -> Side:
    """The first attempt at every image that a run asked for: those that were not kept are among them."""
    with Record(workspace.state) as record:
        runs = {str(run.id): run for run in record.runs("generate")}
        run = runs.get(number)
        if run is None:
            raise NotFoundError(f"run '{number}' of `sosie generate` does not exist{nearest(number, runs)}")
        renders = record.renders(str(run.arguments.get("character", "")), str(run.arguments.get("recipe", "")))
        delivered = record.delivered(run.id)
    plans = [render.plan for render in renders if render.plan.id in delivered]
    found = {block_of(render.plan): side_image(render) for render in _first_tries(run, renders, plans)}
    if not found:
        raise NotFoundError(f"the store holds no image that run {number} asked for", "run the same command again")
    character = str(run.arguments.get("character", ""))
    return Side(f"run {number}", tuple(found.values()), "the first attempt at each image, kept or not", character)


def _cell(workspace: Workspace, name: str, arm: str) -> Side:
    """The images of an arm; those that could not be drawn are missing, and the note counts them."""
    result = load_result(workspace, find_experiment(workspace, name))
    if result is None:
        raise NotFoundError(f"experiment '{name}' has no result yet", f"sosie experiment resume {name}")
    arms = [one.name for one in result.arms]
    if arm not in arms:
        raise NotFoundError(f"experiment '{name}' has no arm '{arm}'{nearest(arm, arms)}", "sosie experiment report")
    cells = [cell for cell in result.cells if cell.arm == arm]
    with Record(workspace.state) as record:
        renders = {(one.plan.id, one.engine): one for one in record.renders(result.character)}
    found: list[SideImage] = []
    for cell in cells:
        render = renders.get((cell.plan, cell.engine))
        if render is not None and cell.image:
            block = f"prompt {cell.prompt + 1} · seed {cell.seed}"
            found.append(replace(side_image(render), block=block))
    if not found:
        raise NotFoundError(f"the store holds no image of arm '{arm}' of experiment '{name}'")
    lost = len(cells) - len(found)
    note = f"{len(found)} images of {result.id}" + (f", {lost} could not be drawn" if lost else "")
    return Side(arm, tuple(found), note, result.character)


def _first_tries(run: StoredRun, renders: Sequence[StoredRender], delivered: Sequence[Plan]) -> Iterator[StoredRender]:
    """Of these renders, those that the run asked for first: by the settings of what it delivered, if it did."""
    prompts, count = run.arguments.get("prompts", []), run.arguments.get("n", 1)
    asked_for = {(plan.requested.prompt, plan.requested.seed) for plan in delivered}
    asked_for |= {(prompt, run.arguments.get("seed")) for prompt in prompts}
    stages = [plan.stages for plan in delivered]
    for render in renders:
        plan, asked = render.plan, render.plan.requested
        is_first = plan.draw.attempt == 0 and not plan.draw.parent and plan.draw.index < count
        if is_first and (asked.prompt, asked.seed) in asked_for and (not stages or plan.stages in stages):
            yield render


def block_of(plan: Plan) -> str:
    """What images of two recipes have in common: what was asked for, but not by whom and how it was drawn."""
    asked = plan.requested
    return f"{asked.prompt} · seed {asked.seed} · image {plan.draw.index + 1}"


def side_image(render: StoredRender) -> SideImage:
    """A stored image with the encoders that guided it."""
    plan = render.plan
    encoders = {guide.encoder for stage in plan.stages for guide in stage.guides if guide.encoder}
    guides = tuple(sorted(filter(None, (plan.asset(name).sha256 for name in encoders))))
    return SideImage(render.image, block_of(plan), guides, plan.prompt)
