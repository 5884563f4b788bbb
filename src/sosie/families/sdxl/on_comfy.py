"""SDXL as nodes of ComfyUI: checkpoint, LoRAs, cubiq's identity nodes, image to image, and the face pass.

ComfyUI's identity nodes measure the reference pictures themselves, with InsightFace's own packs: a guide that was
trained with another face encoder cannot be run there. Differences from diffusers that remain are listed in
`docs/decisions/0008-comfy-graphs.md`.
"""

from __future__ import annotations

from dataclasses import replace

from sosie.core import Finding, Plan, Stage
from sosie.core.finding import Rule
from sosie.core.notation import Span, parse
from sosie.core.stage_rules import E001, E002, E006, E007, E011, check_fp8, check_weights
from sosie.families import guides_of
from sosie.families.contract.draws import StageInput, StageOutput
from sosie.families.contract.graphs import GraphChoices, GraphStage, Prepared
from sosie.families.contract.guides import POINTS, Guides, Pose, Scene, guide_files, guided
from sosie.families.sdxl.guides.shared import draw_key_points
from sosie.graph.build import Builder, GraphPicture, WantedFile, wanted
from sosie.graph.graph import Link
from sosie.graph.sampling import drawing, sampler_complaint

E015 = Rule("SOS-E015", "error", "FaceDetailer has no face-parsing model")

VERSION = ""

KINDS = ("generate", "refine", "detail")

LARGE = 2_400_000
"""Pixels from which `refine` may be done in tiles: about 1536 x 1536, above which SDXL repeats itself."""

TILE = 1024

DETECTOR = WantedFile("", ("bbox/face_yolov8m.pt",), "face detector", "ultralytics")
"""What FaceDetailer finds faces with."""

SAM = {"sam_detection_hint": "center-1", "sam_mask_hint_use_negative": "False"}
"""FaceDetailer's settings of a segmentation that is not used; they have no defaults."""


def check(stage: Stage, plan: Plan, choices: GraphChoices) -> list[Finding]:
    """What ComfyUI cannot draw of a stage."""
    hint = f"sosie recipe copy {plan.recipe} NEW-NAME, and edit it"
    wrong: list[tuple[Rule, str]] = []
    if stage.kind not in KINDS:
        wrong.append((E001, f"SDXL has no stage '{stage.kind}'; expected {', '.join(KINDS)}"))
    if complaint := sampler_complaint(stage.sampler):
        wrong.append((E002, complaint))
    if stage.sampler.shift:
        wrong.append((E002, f"SDXL has no timestep shift; expected shift = 0, got {stage.sampler.shift:g}"))
    if stage.text_encoder:
        wrong.append((E011, "SDXL's text encoders come out of the checkpoint; expected no text_encoder"))
    if stage.kind == "generate" and any(guide.keypoints for guide in stage.guides):
        wrong.append((E006, "stage 'generate' has a guide with key points, but no face yet to take them from"))
    if stage.kind == "detail" and stage.detail.size % 64:
        wrong.append((E007, f"detail.size is {stage.detail.size}; expected a multiple of 64"))
    if stage.kind == "detail" and choices.faces == "server" and stage.detail.parser:
        wrong.append((E015, "FaceDetailer has no face-parsing model; expected no detail.parser"))
    findings = [rule.at(plan.recipe, message, hint) for rule, message in wrong]
    return [*findings, *check_fp8(stage, plan, "SDXL"), *check_weights(stage, plan)]


def names(stage: Stage) -> tuple[WantedFile, ...]:
    """The checkpoint, a VAE of its own, the LoRAs, and the guides' files."""
    return (
        wanted(stage.model, "checkpoint", "checkpoints"),
        *((wanted(stage.vae, "VAE", "vae"),) if stage.vae else ()),
        *(wanted(use.file, "LoRA", "loras") for use in stage.loras),
        *guide_files(_known(), stage.guides),
    )


def draw(build: Builder, given: GraphStage) -> Link:
    """Adds a stage. A `detail` stage is given its square as the source, or the whole image for FaceDetailer."""
    stage, choices = given.stage, given.choices
    model, clip, vae = _loaded(build, stage)
    positive = _text(build, clip, given.prompt, "Positive prompt")
    if given.plan.negative_prompt and stage.sampler.cfg != 1:
        negative = _text(build, clip, given.plan.negative_prompt, "Negative prompt")
    else:
        # What SDXL was trained with, and what diffusers takes for an empty text.
        (negative,) = build.add("ConditioningZeroOut", "Negative prompt (zeros)", conditioning=positive)
    cut_out = stage.kind == "detail" and choices.faces == "sosie"
    scene = guided(_known(), build, given, Scene(model, positive, negative, clip, vae), has_points=cut_out)
    if stage.kind == "detail" and not cut_out:
        return _face_detailer(build, given, scene, clip, vae)
    if stage.kind == "refine" and choices.tiles and given.size[0] * given.size[1] > LARGE:
        return _in_tiles(build, given, scene, vae)
    return _sampled(build, given, scene, vae)


