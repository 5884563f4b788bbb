"""Identity with and without the face guide, by both judges, on characters that no part has seen.

    python benchmarks/identity.py CHARACTERS/ [--calibrate 20] [--out docs/identity.md]

CHARACTERS holds one folder a person: images and `captions.jsonl` (gender, age, skin, hair, eyes,
beard, freckles). Each person x 5 prompts is rendered on `mini` with the guide and without; every
image is compared with every person. With `--calibrate N` each person also gets a cohort of N
impostors of their own, and the keep rule of the recipe is applied with it.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sosie.api.calibration import Calibration, CalibrationRequest, calibrate
from sosie.api.characters import new_character
from sosie.api.engines import open_engine
from sosie.core import Character, Draw, Recipe, Render, Request, plan
from sosie.core.plan import needed_stages, without_guides
from sosie.loop.judging import make_judge
from sosie.scorers.sample import Sample
from sosie.scorers.statistics import auc, wilson
from sosie.workspace.bill import resolve
from sosie.workspace.characters import CharacterFile
from sosie.workspace.recipes import load_recipe
from sosie.workspace.session import Session
from sosie.workspace.workspace import open_workspace

PROMPTS = (
    "smiling, soft daylight, forest background",
    "neutral, studio light, plain grey background",
    "laughing, golden hour, beach background",
    "talking, neon light, city at night background",
    "neutral, overhead light, library background, turned slightly left",
)


def described(folder: Path) -> str:
    """What the captions say of a person, in the words that `mini` knows."""
    said = json.loads((folder / "captions.jsonl").read_text().splitlines()[0])
    who = "woman" if said["gender"] == "female" else "man"
    article = "an" if said["age"] == "old" else "a"
    style, colour = said["hair_style"].rsplit(" ", 1)[0], said["hair_color"]
    parts = [
        f"{article} {said['age']} {who}",
        f"{said['skin']} skin",
        f"{style} {colour} hair",
        f"{said['eye_color']} eyes",
    ]
    return ", ".join(parts + [part for part in (said["beard"], "freckles" if said["freckles"] else "") if part])


@dataclass
class Column:
    """One way of rendering: its images' scores against their own person and the others."""

    own: dict[str, list[float]] = field(default_factory=dict)
    other: dict[str, list[float]] = field(default_factory=dict)
    kept: dict[str, list[bool]] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    faces: int = 0

    def add(self, judge: str, value: float, is_own: bool) -> None:
        (self.own if is_own else self.other).setdefault(judge, []).append(value)


def render(session: Session, character: Character, recipe: Recipe, judges: dict[str, Any], column: Column) -> None:
    """Renders the five prompts of one person and scores each image against every person."""
    stages = needed_stages(recipe, character)
    bill = resolve(session.workspace, stages, character)
    engine = open_engine(session, "diffusers", bill, character)
    for index, prompt in enumerate(PROMPTS):
        planned = plan(
            recipe, character, Request(recipe.name, character.name, prompt, seed=1), Draw(index), bill.digests
        )
        stored = session.store.find_render(planned.id, engine.name)
        if stored is None:
            for event in engine.run([planned]):
                if isinstance(event, Render):
                    stored = session.store.add_render(event)
        assert stored is not None
        column.seconds.append(stored.seconds)
        score(session, stored.image, character.name, judges, column)
    engine.close()


def score(session: Session, path: Path, name: str, judges: dict[str, Any], column: Column) -> None:
    from sosie.files.images import read_image

    image = read_image(path)
    pixels = np.asarray(image)
    sample = Sample(pixels, session.detector.detect(pixels))
    column.faces += bool(sample.faces)
    for kind, judge in judges[name].items():
        card, verdict = judge(image)
        column.kept.setdefault(kind, []).append(verdict.outcome == "keep")
        if kind == "shipped":
            column.reasons += [s.name for s in card.scores if s.passed is False]
    if not sample.faces:
        return
    gates = {other: by["shipped"].gate for other, by in judges.items()}
    for judge in gates[name].judges:
        embedding = judge.encoder.embed(pixels, sample.faces[0])
        for other, gate in gates.items():
            entry = next(item for item in gate.judges if item.encoder.name == judge.encoder.name)
            column.add(judge.encoder.name, entry.measure(embedding), other == name)


