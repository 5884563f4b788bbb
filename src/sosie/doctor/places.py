"""Where model files belong in recipes: what each of a folder is, by its header, and which slots of stages it fills.

A file fits a slot if it is what the slot takes and, put there, gives no warning or error that the stage alone does not
give: what the doctor says of a finished recipe decides here, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from sosie.core import Finding, Recipe, Stage
from sosie.core.errors import SosieError
from sosie.core.finding import has_errors
from sosie.core.plan import needed_stages
from sosie.doctor.assembly import Assembly, PlacedFile
from sosie.doctor.examined import examine_file
from sosie.doctor.fit.slots import MODELS
from sosie.doctor.recipes import CHECKS, assembly_of
from sosie.faces.onnx import encoded_numbers
from sosie.families import find_family, guides_of
from sosie.families.contract.guides import guide_files
from sosie.files.model_file import ModelFile
from sosie.files.onnx import read_onnx
from sosie.files.suffixes import SUFFIXES
from sosie.workspace.bill import read_contents

FACE_ENCODER = "face-encoder"
NETWORK = "network"
"""Roles of ONNX files: an encoder of faces in ArcFace's layout, and any other network."""

GUIDES = ("ip-adapter", "instantid", "controlnet")
"""Roles of a guide's weights, where its kind names none."""


@dataclass(frozen=True)
class Slot:
    """A file that a stage of a recipe names, by `name`: what it is called for people, and what it must be.

    `roles` are those of `signature.Part`, `lora` or `face-encoder`. `names` are those under which its file is
    published, with folders where these tell more. With `by_name` no header tells it from others that would be taken as
    well: only a file of such a name is.
    """

    recipe: str
    stage: Stage
    name: str
    what: str
    roles: tuple[str, ...]
    names: tuple[str, ...]
    by_name: bool = False

    def alike(self, path: Path) -> int:
        """How many parts of a path, from its end on, are those of one of the names; endings do not count."""
        return max(_common(path, name) for name in self.names)


@dataclass(frozen=True)
class FoundFile:
    """A model file, or a folder that is one model: what it is (`role` is empty if that is not known), and what is said.

    `part` is as the checks of stages take it.
    """

    path: Path
    role: str
    what: str
    part: PlacedFile
    findings: tuple[Finding, ...] = ()

    @property
    def is_usable(self) -> bool:
        """Whether it is known, and nothing is wrong with it."""
        return bool(self.role) and not has_errors(self.findings)


def look_at(path: Path, known: Path | None = None) -> FoundFile:
    """What a file or a model's folder is; never raises for what it holds. `known`: the user's table of variants."""
    if path.suffix.lower() == ".onnx":
        return _network(path)
    contents = read_contents(path)
    examined = examine_file(path, str(path), known, contents.header if contents.file == path else None)
    what = examined.what
    part = PlacedFile(path.name, path)
    if what is not None and what.role != "embedding":
        # Of a folder that is one component, the file of its weights: ComfyUI loads no folders.
        file = contents.file if contents.file.is_file() else path
        part = PlacedFile(file.name, file, None if contents.lora else what, contents.lora, contents.header)
    role = what.role if what else ""
    return FoundFile(part.path or path, role, _described(what, part, examined.findings), part, examined.findings)


def slots_of(recipe: Recipe) -> tuple[Slot, ...]:
    """Every slot of a recipe's stages that names a file, those of repairs too; each name once.

    A character's own LoRA is none: it is the character's.
    """
    found = (slot for stage in needed_stages(recipe) for slot in _of_stage(recipe.name, stage))
    return tuple({slot.name: slot for slot in reversed(list(found))}.values())[::-1]


def fits(slot: Slot, file: FoundFile) -> bool:
    """Whether a file can fill a slot by what its header says."""
    if not file.is_usable or file.role not in slot.roles or _variants(slot, file) == "differ":
        return False
    alone = set(_findings(slot, None))
    return not [one for one in _findings(slot, file.part) if one not in alone and one.severity != "info"]


def is_told(slot: Slot, file: FoundFile) -> bool:
    """Whether a file that fits is known to be the one: not if variants share its header, and none is told."""
    return _variants(slot, file) == "same" or slot.alike(file.path) > 0


