"""A face of N px, in its portrait alone and in pictures of any size: found, and scored the same?

    python benchmarks/face_sizes.py PICTURES... [--same FOLDER] [--only SIDE...] [--out LINES.jsonl]

PICTURES are files of one face each, or folders of such; those of the folder that `--same` names are all of one person.
Each face is cut out with what is around it (1.6 times its own longer side), scaled until it has N px, judged alone, and
set pixel for pixel at a place of its own into larger pictures of soft noise. Its value is that against the mean of the
person's other pictures, or where there are none against the most alike picture of somebody else. Writes a JSON line
for each face and picture, and prints one for each cell. Deterministic but for the times.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sosie.faces.detect import Detector
from sosie.faces.encoders import Encoder, judge_encoders, similarity, template
from sosie.files.images import read_image
from sosie.scorers.statistics import wilson

FACES = (64, 96, 128, 192, 256, 512)
PICTURES = ((640, 640), (1024, 1024), (2048, 2048), (4096, 6144), (8192, 8192))
AROUND = 1.6
"""The side of a portrait, in longer sides of its face."""


@dataclass(frozen=True)
class Person:
    """A picture, and by judge what its face is compared with."""

    path: Path
    pixels: np.ndarray
    against: dict[str, np.ndarray]


@dataclass(frozen=True)
class Bench:
    """What judges: a detector and the encoders."""

    detector: Detector
    judges: dict[str, Encoder]

    def look(self, pixels: np.ndarray, person: Person, middle: tuple[float, float]) -> dict[str, Any]:
        """Whether the face around `middle` is found, its values, how many others are, and the detector's time."""
        began, worked = time.perf_counter(), time.process_time()
        faces = self.detector.detect(pixels)
        spent = {"seconds": time.perf_counter() - began, "processor": time.process_time() - worked}
        mine = [
            face
            for face in faces
            if max(abs(b + s / 2 - m) for b, s, m in zip(face.box[:2], face.box[2:], middle, strict=True)) < face.box[2]
        ]
        values = {
            name: similarity(judge.metric, person.against[name], judge.embed(pixels, mine[0]))
            for name, judge in self.judges.items()
            if mine
        }
        return {"found": bool(mine), "values": values, "beside": len(faces) - bool(mine), **spent}


def people(bench: Bench, paths: Sequence[Path], same: str) -> Iterator[Person]:
    """The pictures, each with its template: of the others of the folder `same`, or the most alike stranger."""
    read = {path: np.asarray(read_image(path).convert("RGB")) for path in paths}
    own = {
        path: {name: judge.embed(pixels, bench.detector.detect(pixels)[0]) for name, judge in bench.judges.items()}
        for path, pixels in read.items()
    }
    for path in paths:
        others = [
            other for other in paths if other != path and (other.parent.name == same) == (path.parent.name == same)
        ]
        if path.parent.name != same:
            others = [max(others, key=lambda other: similarity("cosine", own[other]["sface"], own[path]["sface"]))]
        against = {
            name: template(judge.metric, [own[other][name] for other in others]) for name, judge in bench.judges.items()
        }
        yield Person(path, read[path], against)


def cut(pixels: np.ndarray, detector: Detector) -> tuple[Image.Image, float]:
    """The square around the largest face, and the longer side of that face in pixels."""
    x, y, w, h = detector.detect(pixels)[0].box
    side = max(w, h)
    half = AROUND * side / 2
    left, top = max(0, round(x + w / 2 - half)), max(0, round(y + h / 2 - half))
    return Image.fromarray(pixels[top : round(y + h / 2 + half), left : round(x + w / 2 + half)]), side


def noise(seed: int) -> np.ndarray:
    """1024 x 1024 px of coloured noise whose strength falls with frequency, as in photographs; it tiles."""
    across = np.fft.fftfreq(1024)
    falls = 1 / np.maximum(np.hypot(across[:, None], across[None]), 1 / 1024) ** 1.5
    waves = np.fft.fft2(np.random.default_rng(seed).normal(size=(3, 1024, 1024))) * falls
    soft = np.fft.ifft2(waves).real
    soft = 120 + 35 * soft / soft.std(axis=(1, 2), keepdims=True)
    return np.ascontiguousarray(soft.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def looks(bench: Bench, person: Person, index: int, sides: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A line for each size of the person's face, alone and in each picture whose first side is one of `sides`."""
    square, side = cut(person.pixels, bench.detector)
    ground = noise(index)
    for face in FACES:
        width, height = (round(extent * face / side) for extent in square.size)
        portrait = np.asarray(square.resize((width, height), Image.Resampling.LANCZOS))
        alone = bench.look(portrait, person, (width / 2, height / 2))
        named = {"person": f"{person.path.parent.name}/{person.path.stem}", "face": face}
        yield {**named, "picture": None, "portrait": [width, height], **alone}
        for columns, rows in PICTURES:
            if height > rows or width > columns or columns not in sides:
                continue
            numbers = np.random.default_rng([index, face, columns])
            x, y = int(numbers.integers(0, columns - width + 1)), int(numbers.integers(0, rows - height + 1))
            large = np.tile(ground, (-(-rows // 1024), -(-columns // 1024), 1))[:rows, :columns].copy()
            large[y : y + height, x : x + width] = portrait
            seen = bench.look(large, person, (x + width / 2, y + height / 2))
            off = {name: value - alone["values"][name] for name, value in seen["values"].items() if alone["found"]}
            yield {**named, "picture": [columns, rows], **seen, "off": off}


def cells(lines: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """One line for each size of face and picture; None is the portrait alone."""
    for face in FACES:
        for picture in (None, *map(list, PICTURES)):
            some = [line for line in lines if line["face"] == face and line["picture"] == picture]
            if not some:
                continue
            share = wilson(sum(line["found"] for line in some), len(some))
            cell: dict[str, Any] = {"face": face, "picture": picture, "n": share.n, "found": share.k}
            cell["interval"] = [round(share.low, 3), round(share.high, 3)]
            for name in ("sface", "dlib"):
                off = np.abs([line["off"][name] for line in some if name in line.get("off", {})])
                if len(off):
                    cell[name] = {"mean": off.mean(), "95 %": np.quantile(off, 0.95), "largest": off.max()}
                    cell[name] = {key: round(float(value), 4) for key, value in cell[name].items()}
                    cell[name]["within 0.02"] = int((off <= 0.02).sum())
            cell["beside"] = sum(line["beside"] for line in some)
            for key in ("seconds", "processor"):
                cell[key] = round(float(np.median([line[key] for line in some])), 3)
            yield cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--same", default="mira", help="the name of the folder whose pictures are of one person")
    parser.add_argument("--only", type=int, nargs="*", default=[columns for columns, _ in PICTURES])
    parser.add_argument("--out", type=Path, default=Path("face_sizes.jsonl"))
    args = parser.parse_args()
    bench = Bench(Detector(), judge_encoders({})[0])
    paths = [path for place in args.pictures for path in (sorted(place.glob("*.jpg")) if place.is_dir() else [place])]
    lines: list[dict[str, Any]] = []
    with args.out.open("w") as out:
        for index, person in enumerate(people(bench, paths, args.same)):
            for line in looks(bench, person, index, args.only):
                lines.append(line)
                out.write(json.dumps(line) + "\n")
                out.flush()
    for cell in cells(lines):
        print(json.dumps(cell))


if __name__ == "__main__":
    main()
