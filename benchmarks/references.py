"""How like their references the people of FLUX.2 klein are, by what of them the model is shown, and how.

    python benchmarks/references.py --workspace FOLDER --character mira [--recipe klein] [--seeds 4] [--out FILE.md]
    python benchmarks/references.py --tiny

Around the recipe's own settings one thing is changed at a time: the number of references, letterboxed or stretched to
the picture, whole or the head alone, image guidance, steps. Every arm draws the same prompts (angles of the head) from
the same seeds, and every picture is judged by the installed judges, none of which guides. The table has for each arm
faces found, the mean of each judge, how many pairs with the recipe's own settings are better, and the mean difference.
Nothing is chosen by it: it is a measurement. With `--tiny` it rehearses on random weights and an example character; its
figures then mean nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from sosie.api.faces import SessionFaces
from sosie.core import Character, Draw, Guide, Plan, Recipe, Request, Sampler, Stage, plan
from sosie.core.plan import asset_names
from sosie.families import drawer_of
from sosie.families.contract.draws import Settings, StageInput
from sosie.loop.judge import Judge
from sosie.loop.judging import make_judge
from sosie.workspace.bill import resolve
from sosie.workspace.characters import CharacterFile, load_character, write_character
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

ROOT = Path(__file__).parents[1]

ANGLES = {
    "front": "facing the camera, soft daylight, plain grey background",
    "turned": "three-quarter view, smiling, forest background",
    "profile": "in profile, studio light, plain grey background",
}
"""Prompts by how the head stands."""


@dataclass(frozen=True)
class Arm:
    """What is changed of the recipe's own way, under a name for the table."""

    name: str
    guide: Callable[[Guide], Guide] = lambda guide: guide
    sampler: Callable[[Sampler], Sampler] = lambda sampler: sampler
    stretched: bool = False


ARMS = (
    Arm("as the recipe says"),
    Arm("no references", lambda guide: replace(guide, scale=0.0)),
    *(
        Arm(f"{count} reference{'s' if count > 1 else ''}", lambda guide, count=count: replace(guide, references=count))
        for count in (1, 2, 4)
    ),
    Arm("stretched to the picture", stretched=True),
    Arm("the head alone", lambda guide: replace(guide, framing="head")),
    *(
        Arm(f"image guidance {scale:g}", lambda guide, scale=scale: replace(guide, scale=scale))
        for scale in (1.25, 1.5, 2.0)
    ),
    *(Arm(f"{steps} steps", sampler=lambda sampler, steps=steps: replace(sampler, steps=steps)) for steps in (2, 8)),
)


@dataclass(frozen=True)
class Drawn:
    """One picture: its arm, angle and seed, and each judge's value (None: no face to judge)."""

    arm: str
    angle: str
    seed: int
    values: Mapping[str, float | None]


class Stretched:
    """Faces whose portraits are stretched to a size, as ports of the model do."""

    def __init__(self, own: SessionFaces, size: tuple[int, int]) -> None:
        self._own, self._size = own, size
        self.embedding, self.crops, self.find = own.embedding, own.crops, own.find

    def portraits(self, guide: Guide, of: Plan) -> Sequence[Image.Image]:
        return [one.resize(self._size, Image.Resampling.LANCZOS) for one in self._own.portraits(guide, of)]


@dataclass(frozen=True)
class Bench:
    """What every arm is drawn and judged with; `paths` are the stage's files by name."""

    session: Session
    character: Character
    recipe: Recipe
    paths: Mapping[str, Path]
    judge: Judge
    runner: Any


def staged(recipe: Recipe, arm: Arm) -> Recipe:
    """The recipe's first stage alone, as the arm has it."""
    stage = recipe.stages[0]
    guides = tuple(arm.guide(guide) if guide.kind == "references" else guide for guide in stage.guides)
    return replace(recipe, stages=(replace(stage, guides=guides, sampler=arm.sampler(stage.sampler)),), repair=())


def draw(bench: Bench, arm: Arm, angle: str, seed: int) -> Drawn:
    recipe = staged(bench.recipe, arm)
    request = Request(recipe.name, bench.character.name, ANGLES[angle], seed=seed)
    names = asset_names(recipe.stages)
    of = plan(recipe, bench.character, request, Draw(), dict.fromkeys(names, ""))
    own = SessionFaces(bench.session, {})
    faces: Any = Stretched(own, (of.width, of.height)) if arm.stretched else own
    given = StageInput(of.stages[0], of, 0, None, bench.paths, faces, lambda _done, _steps: None)
    card, _ = bench.judge(bench.runner.run(given).image)
    return Drawn(arm.name, angle, seed, {score.name: score.value for score in card.of("identity")})


