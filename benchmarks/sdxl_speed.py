"""Seconds to denoise an SDXL image: stock diffusers beside Sosie's acceleration, in one run on one GPU.

    python benchmarks/sdxl_speed.py [--rounds 5] [--cases batch1,control,batch4,guides,image]

Random weights at full size, 1024x1024, 25 steps with guidance, bf16. Times are of a whole pipeline call that
gets embeddings and gives latents; `image` is a whole image with text encoders and decoding. The error
is that of the final latents against fp32 with the same weights (TF32 off), as a share of their norm.
With `--tiny` it rehearses on a CPU without graphs and compiling. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sdxl_parts as parts
import torch

from sosie.families.sdxl.diffusers.fast.acceleration import Levers, accelerate

GOALS = {"batch1": (1.1, 1.0), "control": (1.6, 1.45), "batch4": (0.75, 0.70)}
"""Seconds an image: what must be reached, and what is aimed at."""


@dataclass(frozen=True)
class Work:
    """One case: a pipeline, the arguments of a call, and how many images a call gives."""

    pipeline: Any
    arguments: dict[str, Any]
    images: int = 1

    def __call__(self) -> torch.Tensor:
        return self.pipeline(**self.arguments, output_type="latent").images

    def seconds(self, rounds: int) -> list[float]:
        """Of one image, for each round."""
        times: list[float] = []
        for _ in range(rounds):
            _wait()
            started = time.perf_counter()
            self()
            _wait()
            times.append((time.perf_counter() - started) / self.images)
        return times


@dataclass(frozen=True)
class Row:
    """What a variant reached in a case. `first` is the first image's seconds, `error` against fp32."""

    case: str
    variant: str
    seconds: float
    fastest: float
    first: float
    error: float | None
    against_stock: float | None = None


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def arguments(
    place: parts.Place, size: int, steps: int, batch: int, *, control: bool, identity: bool
) -> dict[str, Any]:
    """A call of a pipeline from embeddings to latents; the start is drawn on the CPU."""
    given: dict[str, Any] = {
        **parts.text(place, batch),
        "latents": parts.random((batch, 4, size // 8, size // 8), place, 30),
        "num_inference_steps": steps,
        "guidance_scale": 5.0,
        "width": size,
        "height": size,
    }
    if control:
        given |= {
            "image": parts.random((1, 3, size, size), place, 31).clamp(0, 1),
            "controlnet_conditioning_scale": 0.8,
        }
    if identity:
        given["ip_adapter_image_embeds"] = parts.faces(place)
    return given


def work(place: parts.Place, case: str, options: argparse.Namespace) -> Work:
    """The stock pipeline of a case with its call."""
    nets = [parts.control(place)] if case in ("control", "guides") else []
    made = parts.pipeline(place, *nets)
    if case == "guides":
        parts.add_identity(made.unet, place)
    batch = 4 if case == "batch4" else 1
    more = {"control": bool(nets), "identity": case == "guides"}
    return Work(made, arguments(place, options.size, options.steps, batch, **more), batch)


def reference(stock: Work) -> torch.Tensor:
    """The final latents with the same weights in fp32, on the CPU."""
    components = {
        name: copy.deepcopy(value).float() if isinstance(value, torch.nn.Module) else value
        for name, value in stock.pipeline.components.items()
    }
    for layer in getattr(components["unet"].encoder_hid_proj, "image_projection_layers", ()):
        if getattr(layer, "clip_embeds", None) is not None:
            layer.clip_embeds = layer.clip_embeds.float()
    full = type(stock.pipeline)(**components, add_watermarker=False, force_zeros_for_empty_prompt=False)
    full.set_progress_bar_config(disable=True)
    call = {key: _float(value) for key, value in stock.arguments.items()}
    latents = Work(full, call)().double().cpu()
    del full, components
    _empty()
    return latents


def _float(value: Any) -> Any:
    if isinstance(value, list):
        return [_float(one) for one in value]
    return value.float() if torch.is_tensor(value) else value


def _empty() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def measure(case: str, variant: str, one: Work, rounds: int, true: torch.Tensor | None) -> Row:
    """First call, then the median of the rounds, and the error of the last latents."""
    _wait()
    started = time.perf_counter()
    latents = one()
    _wait()
    first = time.perf_counter() - started
    times = one.seconds(rounds)
    error = None if true is None else float((latents.double().cpu() - true).norm() / true.norm())
    row = Row(case, variant, statistics.median(times), min(times), first, error)
    print(f"{case:9} {variant:22} {row.seconds:.3f} s, first {first:.1f} s, error {error}", file=sys.stderr, flush=True)
    return row


def variants(options: argparse.Namespace) -> dict[str, Levers]:
    if options.tiny:
        return {"not compiled": Levers("off", graph=False)}
    return {"not compiled": Levers("off"), "compiled": Levers()}


def run_case(case: str, place: parts.Place, options: argparse.Namespace) -> list[Row]:
    """Stock, then every variant, on the same pipeline."""
    one = work(place, case, options)
    true = reference(one) if case in options.errors.split(",") else None
    rows = [measure(case, "stock", one, options.rounds, true)]
    for name, levers in variants(options).items():
        fast = accelerate(one.pipeline, levers, Path(options.cache))
        row = measure(case, name, one, options.rounds, true)
        rows.append(replace(row, against_stock=None if true is None else row.error / rows[0].error))
        if fast.stock_calls:
            raise SystemExit(f"{case}: {fast.stock_calls} calls ran as stock")
        fast.restore()
        _empty()
    return rows


def run_image(place: parts.Place, options: argparse.Namespace) -> list[Row]:
    """A whole image: two encoders for prompt and negative prompt, denoising, decoding, to 8-bit pixels."""
    towers = parts.encoders(place)
    made = parts.pipeline(place)
    given = arguments(place, options.size, options.steps, 1, control=False, identity=False)
    tokens = torch.randint(5, 400, (2, 77), generator=torch.Generator().manual_seed(1)).to(place.device)

    def whole() -> Any:
        with torch.no_grad():
            first, second = (tower(tokens, output_hidden_states=True) for tower in towers)
            states = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        call = {**given, "prompt_embeds": states[:1], "negative_prompt_embeds": states[1:]}
        pooled = second.text_embeds
        call |= {"pooled_prompt_embeds": pooled[:1], "negative_pooled_prompt_embeds": pooled[1:]}
        return made(**call, output_type="pil").images[0]

    rows: list[Row] = []
    for name, levers in {"stock": None, **variants(options)}.items():
        fast = None if levers is None else accelerate(made, levers, Path(options.cache))
        _wait()
        started = time.perf_counter()
        whole()
        first, times = time.perf_counter() - started, [_seconds(whole) for _ in range(options.rounds)]
        rows.append(Row("image", name, statistics.median(times), min(times), first, None))
        print(rows[-1], file=sys.stderr, flush=True)
        if fast is not None:
            fast.restore()
    return rows


def _seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    _wait()
    return time.perf_counter() - started


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| case | variant | s an image, median (least) | first call, s | error against fp32 | of stock's | goal |"]
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        error = "" if row.error is None else f"{row.error:.2e}"
        share = "" if row.against_stock is None else f"{row.against_stock:.2f}"
        goal = " / ".join(map(str, GOALS.get(row.case, ()))) if row.variant != "stock" else ""
        timing = f"{row.seconds:.3f} ({row.fastest:.3f})"
        lines.append(f"| {row.case} | {row.variant} | {timing} | {row.first:.1f} | {error} | {share} | {goal} |")
    return "\n".join(lines)


def machine() -> str:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    import diffusers

    return f"{name}, torch {torch.__version__}, diffusers {diffusers.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--cases", default="batch1,control,batch4,guides,image")
    parser.add_argument("--cache", default=os.environ.get("TORCHINDUCTOR_CACHE_DIR") or tempfile.mkdtemp())
    parser.add_argument("--errors", default="batch1,control,guides", help="cases that are drawn in fp32 too")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    place = (
        parts.Place(parts.TINY, "cpu", torch.bfloat16)
        if options.tiny
        else parts.Place(parts.FULL_SIZE, "cuda", torch.bfloat16)
    )
    rows: list[Row] = []
    for case in options.cases.split(","):
        rows += run_image(place, options) if case == "image" else run_case(case, place, options)
        _empty()
    print(
        f"{machine()}; {options.size}x{options.size}, {options.steps} steps, {options.rounds} rounds\n\n{table(rows)}\n"
    )
    print(json.dumps({"machine": machine(), "rows": [vars(row) for row in rows]}))


if __name__ == "__main__":
    main()
