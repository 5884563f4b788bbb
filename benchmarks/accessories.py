"""What accessories do to the judges' embeddings: draws them over faces, and makes the vectors that the package ships.

    python benchmarks/accessories.py embed FOLDER OUT.npz made|held [STEP]
    python benchmarks/accessories.py vectors OUT.npz... src/sosie/scorers/accessories.npz
    python benchmarks/accessories.py measure HELD.npz MADE.npz... FOLDER

`embed` draws accessories in styles of one of two sets over every STEP-th picture and embeds clean and covered faces;
the vectors are made of the set `made`, and measured on other people by the set `held`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from sosie.faces.detect import Detector, Face
from sosie.faces.encoders import Encoder, judge_encoders, template
from sosie.scorers import accessories
from sosie.scorers.cohort import load_cohort, nearest_in_description
from sosie.scorers.identity import Gate, build_gate
from sosie.scorers.statistics import wilson

COHORT = Path("packages/sosie-mini/src/sosie_mini/cohort.npz")
Draw = Callable[[Image.Image, Face], Image.Image]
Colour = tuple[int, int, int]


def _axes(face: Face) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Both eyes, the unit vectors along the eye line and down the face, and the distance between the eyes."""
    left, right = face.points[0].astype(float), face.points[1].astype(float)
    wide = float(np.linalg.norm(right - left)) or 1.0
    along = (right - left) / wide
    return left, right, along, np.array([-along[1], along[0]]), wide


