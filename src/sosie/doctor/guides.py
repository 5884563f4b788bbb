"""Whether identity guides can work: trained for the family, fed by the right encoder, not piled up in one stage."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.doctor.assembly import Assembly, GuidePart
from sosie.families.contract.guides import GuideKind

R030 = Rule("SOS-R030", "warning", "Reference images mean nothing to these weights")
R031 = Rule("SOS-R031", "error", "No identity guide was trained for this family")
R032 = Rule("SOS-R032", "warning", "Two identity guides are near full weight in one stage")
R033 = Rule("SOS-R033", "error", "A guide is fed by another face encoder than it was trained with")
R038 = Rule("SOS-R038", "warning", "A setting leads a reference that the model does not see")

FULL = 0.7
"""From this scale on a guide counts as near full: InstantID's own default is 0.8, FaceID's 1."""


def check_guides(assembly: Assembly) -> list[Finding]:
    """SOS-R030 to R033, and R038."""
    return [*_references(assembly), *_trained(assembly), *_piled(assembly), *_encoders(assembly)]


def sees_references(a: Assembly) -> bool | None:
    """Whether the stage's weights know reference images; None where nothing tells. A published name tells as well."""
    takes = a.known_guides.references
    if takes is None:
        return None
    model = a.model.model if a.model else None
    if model is not None:
        return model.variant == takes.variant
    return False if a.variant else None


def _references(a: Assembly) -> Iterator[Finding]:
    """Reference images for a family that takes them only with weights that are not in this file."""
    takes, instead, sees = a.known_guides.references, a.known_guides.instead, sees_references(a)
    if not a.references or takes is None or sees:
        return
    name = f"'{a.model.name}'" if a.model else "the model"
    if sees is None:
        needed = f"reference images need weights with {takes.mark}* tensors"
        yield a.finding(R030, f"{needed}, and whether {name} has them could not be read", instead)
        return
    what = (
        "without a VAE the images are not used at all"
        if a.references == "without a VAE"
        else "with a VAE they enter as tokens that it never saw"
    )
    told = "" if a.model and a.model.model else " (by its name; it is not here to be read)"
    lacks = f"{name} has no {takes.mark}* tensors{told} and was never trained on reference tokens"
    yield a.finding(R030, f"a face reference cannot work: {lacks}; {what}", instead, severity="error")
    yield from _steered(a, takes.guide)


def _steered(a: Assembly, kind: str) -> Iterator[Finding]:
    """SOS-R038 for each setting that would lead a reference which the model does not see."""
    hint = "change what acts: the prompt, a LoRA's weight, the CFG of the whole run"
    settings = a.settings
    for guide in (guide for guide in a.guides if guide.kind == kind):
        if guide.pictures > 1:
            more = f"{guide.pictures} pictures in place of one: of what is not seen, more shows no more of the face"
            yield a.finding(R038, more, hint)
        if guide.span != (0, 1):
            share = f"the reference from {guide.span[0]:.0%} to {guide.span[1]:.0%} of the steps"
            yield a.finding(R038, f"{share}: it acts in none, so there is nothing to switch", hint)
    if settings.guided != (0, 1):
        low, high = settings.guided
        if settings.cfg == 1:
            why = "at CFG 1 there is no guidance, so there is nothing to switch"
        else:
            why = (
                "guidance weighs the prompt's words against the negative prompt's; the reference is in neither, so for "
                "it there is nothing to switch"
            )
        yield a.finding(R038, f"guidance from {low:.0%} to {high:.0%} of the steps: {why}", hint)


def _trained(a: Assembly) -> Iterator[Finding]:
    known = a.known_guides
    for guide in a.guides:
        if (known.kinds or known.none) and known.kind(guide.kind) is None:
            why = known.none or f"those for {a.title} are {', '.join(kind.name for kind in known.kinds)}"
            message = f"guide '{guide.kind}' cannot work on {a.title}: {why}; weights of another family do not fit it"
            yield a.finding(R031, message, known.instead)


def _piled(a: Assembly) -> Iterator[Finding]:
    full = [guide for guide in a.guides if _face_encoder(a, guide) and guide.scale >= FULL]
    strong = [one for one in full if any(one.meets(other) for other in full if other is not one)]
    if strong:
        names = " and ".join(f"{guide.kind} {guide.scale:g}" for guide in strong)
        message = f"{names} act at once: expect burnt colours and a frozen pose"
        hint = f"lower all but one below {FULL:g}, or give each a stage of its own (generate, detail)"
        yield a.finding(R032, message, hint)


def _encoders(a: Assembly) -> Iterator[Finding]:
    """By the encoder's name: the packs' embeddings lie in different spaces, and all have 512 numbers."""
    known = {name for kind in a.known_guides.kinds for name in (kind.encoder, kind.pack) if name}
    for guide in a.guides:
        given, kind = _given(guide, known), _face_encoder(a, guide)
        if kind and given and given not in (kind.encoder, kind.pack):
            trained = f"it was trained with {kind.encoder} of {kind.pack}, another space"
            message = f"guide '{guide.kind}' is fed by {given}; {trained}"
            yield a.finding(R033, message, f"take {kind.encoder}.onnx from {kind.pack}")


def _face_encoder(a: Assembly, guide: GuidePart) -> GuideKind | None:
    """The guide's kind, if it is one that a face encoder feeds."""
    kind = a.known_guides.kind(guide.kind)
    return kind if kind and kind.encoder else None


def _given(guide: GuidePart, known: set[str]) -> str:
    return next(iter(sorted(set(re.split(r"[^a-z0-9_]+", guide.encoder.lower())) & known)), "")
