"""The face pass on pictures of other people: what it refuses, what the likeness gains, and what the eye sees.

    python benchmarks/face_pass.py prepare CHARACTERS/ WORK/    characters, embeddings that guide, pictures, plans
    python benchmarks/face_pass.py draw WORK/ [--device cuda]   the squares that are not there yet; needs no OpenCV
    python benchmarks/face_pass.py compose WORK/                the squares in their pictures, into WORK/composed.jsonl
    python benchmarks/face_pass.py judge WORK/                  both judges before and after, into WORK/scores.jsonl
    python benchmarks/face_pass_report.py WORK/ [SHEET.webp]    tables, and the contact sheet, worst first

CHARACTERS holds one folder a person: twelve images and `captions.jsonl`. The first eight references guide, the last
four judge. Each character is drawn into pictures of eight other people in three lights: four of the other characters
(their own renders, at the model's scale) and four people whom `mini` draws from a description alone. `prepare
--pictures FOLDER` takes the images of a folder in place of both; `--recipe` names whose face pass it is. Every pass has
the seed of its place; none is picked. Stages are drawn by the product's own runner, in fp32 on every device.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ablation_lora import face_of, told
from PIL import Image

from sosie.core import Draw, Finding, Guide, Plan, Request, Stage, plan
from sosie.core.plan import needed_stages
from sosie.faces.detect import Face
from sosie.families.contract.draws import Settings, StageInput

GUIDING = 8
"""How many of a person's references guide; the others judge."""

STRANGERS = {
    "a": "a young woman, dark skin, curly black hair, dark brown eyes",
    "b": "a middle-aged man, light skin, short blond hair, blue eyes",
    "c": "an old woman, fair skin, short grey hair, green eyes",
    "d": "a young man, brown skin, long black hair, brown eyes, beard",
    "e": "a middle-aged woman, light skin, long red hair, green eyes, freckles",
    "f": "an old man, dark skin, short white hair, dark brown eyes, short beard",
    "g": "a young woman, fair skin, long blond hair, blue eyes",
    "h": "a young man, light skin, short brown hair, grey eyes",
}
"""People whom no part of `mini` knows, by description alone."""

LIGHTS = (
    "smiling, soft daylight, forest background",
    "neutral, dramatic side light, library background, turned slightly right",
    "neutral, golden hour, city at night background, turned slightly left",
)

SIDE = 256


@dataclass(frozen=True)
class Pass:
    """One face pass: the picture it works on, by name, and its plan."""

    picture: str
    plan: Plan

    @property
    def key(self) -> str:
        return f"{self.plan.character.name}-{self.picture}"