def _shape(kind: str, radius: float) -> np.ndarray:
    """The outline of a lens around (0, 0): [n, 2]."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x, y = np.cos(turn), np.sin(turn)
    if kind == "square":
        x, y = np.sign(x) * np.abs(x) ** 0.4 * 1.15, np.sign(y) * np.abs(y) ** 0.4 * 0.85
    if kind == "oval":
        x, y = x * 1.15, y * 0.7
    if kind == "drop":
        x, y = x * (1.1 - 0.15 * (y > 0)), y * 1.05 + 0.12
    return np.column_stack([x, y]) * radius


def glasses(kind: str, colour: Colour, thick: float, lens: int, lens_colour: Colour = (12, 12, 14)) -> Draw:
    """Frames `thick` times the distance between the eyes, lenses of opacity `lens` of 255."""

    def draw(image: Image.Image, face: Face) -> Image.Image:
        left, right, along, down, wide = _axes(face)
        width = max(2, round(thick * wide))
        tint, frame = Image.new("L", image.size), Image.new("L", image.size)
        glass, pen = ImageDraw.Draw(tint), ImageDraw.Draw(frame)
        radius = 0.39 * wide
        for eye in (left, right):
            outline = _shape(kind, radius)
            points = [tuple(eye + x * along + (y + 0.04 * wide) * down) for x, y in outline]
            glass.polygon(points, fill=lens)
            pen.line([*points, points[0], points[1]], fill=255, width=width, joint="curve")
        edge = 1.1 * radius
        pen.line([tuple(left + edge * along), tuple(right - edge * along)], fill=255, width=width)
        pen.line([tuple(left - edge * along), tuple(left - 0.68 * wide * along - 0.06 * wide * down)], 255, width)
        pen.line([tuple(right + edge * along), tuple(right + 0.68 * wide * along - 0.06 * wide * down)], 255, width)
        made = image.copy()
        made.paste(lens_colour, mask=tint)
        made.paste(colour, mask=frame)
        return made

    return draw


def make_up(lips: Colour, shadow: Colour, strength: int) -> Draw:
    """Painted lips, eye shadow and lined eyes."""

    def draw(image: Image.Image, face: Face) -> Image.Image:
        left, right, along, down, wide = _axes(face)
        lid, mouth = Image.new("L", image.size), Image.new("L", image.size)
        pen = ImageDraw.Draw(lid)
        for eye in (left, right):
            turn = np.linspace(0, 2 * np.pi, 30)
            ring = [tuple(eye + 0.3 * wide * np.cos(t) * along + (0.17 * np.sin(t) - 0.1) * wide * down) for t in turn]
            pen.polygon(ring, fill=strength)
            line = np.linspace(-0.25, 0.25, 8)
            arc = [tuple(eye + x * wide * along - wide * (0.09 - 1.3 * x * x) * down) for x in line]
            pen.line(arc, fill=min(255, strength + 70), width=max(1, round(0.035 * wide)))
        first, last = face.points[3].astype(float), face.points[4].astype(float)
        middle, half = (first + last) / 2, (last - first) / 2
        turn = np.linspace(0, 2 * np.pi, 30)
        ring = [tuple(middle + 1.08 * np.cos(t) * half + 0.16 * wide * np.sin(t) * down) for t in turn]
        ImageDraw.Draw(mouth).polygon(ring, fill=min(255, strength + 40))
        soft = ImageFilter.GaussianBlur(0.03 * wide)
        made = image.copy()
        made.paste(shadow, mask=lid.filter(soft))
        made.paste(lips, mask=mouth.filter(soft))
        return made

    return draw


def hat(colour: Colour, brim: Colour, low: float) -> Draw:
    """A hat down to `low` times the distance between the eyes above them."""

    def draw(image: Image.Image, face: Face) -> Image.Image:
        left, right, along, down, wide = _axes(face)
        middle, pen = (left + right) / 2, ImageDraw.Draw(made := image.copy())
        crown = [(-1.05, -low), (-1.0, -1.5), (-0.6, -2.0), (0.6, -2.0), (1.0, -1.5), (1.05, -low)]
        pen.polygon([tuple(middle + x * wide * along + y * wide * down) for x, y in crown], fill=colour)
        band = [(-1.2, -low), (-1.1, -low - 0.25), (1.1, -low - 0.25), (1.2, -low)]
        pen.polygon([tuple(middle + x * wide * along + y * wide * down) for x, y in band], fill=brim)
        return made

    return draw


def tint(colour: Colour, share: float, saturation: float = 1.0) -> Draw:
    """A cast of `colour`, multiplied into a `share` of the picture."""

    def draw(image: Image.Image, face: Face) -> Image.Image:
        del face
        pixels = np.asarray(ImageEnhance.Color(image).enhance(saturation), np.float32)
        cast = pixels * (np.array(colour, np.float32) / 255)
        cast *= pixels.mean() / max(cast.mean(), 1.0)
        return Image.fromarray((pixels * (1 - share) + cast * share).clip(0, 255).astype(np.uint8))

    return draw


MADE: dict[str, list[Draw]] = {
    "spectacles": [
        glasses("square", (25, 22, 20), 0.09, 35),
        glasses("oval", (110, 70, 40), 0.06, 20, (230, 230, 240)),
        glasses("square", (70, 75, 85), 0.035, 20, (220, 225, 235)),
        glasses("round", (35, 40, 90), 0.07, 45),
    ],
    "sunglasses": [glasses("square", (15, 15, 15), 0.07, 235), glasses("oval", (90, 60, 30), 0.06, 215, (60, 40, 25))],
    "heavy make-up": [make_up((165, 20, 40), (60, 40, 60), 130), make_up((120, 20, 90), (50, 70, 150), 140)],
}
HELD: dict[str, list[Draw]] = {
    "spectacles": [glasses("round", (15, 12, 12), 0.07, 60), glasses("drop", (160, 130, 60), 0.05, 50)],
    "sunglasses": [glasses("drop", (150, 130, 60), 0.05, 225, (25, 35, 25))],
    "heavy make-up": [make_up((190, 30, 30), (30, 30, 30), 150)],
    "a hat": [hat((40, 70, 50), (30, 50, 40), 0.5)],
    "a warm tint": [tint((255, 190, 60), 0.85)],
    "a cold tint": [tint((130, 140, 255), 0.85)],
    "no colour": [tint((230, 240, 255), 1.0, 0.0)],
}


@cache
def judges() -> dict[str, Encoder]:
    """The judges that come with the package."""
    return judge_encoders({})[0]


def embed(folder: Path, out: Path, styles: dict[str, list[Draw]], step: int) -> None:
    """Every style set's embeddings of each picture's first face: arrays `JUDGE/ACCESSORY/STYLE` [n, d], `files`."""
    detector, encoders = Detector(), judges()
    rows: dict[str, list[np.ndarray]] = {}
    files: list[str] = []
    for path in sorted(folder.rglob("*.jpg"))[::step]:
        image = Image.open(path).convert("RGB")
        faces = detector.detect(np.asarray(image))
        if not faces:
            continue
        number = len(files)
        files.append(str(path.relative_to(folder)))
        jobs = {"clean/0": image}
        for name, draws in styles.items():
            # made: one style a picture, spectacles two; held: every style
            for at in range(len(draws)) if styles is HELD else ((number, number + 1) if len(draws) > 2 else (number,)):
                index = at % len(draws)
                slot = at - number if styles is MADE else index
                jobs[f"{name}/{slot}"] = draws[index](image, faces[0])
        for key, covered in jobs.items():
            for judge, encoder in encoders.items():
                vector = encoder.embed(np.asarray(covered), faces[0])
                rows.setdefault(f"{judge}/{key}", []).append(vector)
    arrays: dict[str, Any] = {key: np.stack(value) for key, value in rows.items()}
    np.savez_compressed(out, files=np.array(files), **arrays)


def known(found: list[dict[str, np.ndarray]]) -> accessories.Known:
    """What the pictures of several kinds teach."""
    shifts = [
        accessories.Shift(name, {one.sha256: _shift(rows, judge, name) for judge, one in judges().items()})
        for rows in found
        for name in MADE
    ]
    bare = {one.sha256: np.concatenate([rows[f"{j}/clean/0"] for rows in found]) for j, one in judges().items()}
    return accessories.Known(tuple(shifts), bare)


def vectors(sources: list[Path], out: Path) -> None:
    """Writes the file that the package ships."""
    made = known([dict(np.load(source)) for source in sources])
    arrays: dict[str, Any] = {
        sha: np.stack([one.by_judge[sha] for one in made.shifts]).astype(np.float16) for sha in made.bare
    }
    bare: dict[str, Any] = {f"bare-{sha}": rows.astype(np.float16) for sha, rows in made.bare.items()}
    np.savez_compressed(out, names=np.array([one.name for one in made.shifts]), **arrays, **bare)


def _shift(rows: dict[str, np.ndarray], judge: str, accessory: str) -> np.ndarray:
    each = [rows[key] - rows[f"{judge}/clean/0"] for key in rows if key.startswith(f"{judge}/{accessory}/")]
    return np.concatenate(each).mean(axis=0).astype(np.float32)


def measure(source: Path, made: list[Path], pictures: Path) -> None:
    """A row an accessory: how often it is noticed, and what share of strangers and of the own people pass.

    The template is of all of a person's pictures, own ones are judged by that of the others; strangers are everybody
    else, all of them with the accessory. The cohort is mini's, the nearest in the person's description; the shifts are
    those of `made` without the person's own pictures.
    """
    rows, sources = dict(np.load(source)), [dict(np.load(path)) for path in made]
    who = np.array([str(file).split("/")[0] for file in rows["files"]])
    keys = ["clean/0", *(f"{name}/{at}" for name, draws in HELD.items() for at in range(len(draws)))]
    for key in keys:
        told: list[str] = []
        passed: dict[str, list[bool]] = {name: [] for name in ("before", "after", "own before", "own after")}
        for person in sorted(set(who)):
            own = np.flatnonzero(who == person)
            taught = known([_without(one, person) for one in sources])
            accessories.known = partial(_same, taught)
            clean = nearest_in_description(load_cohort(COHORT), _description(pictures / person), 300)
            matched, worn = accessories.match(clean, _templates(rows, key, own))
            told += [one.shift.name for one in worn]
            for when, cohort in (("before", clean), ("after", matched)):
                fmr = 0.05 * (accessories.STRICTER if cohort is not clean else 1)
                gate = build_gate(_templates(rows, key, own), {}, (), (cohort, None), fmr)
                passed[when] += [_passes(gate, rows, key, int(at)) for at in np.flatnonzero(who != person)]
                for at in own:
                    rest = _templates(rows, key, own[own != at])
                    judges = tuple(replace(one, template=rest[one.encoder.name][1]) for one in gate.judges)
                    passed[f"own {when}"].append(_passes(replace(gate, judges=judges), rows, key, int(at)))
        shares = "; ".join(f"{name} {_share(values)}" for name, values in passed.items())
        print(f"{key}: noticed {dict(Counter(told))} of {len(set(who))}; {shares}")


def _same(taught: accessories.Known) -> accessories.Known:
    return taught


def _without(rows: dict[str, np.ndarray], person: str) -> dict[str, np.ndarray]:
    others = np.array([str(file).split("/")[0] != person for file in rows["files"]])
    return {key: values[others] for key, values in rows.items()}


def _templates(rows: dict[str, np.ndarray], key: str, own: np.ndarray) -> dict[str, tuple[Encoder, np.ndarray]]:
    return {
        name: (encoder, template(encoder.metric, list(rows[f"{name}/{key}"][own])))
        for name, encoder in judges().items()
    }


def _passes(gate: Gate, rows: dict[str, np.ndarray], key: str, at: int) -> bool:
    for judge in gate.judges:
        value, limit = judge.measure(rows[f"{judge.encoder.name}/{key}"][at]), judge.threshold
        if limit is None or (value < limit if judge.higher_is_better else value > limit):
            return False
    return True


def _share(values: list[bool]) -> str:
    share = wilson(sum(values), len(values))
    return f"{share.k} of {share.n} ({100 * share.low:.0f} to {100 * share.high:.0f} %)"


def _description(folder: Path) -> str:
    one = json.loads((folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()[0])
    person = {"male": "man", "female": "woman"}[one["gender"]]
    beard = ", beard" if one["beard"] == "beard" else ""
    hair = f"{one['hair_style'].removesuffix(' hair')} {one['hair_color']} hair"
    return f"{one['age']} {person}, {one['skin']} skin, {hair}, {one['eye_color']} eyes{beard}"


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    if command == "embed":
        styles = {"made": MADE, "held": HELD}[words[2]]
        embed(Path(words[0]), Path(words[1]), styles, int(words[3]) if len(words) > 3 else 1)
    elif command == "vectors":
        vectors([Path(word) for word in words[:-1]], Path(words[-1]))
    else:
        measure(Path(words[0]), [Path(word) for word in words[1:-1]], Path(words[-1]))
