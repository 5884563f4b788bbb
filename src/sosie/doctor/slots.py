"""Whether every file of a stage suits its place, and whether encoder and VAE fit the denoiser."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.doctor.assembly import Assembly, PlacedFile
from sosie.families import find_family

R010 = Rule("SOS-R010", "error", "A file is not what its place needs")
R011 = Rule("SOS-R011", "error", "A text encoder does not fit the model")
R012 = Rule("SOS-R012", "error", "A VAE does not fit the model")
R013 = Rule("SOS-R013", "error", "A model has no text encoder or VAE")

MODELS = ("pipeline", "checkpoint", "denoiser")
"""Roles of a file that a stage can draw with."""

COMPLETE = ("pipeline", "checkpoint")
"""Roles that bring a text encoder and a VAE."""


def check_slots(assembly: Assembly) -> list[Finding]:
    """SOS-R010 to R012; files that were not found or are not known are not spoken of."""
    return [*_places(assembly), *_encoders(assembly), *_vae(assembly)]


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
    yield from misplaced(a, a.vae, ("vae",))
    for encoder in a.encoders:
        yield from misplaced(a, encoder, ("text-encoder",))
    for guide in a.guides:
        kind = a.known_guides.kind(guide.kind)
        model = guide.weights.model if guide.weights else None
        if kind and kind.role and not (model and model.variant in kind.stand_ins):
            yield from misplaced(a, guide.weights, (kind.role,), a.family)
        yield from misplaced(a, guide.image_encoder, ("image-encoder",))
        yield from misplaced(a, guide.controlnet, ("controlnet",), a.family)


def _encoders(a: Assembly) -> Iterator[Finding]:
    takes = a.partners.encoders
    for encoder in a.encoders:
        model = encoder.model
        if model is None or model.role != "text-encoder" or not takes:
            continue
        if not any(model.family == family and model.variant.startswith(variant) for family, variant in takes):
            wanted = " and ".join(f"{variant} ({family})" for family, variant in takes)
            message = f"text encoder '{encoder.name}' is {model.variant} ({model.family}); {a.title} takes {wanted}"
            yield a.finding(R011, message, f"use {a.partners.encoder_file}")


def _vae(a: Assembly) -> Iterator[Finding]:
    model = a.vae.model if a.vae else None
    channels = re.match(r"(\d+) channels", model.variant) if model and model.role == "vae" else None
    if a.vae is None or channels is None or not a.partners.latents or int(channels[1]) == a.partners.latents:
        return
    message = f"VAE '{a.vae.name}' has {channels[1]} channels; latents of {a.title} have {a.partners.latents}"
    yield a.finding(R012, message, f"use {a.partners.vae_file}")


def check_complete(a: Assembly) -> Iterator[Finding]:
    """SOS-R013 for a denoiser alone to which a recipe names no partner; in a graph, its wires tell."""
    model = a.model.model if a.model else None
    if a.model is None or model is None or model.role in COMPLETE or model.role not in MODELS:
        return
    for there, what, file in (
        (a.encoders, "text encoder", a.partners.encoder_file),
        (a.vae, "VAE", a.partners.vae_file),
    ):
        if not there and file:
            message = f"'{a.model.name}' is a denoiser alone, and no {what} is named"
            yield a.finding(R013, message, f"name one: {file}")
