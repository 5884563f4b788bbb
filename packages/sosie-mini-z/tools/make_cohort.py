"""Makes the cohort of impostors that sosie-mini-z ships: people that nobody asked for.

    python make_cohort.py render IMAGES/ [--n 400] [--device cpu|cuda]      needs torch
    python make_cohort.py embed IMAGES/ cohort.npz                         needs sosie[judges]

The people and scenes are those of sosie-mini's cohort; `mini-z` draws them from their words. The second step keeps the
embeddings of every judge for the images that show one face.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from types import ModuleType

BATCH = 8


def of_mini() -> ModuleType:
    """sosie-mini's tool, which lies beside this one in the repository."""
    path = Path(__file__).resolve().parents[2] / "sosie-mini" / "tools" / "make_cohort.py"
    spec = importlib.util.spec_from_file_location("make_cohort_of_mini", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is missing: run this in the repository")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def render(folder: Path, texts: list[str], device: str) -> None:
    """One PNG a prompt; those that exist are not rendered again."""
    import sosie_mini_z
    import torch
    from diffusers import ZImagePipeline

    from sosie.core import derive_seed

    folder.mkdir(parents=True, exist_ok=True)
    pipeline = ZImagePipeline.from_pretrained(sosie_mini_z.folder(), dtype=torch.bfloat16)  # half the time on a CPU
    pipeline.vae.to(torch.float32)
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
            guidance_scale=4.0,  # the field's CFG 5
            generator=seeds,
        ).images
        for index, image in zip(batch, images, strict=True):
            image.save(folder / f"{index:04d}.png", compress_level=1)
        print(f"{start + len(batch)} of {len(missing)}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("render", "embed"))
    parser.add_argument("images", type=Path)
    parser.add_argument("cohort", type=Path, nargs="?", default=Path("cohort.npz"))
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--device", default="cpu")
    options, mini = parser.parse_args(), of_mini()
    if options.step == "render":
        texts = [f"portrait of a {who}, {where}" for who, where in mini.people(options.n)]
        render(options.images, texts, options.device)
    else:
        mini.embed(options.images, options.cohort, "mini-z: random people")


if __name__ == "__main__":
    main()
