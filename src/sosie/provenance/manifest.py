"""The claim that a delivered image carries: made by AI, by which recipe, models and plan.

Two layers say so. A C2PA manifest, signed, in which the action `c2pa.created` has the IPTC
digital source type trainedAlgorithmicMedia and the assertion `org.sosie.plan` has the rest; and,
covered by its signature, a small XMP packet that ordinary viewers and platforms read.

Privacy: what is not listed in `Claim` does not go in. No character, prompt, seed, reference,
date, user, machine or folder: of every name only the last part is written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie import __version__
from sosie.core.plan import Plan
from sosie.provenance.binding import sign
from sosie.provenance.delivery import deliver, encode, mime_of, png_with

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.provenance.signing_key import SigningKey

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
PLAN_LABEL = "org.sosie.plan"


@dataclass(frozen=True)
class Claim:
    """What is said of one image.

    `plan_id` is the plan's hash (64 hex digits); `models` are (name, SHA-256) of the files used,
    the digest empty where it is not known; `engine` is the engine's kind.
    """

    plan_id: str
    recipe: str
    engine: str
    models: tuple[tuple[str, str], ...]
    sosie_version: str = __version__


def claim_of(plan: Plan, engine: str) -> Claim:
    """The claim of an image that `engine` made from `plan`."""
    return Claim(plan.id, plan.recipe, engine, tuple((asset.name, asset.sha256) for asset in plan.assets))


def write_signed(image: Image, target: Path, claim: Claim, key: SigningKey) -> None:
    """Writes `image` as `signed_bytes` gives it; whole or not at all. Raises `DeliveryError` too."""
    deliver(signed_bytes(image, target, claim, key), target)


def write_unsigned(image: Image, target: Path) -> None:
    """Writes `image` the same way with neither manifest nor XMP; the same errors but `ProvenanceError`."""
    deliver(unsigned_bytes(image, target), target)


def signed_bytes(image: Image, target: Path, claim: Claim, key: SigningKey, parameters: str = "") -> bytes:
    """The content of `target` (.png, .jpg or .webp): `image` with a signed manifest, made offline.

    The pixels of PNG and WebP are exactly those of `image` (mode RGB, RGBA or L); JPEG is lossy.
    Raises `UsageError` (suffix or mode) or `ProvenanceError` (the key was refused).
    """
    mime = mime_of(target)
    return sign(encode(image, mime, xmp_of(claim), parameters), mime, definition_of(claim), key)


def signed_png(png: bytes, claim: Claim, key: SigningKey, parameters: str = "") -> bytes:
    """A PNG file without metadata, signed as `signed_bytes` does it; its pixels are not encoded again."""
    return sign(png_with(png, xmp_of(claim), parameters), "image/png", definition_of(claim), key)


def unsigned_bytes(image: Image, target: Path, parameters: str = "") -> bytes:
    """The same with neither manifest nor XMP."""
    return encode(image, mime_of(target), parameters=parameters)


def definition_of(claim: Claim) -> dict[str, Any]:
    """The manifest definition, in the terms of c2pa-rs; `created` marks what the signer itself asserts."""
    agent = {"name": "Sosie", "version": claim.sosie_version}
    action = {"action": "c2pa.created", "digitalSourceType": GENERATED, "softwareAgent": agent}
    plan = {
        "plan": claim.plan_id,
        "recipe": _last_part(claim.recipe),
        "engine": _kind(claim.engine),
        "models": [{"name": _last_part(name), "sha256": sha256} for name, sha256 in claim.models],
        "version": claim.sosie_version,
    }
    return {
        "claim_generator_info": [agent],
        "assertions": [
            {"label": "c2pa.actions.v2", "created": True, "data": {"actions": [action]}},
            {"label": PLAN_LABEL, "created": True, "data": plan},
        ],
    }


def xmp_of(claim: Claim) -> str:
    """An XMP packet with the IPTC digital source type and the tool that made the image."""
    version = re.sub(r"[^0-9A-Za-z.+-]", "", claim.sosie_version)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        ' xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        f' Iptc4xmpExt:DigitalSourceType="{GENERATED}"'
        f' photoshop:Credit="Made by AI" xmp:CreatorTool="Sosie {version}"/></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="r"?>'
    )


def _last_part(name: str) -> str:
    """`/home/someone/models/a.safetensors`, `host:8188/a.safetensors`, `model:a.safetensors` -> `a.safetensors`."""
    return re.split(r"[/\\:]", name.rstrip("/\\:"))[-1]


def _kind(engine: str) -> str:
    """`comfy http://10.0.0.3:8188` -> `comfy`: an engine's name may hold an address."""
    return re.split(r"[^A-Za-z0-9_]", engine.strip(), maxsplit=1)[0]
