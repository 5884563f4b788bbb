"""What products in fp8 do to pictures: the same prompts and seeds in bf16, in fp8, and in bf16 with another seed.

    python benchmarks/zimage_fp8.py draw MODEL/ OUT/ [--pictures 48]    three pictures a prompt
    python benchmarks/zimage_fp8.py judge OUT/                          how far each pair is apart

MODEL is a diffusers folder of Z-Image: the embedded `mini-z` where no published weights are. Drawn by the product's
fast transformer, Euler with the simple schedule, 20 steps, CFG 5, on a GPU or a CPU. `judge` gives each pair's mean
difference (of 255), 1 - MS-SSIM (Wang, Simoncelli and Bovik 2003; five scales, luma), and the cosine of SFace between
the two faces. The pair of two seeds is what a difference is to be seen against: one draws another picture altogether.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sosie.core.plan import derive_seed
from sosie.core.recipe import Sampler
from sosie.diffusion.flow.levels import flow_levels
from sosie.diffusion.flow.sampling import sample, x0_of_velocity
from sosie.diffusion.vae import decode_latents, to_image
from sosie.families.zimage.diffusers.denoise import Guidance, Velocity
from sosie.families.zimage.diffusers.fast.transformer import FastTransformer, Levers
from sosie.families.zimage.diffusers.load import Files, load_parts
from sosie.families.zimage.diffusers.text import encode

WHO = (
    "a young woman, dark skin, curly black hair",
    "a middle-aged man, light skin, short blond hair",
    "an old woman, fair skin, short grey hair",
    "a young man, brown skin, long black hair, beard",
)
WHERE = ("soft daylight, forest", "studio light, plain grey", "golden hour, beach", "neon light, city at night")
Luma = NDArray[np.float32]

SAMPLER = Sampler("euler", "simple", 20, 5.0, shift=3.0)
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of MS-SSIM's five scales."""


def draw(model: Path, out: Path, count: int, side: int) -> None:
    """OUT/bf16, OUT/fp8 and OUT/other, one PNG a prompt, kernel by kernel; those that are there stay."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = load_parts(Files.of(model), torch.bfloat16, device)
    loaded.text_encoder.to(device)
    vae: Any = loaded.vae
    vae.to(device, torch.float32)
    transformer: Any = loaded.transformer
    transformer.to(device)
    for name, fp8, salt in (("bf16", False, 0), ("fp8", True, 0), ("other", False, 1)):
        (out / name).mkdir(parents=True, exist_ok=True)
        fast = FastTransformer(transformer, Levers(compile=False, graph=False, fp8=fp8))
        for index in range(count):
            path = out / name / f"{index:03d}.png"
            if not path.exists():
                text = f"portrait of {WHO[index % 4]}, {WHERE[index // 4 % 4]}"
                guidance = Guidance(encode(loaded, text).to(device), encode(loaded, "").to(device), SAMPLER.cfg)
                seed = torch.Generator().manual_seed(derive_seed(1, index, salt))
                start = torch.randn((1, 16, side // 8, side // 8), generator=seed).to(device)
                with torch.no_grad():
                    picture(loaded, guidance, start, fast).save(path)
        fast.restore()
        print(name, flush=True)


def picture(loaded: Any, guidance: Guidance, start: torch.Tensor, fast: FastTransformer) -> Image.Image:
    velocity = Velocity(loaded.transformer, guidance, start.device, fast)
    levels = flow_levels(SAMPLER, loaded.shift, 1.0)
    latents = sample(SAMPLER.name, lambda x, s: x0_of_velocity(velocity(x, s), x, s), start, levels)
    return to_image(decode_latents(loaded.vae, latents)[0])


def ssim(one: Luma, other: Luma) -> float:
    """1 - MS-SSIM of two pictures of luma, float32 0 to 255; as many scales as the side allows."""
    values: list[float] = []
    scales = [weight for place, weight in enumerate(SCALES) if min(one.shape) >> place >= 11]
    for place, _ in enumerate(scales):
        products: tuple[Luma, ...] = (one, other, one * one, other * other, one * other)
        blur: list[Luma] = [np.asarray(cv2.GaussianBlur(each, (11, 11), 1.5), np.float32) for each in products]
        mean_1, mean_2 = blur[0], blur[1]
        spread_1, spread_2, both = blur[2] - mean_1**2, blur[3] - mean_2**2, blur[4] - mean_1 * mean_2
        shape = (2 * both + 58.5225) / (spread_1 + spread_2 + 58.5225)
        light = (2 * mean_1 * mean_2 + 6.5025) / (mean_1**2 + mean_2**2 + 6.5025)
        last = place == len(scales) - 1
        values.append(float(np.maximum((light * shape if last else shape).mean(), 0)))
        one, other = (half(each) for each in (one, other))
    total = sum(scales)
    return 1 - float(np.prod([value ** (weight / total) for value, weight in zip(values, scales, strict=True)]))


def half(luma: Luma) -> Luma:
    return np.asarray(cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)


def judge(out: Path) -> None:
    """A row for fp8 and for another seed: means, and the worst pair."""
    from sosie.faces.detect import Detector
    from sosie.faces.encoders import SFace

    detector, encoder = Detector(), SFace()
    rows: dict[str, Any] = {}
    print("| pair | n | mean difference, of 255 | 1 - MS-SSIM, mean (most) | SFace cosine, mean (least) | faces |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in ("fp8", "other"):
        apart: list[float] = []
        alike: list[float] = []
        faces: list[float] = []
        for path in sorted((out / "bf16").glob("*.png")):
            both = [np.asarray(Image.open(where).convert("RGB")) for where in (path, out / name / path.name)]
            luma = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY).astype(np.float32) for each in both]
            apart.append(float(np.abs(both[0].astype(float) - both[1]).mean()))
            alike.append(ssim(*luma))
            found = [detector.detect(each)[:1] for each in both]
            if all(found):
                one, other = (encoder.embed(each, face[0]) for each, face in zip(both, found, strict=True))
                faces.append(float(one @ other))
        rows[name] = {"apart": apart, "ssim": alike, "sface": faces}
        mean = statistics.mean
        print(
            f"| {name} | {len(apart)} | {mean(apart):.2f} | {mean(alike):.3f} ({max(alike):.3f}) "
            f"| {mean(faces):.3f} ({min(faces):.3f}) | {len(faces)} |"
        )
    (out / "rows.json").write_text(json.dumps(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("draw", "judge"))
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--side", type=int, default=256)
    asked = parser.parse_args()
    if asked.step == "draw":
        model, out = asked.folders
        draw(model, out, asked.pictures, asked.side)
    else:
        judge(asked.folders[0])


if __name__ == "__main__":
    main()
