"""Seconds to denoise a Z-Image picture: stock diffusers beside Sosie's transformer, in one run on one GPU.

    python benchmarks/zimage_speed.py [--rounds 3] [--cases turbo,base,words,image] [--errors]

Random weights at full size, 1024 x 1024 px, bf16. `turbo` is 8 steps without guidance, `base` 25 with CFG 5, `words`
one step with the longest caption that the encoder is given (512 tokens) beside an empty one, `image` a whole Turbo
picture with text encoder and decoding. Times are of a call that gets embeddings and gives latents. The error
(`--errors`, 8 steps) is that of the final latents against fp32 with the same weights (TF32 off), as a share of
their norm.
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

import torch
import zimage_parts as parts

from sosie.core.recipe import Sampler
from sosie.diffusion.flow.levels import flow_levels
from sosie.diffusion.flow.sampling import sample, x0_of_velocity
from sosie.families.zimage.diffusers.denoise import Guidance, Velocity
from sosie.families.zimage.diffusers.fast.transformer import FastTransformer, Levers

GOALS = {("turbo", "compiled"): 0.72, ("base", "compiled"): 4.3, ("turbo", "fp8"): 0.55, ("base", "fp8"): 3.3}
"""Seconds a picture, on an H100."""

SHIFT = 3.0


@dataclass(frozen=True)
class Case:
    """What is drawn: steps, CFG (1: none), tokens of prompt and negative prompt."""

    steps: int
    cfg: float
    words: tuple[int, int]


CASES = {"turbo": Case(8, 1, (100, 20)), "base": Case(25, 5, (100, 20)), "words": Case(1, 5, (512, 8))}


@dataclass(frozen=True)
class Row:
    """What a variant reached in a case. `first` is the first picture's seconds, `error` against fp32."""

    case: str
    variant: str
    seconds: float
    fastest: float
    first: float
    peak_gb: float
    error: float | None = None
    against_stock: float | None = None


@dataclass(frozen=True)
class Given:
    """A transformer, embeddings [tokens, width] of a prompt and a negative one, and the start."""

    model: Any
    prompt: torch.Tensor
    negative: torch.Tensor
    start: torch.Tensor
    case: Case
    size: int

    def stock(self, steps: int) -> torch.Tensor:
        """By diffusers' own pipeline, whose guidance is CFG less one."""
        call = {"num_inference_steps": steps, "guidance_scale": self.case.cfg - 1, "latents": self.start.clone()}
        call |= {"prompt_embeds": [self.prompt], "negative_prompt_embeds": [self.negative]}
        made = parts.pipeline(self.model)
        return made(**call, width=self.size, height=self.size, output_type="latent").images

    def ours(self, fast: FastTransformer, steps: int) -> torch.Tensor:
        """As the engine does it."""
        negative = self.negative if self.case.cfg > 1 else None
        guidance = Guidance(self.prompt, negative, self.case.cfg)
        with torch.no_grad():
            velocity = Velocity(self.model, guidance, self.start.device, fast)
            levels = flow_levels(Sampler("euler", "model", steps, self.case.cfg, shift=SHIFT), SHIFT, 1.0)
            return sample("euler", lambda x, s: x0_of_velocity(velocity(x, s), x, s), self.start.clone(), levels)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _empty() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak() -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0


def timed(case: str, variant: str, draw: Callable[[], object], rounds: int) -> Row:
    """First call, then the median of the rounds."""
    times: list[float] = []
    for _ in range(rounds + 1):
        _wait()
        started = time.perf_counter()
        draw()
        _wait()
        times.append(time.perf_counter() - started)
    first, *rest = times
    row = Row(case, variant, statistics.median(rest), min(rest), first, _peak())
    print(f"{case:6} {variant:14} {row.seconds:.3f} s, first {first:.1f} s, {row.peak_gb:.1f} GB", file=sys.stderr)
    return row