def choose(slots: Sequence[Slot], files: Sequence[FoundFile], size: int = 0) -> tuple[FoundFile, ...]:
    """The files that fill slots of one name: one, several among which only a person can choose, or none.

    Of those that fit all of them, the ones that are called most like the slots' file count, then those of exactly
    `size` bytes (0: not known).
    """
    slot = slots[0]
    sized = {file.path for file in files if size and file.path.is_file() and file.path.stat().st_size == size}
    asked = [file for file in files if not slot.by_name or file.path in sized or slot.alike(file.path)]
    fitting = [file for file in asked if all(fits(one, file) for one in slots)]
    alike = max((slot.alike(file.path) for file in fitting), default=0)
    named = [file for file in fitting if alike and slot.alike(file.path) == alike]
    return tuple(named or [file for file in fitting if file.path in sized] or fitting)


def _findings(slot: Slot, part: PlacedFile | None) -> list[Finding]:
    assembly = _assembly(slot, part)
    return [finding for check in CHECKS for finding in check(assembly)]


def _assembly(slot: Slot, part: PlacedFile | None) -> Assembly:
    given: Callable[[str], PlacedFile | None] = partial(_one, {slot.name: part} if part else {})
    return assembly_of((slot.recipe, slot.what), slot.stage, given)


def _variants(slot: Slot, file: FoundFile) -> Literal["same", "differ", "not told"]:
    """The variant that a stage names its model by, and that of a file."""
    assembly = _assembly(slot, file.part)
    wanted = assembly.partners.variant_of(slot.name) if slot.name == slot.stage.model else ""
    if not wanted or wanted == assembly.variant:
        return "same"
    return "differ" if assembly.variant else "not told"


def _one(parts: Mapping[str, PlacedFile], name: str) -> PlacedFile | None:
    return parts.get(name)


def _of_stage(recipe: str, stage: Stage) -> Iterator[Slot]:
    family = find_family(stage.family)
    upscales = family is not None and any(part.role == "upscaler" for part in family.parts)
    published = {file.asset: file.names for file in guide_files(guides_of(stage.family), stage.guides)}

    def slot(name: str, what: str, *roles: str, by_name: bool = False) -> Iterator[Slot]:
        if name:
            own = name.rpartition(":")[2].replace("\\", "/")
            yield Slot(recipe, stage, name, what, roles, (own, *published.get(name, ())), by_name)

    yield from slot(stage.model, "upscaler", "upscaler") if upscales else slot(stage.model, "model", *MODELS)
    yield from slot(stage.text_encoder, "text encoder", "text-encoder")
    yield from slot(stage.vae, "VAE", "vae")
    for use in stage.loras:
        yield from slot(use.file, "LoRA", "lora", by_name=True)
    for guide in stage.guides:
        kind, whose = guides_of(stage.family).kind(guide.kind), f"{guide.kind}'s"
        yield from slot(guide.weights, f"{whose} weights", *((kind.role,) if kind and kind.role else GUIDES))
        yield from slot(guide.encoder, f"{whose} face encoder", FACE_ENCODER, by_name=True)
        yield from slot(guide.image_encoder, f"{whose} image encoder", "image-encoder")
        yield from slot(guide.lora, f"{whose} LoRA", "lora", by_name=True)
        yield from slot(guide.keypoints.controlnet if guide.keypoints else "", f"{whose} ControlNet", "controlnet")


def _network(path: Path) -> FoundFile:
    part = PlacedFile(path.name, path)
    try:
        numbers = encoded_numbers(read_onnx(path))
    except (SosieError, OSError) as error:
        return FoundFile(path, "", str(error), part)
    if numbers is None:
        return FoundFile(path, NETWORK, "a network in ONNX, no face encoder", part)
    return FoundFile(path, FACE_ENCODER, f"a face encoder of {numbers or 'any number of'} numbers", part)


def _described(what: ModelFile | None, part: PlacedFile, findings: Iterable[Finding]) -> str:
    """A file in a few words; of one that is not known, what was said of it."""
    if what is None:
        return next((finding.message for finding in findings), "not known")
    family = find_family(what.family)
    title = family.title if family else what.family
    if part.lora is not None:
        return f"LoRA for {title or 'a model that is not known'}, {part.lora.layout.title}"
    parts = (f"{title} {what.role}".strip(), what.variant, what.without, what.storage)
    return ", ".join(word for word in parts if word)


def _common(path: Path, name: str) -> int:
    """How many parts of a path and a name are the same, from their ends on."""
    own, other = list(reversed(path.with_suffix("").parts)), name.split("/")[::-1]
    other[0] = PurePosixPath(other[0]).stem if other[0].lower().endswith(SUFFIXES) else other[0]
    return len([1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(own, other, strict=False))])
