"""Makes the cohort of impostors that sosie-mini ships: 2,000 people that nobody asked for.

    python make_cohort.py render IMAGES/ [--n 2000] [--device cpu|cuda]     needs torch
    python make_cohort.py embed IMAGES/ cohort.npz                         needs sosie[judges]

Each image is drawn by `mini` from a random description and a random scene, without any identity
guide. The second step keeps the embeddings of every judge for the images that show one face.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

BATCH = 8
AGES = ("young", "middle-aged", "old")
SKINS = ("fair", "light", "brown", "dark")
STYLES = ("short {} hair", "long {} hair", "braided {} hair", "short curly {} hair", "short spiky {} hair")
COLOURS = ("black", "brown", "auburn", "blonde", "red", "white", "grey")
EYES = ("brown", "dark brown", "blue", "light blue", "green", "grey", "hazel")
EXPRESSIONS = ("neutral", "smiling", "grinning", "laughing", "surprised", "sad", "angry", "talking")
LIGHTS = (
    "soft daylight",
    "studio light",
    "golden hour",
    "dramatic side light",
    "neon light",
    "backlight",
    "overhead light",
    "cool moonlight",
)
PLACES = (
    "forest",
    "beach",
    "city at night",
    "office",
    "library",
    "brick wall",
    "mountains",
    "snow",
    "sunset sky",
    "plain grey",
    "plain white",
    "plain blue",
)
POSES = ("facing the camera", "turned slightly left", "turned slightly right")


def person(draw: random.Random) -> str:
    """A random description in the words that `mini` was trained on."""
    sex = draw.choice(("woman", "man"))
    parts = [
        f"{draw.choice(AGES)} {sex}",
        f"{draw.choice(SKINS)} skin",
        draw.choice(STYLES).format(draw.choice(COLOURS)),
    ]
    parts.append(f"{draw.choice(EYES)} eyes")
    if sex == "man" and draw.random() < 0.3:
        parts.append(draw.choice(("beard", "short beard")))
    if draw.random() < 0.2:
        parts.append("freckles")
    return ", ".join(parts)


def scene(draw: random.Random) -> str:
    """A random expression, light, place and pose."""
    place = draw.choice(PLACES)
    return f"{draw.choice(EXPRESSIONS)}, {draw.choice(LIGHTS)}, {place} background, {draw.choice(POSES)}"


def people(n: int) -> list[tuple[str, str]]:
    """The first n descriptions and scenes, the same at every call: the first k of n are those of k."""
    draw = random.Random(20261125)
    return [(person(draw), scene(draw)) for _ in range(n)]


def render(folder: Path, texts: list[str], device: str) -> None:
    """One PNG a prompt; those that exist are not rendered again."""
    import sosie_mini
    import torch
    from diffusers import StableDiffusionXLPipeline

    from sosie.core import derive_seed

    folder.mkdir(parents=True, exist_ok=True)
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        sosie_mini.folder(), dtype=torch.float32, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    missing = [index for index in range(len(texts)) if not (folder / f"{index:04d}.png").exists()]
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        seeds = [torch.Generator("cpu").manual_seed(derive_seed(1, index, 0)) for index in batch]
        images = pipeline(
            [texts[index] for index in batch],
            width=256,
            height=256,
            num_inference_steps=20,
            guidance_scale=3.5,
            generator=seeds,
        ).images
        for index, image in zip(batch, images, strict=True):
            image.save(folder / f"{index:04d}.png", compress_level=1)
        print(f"{start + len(batch)} of {len(missing)}", flush=True)


def embed(folder: Path, target: Path, about: str = "mini: random people, no guide") -> None:
    """The cohort file of all images that show exactly one face."""
    import numpy as np

    from sosie.faces.detect import Detector
    from sosie.faces.encoders import judge_encoders
    from sosie.files.images import read_image
    from sosie.scorers.cohort import Cohort, save_cohort

    detector, (encoders, absent) = Detector(), judge_encoders({})
    assert not absent, absent
    rows: dict[str, list[np.ndarray]] = {name: [] for name in encoders}
    shown: list[str] = []
    images = sorted(folder.glob("[0-9]*.*"))
    described = people(len(images))
    for path, (description, _) in zip(images, described, strict=True):
        pixels = np.asarray(read_image(path))
        faces = detector.detect(pixels)
        if len(faces) == 1:
            shown.append(description)
            for name, encoder in encoders.items():
                rows[name].append(encoder.embed(pixels, faces[0]))
    shas = {name: encoder.sha256 for name, encoder in encoders.items()}
    stacked = {name: np.stack(values) for name, values in rows.items()}
    cohort = Cohort(about, "", tuple(shown), shas, stacked, "")
    save_cohort(cohort, target)
    print(f"{cohort.n} of {len(images)} images show one face; {target}: {target.stat().st_size >> 10} KiB")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("render", "embed"))
    parser.add_argument("images", type=Path)
    parser.add_argument("cohort", type=Path, nargs="?", default=Path("cohort.npz"))
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.step == "render":
        texts = [f"portrait of a {who}, {where}" for who, where in people(options.n)]
        render(options.images, texts, options.device)
    else:
        embed(options.images, options.cohort)


if __name__ == "__main__":
    main()