def given_for(place: parts.Place, model: Any, case: Case, size: int) -> Given:
    width = model.config.cap_feat_dim
    prompt, negative = (parts.random((count, width), place, 20 + at) for at, count in enumerate(case.words))
    start = parts.random((1, 16, size // 8, size // 8), place, 30).float()
    return Given(model, prompt, negative, start, case, size)


def reference(given: Given, steps: int) -> torch.Tensor:
    """The final latents with the same weights in fp32."""
    model = copy.deepcopy(given.model).float()
    full = replace(given, model=model, prompt=given.prompt.float(), negative=given.negative.float())
    with torch.no_grad():
        return full.stock(steps).double().cpu()


def error(latents: torch.Tensor, true: torch.Tensor | None) -> float | None:
    return None if true is None else float((latents.double().cpu() - true).norm() / true.norm())


def variants(tiny: bool) -> dict[str, Levers]:
    if tiny:
        return {"not compiled": Levers(compile=False, graph=False)}
    return {"not compiled": Levers(compile=False), "compiled": Levers(), "fp8": Levers(fp8=True)}


def run_case(name: str, place: parts.Place, model: Any, options: argparse.Namespace) -> list[Row]:
    """Stock, then every variant, on the same transformer."""
    case = CASES[name]
    given = given_for(place, model, case, options.size)
    short = min(case.steps, 8)
    true = reference(given, short) if options.errors and name != "words" else None
    _empty()
    rows = [timed(name, "stock", lambda: given.stock(case.steps), options.rounds)]
    rows[0] = replace(rows[0], error=None if true is None else error(given.stock(short), true))
    for variant, levers in variants(options.tiny).items():
        _empty()
        fast = FastTransformer(model, levers, Path(options.cache))
        row = timed(name, variant, lambda fast=fast: given.ours(fast, case.steps), options.rounds)
        if true is not None and rows[0].error:
            found = error(given.ours(fast, short), true) or 0.0
            row = replace(row, error=found, against_stock=found / rows[0].error)
        rows.append(row)
        fast.restore()
        del fast
    return rows


def run_image(place: parts.Place, model: Any, options: argparse.Namespace) -> list[Row]:
    """A whole Turbo picture: text encoder, denoising, decoding, to 8-bit pixels."""
    given = given_for(place, model, CASES["turbo"], options.size)
    tower, decoder = parts.encoder(place), parts.vae(place)
    tokens = torch.randint(5, 400, (1, 100), generator=torch.Generator().manual_seed(1)).to(place.device)

    def whole(denoise: Callable[[Given], torch.Tensor]) -> Any:
        with torch.no_grad():
            states = tower(tokens, output_hidden_states=True).hidden_states[-2][0]
            latents = denoise(replace(given, prompt=states)).to(place.dtype)
            picture = decoder.decode(latents / 0.3611 + 0.1159, return_dict=False)[0]
            return picture.float().clamp(-1, 1).add(1).mul(127.5).round().byte().cpu()

    rows = [timed("image", "stock", lambda: whole(lambda one: one.stock(8)), options.rounds)]
    for variant, levers in variants(options.tiny).items():
        fast = FastTransformer(model, levers, Path(options.cache))
        rows.append(timed("image", variant, lambda fast=fast: whole(lambda one: one.ours(fast, 8)), options.rounds))
        fast.restore()
    return rows


def table(rows: list[Row]) -> str:
    """Markdown."""
    head = "case | variant | s a picture, median (least) | first, s | peak, GB | error against fp32 | of stock's | goal"
    lines = [f"| {head} |", "|" + " --- |" * 8]
    for row in rows:
        wrong = "" if row.error is None else f"{row.error:.2e}"
        share = "" if row.against_stock is None else f"{row.against_stock:.2f}"
        goal = GOALS.get((row.case, row.variant), "")
        timing = f"{row.seconds:.3f} ({row.fastest:.3f})"
        cells = (row.case, row.variant, timing, f"{row.first:.1f}", f"{row.peak_gb:.1f}", wrong, share, str(goal))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    import diffusers

    return f"{name}, torch {torch.__version__}, diffusers {diffusers.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--cases", default="turbo,base,words,image")
    parser.add_argument("--cache", default=os.environ.get("TORCHINDUCTOR_CACHE_DIR") or tempfile.mkdtemp())
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    place = (
        parts.Place(parts.TINY, "cpu", torch.bfloat16)
        if options.tiny
        else parts.Place(parts.FULL_SIZE, "cuda", torch.bfloat16)
    )
    model = parts.transformer(place)
    rows: list[Row] = []
    for case in options.cases.split(","):
        run = run_image if case == "image" else None
        rows += run(place, model, options) if run else run_case(case, place, model, options)
        _empty()
    print(f"{machine()}; {options.size} x {options.size} px, {options.rounds} rounds\n\n{table(rows)}\n")
    print(json.dumps({"machine": machine(), "rows": [vars(row) for row in rows]}))


if __name__ == "__main__":
    main()
