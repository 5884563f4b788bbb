"""FLUX.2 as nodes of ComfyUI, as its own templates put them together.

Settings of the templates `image_flux2_klein_text_to_image` and `image_flux2_klein_image_edit`: text encoder of type
`flux2`, steps laid by Flux2Scheduler, a CFGGuider, a zeroed text as negative prompt where guidance is off, and each
reference as ReferenceLatent on both sides.
"""

from __future__ import annotations

from sosie.core import Finding, Plan, Stage
from sosie.core.finding import Rule
from sosie.core.notation import plain
from sosie.core.stage_rules import E001, E002, E003, E007, E010, E014, check_fp8, check_no_weights
from sosie.families import guides_of
from sosie.families.contract.draws import StageInput, StageOutput
from sosie.families.contract.graphs import GraphChoices, GraphStage, Prepared
from sosie.families.contract.guides import Scene, guide_files, guided
from sosie.graph.build import Builder, GraphPicture, WantedFile, wanted
from sosie.graph.graph import Link
from sosie.graph.sampling import SAMPLERS, sampler_complaint

VERSION = ""
"""Klein's nodes are asked for by name; what an older server lacks, it says."""

KINDS = ("generate", "refine", "detail")
BLOCK = 16


def check(stage: Stage, plan: Plan, choices: GraphChoices) -> list[Finding]:
    """What ComfyUI cannot draw of a stage. Every stage of this family may follow another in one graph."""
    hint = f"sosie recipe copy {plan.recipe} NEW-NAME, and edit it"
    wrong: list[tuple[Rule, str]] = []
    sampler = stage.sampler
    if stage.kind not in KINDS:
        wrong.append((E001, f"FLUX.2 has no stage '{stage.kind}' on ComfyUI; expected {', '.join(KINDS)}"))
    if complaint := sampler_complaint(sampler):
        wrong.append((E002, complaint))
    if sampler.schedule != "model" or sampler.shift:
        asked = f"schedule '{sampler.schedule}' and shift {sampler.shift:g}"
        wrong.append((E003, f"Flux2Scheduler lays FLUX.2's steps itself; expected 'model' and 0, not {asked}"))
    for name, value in (("text_encoder", stage.text_encoder), ("vae", stage.vae)):
        if not value:
            wrong.append((E010, f"stage '{stage.kind}' names no {name}, which ComfyUI loads from a file of its own"))
    if stage.kind == "detail" and choices.faces == "server":
        wrong.append((E001, "FLUX.2 draws no faces by ComfyUI's FaceDetailer; expected no --face-detailer"))
    if stage.kind == "detail" and stage.detail.size % 64:
        wrong.append((E007, f"detail.size is {stage.detail.size}; expected a multiple of 64"))
    if stage.precision == "fp16":
        wrong.append((E014, "FLUX.2 was made for bf16; in fp16 it may overflow"))
    findings = [rule.at(plan.recipe, message, hint) for rule, message in wrong]
    if stage.kind == "generate" and (plan.width % BLOCK or plan.height % BLOCK):
        message = f"ComfyUI draws FLUX.2 in blocks of 16 px; {plan.width}x{plan.height} is not a multiple of them"
        findings.append(E003.at(plan.recipe, message, "--size WIDTHxHEIGHT in multiples of 16"))
    return [*findings, *check_fp8(stage, plan, "FLUX.2"), *check_no_weights(stage, plan, "FLUX.2")]


def names(stage: Stage) -> tuple[WantedFile, ...]:
    """The denoiser, the text encoder, the VAE, the LoRAs and the guides' files."""
    return (
        wanted(stage.model, "denoiser", "diffusion_models"),
        wanted(stage.text_encoder, "text encoder", "text_encoders"),
        wanted(stage.vae, "VAE", "vae"),
        *(wanted(use.file, "LoRA", "loras") for use in stage.loras),
        *guide_files(guides_of("flux2"), stage.guides),
    )


