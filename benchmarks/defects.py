"""How often each defect check finds its defect, and how often it sees one in a clean image.

    python benchmarks/defects.py --clean FOLDER... --out docs/defects.md

The images of the folders (searched for .png and .jpg, duplicates dropped) are clean by definition.
Images and seeds alternate between two halves: thresholds were chosen on the half `choose`, the
figures in the page are those of the half `measure`, from which nothing was chosen.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import inject
import numpy as np
from inject import Pixels

from sosie.core.score import Score
from sosie.faces.detect import Detector
from sosie.scorers.defects import DEFECTS, score_defects
from sosie.scorers.sample import Sample

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
QUICK = tuple(name for name in DEFECTS if name != "text")
VARIANTS = {
    "clean: 256 px": 1,
    "clean: 512 px": 1,
    "clean: 1024 px": 1,
    "clean: 1024 px, every fourth": 4,
    "clean: 512 px, JPEG 90": 2,
    "clean: 512 px, JPEG 75": 2,
    "clean: 512 px, JPEG 50": 2,
}
"""The rows of clean portraits, and which portraits they hold: every one, every second or fourth."""
FRAMING = ("no_face", "several_faces", "cut_off_face")


@dataclass(frozen=True)
class Row:
    """One kind of image and what one check said of each: alarms, passes, and no value."""

    check: str
    kind: str
    scores: tuple[Score, ...]

    @property
    def alarms(self) -> int:
        return sum(score.passed is False for score in self.scores)

    def line(self) -> str:
        n = len(self.scores)
        low, high = wilson(self.alarms, n)
        values = sorted(score.value for score in self.scores if score.value is not None)
        spread = f"{values[0]:.2f} / {values[len(values) // 2]:.2f} / {values[-1]:.2f}" if values else "none"
        return f"| {self.kind} | {self.alarms} of {n} | {self.alarms / n:.0%} ({low:.1%} to {high:.1%}) | {spread} |"


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson interval of `hits` in `n`."""
    middle, spread = hits + z * z / 2, z * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return max(0.0, (middle - spread) / (n + z * z)), min(1.0, (middle + spread) / (n + z * z))


def read(path: Path) -> Pixels:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def sized(image: Pixels, side: int) -> Pixels:
    if max(image.shape[:2]) == side:
        return image
    how = cv2.INTER_AREA if side < max(image.shape[:2]) else cv2.INTER_LANCZOS4
    scale = side / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=how)


