"""Seconds and memory of FLUX.2 klein: stock diffusers beside Sosie, in one run on one GPU.

    python benchmarks/flux2_speed.py [--cases text,reference,base,image] [--rounds 3] [--errors] [--nine]
    python benchmarks/flux2_speed.py --cases memory

Random weights at full size (klein 4B; with `--nine` 9B), 1024 x 1024 px, bf16. `text` is 4 steps without guidance,
`reference` the same with one reference of 1024 x 1024 px, `references` with four of 512 x 512, `base` 25 steps with
CFG 4, `image` a whole picture of 4 steps with text encoder and decoding. Times are of a call that gets embeddings and
gives latents; references are encoded within it. Operations of a call are counted on the stock model, and divided by
the rate of large matrix products that run for seconds, measured here (a card that is limited by its power is faster in
a burst): that is the practical limit, and the last column its share. The error
(`--errors`) is that of the final latents against fp32 with the same weights (TF32 off), as a share of their norm.

`memory` draws a picture with a reference, and the whole of it, within 24, 16 and 8 GB: in bf16, and from files in fp8.
With `--tiny` it rehearses on a CPU without graphs and compiling. Prints tables and one JSON line.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flux2_parts as parts
import torch
import zimage_memory
from PIL import Image

from sosie.core.errors import EngineError
from sosie.core.recipe import Sampler
from sosie.diffusion.flow.levels import flow_levels
from sosie.diffusion.flow.memory import ImageNeeds, PartSize, Work, estimates, plain_size
from sosie.diffusion.flow.sampling import sample, x0_of_velocity
from sosie.diffusion.memory import CONTEXT, GB, choose
from sosie.diffusion.offload import device_of, place
from sosie.diffusion.qwen3.tokenizer import qwen_tokenizer
from sosie.diffusion.vae import decode_latents
from sosie.families.flux2.diffusers.denoise import Guidance, Velocity
from sosie.families.flux2.diffusers.fast.transformer import FastTransformer, Levers
from sosie.families.flux2.diffusers.latents import latents_of, raw_latents
from sosie.families.flux2.diffusers.load import Files, load_parts
from sosie.families.flux2.diffusers.parts import Parts
from sosie.families.flux2.diffusers.text import encode
from sosie.families.flux2.memory import PASSES
from sosie.families.flux2.packing import held_packed
from sosie.families.flux2.shift import shift_of

CUDA = torch.cuda.is_available()
WORDS = 512
GOAL = 0.75
"""The share of the practical limit that is to be reached."""


@dataclass(frozen=True)
class Case:
    """What is drawn: steps, CFG (1: none), references and their side as a share of the picture's."""

    steps: int
    cfg: float = 1.0
    references: int = 0
    share: float = 1.0


CASES = {
    "text": Case(4),
    "reference": Case(4, references=1),
    "references": Case(4, references=4, share=0.5),
    "base": Case(25, 4.0),
}


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
    of_limit: float | None = None


@dataclass(frozen=True)
class Given:
    """A transformer and VAE, embeddings [1, 512, width] of a prompt and a negative one, the start, references."""

    model: Any
    vae: Any
    prompt: torch.Tensor
    negative: torch.Tensor
    start: torch.Tensor
    pictures: list[Image.Image]
    case: Case
    size: int

    def stock(self, steps: int) -> torch.Tensor:
        """By diffusers' own pipeline."""
        made = parts.pipeline(self.model, self.vae, distilled=self.case.cfg == 1)
        call = {"num_inference_steps": steps, "guidance_scale": self.case.cfg, "latents": self.start.clone()}
        call |= {"prompt_embeds": self.prompt, "negative_prompt_embeds": self.negative}
        call |= {"image": self.pictures} if self.pictures else {}
        return made(**call, width=self.size, height=self.size, output_type="latent").images

    def ours(self, fast: FastTransformer | None, steps: int) -> torch.Tensor:
        """As the engine does it."""
        with torch.no_grad():
            seen = [latents_of(self.vae, one).to(self.start.device) for one in self.pictures]
            negative = self.negative[0] if self.case.cfg > 1 else None
            guidance = Guidance(self.prompt[0], negative, self.case.cfg, seen)
            velocity = Velocity(self.model, guidance, self.start.device, fast)
            shift = shift_of(self.start.shape[-1] * self.start.shape[-2], steps)
            levels = flow_levels(Sampler("euler", "model", steps, self.case.cfg), shift)
            made = sample("euler", lambda x, s: x0_of_velocity(velocity(x, s), x, s), self.start.float(), levels)
            return raw_latents(self.vae, made)


def wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


def empty() -> None:
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def timed(case: str, variant: str, draw: Callable[[], object], rounds: int) -> Row:
    """First call, then the median of the rounds."""
    times: list[float] = []
    for _ in range(rounds + 1):
        wait()
        started = time.perf_counter()
        draw()
        wait()
        times.append(time.perf_counter() - started)
    first, *rest = times
    peak = torch.cuda.max_memory_allocated() / 1e9 if CUDA else 0.0
    row = Row(case, variant, statistics.median(rest), min(rest), first, peak)
    print(
        f"{case:10} {variant:16} {row.seconds:.3f} s, first {first:.1f} s, {peak:.1f} GB", file=sys.stderr, flush=True
    )
    return row


def matmul_rate(where: parts.Place, rounds: int) -> float:
    """Operations a second of so many large matrix products in bf16, one after another."""
    side = 8192 if CUDA else 256
    left, right = (parts.random((side, side), where, seed) for seed in (1, 2))
    for _ in range(3):
        left @ right
    wait()
    started = time.perf_counter()
    for _ in range(rounds):
        left @ right
    wait()
    return rounds * 2 * side**3 / (time.perf_counter() - started)


def operations(draw: Callable[[], object]) -> int:
    """Floating-point operations of products, convolutions and attention."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        draw()
    return counter.get_total_flops()


def given_for(where: parts.Place, model: Any, decoder: Any, case: Case, size: int) -> Given:
    width = model.config.joint_attention_dim
    prompt, negative = (parts.random((1, WORDS, width), where, 20 + at) for at in range(2))
    start = parts.random((1, 128, size // 16, size // 16), where, 30)
    side = max(64, int(size * case.share))
    pictures = [Image.effect_noise((side, side), 40).convert("RGB") for _ in range(case.references)]
    return Given(model, decoder, prompt, negative, start, pictures, case, size)


def reference(given: Given, steps: int) -> torch.Tensor:
    """The final latents with the same weights in fp32."""
    full = replace(
        given,
        model=copy.deepcopy(given.model).float(),
        vae=copy.deepcopy(given.vae).float(),
        prompt=given.prompt.float(),
        negative=given.negative.float(),
        start=given.start.float(),
    )
    with torch.no_grad():
        return full.stock(steps).double().cpu()


def error(latents: torch.Tensor, true: torch.Tensor | None) -> float | None:
    return None if true is None else float((latents.double().cpu() - true).norm() / true.norm())


def variants(tiny: bool) -> dict[str, Levers]:
    if tiny:
        return {"not compiled": Levers(compile=False, graph=False)}
    return {"compiled": Levers(), "fp8": Levers(fp8=True)}


def run_case(name: str, where: parts.Place, model: Any, decoder: Any, options: argparse.Namespace) -> list[Row]:
    """Stock, then every variant, on the same transformer."""
    case = CASES[name]
    given = given_for(where, model, decoder, case, options.size)
    short = min(case.steps, 4)
    true = reference(given, short) if options.errors else None
    empty()
    once, twice = (operations(lambda steps=steps: given.stock(steps)) for steps in (1, 2))
    limit = (once + (case.steps - 1) * (twice - once)) / options.rate
    rows = [timed(name, "stock", lambda: given.stock(case.steps), options.rounds)]
    rows[0] = replace(rows[0], error=None if true is None else error(given.stock(short), true))
    for variant, levers in variants(options.tiny).items():
        empty()
        fast = FastTransformer(model, levers, Path(options.cache))
        row = timed(name, variant, lambda fast=fast: given.ours(fast, case.steps), options.rounds)
        rows.append(replace(row, error=None if true is None else error(given.ours(fast, short), true)))
        fast.restore()
        del fast
    if not options.tiny:
        empty()
        compiled = replace(given, model=copy.deepcopy(model))
        compiled.model.compile_repeated_blocks(fullgraph=True)
        rows.append(timed(name, "stock compiled", lambda: compiled.stock(case.steps), options.rounds))
    return [replace(row, of_limit=limit / row.seconds) for row in rows]


def run_image(where: parts.Place, model: Any, decoder: Any, options: argparse.Namespace) -> list[Row]:
    """A whole picture of 4 steps: text encoder, denoising, decoding, to 8-bit pixels."""
    given = given_for(where, model, decoder, CASES["text"], options.size)
    tower = parts.encoder(where)
    tokens = torch.randint(5, 400, (1, WORDS), generator=torch.Generator().manual_seed(1)).to(where.device)
    quarter = tower.config.num_hidden_layers // 4

    def whole(denoise: Callable[[Given], torch.Tensor]) -> Any:
        with torch.no_grad():
            states = tower(tokens, output_hidden_states=True).hidden_states
            told = torch.cat([states[quarter * at] for at in (1, 2, 3)], dim=-1)
            latents = denoise(replace(given, prompt=told)).to(where.dtype)
            picture = decoder.decode(latents, return_dict=False)[0]
            return picture.float().clamp(-1, 1).add(1).mul(127.5).round().byte().cpu()

    rows = [timed("image", "stock", lambda: whole(lambda one: one.stock(4)), options.rounds)]
    for variant, levers in variants(options.tiny).items():
        fast = FastTransformer(model, levers, Path(options.cache))
        rows.append(timed("image", variant, lambda fast=fast: whole(lambda one: one.ours(fast, 4)), options.rounds))
        fast.restore()
    return rows


def draw_whole(made: Parts, size: int) -> None:
    """A picture with one reference, from its prompt to pixels."""
    with torch.no_grad():
        where = "cuda" if CUDA else "cpu"
        states = encode(made, "a portrait of a woman with red hair, soft daylight").to(where)
        seen = [latents_of(made.vae, Image.effect_noise((size, size), 40).convert("RGB")).to(where)]
        velocity = Velocity(made.transformer, Guidance(states, references=seen), device_of(made.transformer))
        start = torch.randn(1, int(made.transformer.config.in_channels), size // 16, size // 16, device=where)
        levels = flow_levels(Sampler("euler", "model", 4, 1.0), shift_of((size // 16) ** 2, 4))
        latents = sample("euler", lambda x, s: x0_of_velocity(velocity(x, s), x, s), start, levels)
        decode_latents(made.vae, raw_latents(made.vae, latents))


def on_card(made: Callable[[], Parts], sizes: dict[str, PartSize], card: float, size: int) -> str:
    """What the engine takes for a card of so many bytes, and whether a whole picture is drawn within them."""
    needs = ImageNeeds((Work("generate", size, size, 1, size * size),), PASSES, sizes)
    try:
        mode = choose(int(card), estimates(needs))
    except EngineError as refused:
        return f"{card / GB:.0f} GB: {refused.message}"
    estimated = next(one for one in estimates(needs) if one.mode == mode).peak
    held = made()
    if not CUDA:
        draw_whole(held, size)
        return f"{card / GB:.0f} GB: '{mode}' rehearsed, estimated {estimated / GB:.1f} GB"
    place(held, mode, "cuda")
    empty()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((card - CONTEXT) / total)
    try:
        started = time.perf_counter()
        draw_whole(held, size)
        wait()
        seconds = time.perf_counter() - started
    except torch.OutOfMemoryError as refused:
        return f"{card / GB:.0f} GB: '{mode}' does not fit: {str(refused)[:160]}"
    finally:
        peak = torch.cuda.max_memory_reserved() + CONTEXT
        torch.cuda.set_per_process_memory_fraction(1.0)
    told = f"{peak / GB:.1f} GB at most, estimated {estimated / GB:.1f}, {seconds:.1f} s"
    return f"{card / GB:.0f} GB: '{mode}' fits, {told}"


def memory(where: parts.Place, options: argparse.Namespace) -> Iterator[str]:
    """Cards of 24, 16 and 8 GB, with weights in bf16 and with files in fp8."""

    def built(at: parts.Place) -> Parts:
        return Parts(parts.transformer(at), parts.encoder(at), parts.vae(at), _Words(where))

    def plain() -> Parts:
        made = built(where)  # numbers are drawn a hundred times as fast on a GPU
        for module in made.components.values():
            module.to("cpu")
        return made

    def numbers(module: Any) -> int:
        return sum(tensor.numel() for tensor in module.parameters())

    nowhere = built(replace(where, device="meta"))
    sizes = {name: plain_size(numbers(module)) for name, module in nowhere.components.items()}
    for card in (24, 16, 8):
        yield f"bf16, {on_card(plain, sizes, card * GB, options.size)}"
        empty()
    if options.tiny:
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        tables = [zimage_memory.table_of(one) for one in ("flux2-klein-4b", "qwen3-4b", "vae-flux2")]
        tables[1] = {key: info for key, info in tables[1].items() if not key.startswith("lm_head")}
        files = Files(
            zimage_memory.fp8_file(folder / "klein.safetensors", tables[0], held_packed),
            zimage_memory.fp8_file(folder / "encoder.safetensors", tables[1], held_packed),
            zimage_memory.plain_file(folder / "vae.safetensors", tables[2]),
        )
        for card in (16, 8):
            made = on_card(
                lambda: load_parts(files, torch.bfloat16, "cuda", packed=True), files.sizes(2), card * GB, options.size
            )
            yield f"fp8 files, {made}"
            empty()


class _Words:
    """Qwen's tokenizer, within the vocabulary of a small encoder."""

    def __init__(self, where: parts.Place) -> None:
        self._most = int(where.sizes["encoder"]["vocab_size"])
        self._own: Any = qwen_tokenizer()
        self.token_to_id = lambda _: 0

    def encode(self, text: str, *, add_special_tokens: bool) -> Any:
        """Token ids, none beyond the vocabulary."""
        ids = self._own.encode(text, add_special_tokens=add_special_tokens).ids
        return type("Encoding", (), {"ids": [one % self._most for one in ids]})