def better(judge: str, value: float, other: float) -> bool:
    """dlib's is a distance."""
    return value < other if judge == "dlib" else value > other


def table(drawn: Sequence[Drawn]) -> str:
    """Markdown: an arm a line."""
    judges = list(dict.fromkeys(name for one in drawn for name in one.values))
    base = {(one.angle, one.seed): one for one in drawn if one.arm == ARMS[0].name}
    head = ["arm", "faces"]
    for judge in judges:
        head += [judge, *(f"{judge}, {angle}" for angle in ANGLES), "pairs better", "difference"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for arm in dict.fromkeys(one.arm for one in drawn):
        mine = [one for one in drawn if one.arm == arm]
        found = sum(any(value is not None for value in one.values.values()) for one in mine)
        cells = [arm, f"{found} of {len(mine)}"]
        for judge in judges:
            values = [value for one in mine if (value := one.values.get(judge)) is not None]
            cells.append(mean(values))
            cells += [
                mean([value for one in mine if one.angle == angle and (value := one.values.get(judge)) is not None])
                for angle in ANGLES
            ]
            pairs = [
                (value, other)
                for one in mine
                if (value := one.values.get(judge)) is not None
                and (other := base[one.angle, one.seed].values.get(judge)) is not None
            ]
            own = arm == ARMS[0].name
            cells.append("" if own else f"{sum(better(judge, *pair) for pair in pairs)} of {len(pairs)}")
            cells.append("" if own or not pairs else f"{statistics.fmean(a - b for a, b in pairs):+.3f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def mean(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f}" if values else "-"


def measure(bench: Bench, seeds: int, arms: Sequence[Arm] = ARMS) -> list[Drawn]:
    """Every arm at every angle and seed."""
    made: list[Drawn] = []
    for arm in arms:
        for angle in ANGLES:
            made += [draw(bench, arm, angle, seed) for seed in range(seeds)]
        print(f"{arm.name}: {len(made)} pictures so far", file=sys.stderr, flush=True)
    return made


def tiny(folder: Path) -> tuple[Path, str, Recipe, dict[str, Path]]:
    """A workspace with an example character, and a recipe on random weights."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    import tiny_flux2

    made = tiny_flux2.make(folder / "model")
    workspace = folder / "workspace"
    workspace.mkdir()
    images = sorted((ROOT / "examples" / "mira").glob("*.jpg"))[:5]
    details = CharacterFile("mira", "fictional", True, "a young woman, auburn braided hair")
    write_character(details, images, workspace / "characters" / "mira")
    stage = Stage("generate", "flux2", "k", sampler=Sampler(steps=2, cfg=1.0), guides=(tiny_flux2.guide(),))
    recipe = Recipe("tiny", (stage,), "photo of {description}, {prompt}", 96, 96)
    return workspace, "mira", recipe, {"k": made.folder}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--character", default="mira")
    parser.add_argument("--recipe", default="klein")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, help="where the table is written; else it is printed")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        recipe, paths = None, {}
        if options.tiny:
            options.workspace, options.character, recipe, paths = tiny(Path(name))
            options.device = "cpu"
        workspace = open_workspace(options.workspace)
        with Session(workspace) as session:
            character = load_character(workspace, options.character)
            if recipe is None:
                recipe = load_recipe(workspace, options.recipe)
                bill = resolve(workspace, recipe.stages[:1], character, False)
                paths = {entry.name: entry.path for entry in bill if entry.path is not None}
            judge, told = make_judge(session, character, recipe, None)
            for finding in told:
                print(f"{finding.code}: {finding.message}", file=sys.stderr)
            runner = drawer_of("flux2").runner(options.device, Settings())
            drawn = measure(Bench(session, character, recipe, paths, judge, runner), options.seeds)
            runner.close()
    note = "Random weights: these figures mean nothing.\n\n" if options.tiny else ""
    about = f"{options.character}, {recipe.width} x {recipe.height} px, {options.seeds} seeds x {len(ANGLES)} prompts"
    text = f"{note}{about}\n\n{table(drawn)}\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text)
    print(json.dumps([vars(one) for one in drawn]))


if __name__ == "__main__":
    main()