def table(columns: dict[str, Column], calibrated: int) -> str:
    """The Markdown table."""
    names = list(columns)
    rows = [["", *names], ["---"] * (len(names) + 1)]
    for judge, better in (("sface", 1), ("dlib", -1)):
        unit = "cosine" if better > 0 else "distance"
        rows.append(
            [f"{judge} {unit} to the references' mean: own / other people"]
            + [f"{np.mean(c.own[judge]):.3f} / {np.mean(c.other[judge]):.3f}" for c in columns.values()]
        )
        rows.append(
            [f"ROC-AUC own against other people, {judge}"]
            + [
                f"{auc(better * np.array(c.own[judge]), better * np.array(c.other[judge])):.3f}"
                for c in columns.values()
            ]
        )
    rows.append(["faces found"] + [f"{c.faces} of {len(c.seconds)}" for c in columns.values()])
    for kind, text in (("shipped", "kept, shipped cohort"), ("own", f"kept, own cohort of {calibrated}")):
        if kind in next(iter(columns.values())).kept:
            cells = [wilson(sum(c.kept[kind]), len(c.kept[kind])) for c in columns.values()]
            rows.append([text] + [f"{100 * w.rate:.0f} % ({100 * w.low:.0f} to {100 * w.high:.0f})" for w in cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def people(columns: dict[str, Column], names: list[str]) -> str:
    """Kept images a person, guided."""
    column = next(iter(columns.values()))
    kinds = list(column.kept)
    rows = [["person", *(f"kept, {kind} cohort" for kind in kinds)], ["---"] * (len(kinds) + 1)]
    per = len(PROMPTS)
    for index, name in enumerate(names):
        rows.append([name] + [f"{sum(column.kept[kind][index * per : (index + 1) * per])} of {per}" for kind in kinds])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("characters", type=Path)
    parser.add_argument("--calibrate", type=int, default=0)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    root = options.workspace or Path(tempfile.mkdtemp())
    root.mkdir(parents=True, exist_ok=True)
    started = time.time()
    with Session(open_workspace(root)) as session:
        recipe = load_recipe(session.workspace, "mini")
        bill = resolve(session.workspace, needed_stages(recipe))
        characters: list[Character] = []
        judges: dict[str, Any] = {}
        for folder in sorted(p for p in options.characters.iterdir() if p.is_dir()):
            details = CharacterFile(folder.name, "fictional", True, described(folder))
            made = new_character(session, details, sorted(folder.glob("*.jpg")), replace=True)
            characters.append(made.character)
            judges[folder.name] = {"shipped": make_judge(session, made.character, recipe, bill)[0]}
            if options.calibrate:
                for event in calibrate(session, CalibrationRequest(made.character, recipe, options.calibrate)):
                    if isinstance(event, Calibration):
                        print(f"{folder.name}: calibrated on {event.n}", flush=True)
                judges[folder.name]["own"] = make_judge(session, made.character, recipe, bill)[0]
                event.path.unlink()
        columns = {"FaceID 0.85": Column(), "text only": Column()}
        for character in characters:
            for column, how in zip(columns.values(), (recipe, without_guides(recipe)), strict=True):
                render(session, character, how, judges, column)
            print(f"{character.name}: done", flush=True)
    report = table(columns, options.calibrate) + "\n\n" + people(columns, [c.name for c in characters])
    mean = np.median(columns["FaceID 0.85"].seconds)
    report += (
        f"\n\n{len(characters)} people x {len(PROMPTS)} prompts, one image each; "
        f"median {mean:.1f} s an image with the guide on "
        f"{platform.machine()}, Python {platform.python_version()}; {time.time() - started:.0f} s in all.\n"
    )
    print(report)
    if options.out:
        text = options.out.read_text()
        head, _, rest = text.partition("<!-- measured -->")
        options.out.write_text(
            head + "<!-- measured -->\n\n" + report + "\n<!-- end -->" + rest.partition("<!-- end -->")[2]
        )


if __name__ == "__main__":
    main()
