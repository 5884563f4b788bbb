"""What looks measure in photographic portraits and renders, clean and with what each look is to see put into them.

    python benchmarks/looks.py --photos FOLDER --renders FOLDER... --out docs/looks.md

Photographs alternate between two halves: thresholds were chosen on `choose`, the figures of the page are those of
`measure`. A face is found once, in the clean picture. Nothing of the pictures is kept but the figures.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from defects import jpeg, read, wilson
from inject import Pixels, noise

from sosie.core.score import Score
from sosie.faces.detect import Detector, Face
from sosie.scorers.looks import LOOKS, Looks, look_score
from sosie.scorers.looks.view import View
from sosie.scorers.sample import Sample

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
SMOOTHED: dict[tuple[int, int], Pixels] = {}
Change = Callable[[Pixels, Face, int], Pixels]


def smoothed(image: Pixels, times: int) -> Pixels:
    """As beauty filters do: edges stay, skin does not. Several rows begin with it, so it is done once a picture."""
    key = (image.ctypes.data, times)
    if key not in SMOOTHED:
        SMOOTHED[key] = cv2.bilateralFilter(image if times == 1 else smoothed(image, times - 1), 9, 30, 5)
    return SMOOTHED[key]


def sharpened(image: Pixels) -> Pixels:
    fine = image.astype(np.float32)
    return np.clip(2 * fine - cv2.GaussianBlur(fine, (0, 0), 1.2), 0, 255).astype(np.uint8)


def blurred(image: Pixels, sigma: float) -> Pixels:
    return cv2.GaussianBlur(image, (0, 0), sigma)


def soft_face(image: Pixels, face: Face, sigma: float) -> Pixels:
    """The face out of focus, and nothing else."""
    x, y, width, height = face.box
    mask = np.zeros(image.shape[:2], np.float32)
    centre, axes = (round(x + width / 2), round(y + height / 2)), (round(0.7 * width), round(0.65 * height))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.05 * width)[..., np.newaxis]
    return np.rint(mask * blurred(image, sigma) + (1 - mask) * image).astype(np.uint8)


def smeared(image: Pixels, face: Face, points: Sequence[int], size: tuple[float, float]) -> Pixels:
    """The features at these of the five points blurred by a twentieth of the distance between the eyes."""
    eyes, mask = face.interocular, np.zeros(image.shape[:2], np.float32)
    places = face.points[list(points)]
    places = places if points[0] < 2 else places.mean(axis=0, keepdims=True)
    for x, y in places:
        cv2.ellipse(mask, (round(float(x)), round(float(y))), tuple(round(s * eyes) for s in size), 0, 0, 360, 1, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.04 * eyes)[..., np.newaxis]
    return np.rint(mask * blurred(image, 0.05 * eyes) + (1 - mask) * image).astype(np.uint8)


def oiled(image: Pixels, face: Face, light: float) -> Pixels:
    """White light added where the face is brightest already, as oil or sweat mirror a lamp."""
    luma = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 0.04 * face.interocular)
    mask, eyes = np.zeros(image.shape[:2], np.float32), face.interocular
    x, y = (float(side) for side in face.points[:2].mean(axis=0))
    cv2.ellipse(mask, (round(x), round(y + 0.5 * eyes)), (round(1.15 * eyes), round(1.6 * eyes)), 0, 0, 360, 1, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.05 * eyes)
    low, high = np.percentile(luma[mask > 0.5], (65, 97))
    added = light * np.clip((luma - low) / (high - low), 0, 1) ** 2 * mask
    return np.clip(image + added[..., np.newaxis], 0, 255).astype(np.uint8)


def exposed(image: Pixels, gain: float) -> Pixels:
    return np.rint(255 * np.clip((image / 255) ** 2.2 * gain, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def saturated(image: Pixels, gain: float) -> Pixels:
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[..., 1:] *= gain
    return np.rint(255 * np.clip(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), 0, 1)).astype(np.uint8)


def tinted(image: Pixels, gains: tuple[float, float, float]) -> Pixels:
    return np.clip(image * np.array(gains), 0, 255).astype(np.uint8)


def clean(image: Pixels, _face: Face, _seed: int) -> Pixels:
    return image


SKIN: dict[str, Change] = {
    "clean": clean,
    "clean, JPEG 50": lambda i, _f, _s: jpeg(i, 50),
    "clean, sharpened": lambda i, _f, _s: sharpened(i),
    "clean, noise of sigma 8": lambda i, _f, s: noise(i, 8, s),
    "smoothed once": lambda i, _f, _s: smoothed(i, 1),
    "smoothed three times": lambda i, _f, _s: smoothed(i, 3),
    "smoothed three times, JPEG 50": lambda i, _f, _s: jpeg(smoothed(i, 3), 50),
    "smoothed three times, sharpened": lambda i, _f, _s: sharpened(smoothed(i, 3)),
    "smoothed three times, noise of sigma 8": lambda i, _f, s: noise(smoothed(i, 3), 8, s),
}
SMEARED: dict[str, Change] = {
    "eyes smeared": lambda i, f, _s: smeared(i, f, (0, 1), (0.35, 0.25)),
    "mouth smeared": lambda i, f, _s: smeared(i, f, (3, 4), (0.6, 0.3)),
}
FOCUS: dict[str, Change] = {
    "all of it blurred, sigma 1": lambda i, _f, _s: blurred(i, 1),
    "face blurred, sigma 1": lambda i, f, _s: soft_face(i, f, 1),
    "face blurred, sigma 2": lambda i, f, _s: soft_face(i, f, 2),
}
LIGHT: dict[str, Change] = {
    "exposed x 2.5": lambda i, _f, _s: exposed(i, 2.5),
}
SHINY: dict[str, Change] = {
    "oiled, 40 levels": lambda i, f, _s: oiled(i, f, 40),
    "oiled, 80 levels": lambda i, f, _s: oiled(i, f, 80),
}
COLOUR: dict[str, Change] = {
    "chroma x 1.5": lambda i, _f, _s: saturated(i, 1.5),
    "a warm cast (red x 1.1, blue x 0.9)": lambda i, _f, _s: tinted(i, (1.1, 1, 0.9)),
}
KINDS: dict[str, tuple[str, ...]] = {
    "skin_texture": tuple(SKIN),
    "skin_relief": tuple(SKIN),
    "shine": ("clean", "clean, JPEG 50", *LIGHT, *SHINY),
    "eyes": ("clean", "clean, JPEG 50", "clean, noise of sigma 8", "all of it blurred, sigma 1", "eyes smeared"),
    "mouth": ("clean", "clean, JPEG 50", "clean, noise of sigma 8", "all of it blurred, sigma 1", "mouth smeared"),
    "grain": (*(kind for kind in SKIN if "noise" in kind or kind in ("clean", "clean, JPEG 50")),),
    "face_sharpness": ("clean", "clean, JPEG 50", "clean, sharpened", "all of it blurred, sigma 1", *FOCUS),
    "highlights": ("clean", *LIGHT),
    "saturation": ("clean", *COLOUR),
    "green_red": ("clean", *COLOUR),
    "blue_yellow": ("clean", *COLOUR),
}
"""Which changes of a photograph are a row of which look."""
CHANGES = SKIN | SMEARED | FOCUS | LIGHT | SHINY | COLOUR


@dataclass(frozen=True)
class Picture:
    """A clean picture, its face, and where it came from."""

    path: Path
    pixels: Pixels
    face: Face


def pictures(folders: Sequence[Path], half: int | None, detector: Detector) -> list[Picture]:
    """Every picture of the folders that shows a face; of photographs every second one."""
    paths = sorted(p for folder in folders for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg"))
    found: list[Picture] = []
    for path in paths if half is None else paths[half::2]:
        image = np.ascontiguousarray(read(path))
        faces = detector.detect(image)
        found += [Picture(path, image, faces[0])] if faces else []
    return found


Card = dict[str, Score]


def measured(some: Sequence[Picture], change: Change, names: Sequence[str]) -> list[Card]:
    """The scores of each picture after a change: those of the looks with these names."""
    cards: list[Card] = []
    for seed, one in enumerate(some):
        view = View(Sample(change(one.pixels, one.face, seed), (one.face,)))
        cards.append({look.name: look_score(look, look.scale, view) for look in LOOKS if look.name in names})
    return cards


def row(kind: str, scores: Sequence[Score]) -> str:
    """How many fail of those with a value, the interval, the spread of values, and how many have none."""
    values = np.array([score.value for score in scores if score.value is not None])
    alarms, n = sum(score.passed is False for score in scores), len(values)
    spread = " / ".join(f"{v:.2f}" for v in np.quantile(values, [0, 0.1, 0.5, 0.9, 1])) if n else "none"
    low, high = wilson(alarms, n) if n else (0.0, 1.0)
    judged = bool(scores) and scores[0].threshold is not None
    rate = f"{alarms} of {n} | {alarms / max(1, n):.0%} ({low:.0%} to {high:.0%})" if judged else f"{n} values | -"
    return f"| {kind} | {rate} | {spread} | {len(scores) - n} |"


def tables(photos: Sequence[Picture], renders: dict[str, list[Picture]]) -> Iterator[str]:
    """One table a look."""
    names = {kind: [name for name, kinds in KINDS.items() if kind in kinds] for kind in CHANGES}
    found = {kind: _told(kind, photos, change, names[kind]) for kind, change in CHANGES.items()}
    others = {f"renders: {name}": _told(name, some, clean, tuple(KINDS)) for name, some in renders.items()}
    for look in LOOKS:
        threshold = "none" if look.scale.threshold is None else f"{look.scale.threshold:g}"
        yield from ("", f"### `{look.name}`", "", f"Unit: {look.scale.unit}. Threshold: {threshold}.", "")
        yield "| pictures | alarms | share (95 % interval) | least / 10 % / median / 90 % / most | no value |"
        yield "|---|---|---|---|---|"
        yield from (row(kind, [card[look.name] for card in found[kind]]) for kind in dict.fromkeys(KINDS[look.name]))
        yield from (row(kind, [card[look.name] for card in cards]) for kind, cards in others.items())


def _told(kind: str, some: Sequence[Picture], change: Change, names: Sequence[str]) -> list[Card]:
    started = time.process_time()
    cards = measured(some, change, names)
    print(f"{time.process_time() - started:6.1f} s of a core  {kind}", file=sys.stderr, flush=True)
    return cards


def cost(one: Picture) -> Iterator[str]:
    """Processor time of all looks at three sizes, and of one Gaussian blur of 1024 x 1024 px beside it."""
    yield from (
        "",
        "| size | all looks, ms of a core | as many Gaussian blurs (sigma 2) of 1024 x 1024 px |",
        "|---|---|---|",
    )
    blank = np.zeros((1024, 1024), np.float32)
    for size in (512, 1024, 4096):
        scale = size / one.pixels.shape[1]
        image = cv2.resize(one.pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        face = one.face.under(np.array([[scale, 0, 0], [0, scale, 0]], dtype=np.float64))
        unit = _least(lambda: cv2.GaussianBlur(blank, (0, 0), 2))
        spent = _least(lambda image=image, face=face: Looks().score(Sample(image, (face,))))
        yield f"| {image.shape[1]} x {image.shape[0]} | {1000 * spent:.0f} | {spent / unit:.1f} |"


def _least(work: Callable[[], object]) -> float:
    spans: list[float] = []
    for _ in range(7):
        started = time.process_time()
        work()
        spans.append(time.process_time() - started)
    return min(spans)


def extremes(look: str, some: Sequence[Picture], path: Path) -> None:
    """The four lowest and the four highest of a look side by side, to be looked at; never to be published."""
    cards = measured(some, clean, (look,))
    ranked = sorted(
        ((value, one) for card, one in zip(cards, some, strict=True) if (value := card[look].value) is not None),
        key=lambda pair: pair[0],
    )
    cells: list[Pixels] = []
    for value, one in [*ranked[:4], *ranked[-4:]]:
        x, y, width, height = (round(side) for side in one.face.box)
        part = one.pixels[max(0, y - height // 8) : y + height, max(0, x) : x + width]
        cell = cv2.resize(part, (256, 320), interpolation=cv2.INTER_AREA)
        cv2.putText(cell, f"{value:.2f}", (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
        cells.append(cell)
    sheet = np.vstack([np.hstack(cells[:4]), np.hstack(cells[4:])])
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of photographic portraits")
    parser.add_argument("--renders", type=Path, nargs="*", default=[], help="folders of renders, a row each")
    parser.add_argument("--half", choices=("choose", "measure"), default="measure")
    parser.add_argument("--every", type=int, default=1, help="of the photographs of the half only every N-th")
    parser.add_argument("--out", type=Path, help="the page whose tables are replaced; without it they are printed")
    parser.add_argument("--extremes", type=Path, help="a folder for sheets of the lowest and highest pictures")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    detector = Detector()
    photos = pictures(given.photos, int(given.half == "measure"), detector)[:: given.every]
    renders = {folder.name: pictures([folder], None, detector) for folder in given.renders}
    if given.extremes:
        given.extremes.mkdir(parents=True, exist_ok=True)
        for look in LOOKS:
            extremes(look.name, photos, given.extremes / f"{look.name}.png")
        return
    lines = [f"Half `{given.half}`: {len(photos)} photographic portraits.", *cost(photos[0]), *tables(photos, renders)]
    text = "\n".join(lines)
    if given.out is None:
        print(text)
        return
    page = given.out.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    given.out.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
