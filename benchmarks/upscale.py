"""How much better than Lanczos an upscaler is, and what it costs.

    python benchmarks/upscale.py examples/mira/*.jpg [--upscaler mini-upscaler] [--rounds 3]

Each image (512x512) is made smaller by a box filter, enlarged again and compared with itself: 128 to
512 at factor 4, 256 to 512 at factor 2. PSNR in dB of all channels, SSIM of the luminance (Wang et
al. 2004: Gaussian window of 11 px, sigma 1.5), both with 8 px at the border left out. Seconds are of one
warm process: the median of the rounds on one image of 256x256, at factor 4.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from PIL import Image

from sosie.core import Character, Draw, Recipe, Request, Stage, Upscale, plan
from sosie.families.contract.draws import Settings, StageInput
from sosie.families.esrgan.on_diffusers import Runner
from sosie.workspace.library import find_asset
from sosie.workspace.workspace import open_workspace

BORDER = 8
Enlarge = Callable[[Image.Image, int], Image.Image]


def unseen(*_: int) -> None:
    """Nobody looks at the progress."""


class Upscaler:
    """The product's own stage, from a name or a path."""

    def __init__(self, name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            self._path = find_asset(open_workspace(Path(folder)), str(Path(name).resolve()) if "." in name else name)
        self._runner = Runner("cpu", Settings())

    def __call__(self, image: Image.Image, factor: int, tile: int = 512) -> Image.Image:
        stage = Stage("upscale", "esrgan", "model", upscale=Upscale(factor, tile, 32))
        recipe = Recipe("benchmark", (stage,), "{prompt}", 64, 64)
        request = Request("benchmark", "nobody", "x", source="0" * 64, width=64, height=64)
        made = plan(recipe, Character("nobody", "fictional", True), request, Draw(), {"model": "0" * 64})
        given = StageInput(made.stages[0], made, 0, image, {"model": self._path}, cast(Any, None), unseen)
        return self._runner.run(given).image


def by_filter(kind: Image.Resampling) -> Enlarge:
    return lambda image, factor: image.resize((image.width * factor, image.height * factor), kind)


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    error = np.square(one[BORDER:-BORDER, BORDER:-BORDER] - two[BORDER:-BORDER, BORDER:-BORDER]).mean()
    return float(10 * np.log10(255**2 / error))


def ssim(one: np.ndarray, two: np.ndarray) -> float:
    x, y = (image @ (0.299, 0.587, 0.114) for image in (one, two))

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values, (11, 11), 1.5)

    mx, my = mean(x), mean(y)
    vx, vy, xy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = (2 * mx * my + c1) * (2 * xy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(values[BORDER:-BORDER, BORDER:-BORDER].mean())


def quality(images: Sequence[Image.Image], ways: dict[str, Enlarge], factor: int) -> list[str]:
    lines: list[str] = []
    for name, enlarge in ways.items():
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        for sharp in images:
            small = sharp.resize((sharp.width // factor, sharp.height // factor), Image.Resampling.BOX)
            pairs.append((np.asarray(enlarge(small, factor), float), np.asarray(sharp, float)))
        shift = np.mean([np.abs((one - two).mean((0, 1))).max() for one, two in pairs])
        first = statistics.mean(psnr(*pair) for pair in pairs)
        second = statistics.mean(ssim(*pair) for pair in pairs)
        lines.append(f"| {name}, {factor}x | {first:.2f} | {second:.4f} | {shift:.2f} |")
    return lines


def seconds(work: Callable[[], object], rounds: int) -> float:
    work()
    times: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--upscaler", default="mini-upscaler")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    images = [Image.open(path).convert("RGB") for path in asked.images]
    upscaler = Upscaler(asked.upscaler)
    plain = by_filter(Image.Resampling.LANCZOS)
    ways = {"bicubic": by_filter(Image.Resampling.BICUBIC), "Lanczos": plain, asked.upscaler: upscaler}
    print(f"{len(images)} images\n\n| | PSNR, dB | SSIM | colour shift, levels |\n| --- | --- | --- | --- |")
    for factor in (4, 2):
        print("\n".join(quality(images, ways, factor)))
    small = images[0].resize((256, 256), Image.Resampling.BOX)
    print("\n| 256 to 1024 px | seconds | times Lanczos |\n| --- | --- | --- |")
    lanczos = seconds(lambda: plain(small, 4), 9)
    print(f"| Lanczos (Pillow) | {lanczos:.4f} | 1 |")
    for tile in (512, 128):
        taken = seconds(lambda tile=tile: upscaler(small, 4, tile), asked.rounds)
        print(f"| {asked.upscaler}, tiles of at most {tile} px | {taken:.2f} | {taken / lanczos:.0f} |")


if __name__ == "__main__":
    main()