def draw(build: Builder, given: GraphStage) -> Link:
    """From noise, or over the given image, a `detail` stage's square; returns the decoded image."""
    stage, sampler = given.stage, given.stage.sampler
    scene = _scene(build, given)
    tiled = "Tiled" if given.choices.smaller else ""
    width, height = (stage.detail.size,) * 2 if stage.kind == "detail" else given.size
    if given.source is None:
        (latent,) = build.add("EmptyFlux2LatentImage", width=width, height=height, batch_size=1)
    else:
        (latent,) = build.add(f"VAEEncode{tiled}", pixels=given.source, vae=scene.vae)
    if stage.kind == "detail":
        (mask,) = build.add("LoadImageMask", "Mask", image=GraphPicture("mask"), channel="red")
        (latent,) = build.add("SetLatentNoiseMask", samples=latent, mask=mask)
    (sigmas,) = build.add("Flux2Scheduler", steps=sampler.steps, width=width, height=height)
    taken = max(1, min(int(sampler.steps * sampler.denoise), sampler.steps))
    if given.source is not None and taken < sampler.steps:
        _, sigmas = build.add("SplitSigmas", sigmas=sigmas, step=sampler.steps - taken)
    (noise,) = build.add("RandomNoise", noise_seed=given.seed)
    (walk,) = build.add("KSamplerSelect", sampler_name=SAMPLERS.get(sampler.name, sampler.name))
    guider = _guider(build, given, scene)
    latent, _ = build.add(
        "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=walk, sigmas=sigmas, latent_image=latent
    )
    (image,) = build.add(f"VAEDecode{tiled}", samples=latent, vae=scene.vae)
    return image


def prepare(given: StageInput) -> Prepared | StageOutput:
    """The face's square with its mask; the image as it is, if its face is to be left alone."""
    from sosie.families.contract.face_pass import prepare_square

    return prepare_square(given)


def _scene(build: Builder, given: GraphStage) -> Scene:
    """Model, words and VAE, before any guide."""
    stage = given.stage
    denoiser, encoder, autoencoder, *files = names(stage)
    (model,) = build.add("UNETLoader", unet_name=denoiser)
    (clip,) = build.add("CLIPLoader", clip_name=encoder, type="flux2")
    (vae,) = build.add("VAELoader", vae_name=autoencoder)
    for use, file in zip(stage.loras, files, strict=False):
        (model,) = build.add("LoraLoaderModelOnly", model=model, lora_name=file, strength_model=use.weight)
    if stage.precision == "fp32":
        (model,) = build.add("ModelComputeDtype", model=model, dtype="fp32")
    if stage.kind == "detail":
        (model,) = build.add("DifferentialDiffusion", model=model)
    (positive,) = build.add("CLIPTextEncode", "Positive prompt", text=given.words, clip=clip)
    if stage.sampler.cfg == 1:
        (negative,) = build.add("ConditioningZeroOut", "No guidance", conditioning=positive)
    else:
        (negative,) = build.add("CLIPTextEncode", "Negative prompt", text=plain(given.plan.negative_prompt), clip=clip)
    return Scene(model, positive, negative, clip, vae)


def _guider(build: Builder, given: GraphStage, bare: Scene) -> Link:
    """What guides by words, and by references beyond how they were trained: as `diffusers.denoise.Velocity` says.

    Without CFG the sampler's negative side is the prompt without references, and its CFG the image guidance.
    """
    scene = guided(guides_of("flux2"), build, given, bare)
    cfg = given.stage.sampler.cfg
    image = next((guide.scale for guide in given.stage.guides if guide.kind == "references"), 1.0)
    if image == 1:
        return build.add("CFGGuider", **scene.inputs, cfg=cfg)[0]
    if cfg == 1:
        sides = {"positive": scene.positive, "negative": bare.positive}
        return build.add("CFGGuider", model=scene.model, **sides, cfg=image)[0]
    sides = {"cond1": scene.positive, "cond2": scene.negative, "negative": bare.negative}
    weights = {"cfg_conds": cfg, "cfg_cond2_negative": image, "style": "regular"}
    return build.add("DualCFGGuider", model=scene.model, **sides, **weights)[0]
