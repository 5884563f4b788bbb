"""A `detail` stage as a face pass: the same in every family that draws faces anew."""

from __future__ import annotations

from dataclasses import replace

from sosie.diffusion.face_pass import FacePass, FaceResult, Square, face_square, put_back
from sosie.families.contract.draws import StageInput, StageOutput
from sosie.families.contract.graphs import Prepared


def face_pass_of(given: StageInput) -> FacePass:
    """What a `detail` stage draws again. Raises `ValueError` without an image."""
    source, detail = given.source, given.stage.detail
    if source is None:
        raise ValueError("a face pass works on an image; expected one, got none")
    return FacePass(
        source,
        detail,
        given.plan.character.name,
        given.seed,
        lambda image: given.faces.find(image, given.plan, given.stage),
        lambda: [face for guide in given.stage.guides[:1] for face in given.faces.crops(guide, given.plan)],
        given.paths[detail.parser] if detail.parser else None,
    )


def with_denoise_of(given: StageInput, square: Square) -> StageInput:
    """The stage with the denoise that a square asks for beyond its sampler's, at most 1."""
    if not square.more_denoise:
        return given
    sampler = given.stage.sampler
    denoise = min(1.0, sampler.denoise + square.more_denoise)
    return replace(given, stage=replace(given.stage, sampler=replace(sampler, denoise=denoise)))


def output_of(result: FaceResult) -> StageOutput:
    """What a face pass made, as the stage's output."""
    return StageOutput(result.image, result.findings, result.measures)


def prepare_square(given: StageInput) -> Prepared | StageOutput:
    """For graphs: the face's square with its mask; the image as it is, if its face is to be left alone."""
    from PIL import Image

    task = face_pass_of(given)
    square = face_square(task)
    if isinstance(square, FaceResult):
        return output_of(square)
    size = square.crop.size
    mask = Image.fromarray((square.change * 255).round().astype("uint8"))

    def finish(drawn: Image.Image) -> StageOutput:
        if drawn.size != (size, size):
            drawn = drawn.resize((size, size), Image.Resampling.LANCZOS)
        return output_of(put_back(task, square, drawn))

    return Prepared({"source": Image.fromarray(square.crop.image), "mask": mask}, finish)
