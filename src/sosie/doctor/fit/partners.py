"""Whether text encoders and VAE are those that the model of a stage was trained with, and read as that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.doctor.assembly import Assembly, PlacedFile
from sosie.families import find_family, partners_of
from sosie.families.contract.partners import TextEncoders

R011 = Rule("SOS-R011", "error", "A text encoder does not fit the model")
R012 = Rule("SOS-R012", "error", "A VAE does not fit the model")
R013 = Rule("SOS-R013", "error", "A model has no text encoder or VAE")
R015 = Rule("SOS-R015", "error", "The type of a text encoder's loader makes another model's encoder of it")
R016 = Rule("SOS-R016", "error", "A text encoder that is shown images has no eyes")

COMPLETE = ("pipeline", "checkpoint")
"""Roles that bring a text encoder and a VAE."""

ALONE = ("denoiser",)

LOADERS = ("CLIPLoader", "DualCLIPLoader", "TripleCLIPLoader", "QuadrupleCLIPLoader")
"""ComfyUI's loaders of one, two, three and four text encoders."""

Kind = tuple[str, str]
"""A family and a variant, or the beginning of one."""


def check_partners(assembly: Assembly) -> list[Finding]:
    """SOS-R011 to R013, R015 and R016; files that were not found or are not known are not spoken of."""
    return [*_texts(assembly), *_vaes(assembly), *_eyes(assembly)]


def _texts(a: Assembly) -> Iterator[Finding]:
    """The encoders together, then each, then the type under which they are read."""
    takes = a.partners.texts_of(a.told_variant)
    encoders = [(one, kind) for one in a.encoders if (kind := _kind(one)) is not None]
    yield from _of_checkpoint(a, takes)
    if not takes or not encoders:
        return
    known = {each for texts in takes for each in texts.encoders}
    strange = [(one, kind) for one, kind in encoders if not any(_fits(kind, each) for each in known)]
    for one, kind in strange:
        message = f"text encoder '{one.name}' is {_named(kind)}; {_model(a)} takes {_wanted(takes)}"
        yield a.finding(R011, message, f"use {takes[0].file}")
    kinds = [kind for _, kind in encoders]
    whole = [texts for texts in takes if _is_whole(texts, kinds)]
    if strange or a.loader is None or len(encoders) < len(a.encoders):
        return
    if not whole:
        message = f"{a.loader.where} loads {' and '.join(map(_named, kinds))}; {_model(a)} takes {_wanted(takes)}"
        yield a.finding(R013, message, how_to_load(takes[0]))
    elif a.loader.type is not None and not any(texts.right(a.loader.type) for texts in whole):
        type_, names = a.loader.type, " and ".join(f"'{one.name}'" for one, _ in encoders)
        message = (
            f"{a.loader.where} has the type {type_}, which makes another model's encoder of {names} than {_model(a)}"
        )
        yield a.finding(R015, f"{message} takes", f"set its type to {whole[0].type}")


def _of_checkpoint(a: Assembly, takes: tuple[TextEncoders, ...]) -> Iterator[Finding]:
    """Text encoders that come out of a checkpoint of a family whose models take others."""
    for one in a.encoders:
        if takes and _is_another_checkpoint(a, one) and not _shares(a, one):
            message = f"the text encoder comes out of '{one.name}', {one.what}; {_model(a)} takes {_wanted(takes)}"
            yield a.finding(R011, message, how_to_load(takes[0]))


def _is_another_checkpoint(a: Assembly, part: PlacedFile) -> bool:
    model = part.model
    return model is not None and model.role in COMPLETE and model.family != a.family


def _shares(a: Assembly, part: PlacedFile) -> bool:
    """Whether the checkpoint's own encoders are not known, or are those that the model takes, too."""
    theirs = partners_of(part.model.family).texts if part.model else ()
    ours = {frozenset(texts.encoders) for texts in a.partners.texts_of(a.told_variant)}
    return not theirs or any(frozenset(texts.encoders) in ours for texts in theirs)


def _is_whole(texts: TextEncoders, kinds: list[Kind]) -> bool:
    """Whether these encoders are all that a model takes together, or some of those of which some are enough."""
    known = all(any(_fits(kind, each) for each in texts.encoders) for kind in kinds)
    met = [any(_fits(kind, each) for kind in kinds) for each in texts.encoders]
    return known and (any(met) if texts.any_of else all(met))


def _kind(part: PlacedFile) -> Kind | None:
    model = part.model
    return (model.family, model.variant) if model and model.role == "text-encoder" else None


