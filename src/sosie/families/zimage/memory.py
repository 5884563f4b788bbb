"""How much memory of a GPU Z-Image needs in each memory mode: an estimate without torch."""

from __future__ import annotations

from collections.abc import Mapping

from sosie.core import Plan, Stage
from sosie.diffusion.flow.memory import ImageNeeds, PartSize, Passes, Work, estimate, loaded_size, plain_size
from sosie.diffusion.memory import GB
from sosie.families.contract.figures import Drawing
from sosie.files.storage import in_memory

PARAMETERS: Mapping[str, int] = {"transformer": 6_154_908_736, "text_encoder": 4_022_468_096, "vae": 83_819_683}
"""Parameters of the parts at Z-Image's size."""

PASSES = Passes(text=0.3 * GB, denoise=0.5 * GB, denoise_pixel=700.0, layer=0.4 * GB)

SIZES: Mapping[str, PartSize] = {part: plain_size(count) for part, count in PARAMETERS.items()}


def with_nets(sizes: Mapping[str, PartSize], numbers: int) -> Mapping[str, PartSize]:
    """The sizes where ControlNets of so many numbers work beside the transformer."""
    own, net = sizes["transformer"], plain_size(numbers)
    return {**sizes, "transformer": PartSize(own.bytes + net.bytes, own.in_8_bits + net.in_8_bits, own.packed)}


def needs_of(plan: Plan, sizes: Mapping[str, PartSize] = SIZES) -> ImageNeeds:
    """What a plan's stages of this family take together."""
    stages = tuple(stage for stage in plan.stages if stage.family == "zimage")
    fp32 = any(stage.precision == "fp32" for stage in stages)
    return ImageNeeds(tuple(_work(stage, plan) for stage in stages), PASSES, sizes, 4 if fp32 else 2)


def drawing_peak(drawing: Drawing) -> int:
    """Bytes of a GPU that a stage takes in mode `offload`; a file of several parts counts as the published ones."""
    held = {"transformer": drawing.files.get("model"), "text_encoder": drawing.files.get("text_encoder")}
    sizes = dict(SIZES)
    for part, role in (("transformer", "denoiser"), ("text_encoder", "text-encoder")):
        file = held[part]
        if file is not None and file.role == role:
            sizes[part] = loaded_size(file.parameters, in_memory(file.storage, file.parameters, file.bytes))
    work = Work("generate", drawing.width, drawing.height, drawing.rows)
    return estimate(ImageNeeds((work,), PASSES, sizes), "offload").peak


def _work(stage: Stage, plan: Plan) -> Work:
    width, height = (stage.detail.size,) * 2 if stage.kind == "detail" else (plan.width, plan.height)
    return Work(stage.kind, width, height, 2 if stage.sampler.cfg > 1 else 1)