def table(rows: list[Row]) -> str:
    """Markdown."""
    head = "case | variant | s a picture, median (least) | first, s | peak, GB | error against fp32 | of the limit"
    lines = [f"| {head} |", "|" + " --- |" * 7]
    for row in rows:
        wrong = "" if row.error is None else f"{row.error:.2e}"
        share = "" if row.of_limit is None else f"{row.of_limit:.0%}" + (" (goal)" if row.of_limit >= GOAL else "")
        timing = f"{row.seconds:.3f} ({row.fastest:.3f})"
        cells = (row.case, row.variant, timing, f"{row.first:.1f}", f"{row.peak_gb:.1f}", wrong, share)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    name = torch.cuda.get_device_name() if CUDA else "CPU"
    import diffusers

    return f"{name}, torch {torch.__version__}, diffusers {diffusers.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=0, help="pixels on a side; 1024, or 64 when tiny")
    parser.add_argument("--cases", default="text,reference,base,image")
    parser.add_argument("--cache", default=os.environ.get("TORCHINDUCTOR_CACHE_DIR") or tempfile.mkdtemp())
    parser.add_argument("--folder", type=Path, help="where files of full size are written; else a temporary one")
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--nine", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    options.size = options.size or (64 if options.tiny else 1024)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    sizes = parts.TINY if options.tiny else parts.NINE if options.nine else parts.FULL_SIZE
    where = parts.Place(sizes, "cpu" if options.tiny else "cuda", torch.bfloat16)
    burst = matmul_rate(where, 20 if CUDA else 2)
    options.rate = matmul_rate(where, 1500 if CUDA else 2)
    cases = options.cases.split(",")
    rows: list[Row] = []
    said: list[str] = []
    if drawn := [case for case in cases if case != "memory"]:
        model, decoder = parts.transformer(where), parts.vae(where)
        for case in drawn:
            run = run_image if case == "image" else lambda *given, case=case: run_case(case, *given)
            rows += run(where, model, decoder, options)
            empty()
        del model, decoder
        empty()
    if "memory" in cases:
        for line in memory(where, options):
            said.append(line)
            print(line, file=sys.stderr, flush=True)
    rate = f"matrix products reach {options.rate / 1e12:.0f} TFLOP/s for seconds, {burst / 1e12:.0f} in a burst"
    print(f"{machine()}; {options.size} x {options.size} px, {options.rounds} rounds; {rate}\n")
    print("\n".join(([table(rows), ""] if rows else []) + said))
    print(
        json.dumps(
            {
                "machine": machine(),
                "rate": options.rate,
                "burst": burst,
                "rows": [vars(row) for row in rows],
                "said": said,
            }
        )
    )


if __name__ == "__main__":
    main()
