"""Z-Image as nodes of ComfyUI, as its own templates put them together.

Settings of the templates `image_z_image` and `image_z_image_turbo`: text encoder of type `lumina2`, shift 3 by
ModelSamplingAuraFlow (whose own default of 1.73 would lower the shift that is built in), an empty text as negative
prompt, or a zeroed one where guidance is off.
"""

from __future__ import annotations

from dataclasses import replace

from sosie.core import Finding, Plan, Stage
from sosie.core.finding import Rule
from sosie.core.notation import plain
from sosie.core.stage_rules import E001, E002, E007, E010, E014, check_fp8, check_no_weights
from sosie.families import guides_of
from sosie.families.contract.draws import StageInput, StageOutput
from sosie.families.contract.graphs import GraphChoices, GraphStage, Prepared
from sosie.families.contract.guides import Scene, guide_files, guided
from sosie.families.zimage.partners import PARTNERS
from sosie.graph.build import Builder, GraphPicture, WantedFile, wanted
from sosie.graph.graph import Link
from sosie.graph.sampling import drawing, sampler_complaint

VERSION = "0.3.76"
"""The first version after PR #10978 (28 November 2025), which loads LoRAs in ai-toolkit's layout."""

KINDS = ("generate", "refine", "detail")

SAME = (
    ("qwen_3_4b.safetensors", "qwen_3_4b_bf16.safetensors"),
    ("ae.safetensors", "ae.sft"),
)
"""Names of one file: Qwen3-4B in 16 bits as Comfy-Org and users call it, FLUX.1's VAE by its two endings."""


def check(stage: Stage, plan: Plan, choices: GraphChoices) -> list[Finding]:
    """What ComfyUI cannot draw of a stage. Every stage of this family may follow another in one graph."""
    hint = f"sosie recipe copy {plan.recipe} NEW-NAME, and edit it"
    wrong: list[tuple[Rule, str]] = []
    if stage.kind not in KINDS:
        wrong.append((E001, f"Z-Image has no stage '{stage.kind}' on ComfyUI; expected {', '.join(KINDS)}"))
    if complaint := sampler_complaint(stage.sampler):
        wrong.append((E002, complaint))
    for name, value in (("text_encoder", stage.text_encoder), ("vae", stage.vae)):
        if not value:
            wrong.append((E010, f"stage '{stage.kind}' names no {name}, which ComfyUI loads from a file of its own"))
    if stage.kind == "detail" and choices.faces == "server":
        wrong.append((E001, "Z-Image draws no faces by ComfyUI's FaceDetailer; expected no --face-detailer"))
    if stage.kind == "detail" and stage.detail.size % 64:
        wrong.append((E007, f"detail.size is {stage.detail.size}; expected a multiple of 64"))
    if stage.precision == "fp16":
        wrong.append((E014, "fp16 overflows in Z-Image; its activations reach 344,064"))
    findings = [rule.at(plan.recipe, message, hint) for rule, message in wrong]
    findings += check_fp8(stage, plan, "ComfyUI, but for files that are in fp8 themselves,")
    return [*findings, *check_no_weights(stage, plan, "Z-Image")]


def names(stage: Stage) -> tuple[WantedFile, ...]:
    """The denoiser, the text encoder, the VAE, the LoRAs and the guides' files."""
    return (
        wanted(stage.model, "denoiser", "diffusion_models"),
        _known(wanted(stage.text_encoder, "text encoder", "text_encoders")),
        _known(wanted(stage.vae, "VAE", "vae")),
        *(wanted(use.file, "LoRA", "loras") for use in stage.loras),
        *guide_files(guides_of("zimage"), stage.guides),
    )


def draw(build: Builder, given: GraphStage) -> Link:
    """From noise, or over the given image, a `detail` stage's square; returns the decoded image."""
    stage, sampler = given.stage, given.stage.sampler
    denoiser, encoder, autoencoder, *files = names(stage)
    (model,) = build.add("UNETLoader", unet_name=denoiser)
    (clip,) = build.add("CLIPLoader", clip_name=encoder, type="lumina2")
    (vae,) = build.add("VAELoader", vae_name=autoencoder)
    for use, file in zip(stage.loras, files, strict=False):
        (model,) = build.add("LoraLoaderModelOnly", model=model, lora_name=file, strength_model=use.weight)
    if stage.precision == "fp32":
        (model,) = build.add("ModelComputeDtype", model=model, dtype="fp32")
    (model,) = build.add("ModelSamplingAuraFlow", model=model, shift=sampler.shift or PARTNERS.shift)
    (positive,) = build.add("CLIPTextEncode", "Positive prompt", text=given.words, clip=clip)
    if sampler.cfg == 1:
        (negative,) = build.add("ConditioningZeroOut", "No guidance", conditioning=positive)
    else:
        (negative,) = build.add("CLIPTextEncode", "Negative prompt", text=plain(given.plan.negative_prompt), clip=clip)
    scene = guided(guides_of("zimage"), build, given, Scene(model, positive, negative, clip, vae))
    tiled = "Tiled" if given.choices.smaller else ""
    if given.source is None:
        (latent,) = build.add("EmptySD3LatentImage", width=given.size[0], height=given.size[1], batch_size=1)
    else:
        (latent,) = build.add(f"VAEEncode{tiled}", pixels=given.source, vae=vae)
    if stage.kind == "detail":
        (mask,) = build.add("LoadImageMask", "Mask", image=GraphPicture("mask"), channel="red")
        (latent,) = build.add("SetLatentNoiseMask", samples=latent, mask=mask)
        scene = replace(scene, model=build.add("DifferentialDiffusion", model=scene.model)[0])
    (latent,) = build.add(
        "KSampler",
        **scene.inputs,
        latent_image=latent,
        **drawing(sampler, given.seed, "simple", over=given.source is not None),
    )
    (image,) = build.add(f"VAEDecode{tiled}", samples=latent, vae=vae)
    return image


def prepare(given: StageInput) -> Prepared | StageOutput:
    """The face's square with its mask; the image as it is, if its face is to be left alone."""
    from sosie.families.contract.face_pass import prepare_square

    return prepare_square(given)


def _known(file: WantedFile) -> WantedFile:
    """The file with the other names that it is known by."""
    same = next((group for group in SAME if set(group) & set(file.names)), ())
    return WantedFile(file.asset, tuple(dict.fromkeys((*file.names, *same))), file.role, file.folder)