class Work:
    """The folder of a run: plans, embeddings, faces, pictures, results, figures."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def table(self, name: str) -> dict[str, Any]:
        path = self.root / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def write(self, name: str, table: object) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / f"{name}.json").write_text(json.dumps(table, indent=1))

    def passes(self) -> list[Pass]:
        return [Pass(one["picture"], Plan.from_json(one["plan"])) for one in self.table("passes")["passes"]]

    def lines(self, name: str) -> dict[str, dict[str, Any]]:
        """The JSON lines of a file by their `key`; a later one counts. What a kill left half is not there."""
        path, found = self.root / f"{name}.jsonl", {}
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                one = json.loads(line)
            except ValueError:
                continue
            found[one["key"]] = one
        return found

    def add(self, name: str, line: dict[str, Any]) -> None:
        with (self.root / f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def picture(self, name: str) -> Image.Image:
        return Image.open(self.root / "pictures" / f"{name}.png").convert("RGB")

    def square(self, key: str) -> Path:
        return self.root / "squares" / f"{key}.png"

    def result(self, key: str) -> Path:
        return self.root / "results" / f"{key}.png"


class GivenFaces:
    """Keeps the protocol `families.Faces` by what `prepare` wrote: OpenCV is not needed."""

    def __init__(self, work: Work) -> None:
        self._vectors = np.load(work.root / "vectors.npz")
        self._faces = work.table("faces")
        self._folder = work.root / "portraits"
        self.asked = ""

    def embedding(self, guide: Guide, plan: Plan) -> np.ndarray:
        return self._vectors[f"{plan.character.name}.{guide.kind}"]

    def crops(self, guide: Guide, plan: Plan) -> Sequence[Image.Image]:  # noqa: ARG002
        return [Image.open(path).convert("RGB") for path in sorted(self._folder.glob(f"{plan.character.name}-*.png"))]

    def find(self, image: Image.Image, plan: Plan, stage: Stage) -> Face | Finding:  # noqa: ARG002
        given = self._faces[self.asked]
        return Finding(**given) if "code" in given else replace(face_of(given), likeness=given["likeness"])


def names_for(person: str, people: Sequence[str]) -> Iterator[str]:
    """The names of the pictures that a character is drawn into: eight people, three lights."""
    place = people.index(person)
    others = [people[(place + step) % len(people)] for step in (1, 2, 3, 5)]
    letters = list(STRANGERS)
    strangers = [letters[(place + step) % len(letters)] for step in (0, 2, 4, 7)]
    for other in (*others, *strangers):
        for light in range(len(LIGHTS)):
            yield f"{other}{light}"


def renders(folder: Path) -> Iterator[Image.Image]:
    """Three of a character's renders in three kinds of light, none turned far, at the model's scale."""
    seen: list[str] = []
    for said in map(json.loads, (folder / "captions.jsonl").read_text().splitlines()):
        if abs(said["yaw"]) <= 25 and said["light"] not in seen and len(seen) < len(LIGHTS):
            seen.append(said["light"])
            with Image.open(folder / said["file"]) as image:
                yield image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    if len(seen) < len(LIGHTS):
        raise SystemExit(f"{folder}: {len(seen)} kinds of light; expected {len(LIGHTS)}")


def make_pictures(session: Any, characters: Sequence[Path], folder: Path) -> None:
    """The pictures to work on: renders of the characters, and people drawn by `mini` from words."""
    from sosie.api.engines import open_engine
    from sosie.core import Character, Render
    from sosie.core.plan import without_guides
    from sosie.workspace.bill import resolve
    from sosie.workspace.recipes import load_recipe

    for person in characters:
        for light, image in enumerate(renders(person)):
            if not (folder / f"{person.name}{light}.png").exists():
                image.save(folder / f"{person.name}{light}.png")
    recipe = without_guides(load_recipe(session.workspace, "mini"))
    for letter, described in STRANGERS.items():
        who = Character(f"stranger-{letter}", "fictional", True, described)
        bill = resolve(session.workspace, needed_stages(recipe, who), who)
        engine = open_engine(session, "diffusers", bill, who)
        for light, prompt in enumerate(LIGHTS):
            path = folder / f"{letter}{light}.png"
            if path.exists():
                continue
            request = Request(recipe.name, who.name, prompt, seed=11)
            for event in engine.run([plan(recipe, who, request, Draw(light), bill.digests)]):
                if isinstance(event, Render):
                    event.image.save(path)
                    print(path, flush=True)
        engine.close()


def prepare(characters: Path, work: Work, recipe_name: str, given: Path | None) -> None:
    """Writes the pictures, the faces in them, what guides, and every pass's plan."""
    from identity import described

    from sosie.api.characters import new_character
    from sosie.api.faces import SessionFaces
    from sosie.workspace.bill import resolve
    from sosie.workspace.characters import CharacterFile
    from sosie.workspace.recipes import load_recipe
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    root, pictures, portraits = (work.root / name for name in ("workspace", "pictures", "portraits"))
    for folder in (root, pictures, portraits):
        folder.mkdir(parents=True, exist_ok=True)
    people = sorted(path for path in characters.iterdir() if path.is_dir())
    names = [person.name for person in people]
    vectors: dict[str, np.ndarray] = {}
    found: dict[str, Any] = {}
    passes: list[dict[str, Any]] = []
    with Session(open_workspace(root)) as session:
        if given is None:
            make_pictures(session, people, pictures)
        shown = sorted(given.rglob("*.[pj][np]g")) if given else []
        for path in shown:
            with Image.open(path) as image:
                image.convert("RGB").save(pictures / f"{path.stem}.png")
        recipe = load_recipe(session.workspace, recipe_name)
        detail = next(stage for stage in (*recipe.stages, *recipe.repair) if stage.kind == "detail")
        detail = replace(detail, loras=(), precision="fp32")
        recipe = replace(recipe, stages=(detail,), repair=())
        bill = resolve(session.workspace, needed_stages(recipe))
        faces = SessionFaces(session, bill.paths)
        for place, person in enumerate(people):
            details = CharacterFile(person.name, "fictional", True, described(person))
            guiding = sorted(person.glob("*.jpg"))[:GUIDING]
            who = new_character(session, details, guiding, replace=True).character
            chosen = [path.stem for path in shown[place :: len(people)]]
            for index, name in enumerate(chosen or names_for(person.name, names)):
                image = work.picture(name)
                request = Request(recipe.name, who.name, "", seed=1, source="0" * 64, stages=("detail",))
                made = plan(recipe, who, request, Draw(index), bill.digests)
                passes.append({"picture": name, "plan": made.to_json()})
                # Likeness is measured whether or not this recipe asks for it.
                asked = replace(made.stages[0], detail=replace(detail.detail, far=0.1))
                face = faces.find(image, made, asked)
                found[f"{who.name}-{name}"] = (
                    asdict(face) if isinstance(face, Finding) else told(face) | {"likeness": face.likeness}
                )
            for guide in detail.guides:
                vectors[f"{who.name}.{guide.kind}"] = faces.embedding(guide, made)
                for number, portrait in enumerate(faces.crops(guide, made)):
                    portrait.save(portraits / f"{who.name}-{number}.png")
    work.write("faces", found)
    work.write("passes", {"characters": str(characters.resolve()), "passes": passes})
    np.savez(work.root / "vectors.npz", **vectors)
    print(f"{len(passes)} passes over {len({one['picture'] for one in passes})} pictures")


