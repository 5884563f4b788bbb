"""What each part of the identity stack does: text, LoRA, FaceID, both, each with and without a face pass; on `mini`.

    python benchmarks/ablation.py prepare CHARACTERS/ WORK/     training sets, plans, embeddings that guide
    python benchmarks/ablation.py teach WORK/ [--device cuda]   LoRAs that are not there yet; [--only PERSON]
    python benchmarks/ablation.py draw WORK/ [--device cuda]    what is not drawn yet; needs torch, no OpenCV
    python benchmarks/ablation.py find WORK/                    faces of what was drawn, for the face passes
    python benchmarks/ablation.py draw WORK/                    the face passes
    python benchmarks/ablation.py seconds WORK/ --first 2       the first plans again, timed, on this machine
    python benchmarks/ablation.py judge WORK/                   scores into WORK/scores.json
    python benchmarks/ablation_report.py WORK/ docs/            tables, plot and contact sheet

CHARACTERS holds one folder a person: twelve images and `captions.jsonl`. The first eight references guide, and
the LoRA learns from them; the last four judge and do neither. The LoRA is that of the recipe `mini` after its
last step, not the best by a judge; the plain one is what any script makes (`ablation_lora.PLAIN`). All columns
of a plan have the seed that `sosie generate --seed 1` gives its index; nothing is picked. Stages are drawn by the
product's own runner, in fp32 on every device. Seconds are wall time on a GPU and processor time on a CPU, which
others may share (OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ablation_lora import face_of, lessons_of, lora_path, teach, told
from PIL import Image

from sosie.core import Draw, Finding, Guide, Plan, Recipe, Request, Stage, plan
from sosie.core.plan import needed_stages
from sosie.core.recipe import LoraUse
from sosie.dataset.captions import trigger_for
from sosie.faces.detect import Face
from sosie.families.contract.draws import Settings, StageInput

GUIDING = 8
"""How many of a person's references guide; the others judge."""

PROMPTS = (
    "smiling, soft daylight, forest background, facing the camera",
    "neutral, studio light, plain grey background, green shirt",
    "laughing, golden hour, beach background, white shirt",
    "talking, neon light, city at night background",
    "neutral, overhead light, library background, turned slightly left",
    "angry, dramatic side light, brick wall background, red shirt",
    "surprised, cool moonlight, mountains background, facing the camera",
    "sad, backlight, snow background, turned slightly right",
    "grinning, soft daylight, office background, yellow shirt, turned left",
    "eyes closed, studio light, plain blue background, turned right",
)

BODIES = ("text", "plain", "lora", "faceid", "full", "lora-faceid")
BODY = {f"{body}-pass": body for body in ("text", "lora", "faceid", "lora-faceid")}
"""Whose image a face pass works on."""
COLUMNS = (*BODIES, *BODY)


@dataclass(frozen=True)
class Cell:
    """One image of the ablation: its column, its place among a person's prompts, and its plan."""

    column: str
    index: int
    plan: Plan

    @property
    def key(self) -> str:
        return f"{self.column}/{self.plan.character.name}-{self.index}"

    @property
    def body(self) -> str:
        """The key of the image that its last stage works on, or empty."""
        return f"{BODY[self.column]}/{self.plan.character.name}-{self.index}" if self.column in BODY else ""


class Work:
    """The folder of an ablation: plans, embeddings, faces, images, seconds."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> dict[str, Any]:
        path = self.root / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def write(self, name: str, table: object) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / f"{name}.json").write_text(json.dumps(table, indent=1))

    def cells(self) -> list[Cell]:
        return [Cell(c["column"], c["index"], Plan.from_json(c["plan"])) for c in self.read("plans")["cells"]]

    def path(self, key: str) -> Path:
        return self.root / "images" / f"{key}.png"

    def image(self, key: str) -> Image.Image:
        return Image.open(self.path(key)).convert("RGB")


class GivenFaces:
    """Keeps the protocol `families.Faces` by what `prepare` and `find` wrote: OpenCV is not needed."""

    def __init__(self, work: Work) -> None:
        self._vectors = np.load(work.root / "vectors.npz")
        self._faces = work.read("faces")

    def embedding(self, guide: Guide, plan: Plan) -> np.ndarray:
        return self._vectors[f"{plan.character.name}.{guide.kind}"]

    def crops(self, guide: Guide, plan: Plan) -> Sequence[Image.Image]:
        raise NotImplementedError(f"guide '{guide.kind}' of '{plan.recipe}' looks at pictures; there are none here")

    def find(self, image: Image.Image, plan: Plan, stage: Stage) -> Face | Finding:  # noqa: ARG002
        given = self._faces[f"{_body(plan)}/{plan.character.name}-{plan.draw.index}"]
        return Finding(**given) if "code" in given else face_of(given)


def _body(plan: Plan) -> str:
    """The column of the image that a plan's face pass works on."""
    body = plan.stages[0]
    return "-".join([*(["lora"] if body.loras else []), *(["faceid"] if body.guides else [])]) or "text"