def _fits(kind: Kind, wanted: Kind) -> bool:
    return kind[0] == wanted[0] and kind[1].startswith(wanted[1])


def _named(kind: Kind) -> str:
    """`CLIP-L`, `4B (Qwen3)`: the variant, with its family's title where it does not say it."""
    family = find_family(kind[0])
    return f"{kind[1]} ({family.title})" if family and family.title not in kind[1] else kind[1]


def _wanted(takes: tuple[TextEncoders, ...]) -> str:
    joined = ((" or " if texts.any_of else " and ").join(_named(each) for each in texts.encoders) for texts in takes)
    return ", or ".join(dict.fromkeys(joined))


def _model(a: Assembly) -> str:
    variant = a.told_variant.partition(",")[0].partition(" (")[0]
    return f"{a.title} {variant}" if variant and any(texts.of for texts in a.partners.texts) else a.title


def how_to_load(texts: TextEncoders) -> str:
    """The files, and ComfyUI's node that loads as many."""
    count = 1 if texts.any_of and len(texts.encoders) > len(LOADERS) else len(texts.encoders)
    node = LOADERS[count - 1]
    type_ = f", type {texts.type}" if texts.type and count < 3 else ""
    return f"load {texts.file} by {node}{type_}"


def _vaes(a: Assembly) -> Iterator[Finding]:
    takes = a.partners.vaes_of(a.told_variant)
    for vae in {vae.name: vae for vae in a.vaes}.values():
        kinds = _latents(vae)
        if not takes or not kinds or any(_reads(kind, one.kind) for kind in kinds for one in takes):
            continue
        named = vae.model.variant if vae.model and vae.model.role == "vae" else vae.what
        wanted = " or ".join(dict.fromkeys(one.kind for one in takes))
        message = f"VAE '{vae.name}' is for {named}; latents of {_model(a)} have {wanted}"
        yield a.finding(R012, message, f"use {takes[0].file}")


def _latents(part: PlacedFile) -> tuple[str, ...]:
    """The kinds of latents that a VAE, or that of a checkpoint, may be for; none where that is not known."""
    model = part.model
    if model is None:
        return ()
    if model.role in COMPLETE:
        return tuple(one.kind for one in partners_of(model.family).vaes_of(model.variant))
    kind, colon, _ = model.variant.partition(":")
    return (kind,) if model.role == "vae" and (colon or " channels" in kind) else ()


def _reads(kind: str, wanted: str) -> bool:
    return kind in (wanted, f"{wanted}, reduced")


def _eyes(a: Assembly) -> Iterator[Finding]:
    """An encoder that is shown images, and lies without the file (or the tensors) that it sees by."""
    for one in a.encoders:
        blind = one.model.blind if one.model else ""
        if not a.eyes or not blind or one.path is None:
            continue
        if one.path.suffix != ".gguf":
            message = f"text encoder '{one.name}' is shown images, and its file holds no tensors to see with"
            yield a.finding(R016, message, "take the file of the whole model (VL)")
        elif not _lies_beside(one.path, blind):
            message = f"text encoder '{one.name}' is shown images, and no {blind} file of it lies in {one.path.parent}"
            hint = f"put it there, named as the loader looks for it: {_unquantised(one.path)}-{blind}-F16.gguf"
            yield a.finding(R016, message, hint)


def _lies_beside(path: Path, word: str) -> bool:
    """Whether a GGUF file with the word and the encoder's name in its own lies in the same folder."""
    names = (other.stem.lower() for other in path.parent.glob("*.gguf"))
    return any(word in name and _unquantised(path).lower() in name for name in names)


def _unquantised(path: Path) -> str:
    """A GGUF file's name without its ending and what says how it is quantised, as ComfyUI-GGUF cuts it."""
    return re.sub(r"[-_]?(ud-)?i?q\d_[\w-]{1,8}$", "", path.stem, flags=re.IGNORECASE)


def check_complete(a: Assembly) -> Iterator[Finding]:
    """SOS-R013 for a denoiser alone to which a recipe names no partner; in a graph, its wires tell."""
    model = a.model.model if a.model else None
    if a.model is None or model is None or model.role not in ALONE:
        return
    texts, vaes = a.partners.texts_of(model.variant), a.partners.vaes_of(model.variant)
    for there, what, file in (
        (a.encoders, "text encoder", texts[0].file if texts else ""),
        (a.vaes, "VAE", vaes[0].file if vaes else ""),
    ):
        if not there and file:
            message = f"'{a.model.name}' is a denoiser alone, and no {what} is named"
            yield a.finding(R013, message, f"name one: {file}")
