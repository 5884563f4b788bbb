"""Whether every file of a stage suits its place."""

from __future__ import annotations

from collections.abc import Iterator

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.doctor.assembly import Assembly, PlacedFile
from sosie.families import find_family

R010 = Rule("SOS-R010", "error", "A file is not what its place needs")

MODELS = ("pipeline", "checkpoint", "denoiser")
"""Roles of a file that a stage can draw with."""

LOADED_BY = {
    "checkpoint": ("checkpoints", "CheckpointLoaderSimple"),
    "denoiser": ("diffusion_models", "UNETLoader"),
    "vae": ("vae", "VAELoader"),
    "text-encoder": ("text_encoders", "CLIPLoader"),
    "image-encoder": ("clip_vision", "CLIPVisionLoader"),
    "controlnet": ("controlnet", "ControlNetLoader"),
    "model-patch": ("model_patches", "ModelPatchLoader"),
    "ip-adapter": ("ipadapter", "IPAdapterModelLoader"),
    "instantid": ("instantid", "InstantIDModelLoader"),
    "upscaler": ("upscale_models", "UpscaleModelLoader"),
    "lora": ("loras", "LoraLoader"),
    "projector": ("text_encoders", "the loader of its encoder, which finds it by its name"),
}
"""The folder of ComfyUI's models that a role lies in, and the node that loads it."""


def check_slots(assembly: Assembly) -> list[Finding]:
    """SOS-R010; files that were not found or are not known are not spoken of."""
    return list(_places(assembly))


def where_loaded(part: PlacedFile) -> str:
    """How ComfyUI loads a file that is known; else what says what it is."""
    role = part.model.role if part.model else "lora" if part.lora else ""
    if role not in LOADED_BY:
        return f"what a file is: sosie doctor {part.path}"
    folder, node = LOADED_BY[role]
    uses = part.model.used_by if part.model else ""
    return f"put it into {folder}/ and load it by {node}{f', with {uses}' if uses else ''}"


def misplaced(
    assembly: Assembly, part: PlacedFile | None, roles: tuple[str, ...], family: str = ""
) -> Iterator[Finding]:
    """SOS-R010 if a file is known to be of none of `roles`, or of another family (empty: any)."""
    if part is None or (part.model is None and part.lora is None):
        return
    model = part.model
    if model is not None and model.role in roles and (not family or model.family == family):
        return
    if part.lora is not None and "lora" in roles and (not family or part.lora.family in ("", family)):
        return
    wanted = f"expected {' or '.join(roles)}" + (f" of family {family}" if family else "")
    message = f"'{part.name}' is {part.what}, {wanted} ({part.path})"
    yield assembly.finding(R010, message, f"name another file; what a file is: sosie doctor {part.path}")


def _places(a: Assembly) -> Iterator[Finding]:
    family = find_family(a.family)
    upscales = family is not None and any(part.role == "upscaler" for part in family.parts)
    roles = ("upscaler",) if upscales else MODELS
    yield from misplaced(a, a.model, roles, a.family)
    for vae in a.vaes:
        yield from misplaced(a, vae, ("vae", *MODELS))
    for encoder in a.encoders:
        yield from misplaced(a, encoder, ("text-encoder", *MODELS))
    for control in a.controls:
        yield from misplaced(a, control, ("controlnet", "model-patch"), a.family)
    for guide in a.guides:
        kind = a.known_guides.kind(guide.kind)
        model = guide.weights.model if guide.weights else None
        if kind and kind.role and not (model and model.variant in kind.stand_ins):
            yield from misplaced(a, guide.weights, (kind.role,), a.family)
        yield from misplaced(a, guide.image_encoder, ("image-encoder",))
        yield from misplaced(a, guide.controlnet, ("controlnet",), a.family)
