"""A stage in this process by a family that draws on a canvas: from noise, over an image, or a face of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sosie.core.errors import EngineError
from sosie.diffusion.canvas import Canvas
from sosie.families.contract.draws import StageInput, StageOutput

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.diffusion.face_pass import Square

Draw = Callable[[StageInput, Canvas], "Image"]
"""Draws a stage on a canvas: an image (RGB) of its size."""


def run_stage(given: StageInput, draw: Draw, block: int = 8) -> StageOutput:
    """What a stage makes; `block` is how many pixels on a side the model draws at least at once.

    `generate` draws from noise and `refine` over the source, less what is left at the right and below of whole blocks;
    `detail` is a face pass. Raises `EngineError` where there is no source.
    """
    if given.stage.kind == "detail":
        from sosie.diffusion.face_pass import run_face_pass
        from sosie.families.contract.face_pass import face_pass_of, output_of

        return output_of(run_face_pass(face_pass_of(given), lambda square: _draw_square(given, square, draw)))
    if given.stage.kind == "refine":
        if given.source is None:
            raise EngineError(f"plan {given.plan.id[:12]}: stage 'refine' works on an image; there is none")
        width, height = (side - side % block for side in given.source.size)
        under = given.source.crop((0, 0, width, height))
        image = given.source.copy()
        image.paste(draw(given, Canvas(width, height, under)), (0, 0))
        return StageOutput(image)
    return StageOutput(draw(given, Canvas(given.plan.width, given.plan.height)))


def _draw_square(given: StageInput, square: Square, draw: Draw) -> Image:
    from PIL import Image

    from sosie.families.contract.face_pass import with_denoise_of

    size, under = square.crop.size, Image.fromarray(square.under)
    return draw(with_denoise_of(given, square), Canvas(size, size, under, square.change, square.face))
