"""What the subjects of an examination are for: which recipes and datasets are among them, and what they need."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from sosie.core import Finding, Recipe
from sosie.core.errors import SosieError, UsageError, nearest
from sosie.core.plan import needed_stages
from sosie.dataset.given import layout_of
from sosie.doctor.machine import Needs, check_machine
from sosie.doctor.recipe_needs import Purpose, most, needs_of
from sosie.families import families
from sosie.files.regular import is_regular, is_there
from sosie.machines.facts import read_machine
from sosie.workspace.bill import Bill, resolve
from sosie.workspace.recipes import list_recipes, load_recipe, read_recipe
from sosie.workspace.workspace import Workspace

MODEL_SUFFIXES = (".safetensors", ".sft", ".gguf", ".bin", ".pth", ".pt", ".ckpt")

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


@dataclass(frozen=True)
class Examination:
    """How to look: recorded `nvidia-smi` text in place of this machine, and what recipes and datasets are for.

    `trigger` is the token that a dataset's captions must hold, `family` what is trained on it, `recipe` what
    ComfyUI servers are to run, `engine` the servers that a workflow is to run on.
    """

    machine: Path | None = None
    trigger: str = ""
    family: str = ""
    purpose: Purpose = field(default_factory=Purpose)
    recipe: str = ""
    engine: str = ""


def parse_bytes(text: str) -> int:
    """The bytes of `50GB`, `46.5 GiB`, `1.2TB`; a number alone is GB, as pods are sold. UsageError for others."""
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,3})?)\s*([A-Za-z]*)\s*", text)
    size = round(float(match[1]) * UNITS.get(match[2].upper() or "GB", 0)) if match else 0
    if size <= 0:
        raise UsageError(f"'{text}' is no size; expected a number and one of {', '.join(UNITS)}", "--quota 50GB")
    return size


def subject_path(subject: str) -> Path:
    """The path that a subject may be: looked for where the user stands, in whichever workspace the command works."""
    return Path(subject).expanduser()


def check_purpose(workspace: Workspace, subjects: tuple[str, ...], how: Examination) -> Purpose:
    """The purpose, with the number of images of the datasets that are named.

    UsageError for what would be without effect: a quota or a training without a recipe, a precision
    without a recipe or a dataset's family, a family that is not known.
    """
    asked = how.purpose
    if not (asked.quota or asked.training or asked.precision or how.family):
        return asked
    recipes = named_recipes(workspace, subjects)
    folders = [path for path in map(subject_path, subjects) if path.is_dir() and is_dataset(path)]
    if asked.training < 0:
        raise UsageError(f"--training {asked.training} is no number of steps", "--training 3000")
    if (asked.quota or asked.training) and not recipes:
        flag = "--quota" if asked.quota else "--training"
        raise UsageError(f"{flag} is about a recipe's disk plan, and no valid recipe was named", "sosie recipe list")
    if how.family and how.family not in (known := [family.name for family in families()]):
        raise UsageError(f"family '{how.family}' is not known{nearest(how.family, known)}", "sosie doctor --help")
    if asked.precision and folders and not how.family:
        choose = " or ".join(f"--family {family.name}" for family in families() if family.figures.fails)
        raise UsageError("--precision of a dataset needs the family that is trained", f"add {choose}")
    if (asked.precision and not (folders or recipes)) or (how.family and not folders):
        raise UsageError("--precision and --family are about a recipe or a dataset, and none was named")
    return replace(asked, images=sum(map(_images, folders)) or asked.images)


def named_recipes(workspace: Workspace, subjects: tuple[str, ...]) -> tuple[Recipe, ...]:
    """The recipes among the subjects, by name or file; those that are not valid are left out."""
    found: list[Recipe] = []
    for subject in subjects:
        kind, _, name = subject.partition(":")
        path = subject_path(subject)
        try:
            if kind == "recipe" and name:
                found.append(load_recipe(workspace, name))
            elif path.suffix == ".toml" and is_regular(path):
                found.append(read_recipe(path))
            elif not is_there(path) and subject in list_recipes(workspace):
                found.append(load_recipe(workspace, subject))
        except SosieError:
            continue
    return tuple(found)


def needs_of_all(workspace: Workspace, subjects: tuple[str, ...], purpose: Purpose) -> Needs:
    """What one machine needs for all recipes among the subjects; a card, and no more, without any."""
    recipes = named_recipes(workspace, subjects)
    return most(tuple(needs_of(one, resolve(workspace, needed_stages(one)), purpose) for one in recipes))


def check_here(folder: Path, recipe: Recipe, bill: Bill, purpose: Purpose) -> list[Finding]:
    """SOS-H010 to H044: this machine against the recipe's needs, if it has a card; a remote engine needs none."""
    facts = read_machine(folder)
    return check_machine(facts, needs_of(recipe, bill, purpose)) if facts.gpus else []


def is_dataset(path: Path) -> bool:
    """A folder of images, with captions or without: if models lie there too, the images are theirs unless captioned."""
    if any((path / name).is_file() for name in ("captions.jsonl", "metadata.jsonl")):
        return True
    pictures = layout_of(path).pictures
    if any(placed.path.with_suffix(".txt").is_file() for placed in pictures):
        return True
    return bool(pictures) and not any(file.suffix.lower() in MODEL_SUFFIXES for file in path.rglob("*"))


def _images(folder: Path) -> int:
    return len(layout_of(folder).pictures)