def columns(recipe: Recipe, name: str) -> dict[str, Recipe]:
    """The recipe `mini-full` without its upscaler, with and without LoRA, FaceID and face pass, in fp32."""
    beside = recipe.stages[0].loras[0]
    generate, detail = (replace(stage, precision="fp32", loras=()) for stage in recipe.stages[:2])
    trigger = trigger_for(name)
    learned = {part: (LoraUse(f"{name}-{part}", 1.0, trigger),) for part in ("lora", "plain")}
    weak = (LoraUse(f"{name}-lora", beside.weight, trigger, beside.guide_scale),)
    bodies = {
        "text": replace(generate, guides=()),
        "plain": replace(generate, guides=(), loras=learned["plain"]),
        "lora": replace(generate, guides=(), loras=learned["lora"]),
        "faceid": generate,
        "full": replace(generate, loras=learned["lora"]),
        "lora-faceid": replace(generate, loras=weak),
    }
    stages = {body: (stage,) for body, stage in bodies.items()}
    stages |= {
        column: (bodies[body], replace(detail, loras=weak if bodies[body].loras else ()))
        for column, body in BODY.items()
    }
    return {name: replace(recipe, stages=stages[name], repair=()) for name in COLUMNS}


def prepare(characters: Path, work: Work) -> None:
    """Writes every cell's plan, the embeddings that guide, and what the LoRAs learn from."""
    from identity import described

    from sosie.api.characters import new_character
    from sosie.api.faces import SessionFaces
    from sosie.workspace.bill import resolve
    from sosie.workspace.characters import CharacterFile
    from sosie.workspace.recipes import load_recipe
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    root = work.root / "workspace"
    root.mkdir(parents=True, exist_ok=True)
    cells: list[dict[str, Any]] = []
    vectors: dict[str, np.ndarray] = {}
    lessons: dict[str, Any] = {}
    with Session(open_workspace(root)) as session:
        recipe = load_recipe(session.workspace, "mini-full")
        bill = resolve(session.workspace, needed_stages(recipe))
        faces = SessionFaces(session, bill.paths)
        for folder in sorted(path for path in characters.iterdir() if path.is_dir()):
            details = CharacterFile(folder.name, "fictional", True, described(folder))
            guiding = sorted(folder.glob("*.jpg"))[:GUIDING]
            character = new_character(session, details, guiding, replace=True).character
            lessons[folder.name] = lessons_of(session, character, guiding, work.root)
            known = {**bill.digests, **{f"{folder.name}-{part}": "" for part in ("lora", "plain")}}
            for column, how in columns(recipe, folder.name).items():
                for index, prompt in enumerate(PROMPTS):
                    request = Request(recipe.name, character.name, prompt, seed=1)
                    made = plan(how, character, request, Draw(index), known)
                    cells.append({"column": column, "index": index, "plan": made.to_json()})
                for guide in (guide for stage in how.stages for guide in stage.guides):
                    vectors[f"{character.name}.{guide.kind}"] = faces.embedding(guide, made)
    work.write("plans", {"characters": str(characters.resolve()), "cells": cells})
    work.write("lessons", lessons)
    np.savez(work.root / "vectors.npz", **vectors)


