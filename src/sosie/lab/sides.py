"""What is compared: an image, a folder of images, a run of `generate`, or a cell of an experiment; in blocks.

Images of two sides belong together when their blocks are the same: the prompt, seed and place in a run, or the name of
a file without its ending.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sosie.core import Plan
from sosie.core.errors import NotFoundError, UsageError, nearest
from sosie.files.picture_kinds import is_picture
from sosie.store.record import Record, StoredRun
from sosie.store.rows import StoredRender
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
    """Images that have one thing in common, each of another block; `note` says what they are."""

    name: str
    images: tuple[SideImage, ...]
    note: str = ""

    @property
    def guides(self) -> frozenset[str]:
        """The encoders that guided any of them: they do not judge."""
        return frozenset(digest for image in self.images for digest in image.guides)


def read_side(workspace: Workspace, text: str) -> Side:
    """The side that a word names: `run:NUMBER`, an image, or a folder of images. Raises `SosieError`."""
    kind, _, rest = text.partition(":")
    if kind == "run":
        return _run(workspace, rest)
    path = Path(text)
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return Side(path.name, (SideImage(path, ""),), "an image")
    raise NotFoundError(f"'{text}' is no image, no folder and no run", "give a path, or run:NUMBER")


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
    return Side(f"run {number}", tuple(found.values()), "the first attempt at each image, kept or not")


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