def given_for(work: Work, one: Pass, faces: GivenFaces) -> StageInput:
    """What the family is given for a pass."""
    import sosie_mini

    faces.asked = one.key
    mini = sosie_mini.folder()
    paths = {asset.name: mini / asset.name.partition(":")[2] for asset in one.plan.assets}
    return StageInput(one.plan.stages[0], one.plan, 0, work.picture(one.picture), paths, faces, lambda *_: None)


def draw(work: Work, device: str, share: tuple[int, int], only: Sequence[str]) -> None:
    """Draws the squares that are not there yet. `share` (i, n): every n-th of them, beside other processes."""
    from sosie.diffusion.face_pass import FaceResult, face_square, is_refused, put_back, untoned
    from sosie.families.contract.face_pass import face_pass_of
    from sosie.families.sdxl.on_diffusers import Runner

    faces = GivenFaces(work)
    runner = Runner(device, Settings(memory="full" if device == "cuda" else "auto", compile=False))
    (work.root / "squares").mkdir(exist_ok=True)
    passes = [one for one in work.passes()[share[0] :: share[1]] if not only or one.plan.character.name in only]
    passes = [one for one in passes if not work.square(one.key).exists()]
    for place, one in enumerate(passes):
        given = given_for(work, one, faces)
        task = face_pass_of(given)
        square = face_square(task)
        if isinstance(square, FaceResult):
            print(f"{place + 1} of {len(passes)}: {one.key} {square.findings[0].message}", flush=True)
            continue
        started = time.perf_counter()
        drawn = runner._draw_square(given, square)
        if square.toned is not None and is_refused(put_back(task, square, drawn)):
            runner._draw_square(given, untoned(square)).save(work.square(f"{one.key}-body"))
        drawn.save(work.square(one.key))
        print(f"{place + 1} of {len(passes)}: {one.key} {time.perf_counter() - started:.1f} s", flush=True)


