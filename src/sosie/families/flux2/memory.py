"""How much memory of a GPU FLUX.2 klein needs in each memory mode: an estimate without torch."""

from __future__ import annotations

from collections.abc import Mapping

from sosie.core import Plan, Stage
from sosie.diffusion.flow.memory import ImageNeeds, PartSize, Passes, Work, estimate, loaded_size, plain_size
from sosie.diffusion.memory import GB
from sosie.families.contract.figures import Drawing
from sosie.files.storage import in_memory

PARAMETERS: Mapping[str, int] = {"transformer": 3_875_544_576, "text_encoder": 4_022_468_096, "vae": 84_046_115}
"""Parameters of the parts of klein 4B."""

PASSES = Passes(text=0.4 * GB, denoise=1.2 * GB, denoise_pixel=600.0, layer=0.4 * GB)

SIZES: Mapping[str, PartSize] = {part: plain_size(count) for part, count in PARAMETERS.items()}

REFERENCE_PIXELS = 1024 * 1024
"""Pixels of a reference image at most."""


def needs_of(plan: Plan, sizes: Mapping[str, PartSize] = SIZES) -> ImageNeeds:
    """What a plan's stages of this family take together."""
    stages = tuple(stage for stage in plan.stages if stage.family == "flux2")
    fp32 = any(stage.precision == "fp32" for stage in stages)
    return ImageNeeds(tuple(_work(stage, plan) for stage in stages), PASSES, sizes, 4 if fp32 else 2)


def drawing_peak(drawing: Drawing) -> int:
    """Bytes of a GPU that a stage takes in mode `offload`; a file of several parts counts as the published ones."""
    sizes = dict(SIZES)
    for part, name, role in (
        ("transformer", "model", "denoiser"),
        ("text_encoder", "text_encoder", "text-encoder"),
    ):
        file = drawing.files.get(name)
        if file is not None and file.role == role:
            sizes[part] = loaded_size(file.parameters, in_memory(file.storage, file.parameters, file.bytes))
    work = Work("generate", drawing.width, drawing.height, drawing.rows)
    return estimate(ImageNeeds((work,), PASSES, sizes), "offload").peak


def _work(stage: Stage, plan: Plan) -> Work:
    """Passes are one after the other, so guidance takes no more memory; references stand beside the picture."""
    width, height = (stage.detail.size,) * 2 if stage.kind == "detail" else (plan.width, plan.height)
    references = sum(guide.references for guide in stage.guides if guide.kind == "references")
    return Work(stage.kind, width, height, 1, references * min(width * height, REFERENCE_PIXELS))
