"""Pictures of the second embedded model, `mini-z`, as `pixels` has mini's: samplers, schedules, shifts and the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pixels
from numpy.typing import NDArray
from pixels import Case

from sosie.core import LoraUse, Sampler, Stage
from sosie.engines.diffusers import DiffusersEngine, Supplies

FILE = Path(__file__).parent / "mini-z.npz"
SAMPLERS = ("euler", "dpmpp_2m_sde", "res_multistep", "uni_pc")
SCHEDULES = ("model", "beta")
"""One of each kind; `noise-of-comfy` draws with `euler_a`; `heun` and `normal` are in no case."""
LORA = "golden-z.safetensors"

EULER = Sampler("euler", "simple", 3, 4.0, shift=3.0)
DRAW = Stage("generate", "zimage", "mini-z", sampler=EULER)


def sampled(**settings: Any) -> tuple[Stage, ...]:
    return (replace(DRAW, sampler=replace(EULER, **settings)),)


def cases() -> Iterator[Case]:
    """Every case, once."""
    for name in SAMPLERS:
        yield Case(f"{name}-simple", sampled(name=name))
    for schedule in SCHEDULES:
        yield Case(f"euler-{schedule}", sampled(schedule=schedule))
    yield Case("without-guidance", sampled(cfg=1.0))
    yield Case("guidance-in-the-middle", sampled(cfg_start=0.3, cfg_end=0.7))
    yield Case("other-shift", sampled(shift=1.5))
    yield Case("noise-of-comfy", sampled(name="euler_a", noise="comfy"))
    yield Case("negative", (DRAW,), negative="beach, neon light")
    yield Case("lora", (replace(DRAW, loras=(LoraUse(LORA, 0.8),)),))
    yield Case("refine", (replace(DRAW, kind="refine", sampler=replace(EULER, steps=5, denoise=0.6)),), given=True)
    yield Case("full-size", sampled(steps=1, cfg=1.0), size=(256, 256))


def write_lora(path: Path) -> Path:
    """A LoRA in ai-toolkit's layout, rank 4 and without alpha, of attention and feed-forward, from a seed."""
    from safetensors.numpy import save_file

    shapes = {"attention.to_q": (384, 384), "attention.to_out.0": (384, 384), "feed_forward.w2": (1024, 384)}
    numbers = np.random.default_rng(5)
    content: dict[str, NDArray[np.float32]] = {}
    for layer in range(2):
        for name, (taken, given) in shapes.items():
            stem = f"diffusion_model.layers.{layer}.{name}"
            content[f"{stem}.lora_A.weight"] = numbers.normal(0, 0.1, (4, taken)).astype(np.float32)
            content[f"{stem}.lora_B.weight"] = numbers.normal(0, 0.1, (given, 4)).astype(np.float32)
    save_file(content, path)
    return path


def open_engine(folder: Path) -> DiffusersEngine:
    """The in-process engine on the CPU; `folder` gets the LoRA."""
    import sosie_mini_z

    paths = {"mini-z": sosie_mini_z.folder(), LORA: write_lora(folder / LORA)}
    return DiffusersEngine(Supplies(paths, pixels.KnownFaces(), lambda _: pixels.portrait()), device="cpu")


def record(folder: Path) -> None:
    """Draws every case and writes `mini-z.npz`: a digest, a reduced picture and a size of each, and the environment."""
    engine = open_engine(folder)
    content: dict[str, Any] = {"environment": np.array(pixels.environment())}
    for case in cases():
        drawn = pixels.draw(engine, case)
        content[f"{case.name}/digest"] = np.array(pixels.digest(drawn))
        content[f"{case.name}/size"] = np.array(drawn.shape)
        content[f"{case.name}/image"] = pixels.reduced(drawn)
    engine.close()
    np.savez_compressed(FILE, **content)