def compose(work: Work, share: tuple[int, int]) -> None:
    """Puts the squares that were drawn back into their pictures, and says what changed where nothing may."""
    from sosie.diffusion.face_pass import FaceResult, face_square, untoned
    from sosie.faces.crop import patch_of
    from sosie.families.contract.face_pass import face_pass_of

    faces, done = GivenFaces(work), work.lines("composed")
    (work.root / "results").mkdir(exist_ok=True)
    passes = [one for one in work.passes()[share[0] :: share[1]] if one.key not in done]
    for place, one in enumerate(passes):
        task = face_pass_of(given_for(work, one, faces))
        square = face_square(task)
        if isinstance(square, FaceResult):
            work.add("composed", {"key": one.key, "said": [square.findings[0].code], "measures": {}, "outside": 0})
            continue
        if not work.square(one.key).exists():
            continue
        forced = forced_back(task, square, work.square(one.key))
        said = ["SOS-E024"] if dict(forced.measures)["seam"] > task.detail.seam else []
        if said and work.square(f"{one.key}-body").exists():
            again = forced_back(task, untoned(square), work.square(f"{one.key}-body"))
            if dict(again.measures)["seam"] <= task.detail.seam:
                forced, square, said = again, untoned(square), ["SOS-E043"]
        forced.image.save(work.result(one.key))
        before, after = (np.asarray(image) for image in (task.source.convert("RGB"), forced.image))
        patch = patch_of(square.crop, before.shape)
        reach = square.change if square.toned is None else np.maximum(square.change, square.toned.where)
        may = np.zeros(before.shape[:2], np.float32)
        may[patch.rows, patch.columns] = patch.mask(reach)
        outside = int(((before != after).any(axis=2) & (may == 0)).sum())
        measures = dict(forced.measures)
        work.add("composed", {"key": one.key, "said": said, "measures": measures, "outside": outside})
        print(f"{place + 1} of {len(passes)}: {one.key} {said} seam {measures['seam']}", flush=True)


def forced_back(task: Any, square: Any, path: Path) -> Any:
    """The square in its picture, whatever its seam."""
    from sosie.diffusion.face_pass import put_back

    with Image.open(path) as drawn:
        return put_back(replace(task, detail=replace(task.detail, seam=1e9)), square, drawn)


class Judging:
    """Both judges, each with a template of every character from the references that guided nothing."""

    def __init__(self, session: Any, characters: Path) -> None:
        from sosie.faces.encoders import template

        self._detector = session.detector
        self._encoders = session.judges[0]
        self._templates: dict[tuple[str, str], np.ndarray] = {}
        for person in sorted(path for path in characters.iterdir() if path.is_dir()):
            pixels = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(person.glob("*.jpg"))[GUIDING:]]
            shown = [(image, found[0]) for image in pixels if (found := self._detector.detect(image))]
            for name, encoder in self._encoders.items():
                vectors = [encoder.embed(image, face) for image, face in shown]
                self._templates[name, person.name] = template(encoder.metric, vectors)

    def values(self, image: np.ndarray, who: str) -> dict[str, float]:
        """SFace's cosine and dlib's distance of the largest face to a character; empty where no face is found."""
        from sosie.faces.encoders import similarity

        faces = self._detector.detect(image)
        if not faces:
            return {}
        return {
            name: round(
                float(similarity(encoder.metric, self._templates[name, who], encoder.embed(image, faces[0]))), 4
            )
            for name, encoder in self._encoders.items()
        }


def judge(work: Work) -> None:
    """Both judges on every pass: before, and after (refused ones too, as they would have been)."""
    from sosie.workspace.session import Session
    from sosie.workspace.workspace import open_workspace

    done, sources = work.lines("scores"), {}
    passes = [one for one in work.passes() if one.key not in done and work.result(one.key).exists()]
    with Session(open_workspace(work.root / "workspace")) as session:
        judging = Judging(session, Path(work.table("passes")["characters"]))
        for place, one in enumerate(passes):
            who = one.plan.character.name
            if (one.picture, who) not in sources:
                sources[one.picture, who] = judging.values(np.asarray(work.picture(one.picture)), who)
            with Image.open(work.result(one.key)) as image:
                after = judging.values(np.asarray(image.convert("RGB")), who)
            work.add("scores", {"key": one.key, "before": sources[one.picture, who], "after": after})
            print(f"{place + 1} of {len(passes)}: {one.key} {sources[one.picture, who]} {after}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("prepare", "draw", "compose", "judge"))
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--pictures", type=Path, help="a folder of images to work on")
    parser.add_argument("--share", default="0/1", help="i/n: every n-th pass from the i-th on")
    parser.add_argument("--only", default="", help="characters, with commas")
    asked = parser.parse_args()
    first, count = (int(part) for part in asked.share.split("/"))
    only = [name for name in asked.only.split(",") if name]
    if asked.step == "prepare":
        prepare(asked.folders[0], Work(asked.folders[1]), asked.recipe, asked.pictures)
    elif asked.step == "draw":
        draw(Work(asked.folders[0]), asked.device, (first, count), only)
    elif asked.step == "compose":
        compose(Work(asked.folders[0]), (first, count))
    else:
        judge(Work(asked.folders[0]))


if __name__ == "__main__":
    main()
