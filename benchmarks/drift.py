"""How often colours are told to be unlike a set's: of its own pictures, one left out at a time, and of changed ones.

    python benchmarks/drift.py FOLDER...

Each folder is a set, such as the images of a recipe.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from looks import Pixels, saturated, tinted
from PIL import Image

from sosie.scorers.looks import LOOKS
from sosie.scorers.looks.drift import COLOURS, drifts
from sosie.scorers.looks.view import View
from sosie.scorers.sample import Sample
from sosie.scorers.statistics import wilson

CHANGES: Mapping[str, Callable[[Pixels], Pixels]] = {
    "as they are": lambda image: image,
    "red x 1.05, blue x 0.95": lambda image: tinted(image, (1.05, 1.0, 0.95)),
    "red x 1.1, blue x 0.9": lambda image: tinted(image, (1.1, 1.0, 0.9)),
    "red x 1.2, blue x 0.8": lambda image: tinted(image, (1.2, 1.0, 0.8)),
    "green x 1.1": lambda image: tinted(image, (1.0, 1.1, 1.0)),
    "saturation x 1.5": lambda image: saturated(image, 1.5),
    "saturation x 2": lambda image: saturated(image, 2.0),
    "grey": lambda image: saturated(image, 0.0),
}


def values(image: Pixels) -> dict[str, float]:
    view = View(Sample(image))
    found: dict[str, Any] = {look.name: look.measure(view) for look in LOOKS if look.name in COLOURS}
    return {name: float(value) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path)
    for folder in parser.parse_args().folders:
        paths = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
        images = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        own = [values(image) for image in images]
        middle = {name: np.median([one[name] for one in own]) for name in COLOURS}
        spread = {name: 1.4826 * np.median([abs(one[name] - middle[name]) for one in own]) for name in COLOURS}
        print(f"{folder.name}: {len(images)} pictures, deviations " + ", ".join(f"{spread[n]:.1f}" for n in COLOURS))
        for title, change in CHANGES.items():
            told = 0
            for at, image in enumerate(images):
                others = [one for place, one in enumerate(own) if place != at]
                before = {name: [one[name] for one in others] for name in COLOURS}
                told += bool(drifts(values(change(image)), before))
            share = wilson(told, len(images))
            print(f"| {title} | {told} of {len(images)} ({share.low:.0%} to {share.high:.0%}) |")


if __name__ == "__main__":
    main()