def jpeg(image: Pixels, quality: int) -> Pixels:
    data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def clean_images(folders: Sequence[Path], half: int) -> list[Pixels]:
    """Every second image of the folders, by path; the same file twice counts once."""
    paths = sorted(p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg"))
    unique = {hashlib.sha256(path.read_bytes()).digest(): path for path in reversed(paths)}
    return [read(path) for path in sorted(unique.values())[half::2]]


class Bench:
    """Judges images as `sosie score` does: faces first, then the checks."""

    def __init__(self, half: int) -> None:
        self.half = half
        self.detector = Detector()
        self.rows: list[Row] = []

    def sample(self, image: Pixels) -> Sample:
        return Sample(image, self.detector.detect(image))

    def measure(self, checks: Sequence[str], kind: str, images: Iterable[Pixels]) -> None:
        """Adds a row for each of `checks`."""
        started = time.perf_counter()
        scores = [score_defects(self.sample(image), checks) for image in images]
        for index, check in enumerate(checks):
            self.rows.append(Row(check, kind, tuple(row[index] for row in scores)))
        print(f"{time.perf_counter() - started:6.1f} s  {', '.join(checks)}: {kind}", file=sys.stderr)

    def seeds(self, count: int) -> range:
        """`count` seeds of this half."""
        return range(self.half, self.half + 2 * count, 2)


def clean(bench: Bench, base: list[Pixels]) -> None:
    """False alarms: every check on renders in three sizes, as JPEG, and on drawn scenes."""
    bench.measure(DEFECTS, "clean: 256 px", [sized(image, 256) for image in base])
    bench.measure(QUICK, "clean: 512 px", [sized(image, 512) for image in base])
    bench.measure(QUICK, "clean: 1024 px", [sized(image, 1024) for image in base])
    bench.measure(["text"], "clean: 1024 px, every fourth", [sized(image, 1024) for image in base[::4]])
    for quality in (90, 75, 50):
        bench.measure(
            QUICK, f"clean: 512 px, JPEG {quality}", [jpeg(sized(image, 512), quality) for image in base[::2]]
        )
    scenes: dict[str, Callable[[int, int], Pixels]] = {
        "clean: fractal texture": lambda size, seed: inject.fractal(size, seed, (0.8, 1.0, 1.3)[seed % 3]),
        "clean: fractal texture, out of focus": lambda size, seed: sized(inject.fractal(size // 2, seed), size),
        "clean: brick wall, a figure before it": lambda size, seed: inject.bricks(size, seed, figure=True),
        "clean: brick wall and nothing else": lambda size, seed: inject.bricks(size, seed, figure=False),
    }
    for (kind, scene), size in itertools.product(scenes.items(), (256, 1024)):
        count = 30 if size == 256 else 15
        images = [scene(size, seed) for seed in bench.seeds(count)]
        bench.measure(["blank", "flat", "noise", "lines", "waves", "qr"], f"{kind}, {size} px", images)
        bench.measure(["text"], f"{kind}, {size} px", images[::3])


def tone(bench: Bench, images: list[Pixels]) -> None:
    colours = [(0, 0, 0), (6, 4, 5), (255, 255, 255), (128, 128, 128), (90, 20, 140)]
    plain = [inject.blank(256, c, speckle, seed) for seed in bench.seeds(3) for c in colours for speckle in (0, 2)]
    bench.measure(["blank"], "one colour, with and without speckle of sigma 2", plain)
    for factor in (0.05, 0.1, 0.2, 0.3):
        bench.measure(["flat"], f"contrast x {factor}", [inject.low_contrast(image, factor) for image in images])
    for share in (0.12, 0.06, 0.03):
        washed = [inject.washed_out(image, share) for image in images]
        bench.measure(["flat"], f"blurred, sigma {share:.0%} of the width", washed)


def noise(bench: Bench, images: list[Pixels]) -> None:
    for sigma, size in itertools.product((4, 8, 12, 20, 30), (256, 1024)):
        some = images if size == 256 else images[::4]
        noisy = [inject.noise(sized(image, size), sigma, seed) for seed, image in enumerate(some)]
        bench.measure(["noise"], f"sigma {sigma}, {size} px", noisy)
    for grain, sigma in itertools.product((2, 4), (8, 12, 20)):
        coarse = [inject.noise(image, sigma, seed, grain) for seed, image in enumerate(images)]
        bench.measure(["noise"], f"sigma {sigma}, grains of {grain} px, 256 px", coarse)


def striped(image: Pixels, amplitude: float, period: float, seed: int) -> Pixels:
    """Lines in one of six directions or grids, with one of three profiles, by `seed`."""
    profile: inject.Profile = ("sine", "square", "thin")[seed % 3]
    angle = (0.0, 90.0, 4.0, 20.0, 45.0, 0.0)[seed % 6]
    draw = inject.grid if seed % 6 >= 4 else inject.lines
    return draw(image, amplitude, period, angle, profile)


def patterns(bench: Bench, images: list[Pixels]) -> None:
    for size, amplitude, period in itertools.product((256, 512, 1024), (4, 6, 8, 12), (4, 8, 16, 32)):
        some = [sized(image, size) for image in (images if size < 1024 else images[::2])]
        lined = [striped(image, amplitude, period, seed) for seed, image in enumerate(some)]
        bench.measure(["lines"], f"±{amplitude}, period {period}, mixed directions and grids, {size} px", lined)
    for angle, profile in itertools.product((0.0, 90.0, 4.0, 20.0, 45.0), ("sine", "thin")):
        lined = [inject.lines(sized(image, 512), 4, 8, angle, profile) for image in images]
        bench.measure(["lines"], f"±4, period 8, {profile} at {angle:.0f} degrees, 512 px", lined)
    shapes = ((5, 48), (8, 96), (12, 128), (20, 160))
    for size, amplitude, (period, long) in itertools.product((256, 512, 1024), (6, 8, 12), shapes):
        some = [sized(image, size) for image in (images if size < 1024 else images[::2])]
        wavy = [inject.waves(image, amplitude, period, long, 30.0 * (n % 6)) for n, image in enumerate(some)]
        bench.measure(["waves"], f"±{amplitude}, period {period}, wavelength {long}, {size} px", wavy)


def codes(bench: Bench, images: list[Pixels]) -> None:
    for kind, alpha in itertools.product(("QRCode", "DataMatrix", "Aztec"), (1.0, 0.5, 0.3)):
        coded = [inject.code(sized(i, 512), (96, 140, 200)[n % 3], alpha, n, kind) for n, i in enumerate(images)]
        bench.measure(["qr"], f"{kind}, opacity {alpha}, 96 to 200 of 512 px", coded)
    for alpha in (1.0, 0.5):
        cells = [inject.blocks(sized(i, 512), (96, 140, 200)[n % 3], 6, alpha, n) for n, i in enumerate(images)]
        bench.measure(["qr"], f"random cells (no code), opacity {alpha}", cells)


def text(bench: Bench, images: list[Pixels]) -> None:
    words = ("SampleStock", "PREVIEW", "Stock 2024", "watermark", "Getty Nope")
    for size, height, alpha in itertools.product((256, 768), (12, 20, 32), (1.0, 0.5, 0.3)):
        some = [sized(image, size) for image in images[:: 2 if size == 256 else 4]]
        written = [inject.text(i, words[n % 5], height, alpha, n) for n, i in enumerate(some)]
        bench.measure(["text"], f"capitals of {height} px, opacity {alpha}, {size} px", written)


def faces(bench: Bench, images: list[Pixels]) -> None:
    images = [sized(image, 512) for image in images]
    found = [(image, bench.sample(image).main_face) for image in images]
    seen = [(image, face.box) for image, face in found if face is not None]
    scenes = [inject.bricks(512, s, figure=False) for s in bench.seeds(10)]
    scenes += [inject.fractal(512, s) for s in bench.seeds(10)]
    scenes += [image[:, : int(box[0])] for image, box in seen if box[0] > 64]
    bench.measure(["no_face"], "no face: walls, textures, what is beside the face", scenes)
    for ratio in (1.0, 0.6, 0.4, 0.2):
        pairs = [inject.beside(a, b, ratio) for a, b in zip(images, images[1:] + images[:1], strict=True)]
        bench.measure(["several_faces"], f"a second face of {ratio:.0%} the size", pairs)
    for share in (-0.3, -0.1, 0.05, 0.1, 0.2, 0.3, 0.4):
        sides = itertools.cycle(("left", "right", "top", "bottom"))
        parts = [inject.cut(image, box, share, side) for (image, box), side in zip(seen, sides, strict=False)]
        what = f"{share:.0%} of the face cut off" if share > 0 else f"clean: {-share:.0%} of air around the face"
        bench.measure(["cut_off_face"], what, parts)


PARTS: dict[str, Callable[[Bench, list[Pixels]], None]] = {
    "tone": tone,
    "noise": noise,
    "patterns": patterns,
    "codes": codes,
    "text": text,
    "faces": faces,
}


def milliseconds(bench: Bench, image: Pixels) -> Iterator[str]:
    """One line a group of checks: the median of several runs at 256 and 1024 px on one thread."""
    groups = [("blank", "flat"), ("noise",), ("lines", "waves"), ("qr",), FRAMING, ("text",)]
    for names in groups:
        cells: list[str] = []
        for size in (256, 1024):
            scaled = sized(image, size)
            found = bench.detector.detect(scaled)
            spans: list[float] = []
            for _ in range(3 if "text" in names else 9):
                sample = Sample(scaled, found)
                started = time.perf_counter()
                score_defects(sample, names)
                spans.append(time.perf_counter() - started)
            cells.append(f"{1000 * sorted(spans)[len(spans) // 2]:.1f}")
        yield f"| {', '.join(f'`{name}`' for name in names)} | {cells[0]} | {cells[1]} |"


def summary(bench: Bench) -> Iterator[str]:
    """One line a check: how many of the portraits it alarms for, at any size or quality."""
    if not any(row.kind in VARIANTS for row in bench.rows):
        return
    yield from ("", "| check | threshold | portraits with a false alarm in any variant | share (95 % interval) |")
    yield "|---|---|---|---|"
    for check in DEFECTS:
        rows = [row for row in bench.rows if row.check == check and row.kind in VARIANTS]
        alarmed = {
            n * VARIANTS[row.kind] for row in rows for n, score in enumerate(row.scores) if score.passed is False
        }
        count = max((len(row.scores) for row in rows), default=0)
        if count:
            low, high = wilson(len(alarmed), count)
            share = f"{len(alarmed) / count:.1%} ({low:.1%} to {high:.1%})"
            yield f"| `{check}` | {rows[0].scores[0].threshold:g} | {len(alarmed)} of {count} | {share} |"


def tables(bench: Bench) -> Iterator[str]:
    """One table a check: clean images first, then its defect, weakest detection visible."""
    for check in DEFECTS:
        rows = [row for row in bench.rows if row.check == check]
        if rows:
            yield from (
                "",
                f"### `{check}`",
                "",
                "| images | alarms | share (95 % interval) | lowest / median / highest value |",
            )
            yield "|---|---|---|---|"
            yield from (row.line() for row in sorted(rows, key=lambda row: not row.kind.startswith("clean")))


def picture(bench: Bench, image: Pixels, path: Path) -> None:
    """A row of defects drawn into one render, each with what the check says."""
    image = sized(image, 256)
    box = bench.sample(image).faces[0].box
    shown = {
        "no defect": image,
        "lines": inject.lines(image, 8, 8),
        "waves": inject.waves(image, 8, 8, 96),
        "noise": inject.noise(image, 12, 0),
        "flat": inject.low_contrast(image, 0.2),
        "qr": inject.blocks(image, 80, 4, 0.7, 2),
        "text": inject.text(image, "SampleStock", 18, 0.6, 0),
        "cut_off_face": sized(np.ascontiguousarray(inject.cut(image, box, 0.35, "left")), 256),
    }
    cells: list[Pixels] = []
    for name, defect in shown.items():
        failed = [score for score in score_defects(bench.sample(defect)) if score.passed is False]
        cell = np.full((310, 264, 3), 255, np.uint8)
        cell[4 : 4 + defect.shape[0], 4 : 4 + defect.shape[1]] = defect
        said = next((score.reason for score in failed if score.name == name), failed[0].reason if failed else "passes")
        for row, line in enumerate([name, *textwrap.wrap(said, 38)[:2]]):
            cv2.putText(cell, line, (6, 274 + 15 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        cells.append(cell)
    sheet = np.vstack([np.hstack(cells[:4]), np.hstack(cells[4:])])
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def write(page: Path, lines: Iterable[str]) -> None:
    """Puts the lines between the page's markers."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text("\n".join([before.rstrip(), "", BEGIN, *lines, "", END]) + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clean", type=Path, nargs="+", required=True, help="folders of clean portraits")
    parser.add_argument("--out", type=Path, help="the page to write into; else to stdout")
    parser.add_argument("--half", choices=("choose", "measure"), default="measure")
    parser.add_argument("--part", choices=("clean", *PARTS), action="append", help="only these parts")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    bench = Bench(("choose", "measure").index(args.half))
    base = clean_images(args.clean, bench.half)
    images = [sized(image, 256) for image in base[:: max(1, len(base) // 24)]]
    wanted = args.part or ["clean", *PARTS]
    if "clean" in wanted:
        clean(bench, base)
    for name, part in PARTS.items():
        if name in wanted:
            part(bench, base[:: max(1, len(base) // 24)] if name in ("patterns", "codes", "text", "faces") else images)
    lines = [
        f"Half `{args.half}`: {len(base)} clean portraits.",
        "",
        "| checks | ms at 256 px | ms at 1024 px |",
        "|---|---|---|",
    ]
    lines += [*milliseconds(bench, base[0]), *summary(bench), *tables(bench)]
    if args.out:
        write(args.out, lines)
        picture(bench, base[0], args.out.parent / "images" / "defects-overview.png")
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