def prepare(given: StageInput) -> Prepared | StageOutput:
    """The face's square with its mask and key points; the image as it is, if its face is to be left alone."""
    from PIL import Image

    from sosie.diffusion.face_pass import FaceResult, face_square, put_back
    from sosie.families.contract.face_pass import face_pass_of, output_of

    task = face_pass_of(given)
    square = face_square(task)
    if isinstance(square, FaceResult):
        return output_of(square)
    size = square.crop.size
    pictures: dict[str, Image.Image] = {
        "source": Image.fromarray(square.under),
        "mask": Image.fromarray((square.change * 255).round().astype("uint8")),
    }
    points = next((guide.keypoints for guide in given.stage.guides if guide.keypoints), None)
    if points is not None:
        pictures[POINTS] = draw_key_points(points, Pose(square.face.points, size, size))

    def finish(drawn: Image.Image) -> StageOutput:
        if drawn.size != (size, size):
            drawn = drawn.resize((size, size), Image.Resampling.LANCZOS)
        return output_of(put_back(task, square, drawn))

    return Prepared(pictures, finish)


def _known() -> Guides:
    """The guides of this family, those of other packages among them."""
    return guides_of("sdxl")


def _loaded(build: Builder, stage: Stage) -> tuple[Link, Link, Link]:
    """Model, text encoders and VAE, with the stage's LoRAs in them."""
    files = {file.asset: file for file in names(stage)}
    model, clip, vae = build.add("CheckpointLoaderSimple", ckpt_name=files[stage.model])
    if stage.vae:
        (vae,) = build.add("VAELoader", vae_name=files[stage.vae])
    for use in stage.loras:
        strengths = {"strength_model": use.weight, "strength_clip": use.weight}
        model, clip = build.add("LoraLoader", model=model, clip=clip, lora_name=files[use.file], **strengths)
    if stage.precision != "auto":
        (model,) = build.add("ModelComputeDtype", model=model, dtype=stage.precision)
    if stage.clip_skip:
        (clip,) = build.add("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-(stage.clip_skip + 2))
    return model, clip, vae


def _sampled(build: Builder, given: GraphStage, scene: Scene, vae: Link) -> Link:
    tiled = "Tiled" if given.choices.smaller else ""
    if given.source is None:
        width, height = given.size
        (latent,) = build.add("EmptyLatentImage", width=width, height=height, batch_size=1)
    else:
        (latent,) = build.add(f"VAEEncode{tiled}", pixels=given.source, vae=vae)
    if given.stage.kind == "detail":
        (mask,) = build.add("LoadImageMask", "Mask", image=GraphPicture("mask"), channel="red")
        (latent,) = build.add("SetLatentNoiseMask", samples=latent, mask=mask)
        (model,) = build.add("DifferentialDiffusion", model=scene.model)
        scene = replace(scene, model=model)
    (latent,) = build.add(
        "KSampler",
        **scene.inputs,
        latent_image=latent,
        **drawing(given.stage.sampler, given.seed, "normal", over=given.source is not None),
    )
    (image,) = build.add(f"VAEDecode{tiled}", samples=latent, vae=vae)
    return image


def _in_tiles(build: Builder, given: GraphStage, scene: Scene, vae: Link) -> Link:
    """Redraws a large image tile by tile; each overlaps its neighbours, and the seams are left as they are."""
    settings = drawing(given.stage.sampler, given.seed, "normal", over=True)
    return build.add(
        "UltimateSDUpscaleNoUpscale",
        upscaled_image=given.source,
        **scene.inputs,
        vae=vae,
        **settings,
        tile_width=TILE,
        tile_height=TILE,
        tiled_decode=given.choices.smaller,
    )[0]


def _face_detailer(build: Builder, given: GraphStage, scene: Scene, clip: Link, vae: Link) -> Link:
    """Finds, cuts out, redraws and composites every face on the server."""
    detail = given.stage.detail
    detector, _ = build.add("UltralyticsDetectorProvider", model_name=DETECTOR)
    return build.add(
        "FaceDetailer",
        image=given.source,
        **scene.inputs,
        clip=clip,
        vae=vae,
        **drawing(given.stage.sampler, given.seed, "normal", over=True),
        guide_size=float(detail.size),
        max_size=float(detail.size),
        bbox_crop_factor=detail.margin,
        bbox_detector=detector,
        wildcard="",
        **SAM,
    )[0]


def _text(build: Builder, clip: Link, prompt: str, title: str) -> Link:
    """A prompt in ComfyUI's notation. It has no BREAK: sections are encoded one by one and put one after another."""
    encoded = [build.add("CLIPTextEncode", title, text=comfy_text(section), clip=clip)[0] for section in parse(prompt)]
    whole = encoded[0]
    for section in encoded[1:]:
        (whole,) = build.add("ConditioningConcat", conditioning_to=whole, conditioning_from=section)
    return whole


def comfy_text(section: tuple[Span, ...]) -> str:
    r"""The spans of a section as ComfyUI writes them: `(words:1.2)`, and `\(` for a bracket that is a character."""
    parts: list[str] = []
    for span in section:
        text = span.text.replace("(", "\\(").replace(")", "\\)")
        parts.append(text if span.weight == 1 else f"({text}:{round(span.weight, 4):g})")
    return "".join(parts).strip()
