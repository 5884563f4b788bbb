"""How often the watermark is read after what platforms do, how often without one, and what it does to the scores.

    python benchmarks/watermark.py PEOPLE/ [--side 256] [--screenshots 24]

PEOPLE holds one folder a person with twelve pictures each. Every picture is brought to `side` pixels, marked with the
first 64 bits of a random plan of 1,000 that are known, changed, and looked for among them; the same without a mark.
Screenshots are of an unknown scale with a frame around, the first so many pictures. Scores: SFace and dlib, the mean
of the first six references against the other six; all defect checks. Seeds are fixed; nothing is picked.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from sosie.faces.detect import Detector
from sosie.faces.encoders import DlibResNet, SFace, similarity, template
from sosie.provenance.watermark import find, mark
from sosie.scorers.defects import score_defects
from sosie.scorers.sample import Sample
from sosie.scorers.statistics import wilson

PLANS = tuple(hashlib.sha256(f"plan {number}".encode()).hexdigest() for number in range(1000))
LANCZOS = Image.Resampling.LANCZOS

Change = Callable[[Image.Image], Image.Image]


def jpeg(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")

    return change


def scaled(factor: float) -> Change:
    return lambda image: image.resize((round(image.width * factor), round(image.height * factor)), LANCZOS)


def cropped(image: Image.Image) -> Image.Image:
    """A quarter of each side is cut off, unequally."""
    width, height = image.size
    return image.crop((round(width * 0.14), round(height * 0.11), round(width * 0.89), round(height * 0.86)))


def shown(factor: float) -> Change:
    def change(image: Image.Image) -> Image.Image:
        picture = scaled(factor)(image)
        page = Image.new("RGB", (picture.width + 170, picture.height + 130), (240, 240, 242))
        page.paste(picture, (85, 61))
        return page

    return change


def then(*changes: Change) -> Change:
    def change(image: Image.Image) -> Image.Image:
        for one in changes:
            image = one(image)
        return image

    return change


CHANGES: dict[str, Change] = {
    "PNG, as delivered": lambda image: image,
    "JPEG 95": jpeg(95),
    "JPEG 80": jpeg(80),
    "JPEG 60": jpeg(60),
    "half the size": scaled(0.5),
    "half the size, JPEG 80": then(scaled(0.5), jpeg(80)),
    "three quarters of each side": cropped,
    "the same, JPEG 80": then(cropped, jpeg(80)),
}
SCREENSHOTS: dict[str, Change] = {
    "screenshot at 83 %": shown(0.83),
    "screenshot at 137 %, JPEG 80": then(shown(1.37), jpeg(80)),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("people", type=Path)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--screenshots", type=int, default=24)
    asked = parser.parse_args()
    paths = sorted(asked.people.glob("*/*.jpg"))
    pictures = [Image.open(path).convert("RGB").resize((asked.side, asked.side), LANCZOS) for path in paths]
    chosen = np.random.default_rng(7).integers(0, len(PLANS), len(pictures))
    begun = time.process_time()
    marked = [mark(image, PLANS[plan]) for image, plan in zip(pictures, chosen, strict=True)]
    seconds = (time.process_time() - begun) / len(pictures)
    errors = [
        np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2) for a, b in zip(pictures, marked, strict=True)
    ]
    psnr = [10 * np.log10(255**2 / error) for error in errors]
    print(f"{len(pictures)} pictures of {asked.side} px; {1000 * seconds:.0f} ms each to mark")
    print(f"PSNR {np.mean(psnr):.1f} dB, the least {min(psnr):.1f}")
    for name, change in {**CHANGES, **SCREENSHOTS}.items():
        scan = name in SCREENSHOTS
        count = asked.screenshots if scan else len(pictures)
        sizes = [(asked.side, asked.side)]
        found = [find(change(image), PLANS, sizes, scan) for image in marked[:count]]
        right = sum(match is not None and match.plan_id == PLANS[p] for match, p in zip(found, chosen, strict=False))
        wrong = sum(match is not None for match in found) - right
        bare = sum(find(change(image), PLANS, sizes, scan) is not None for image in pictures[:count])
        bounds, alarm = wilson(right, count), wilson(bare, count)
        print(
            f"| {name} | {right} of {count} ({100 * bounds.low:.0f} to {100 * bounds.high:.0f} %) | {wrong} "
            f"| {bare} of {count} (to {100 * alarm.high:.1f} %) |",
            flush=True,
        )
    scores(paths, pictures, marked)


def scores(paths: list[Path], pictures: list[Image.Image], marked: list[Image.Image]) -> None:
    """Judges and defect checks, without and with the mark."""
    detector = Detector()
    for judge in (SFace(), DlibResNet()):
        changes: list[float] = []
        for person in dict.fromkeys(path.parent for path in paths):
            own = [index for index, path in enumerate(paths) if path.parent == person]
            references = [embedded(judge, detector, pictures[index]) for index in own[:6]]
            mean = template(judge.metric, [one for one in references if one is not None])
            for index in own[6:]:
                bare, with_mark = (embedded(judge, detector, images[index]) for images in (pictures, marked))
                if bare is not None and with_mark is not None:
                    values = [similarity(judge.metric, mean, one) for one in (bare, with_mark)]
                    changes.append(values[1] - values[0])
        half = 1.96 * np.std(changes, ddof=1) / np.sqrt(len(changes))
        print(
            f"{judge.name} ({judge.metric}): with the mark {np.mean(changes):+.4f} +- {half:.4f} on average, "
            f"the largest change {max(map(abs, changes)):.4f} (n = {len(changes)})"
        )
    turned: dict[str, int] = {}
    for bare, with_mark in zip(pictures, marked, strict=True):
        before, after = (
            {score.name: score.passed for score in score_defects(Sample(pixels, detector.detect(pixels), ""))}
            for pixels in (np.asarray(bare), np.asarray(with_mark))
        )
        for name in before:
            turned[name] = turned.get(name, 0) + (before[name] != after[name])
    changed = {name: count for name, count in turned.items() if count} or "none"
    print(f"defect checks that answer otherwise, of {len(pictures)} pictures: {changed}")


def embedded(judge: SFace | DlibResNet, detector: Detector, image: Image.Image) -> np.ndarray | None:
    pixels = np.asarray(image)
    faces = detector.detect(pixels)
    return judge.embed(pixels, faces[0]) if faces else None


if __name__ == "__main__":
    main()
