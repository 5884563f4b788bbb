"""Whether identity guides can work: trained for the family, fed by the right encoder, not piled up in one stage."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.doctor.assembly import Assembly, GuidePart

R030 = Rule("SOS-R030", "warning", "Reference images mean nothing to these weights")
R031 = Rule("SOS-R031", "error", "No identity guide was trained for this family")
R032 = Rule("SOS-R032", "warning", "Two identity guides are near full weight in one stage")
R033 = Rule("SOS-R033", "error", "A guide is fed by another face encoder than it was trained with")

FULL = 0.7
"""From this scale on a guide counts as near full: InstantID's own default is 0.8, FaceID's 1."""

ENCODERS = {
    "instantid": ("glintr100", "antelopev2"),
    "faceid": ("w600k_r50", "buffalo_l"),
    "faceid-plus-v2": ("w600k_r50", "buffalo_l"),
}
"""The face encoder that a kind of guide was trained with, and InsightFace's pack that brings it."""

INSTEAD = "use a LoRA of the character, or a hybrid: its body here, its face by InstantID on SDXL (recipe hybrid)"


def check_guides(assembly: Assembly) -> list[Finding]:
    """SOS-R030 to R033."""
    return [*_references(assembly), *_trained(assembly), *_piled(assembly), *_encoders(assembly)]


def _references(a: Assembly) -> Iterator[Finding]:
    """Reference images for a family that takes them only with weights that are not in this file."""
    mark = a.partners.reference_mark
    if not a.references or not mark:
        return
    model = a.model.model if a.model else None
    if model is not None and model.variant == "Omni":
        return
    name = f"'{a.model.name}'" if a.model else "the model"
    if model is None:
        message = f"reference images need weights with {mark}* tensors, and whether {name} has them could not be read"
        yield a.finding(R030, message, INSTEAD)
        return
    what = (
        "without a VAE the images are not used at all"
        if a.references == "without a VAE"
        else "with a VAE they enter as tokens that it never saw"
    )
    message = (
        f"a face reference cannot work: {name} has no {mark}* tensors and was never trained on reference tokens; {what}"
    )
    yield a.finding(R030, message, INSTEAD, severity="error")


def _trained(a: Assembly) -> Iterator[Finding]:
    fit = a.partners
    for guide in a.guides:
        if (fit.guides or fit.no_guide) and guide.kind not in fit.guides:
            why = fit.no_guide or f"those for {a.title} are {', '.join(fit.guides)}"
            message = f"guide '{guide.kind}' cannot work on {a.title}: {why}; weights of another family do not fit it"
            yield a.finding(R031, message, INSTEAD)


def _piled(a: Assembly) -> Iterator[Finding]:
    strong = [guide for guide in a.guides if guide.kind in ENCODERS and guide.scale >= FULL]
    if len(strong) > 1:
        names = " and ".join(f"{guide.kind} {guide.scale:g}" for guide in strong)
        message = f"{names} act at once: expect burnt colours and a frozen pose"
        hint = f"lower all but one below {FULL:g}, or give each a stage of its own (generate, detail)"
        yield a.finding(R032, message, hint)


def _encoders(a: Assembly) -> Iterator[Finding]:
    """By the encoder's name: the two packs' embeddings lie in different spaces, and both have 512 numbers."""
    known = {name for pair in ENCODERS.values() for name in pair}
    for guide in a.guides:
        given = _given(guide, known)
        if given and given not in ENCODERS[guide.kind]:
            file, pack = ENCODERS[guide.kind]
            message = f"guide '{guide.kind}' is fed by {given}; it was trained with {file} of {pack}, another space"
            yield a.finding(R033, message, f"take {file}.onnx from {pack}")


def _given(guide: GuidePart, known: set[str]) -> str:
    words = set(re.split(r"[^a-z0-9_]+", guide.encoder.lower())) & known if guide.kind in ENCODERS else set[str]()
    return next(iter(sorted(words)), "")