class Artist:
    """The product's runner for SDXL, with `mini` and the work's own faces."""

    def __init__(self, work: Work, device: str) -> None:
        import sosie_mini

        from sosie.families.sdxl.on_diffusers import Runner

        self._work = work
        self._folder = sosie_mini.folder()
        self._faces = GivenFaces(work)
        self._clock = time.perf_counter if device == "cuda" else time.process_time
        self._runner = Runner(device, Settings(memory="full" if device == "cuda" else "auto", compile=False))

    def draw(self, cell: Cell) -> tuple[Image.Image, float, list[str]]:
        """The image of the cell's last stage, the seconds of that stage, and what it said."""
        made, index = cell.plan, len(cell.plan.stages) - 1
        paths = {asset.name: self._folder / asset.name.partition(":")[2] for asset in made.assets}
        paths |= {use.file: lora_path(self._work.root, use.file) for stage in made.stages for use in stage.loras}
        source = self._work.image(cell.body) if cell.body else None
        given = StageInput(made.stages[index], made, index, source, paths, self._faces, lambda *_: None)
        started = self._clock()
        output = self._runner.run(given)
        seconds = self._clock() - started
        return output.image, seconds, [f"{f.code}: {f.message}" for f in output.findings if f.severity != "info"]


def drawable(work: Work) -> Iterator[Cell]:
    """The cells whose image can be drawn now, column by column: a change of guides costs a new start."""
    faces = work.read("faces")
    ready = [cell for cell in work.cells() if not cell.body or cell.body in faces]
    yield from sorted(ready, key=lambda cell: COLUMNS.index(cell.column))


def draw(work: Work, device: str) -> None:
    """Draws what is not there yet; the first image of a column is drawn twice, so that loading is not timed."""
    artist = Artist(work, device)
    seconds, said = work.read(f"seconds-{device}"), work.read("said")
    warm = ""
    for cell in drawable(work):
        if work.path(cell.key).exists():
            continue
        if warm != cell.column:
            artist.draw(cell)
            warm = cell.column
        image, seconds[cell.key], said[cell.key] = artist.draw(cell)
        work.path(cell.key).parent.mkdir(parents=True, exist_ok=True)
        image.save(work.path(cell.key))
        work.write(f"seconds-{device}", seconds)
        work.write("said", said)
        print(f"{cell.key}: {seconds[cell.key]:.2f} s {said[cell.key]}", flush=True)


def seconds(work: Work, device: str, first: int) -> None:
    """Times the last stage of the first `first` cells of each column, without keeping the images."""
    artist, taken = Artist(work, device), work.read(f"seconds-{device}")
    for column in COLUMNS:
        cells = [cell for cell in drawable(work) if cell.column == column][:first]
        artist.draw(cells[0])
        for cell in cells:
            image, taken[cell.key], _ = artist.draw(cell)
            apart = np.abs(np.asarray(image, int) - np.asarray(work.image(cell.key), int)).mean()
            print(f"{cell.key}: {taken[cell.key]:.2f} s; {apart:.2f} of 255 from the kept image", flush=True)
    work.write(f"seconds-{device}", taken)
    print({c: round(statistics.median(v for k, v in taken.items() if k.startswith(f"{c}/")), 2) for c in COLUMNS})


def find(work: Work) -> None:
    """Looks for the character's face in every body, as the engine does."""
    from sosie.api.faces import SessionFaces
    from sosie.workspace.bill import resolve
    from sosie.workspace.recipes import load_recipe
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    found = work.read("faces")
    with Session(open_workspace(work.root / "workspace")) as session:
        stages = needed_stages(load_recipe(session.workspace, "mini-full"))
        faces = SessionFaces(session, resolve(session.workspace, stages).paths)
        for cell in work.cells():
            if cell.body and work.path(cell.body).exists():
                face = faces.find(work.image(cell.body), cell.plan, cell.plan.stages[-1])
                if isinstance(face, Finding):
                    found[cell.body] = asdict(face)
                else:
                    found[cell.body] = told(face)
    work.write("faces", found)
    print(f"{sum('box' in face for face in found.values())} of {len(found)} images show a face to be drawn anew")


