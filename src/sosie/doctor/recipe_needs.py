"""What a recipe asks of a disk and of a machine: to make images, or to train on the character.

Memory is estimated by the family's figures, the lowest of each range: it is an error only where nobody got
by with less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sosie.core import Finding, Recipe, Stage
from sosie.dataset.check.precision import check_precision
from sosie.doctor.disk import (
    GB,
    DiskNeeds,
    DiskPlan,
    OutputImages,
    TrainingRun,
    check_free,
    check_quota,
    disk_files,
    plan_disk,
)
from sosie.doctor.machine import Dtype, Needs
from sosie.doctor.training import check_training
from sosie.families import figures_of
from sosie.families.contract.figures import Drawing
from sosie.files.model_file import Known, ModelFile
from sosie.workspace.bill import Bill

Precision = Literal["", "bf16", "fp16", "fp32", "fp8"]

IMAGES = 100
"""The images that a disk plan counts."""

DATASET_IMAGES = 25
"""The images of a training set that was not named."""

SAVE_EVERY = 250
"""Steps between two checkpoints, as trainers have it by default; all of them are kept, to choose from."""

LORA_RANK = 32
"""The rank of a LoRA whose recipe says none."""

TRAIN_IN_LESS = "set gradient_checkpointing = true, base_storage = 'fp8', a smaller batch or resolution, or rent a card"
"""What to do where a card is too small to train on."""

WORKING = GB
"""What a model takes beside its weights at least; with twice its files it bounds the estimate for small models."""


@dataclass(frozen=True)
class Purpose:
    """What a recipe shall be used for.

    `training` steps on `images` images (0: it makes images); computing in `precision` (empty: as
    the recipe says); on a pod with a disk of `quota` bytes (0: on this machine).
    """

    training: int = 0
    images: int = DATASET_IMAGES
    precision: Precision = ""
    quota: int = 0


def plan_recipe(recipe: Recipe, bill: Bill, purpose: Purpose) -> DiskPlan:
    """The disk plan of a hundred images, or of a training run of the recipe's first family."""
    families = tuple(stage.family for stage in recipe.stages)
    outputs = None if purpose.training else OutputImages(IMAGES, recipe.width * recipe.height)
    files = disk_files(bill)
    return plan_disk(DiskNeeds(files, families, outputs, _training(recipe, purpose), purpose.quota > 0))


def check_plan(recipe: Recipe, bill: Bill, purpose: Purpose, folder: Path) -> tuple[DiskPlan, list[Finding]]:
    """The plan and SOS-D010, D011, D015 against the pod's quota, or D012 to D017 against the disk of `folder`.

    Then SOS-T040 and U007.
    """
    plan = plan_recipe(recipe, bill, purpose)
    findings = check_quota(plan, purpose.quota) if purpose.quota else check_free(plan, folder)
    for family in dict.fromkeys(stage.family for stage in recipe.stages):
        findings += check_precision(family, purpose.precision, training=purpose.training > 0)
    return plan, list(dict.fromkeys([*findings, *check_training(recipe)]))


def needs_of(recipe: Recipe, bill: Bill, purpose: Purpose) -> Needs:
    """What one machine must have: the most that any stage takes, since stages run one after another.

    Main memory for the largest file; disk for the plan where it is a pod's, else `check_plan` speaks of it.
    """
    stages = recipe.stages[:1] if purpose.training else recipe.stages
    sizes = [file.bytes for file in disk_files(bill)]
    known = [size for size in sizes if size is not None]
    whole = len(known) == len(sizes)
    vram = max((_vram(recipe, stage, purpose, bill) for stage in stages), default=0)
    largest = max(known, default=0)
    if purpose.training:
        vram = _vram_training(recipe, purpose, sum(known) if whole else None)
    elif whole:
        vram = min(vram, 2 * sum(known) + WORKING)
    else:
        largest = max(largest, *(figures_of(stage.family).largest_file or 0 for stage in stages))
    disk = plan_recipe(recipe, bill, purpose).bytes if purpose.quota else 0
    dtype, cure = _dtype(stages, purpose), ""
    if purpose.training and recipe.training is not None:
        chosen = recipe.training.precision
        dtype, cure = dtype or ("bf16" if chosen == "auto" else chosen), TRAIN_IN_LESS
    return Needs(True, vram // 2**20, dtype, largest // 2**20, disk, cure)


def most(needs: tuple[Needs, ...]) -> Needs:
    """The needs of a machine that shall do all of this, one after another; disks hold it together."""
    dtypes: list[Dtype] = [need.dtype for need in needs if need.dtype]
    return Needs(
        True,
        max((need.vram_mib for need in needs), default=0),
        dtypes[0] if dtypes else "",
        max((need.ram_mib for need in needs), default=0),
        sum(need.disk_bytes for need in needs),
        next((need.cure for need in needs if need.cure), ""),
    )


def _training(recipe: Recipe, purpose: Purpose) -> TrainingRun | None:
    if not purpose.training:
        return None
    each, rank = figures_of(recipe.stages[0].family).lora_rank, recipe.training.rank if recipe.training else LORA_RANK
    checkpoint = None if each is None else each * rank
    return TrainingRun(checkpoint, max(1, purpose.training // SAVE_EVERY), purpose.images, 2 * (checkpoint or 0))


def _vram_training(recipe: Recipe, purpose: Purpose, size: int | None) -> int:
    """Bytes of the card's memory that the recipe's `[training]` takes; 0 for families without a figure.

    `size` is that of the model's files, None where it is not known: a smaller model than the family's, of
    which they are less than half, takes its share.
    """
    figures, training = figures_of(recipe.stages[0].family), recipe.training
    needed, estimate = figures.memory_training or 0, figures.estimate_training
    if estimate is not None and training is not None:
        if purpose.precision in ("bf16", "fp16", "fp32"):
            training = replace(training, precision=purpose.precision)
        needed = estimate(training, (recipe.width, recipe.height))
    if size is None or figures.largest_file is None:
        return needed
    return min(needed, WORKING + round(needed * 2 * size / figures.largest_file))


def _vram(recipe: Recipe, stage: Stage, purpose: Purpose, bill: Bill) -> int:
    """Bytes of the card's memory to make images; 0 for families without a figure."""
    figures = figures_of(stage.family)
    needed = figures.memory or 0
    if stage.guides:
        needed = figures.memory_guided or needed
    if purpose.precision == "fp8":
        return figures.memory_fp8 or needed
    if (purpose.precision or stage.precision) == "fp32":
        return needed * 2
    files = _known_files(stage, bill)
    if figures.estimate_drawing is None or "model" not in files:
        return needed
    rows = 2 if stage.sampler.cfg > 1 else 1
    return min(needed, figures.estimate_drawing(Drawing(files, recipe.width, recipe.height, rows)))


def _known_files(stage: Stage, bill: Bill) -> dict[str, ModelFile]:
    """The stage's models by the stage's names for them, as far as they are here and known."""
    named = {"model": stage.model, "text_encoder": stage.text_encoder, "vae": stage.vae}
    placed = {place: bill[name] for place, name in named.items() if name}
    identified = {place: entry.contents.identity for place, entry in placed.items() if entry.path is not None}
    return {place: answer.model for place, answer in identified.items() if isinstance(answer, Known)}


def _dtype(stages: tuple[Stage, ...], purpose: Purpose) -> Dtype:
    """What is computed in: as asked, as the first stage that says so, or as the first family that must."""
    if purpose.precision:
        return purpose.precision
    for stage in stages:
        if stage.precision != "auto":
            return stage.precision
    for stage in stages:
        if own := figures_of(stage.family).precision:
            return own
    return ""
