"""The small hybrid, as people run it: `mini-z` from text and with a LoRA, and `mini-hybrid` over both bodies.

    python benchmarks/hybrid.py draw WORKSPACE/ OUT/ NAME...      what is not drawn yet; [--prompts 10]
    python benchmarks/hybrid.py judge WORKSPACE/ OUT/ NAME...     tables, and OUT/sheet.webp

WORKSPACE holds characters that `sosie new NAME FOLDER` made of all their references, each with the LoRA of `sosie train
NAME --recipe mini-z`. A third of the references, chosen by their digests, is not learned from: it judges, and guides
no face pass either. The prompts are those of `ablation.py`, all columns of a prompt have one seed, nothing is picked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ablation import PROMPTS
from ablation_report import interval
from PIL import Image

from sosie.core import Character, Draw, Render, Request, plan
from sosie.core.plan import needed_stages
from sosie.dataset.image_set import split
from sosie.faces.encoders import similarity, template
from sosie.workspace.characters import load_character

COLUMNS = {
    "text": ("mini-z", False),
    "lora": ("mini-z", True),
    "hybrid": ("mini-hybrid", False),
    "hybrid-lora": ("mini-hybrid", True),
}
"""Each column's recipe, and whether the LoRA of the character draws the body."""

LESS = (("lora", "text"), ("hybrid", "text"), ("hybrid-lora", "lora"), ("hybrid-lora", "hybrid"))
"""Which columns are compared, person by person."""

SIDE = 128


def path_of(out: Path, column: str, who: str, index: int) -> Path:
    return out / column / f"{who}-{index}.png"


def draw(session: Any, out: Path, names: Sequence[str], count: int) -> None:
    """The pictures that are not there yet, with what was found and the processor seconds of each on stdout."""
    from sosie.api.engines import open_engine
    from sosie.workspace.bill import resolve
    from sosie.workspace.recipes import load_recipe

    for name in names:
        person = load_character(session.workspace, name)
        person = replace(person, references=split(person.references)[0])
        for column, (recipe_name, learned) in COLUMNS.items():
            recipe = load_recipe(session.workspace, recipe_name)
            who: Character = person if learned else replace(person, loras=())
            bill = resolve(session.workspace, needed_stages(recipe, who), who)
            engine = open_engine(session, "diffusers", bill, who)
            (out / column).mkdir(parents=True, exist_ok=True)
            for index, prompt in enumerate(PROMPTS[:count]):
                path = path_of(out, column, name, index)
                if path.exists():
                    continue
                began = time.process_time()
                request = Request(recipe.name, name, prompt, seed=1)
                for event in engine.run([plan(recipe, who, request, Draw(index), bill.digests)]):
                    if isinstance(event, Render):
                        event.image.save(path)
                        said = [one.code for one in event.findings]
                        print(f"{path.relative_to(out)} {time.process_time() - began:.1f} s {said}", flush=True)
            engine.close()


def judge(session: Any, out: Path, names: Sequence[str], count: int) -> None:
    """Likeness to the references that judge, a row a person and column; means over people; the sheet."""
    encoders = session.judges[0]
    own = {name: held_templates(session, name) for name in names}
    print("| person | column | n | SFace cosine, mean (least to most) | dlib distance, mean (least to most) |")
    print("| --- | --- | --- | --- | --- |")
    found: dict[str, dict[str, list[float]]] = {column: {judge: [] for judge in encoders} for column in COLUMNS}
    for name in names:
        for column in COLUMNS:
            values: dict[str, list[float]] = {judge: [] for judge in encoders}
            for index in range(count):
                pixels = np.asarray(Image.open(path_of(out, column, name, index)).convert("RGB"))
                for face in session.detector.detect(pixels)[:1]:
                    for judge, encoder in encoders.items():
                        near = similarity(encoder.metric, own[name][judge], encoder.embed(pixels, face))
                        values[judge].append(float(near))
            cells = [f"{np.mean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in (values["sface"], values["dlib"])]
            print(f"| {name} | {column} | {len(values['sface'])} | {' | '.join(cells)} |", flush=True)
            for judge, numbers in values.items():
                found[column][judge].append(float(np.mean(numbers)))
    together(found)
    sheet(session, out, names, count)


def held_templates(session: Any, name: str) -> dict[str, Any]:
    """Each judge's template of the references that neither taught nor guided."""
    person = load_character(session.workspace, name)
    held = replace(person, references=split(person.references)[1])
    shown = [np.asarray(Image.open(path).convert("RGB")) for path in session.reference_paths(held).values()]
    return {
        judge: template(encoder.metric, [encoder.embed(pixels, session.detector.detect(pixels)[0]) for pixels in shown])
        for judge, encoder in session.judges[0].items()
    }


def together(found: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Means over people with 95 % bootstrap intervals, and what each column has more than the text and the LoRA."""
    print("\n| over people | SFace cosine | dlib distance |\n| --- | --- | --- |")
    for column, values in found.items():
        cells = ["{:.3f} ({:.3f} to {:.3f})".format(*interval(values[judge])) for judge in ("sface", "dlib")]
        print(f"| {column} | {' | '.join(cells)} |")
    for column, base in LESS:
        cells: list[str] = []
        for judge in ("sface", "dlib"):
            more = [one - other for one, other in zip(found[column][judge], found[base][judge], strict=True)]
            cells.append("{:+.3f} ({:+.3f} to {:+.3f})".format(*interval(more)))
        print(f"| {column} less {base} | {' | '.join(cells)} |", flush=True)


def sheet(session: Any, out: Path, names: Sequence[str], count: int) -> None:
    """A row a person and prompt: a reference that judges, then the columns in their order."""
    canvas = Image.new("RGB", ((len(COLUMNS) + 1) * SIDE, len(names) * count * SIDE), "white")
    for row, (name, at) in enumerate((name, at) for name in names for at in range(count)):
        person = load_character(session.workspace, name)
        held = replace(person, references=split(person.references)[1][:1])
        paths = [*session.reference_paths(held).values(), *(path_of(out, column, name, at) for column in COLUMNS)]
        for place, path in enumerate(paths):
            with Image.open(path) as image:
                small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            canvas.paste(small, (place * SIDE, row * SIDE))
    canvas.save(out / "sheet.webp", quality=80, method=6)


def main() -> None:
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("draw", "judge"))
    parser.add_argument("workspace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    asked = parser.parse_args()
    with Session(open_workspace(asked.workspace)) as session:
        (draw if asked.step == "draw" else judge)(session, asked.out, asked.names, asked.prompts)


if __name__ == "__main__":
    main()
