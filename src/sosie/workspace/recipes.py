"""Recipe files: the shipped ones and the workspace's own, found by name and read strictly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sosie
from sosie.core import Finding, Recipe
from sosie.core.errors import NotFoundError, UsageError, nearest
from sosie.core.prompt import FIELDS, fill
from sosie.core.ranges import out_of_range
from sosie.core.recipe_table import with_files, written_out
from sosie.core.schema import from_table
from sosie.families import families, guides_of
from sosie.families.plugged import BrokenGuide, plugged_guides
from sosie.files.regular import read_text
from sosie.files.toml import read_toml
from sosie.workspace.prompts.asked import check_text
from sosie.workspace.workspace import Workspace


@dataclass(frozen=True)
class ListedRecipe:
    """A recipe by name: its file, and whether it is shipped or the workspace's own."""

    name: str
    path: Path
    shipped: bool


def shipped_folder() -> Path:
    """The recipes that come with Sosie: inside the package, or beside `src/` in a checkout."""
    package = Path(sosie.__file__).parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parents[1] / "recipes"


def list_recipes(workspace: Workspace) -> dict[str, ListedRecipe]:
    """Every recipe by name; a workspace's own hides a shipped one of the same name."""
    shipped = {path.stem: ListedRecipe(path.stem, path, True) for path in sorted(shipped_folder().glob("*.toml"))}
    own = {path.stem: ListedRecipe(path.stem, path, False) for path in sorted(workspace.recipes.glob("*.toml"))}
    return {**shipped, **own}


def find_recipe(workspace: Workspace, name: str) -> ListedRecipe:
    """A recipe by name; the error names the nearest one."""
    recipes = list_recipes(workspace)
    if name not in recipes:
        raise NotFoundError(f"recipe '{name}' does not exist{nearest(name, recipes)}", "sosie recipe list")
    return recipes[name]


def load_recipe(workspace: Workspace, name: str) -> Recipe:
    """Reads a recipe strictly."""
    return read_recipe(find_recipe(workspace, name).path)


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe file strictly; its prompts' fields and its ranges too."""
    return recipe_of(recipe_table(path), str(path), path.stem)


def recipe_table(path: Path) -> dict[str, Any]:
    """The table of a recipe file with everything in it (`core.recipe_table`)."""
    return written_out(read_toml(path), _shared_files(), str(path))


def recipe_of(table: Mapping[str, Any], path: str, name: str) -> Recipe:
    """The recipe that a table is, as strictly as a file; `path` names it in errors, `name` is the one it must have."""
    recipe = from_table(Recipe, table, path)
    complaints = [
        (recipe.name == name, f"name = '{recipe.name}', expected '{name}' as its file"),
        (bool(recipe.stages), "it has no [[stages]]"),
        *(
            (
                stage.kind in ("refine", "detail"),
                f"repair[{index}] is a stage '{stage.kind}'; expected detail or refine",
            )
            for index, stage in enumerate(recipe.repair)
        ),
        *_twice([file.name for file in recipe.files]),
        *_guide_kinds(recipe),
    ]
    complaints += [(False, complaint) for complaint in out_of_range(recipe, "")]
    for right, complaint in complaints:
        if not right:
            raise UsageError(f"{path}: {complaint}", f"sosie recipe check {recipe.name}")
    templates = (recipe.prompt, *(stage.prompt for stage in (*recipe.stages, *recipe.repair)))
    filled = {"prompt": tuple(fill(template, dict.fromkeys(FIELDS, "x")) for template in templates)}
    for found in _foreign(recipe, filled):
        raise UsageError(f"{path}: {found.message}", found.hint)
    return recipe


def _foreign(recipe: Recipe, filled: dict[str, tuple[str, ...]]) -> Iterator[Finding]:
    """What other programs' syntax the recipe's own texts hold; `filled` are its templates without their fields."""
    samples = recipe.training.prompts if recipe.training else ()
    own = {"calibration.prompts": recipe.calibration.prompts, "training.prompts": samples}
    for where, texts in {**filled, "negative_prompt": (recipe.negative_prompt,), **own}.items():
        for text in texts:
            yield from check_text(text, where)


def recipe_text(path: Path) -> str:
    """The text of a recipe that needs no other file: with the entries of the shared files that it names."""
    return with_files(read_text(path), read_text(_shared_path()))


def _shared_path() -> Path:
    return shipped_folder() / "shared" / "files.toml"


def _shared_files() -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in read_toml(_shared_path())["files"]}


def _twice(names: list[str]) -> Iterator[tuple[bool, str]]:
    for name in dict.fromkeys(names):
        yield names.count(name) == 1, f"files: '{name}' is there {names.count(name)} times"


def _guide_kinds(recipe: Recipe) -> Iterator[tuple[bool, str]]:
    """A kind that no family has is an error here; one of another family is for the doctor to explain (SOS-R031)."""
    kinds = {family.name: {kind.name for kind in family.guides.kinds if kind.in_recipes} for family in families()}
    every = {name for names in kinds.values() for name in names}
    broken = {one.name: one.why for one in plugged_guides() if isinstance(one, BrokenGuide)}
    for table, stages in (("stages", recipe.stages), ("repair", recipe.repair)):
        for index, stage in enumerate(stages):
            near = kinds.get(stage.family) or every
            for place, guide in enumerate(stage.guides):
                at = f"{table}[{index}].guides[{place}].kind"
                if guide.kind not in every:
                    why = f": {broken[guide.kind]}" if guide.kind in broken else nearest(guide.kind, near)
                    yield False, f"{at} = {guide.kind!r} is not allowed{why}"
                kind = guides_of(stage.family).kind(guide.kind)
                for need in ("weights", "encoder"):
                    lacks = kind is not None and need in kind.needs and not getattr(guide, need)
                    yield not lacks, f"{table}[{index}].guides[{place}] has no {need}, which '{guide.kind}' needs"