class Scoring:
    """What every image is measured by. A person is judged against the references that guided nothing."""

    def __init__(self, session: Any, folder: Path) -> None:
        from identity import described

        from sosie.api.characters import new_character
        from sosie.loop.judging import make_judge
        from sosie.scorers.attributes import AttributeClassifier
        from sosie.workspace.bill import resolve
        from sosie.workspace.characters import CharacterFile
        from sosie.workspace.recipes import load_recipe

        self._session = session
        recipe = load_recipe(session.workspace, "mini-full")
        bill = resolve(session.workspace, needed_stages(recipe))
        model = bill[recipe.stages[0].model].installed
        brought = model.attributes if model else None
        self._classifier = None if brought is None else AttributeClassifier(brought)
        self._judges: dict[str, Any] = {}
        self._shown: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
        for person in sorted(path for path in folder.iterdir() if path.is_dir()):
            images = sorted(person.glob("*.jpg"))
            details = CharacterFile(person.name, "fictional", True, described(person))
            held = new_character(session, details, images[GUIDING:], replace=True).character
            self._judges[person.name] = make_judge(session, held, recipe, bill)[0]
            guiding = sorted(self._faces(images[:GUIDING]), key=lambda item: abs(item[1].yaw))[: self.REFERENCES]
            self._shown[person.name] = {
                encoder.name: (self._embedded(encoder, guiding), self._embedded(encoder, self._faces(images[GUIDING:])))
                for encoder in session.judges[0].values()
            }

    REFERENCES = 4
    """How many references guide in the recipe: the most frontal."""

    def _faces(self, paths: Sequence[Path]) -> list[tuple[np.ndarray, Face]]:
        pixels = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        return [(image, self._session.detector.detect(image)[0]) for image in pixels]

    @staticmethod
    def _embedded(encoder: Any, faces: Sequence[tuple[np.ndarray, Face]]) -> np.ndarray:
        return np.stack([encoder.embed(image, face) for image, face in faces])

    def score(self, image: Image.Image, made: Plan, said: Sequence[str]) -> dict[str, Any]:
        """Identity by both judges, copy-paste index, adherence and defects of one image."""
        from sosie.loop.judge import Origin
        from sosie.scorers.adherence import score_adherence
        from sosie.scorers.copy_paste import copy_paste_index
        from sosie.scorers.sample import Sample

        name = made.character.name
        pixels = np.asarray(image)
        sample = Sample(pixels, self._session.detector.detect(pixels))
        refused = tuple(Finding("SOS-E024", "error", name, text) for text in said if text.startswith("SOS-E024"))
        card, verdict = self._judges[name](image, Origin(refused))
        adherence = score_adherence(sample, made.prompt, self._classifier)
        table: dict[str, Any] = {
            "kept": verdict.outcome == "keep",
            "refused": bool(refused),
            "defects": [score.name for score in card.of("defect") if score.passed is False],
            "adherence": adherence.value,
            "answers": {answer.attribute: answer.is_met for answer in adherence.answers},
        }
        for encoder in self._session.judges[0].values() if sample.faces else ():
            found = encoder.embed(pixels, sample.faces[0])
            gates = {other: judge.gate.judges for other, judge in self._judges.items()}
            mine = {other: next(g for g in many if g.encoder.name == encoder.name) for other, many in gates.items()}
            values = {other: gate.measure(found) for other, gate in mine.items()}
            index = copy_paste_index(found[np.newaxis], *self._shown[name][encoder.name])[0]
            table[encoder.name] = {"own": values.pop(name), "other": list(values.values()), "copy": float(index)}
        return table


def judge(work: Work) -> None:
    """Scores every image: both judges against the references that guided nothing, copy-paste, adherence, defects."""
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    (work.root / "judging").mkdir(exist_ok=True)
    cells = [cell for cell in work.cells() if work.path(cell.key).exists()]
    scores, said = work.read("scores"), work.read("said")
    with Session(open_workspace(work.root / "judging")) as session:
        scoring = Scoring(session, Path(work.read("plans")["characters"]))
        for place, cell in enumerate(cells):
            if cell.key not in scores:
                scores[cell.key] = scoring.score(work.image(cell.key), cell.plan, said.get(cell.key, []))
                print(f"{place + 1} of {len(cells)}: {cell.key}", flush=True)
        work.write("scores", scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("prepare", "teach", "draw", "find", "seconds", "judge"))
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--first", type=int, default=2)
    parser.add_argument("--only", default="", help="one person")
    asked = parser.parse_args()
    work = Work(asked.folders[-1])
    if asked.step == "prepare":
        prepare(asked.folders[0], work)
    elif asked.step == "teach":
        teach(work.root, asked.device, asked.only)
    elif asked.step == "draw":
        draw(work, asked.device)
    elif asked.step == "find":
        find(work)
    elif asked.step == "seconds":
        seconds(work, asked.device, asked.first)
    else:
        judge(work)


if __name__ == "__main__":
    main()
