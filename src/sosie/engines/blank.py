"""Pictures that are none: black, of one colour, or of numbers that are no numbers; and what likely made them so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sosie.core import Finding, Plan, Stage
from sosie.core.errors import EngineError, NotFiniteError
from sosie.core.finding import Rule, RuleError
from sosie.families import families, figures_of, partners_of
from sosie.files.model_file import Broken, Known, identify

if TYPE_CHECKING:
    from PIL.Image import Image

E035 = Rule("SOS-E035", "error", "A picture is black, or of one colour")
E036 = Rule("SOS-E036", "error", "The numbers of a picture are NaN or infinity")

SAME = 3
"""A picture has one colour when no channel's lightest and darkest pixels are further apart, in levels of 255."""

FAR = 2.0
"""A timestep shift so many times the model's own, or a share of it, is a likely cause."""

STRONG_CFG, STRONG_LORA = 15.0, 1.5
"""Guidance and weights of LoRAs from which on numbers may leave their range."""


class NoPictureError(RuleError, EngineError):
    """A stage's numbers became NaN or infinity (SOS-E036)."""


def one_colour(image: Image) -> str:
    """`black`, or `of one colour ([r, g, b])`, for an RGB image that is that; else empty."""
    ranges = cast("Any", image.getextrema())
    if any(high - low > SAME for low, high in ranges):
        return ""
    return "black" if max(high for _, high in ranges) <= SAME else f"of one colour ({[low for low, _ in ranges]})"


def check_drawn(
    image: Image, source: Image | None, stage: Stage, plan: Plan, paths: Mapping[str, Path]
) -> list[Finding]:
    """SOS-E035 for a stage's image (RGB) of one colour, unless the one that it worked on was so, too."""
    colour = one_colour(image)
    if not colour or (source is not None and one_colour(source.convert("RGB"))):
        return []
    message = f"the picture of stage '{stage.kind}' is {colour}{_likely(stage, paths)}"
    return [E035.at(plan.recipe, message, _hint(stage))]


def no_picture(error: NotFiniteError, stage: Stage, paths: Mapping[str, Path]) -> NoPictureError:
    """What a stage's NaN becomes: SOS-E036, with the likely causes."""
    message = f"stage '{stage.kind}': {error.message}{_likely(stage, paths)}"
    return NoPictureError(E036, message, _hint(stage))


def causes(stage: Stage, paths: Mapping[str, Path]) -> Iterator[str]:
    """What likely made such a picture, the likeliest first: precision, files, VAE, shift, guidance, LoRAs."""
    failing = {fail.precision: fail.reason for fail in figures_of(stage.family).fails if not fail.training_only}
    if stage.precision in failing:
        yield f"precision {stage.precision}: {failing[stage.precision]}"
    elif stage.precision == "fp16":
        yield "precision fp16 ends at 65,504, and the activations of some models do not"
    for name in dict.fromkeys((stage.model, stage.text_encoder, stage.vae, *(use.file for use in stage.loras))):
        if name in paths and (odd := _odd(paths[name])):
            yield f"'{name}' {odd}"
    if stage.vae:
        yield f"VAE '{stage.vae}', if it was made for other latents"
    own, shift = partners_of(stage.family).shift, stage.sampler.shift
    if own and shift and not own / FAR <= shift <= own * FAR:
        yield f"shift {shift:g}, where the model was trained with {own:g}"
    if stage.sampler.cfg >= STRONG_CFG:
        yield f"CFG {stage.sampler.cfg:g}"
    yield from (f"LoRA '{use.file}' at {use.weight:g}" for use in stage.loras if abs(use.weight) >= STRONG_LORA)


def _odd(path: Path) -> str:
    """What is unusual about how a file is stored; empty for what every program reads."""
    if not path.exists():
        return ""
    answer = identify(path, families())
    if isinstance(answer, Broken):
        return f"is broken: {answer.message}"
    stored = answer.model.storage if isinstance(answer, Known) else ""
    plain = stored in ("", "bf16", "fp16", "fp32") or stored.startswith("mixed")
    return "" if plain else f"is stored as {stored}; read by a program that does not know it, its weights are noise"


def _likely(stage: Stage, paths: Mapping[str, Path]) -> str:
    found = list(causes(stage, paths))
    if not found:
        return "; nothing in the recipe explains it, so its weights may be damaged"
    return "; likely, the first most: " + "; ".join(f"({place}) {cause}" for place, cause in enumerate(found, 1))


def _hint(stage: Stage) -> str:
    precise = "" if stage.precision == "fp32" else ', or precision = "fp32" in a copy of the recipe'
    return f"sosie doctor {stage.model} on its weights{precise}"
