"""Peaks of GPU memory, stage by stage and mode by mode, beside the estimate of the plan.

    python benchmarks/sdxl_memory.py [--size 1024x1536] [--tiny]

SDXL at full size with random weights, FaceID Plus v2, its image encoder, InstantID and its ControlNet,
bf16. Each moment's peak is what the allocator reserved from an empty cache, plus CUDA's own. Then a
card of 24 GB and one of 12 GB are imitated by a limit on the process: the mode that `choose` takes for
them must run every stage. With `--tiny` it rehearses on a CPU, where nothing is measured.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sdxl_parts as parts
import torch

from sosie.diffusion.memory import CONTEXT, GB, Mode, choose
from sosie.diffusion.offload import device_of, place
from sosie.families.sdxl.diffusers.fast.acceleration import Levers, accelerate
from sosie.families.sdxl.memory import ImageNeeds, Work, estimate, estimates

DETAIL, TILE = 1024, 512
CUDA = torch.cuda.is_available()


@dataclass(frozen=True)
class Row:
    """One moment: bytes reserved and allocated at most, what was estimated, seconds."""

    mode: str
    moment: str
    reserved: int
    allocated: int
    estimated: int
    seconds: float


class Stack:
    """Every part of the identity stack, and each stage of it as a function."""

    def __init__(self, where: parts.Place, width: int, height: int, detail: int) -> None:
        self.where, self.detail = where, detail
        self.size = (width, height)
        self.towers = parts.encoders(where)
        self.vision = parts.vision(where)
        unet = parts.unet(where)
        parts.add_identity(unet, where)
        self.body = parts.pipeline(where, denoiser=unet)
        self.net = parts.control(where)
        self.face = parts.pipeline(where, self.net, denoiser=unet, decoder=self.body.vae)
        self.body.text_encoder, self.body.text_encoder_2 = self.towers
        self.body.image_encoder = self.vision
        self.upscaler = parts.upscaler(where)
        self.steps = 2

    def moments(self) -> dict[str, Callable[[], Any]]:
        """By the names of the estimate, in the order of a recipe."""
        width, height = self.size
        return {
            "generate text": self.text,
            "generate denoise": lambda: self.draw(self.body, width, height),
            "generate decode": lambda: self.decode(width, height),
            "detail encode": self.encode,
            "detail denoise": lambda: self.draw(self.face, self.detail, self.detail),
            "detail decode": lambda: self.decode(self.detail, self.detail),
            "upscale": self.upscale,
        }

    def text(self) -> None:
        tokens = torch.randint(5, 400, (2, 77)).to(self.where.device)
        with torch.no_grad():
            for tower in self.towers:
                tower(tokens, output_hidden_states=True)
            side = self.vision.config.image_size
            self.vision(parts.random((2, 3, side, side), self.where, 1), output_hidden_states=True)

    def draw(self, pipeline: Any, width: int, height: int) -> None:
        given: dict[str, Any] = {**parts.text(self.where), "ip_adapter_image_embeds": parts.faces(self.where)}
        if pipeline is self.face:
            given |= {"image": parts.random((1, 3, height, width), self.where, 3), "controlnet_conditioning_scale": 0.8}
        pipeline(
            **given,
            width=width,
            height=height,
            num_inference_steps=self.steps,
            guidance_scale=4.0,
            output_type="latent",
            generator=torch.Generator().manual_seed(1),
        )

    def decode(self, width: int, height: int) -> None:
        vae = self.body.vae
        latents = parts.random((1, 4, height // 8, width // 8), self.where, 4).to(device_of(vae))
        with torch.no_grad():
            vae.decode(latents, return_dict=False)

    def encode(self) -> None:
        vae = self.body.vae
        with torch.no_grad():
            vae.encode(parts.random((1, 3, self.detail, self.detail), self.where, 5).to(device_of(vae)))

    def upscale(self) -> None:
        self.upscaler.to(self.where.device)
        tile = TILE if self.where.device == "cuda" else 16
        with torch.no_grad():
            self.upscaler(parts.random((1, 3, tile, tile), self.where, 6))
        self.upscaler.to("cpu")


def empty() -> None:
    gc.collect()
    if CUDA:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def measure(stack: Stack, mode: str, needs: ImageNeeds, fitted: Mode) -> list[Row]:
    """Every moment's peak."""
    estimated = estimate(needs, fitted).moments
    rows: list[Row] = []
    for name, moment in stack.moments().items():
        moment()  # parts have come and gone, programs are captured
        empty()
        started = time.perf_counter()
        moment()
        if CUDA:
            torch.cuda.synchronize()
        peaks = (torch.cuda.max_memory_reserved(), torch.cuda.max_memory_allocated()) if CUDA else (0, 0)
        rows.append(Row(mode, name, *peaks, estimated[name], time.perf_counter() - started))
        print(rows[-1], flush=True)
    return rows


def context() -> int:
    """Bytes that CUDA itself holds."""
    if not CUDA:
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


def on_card(stack: Stack, card: float, needs: ImageNeeds) -> str:
    """What `choose` takes for a card of so many bytes, and whether every stage runs within them."""
    mode = choose(int(card), estimates(needs))
    place(stack.body, mode, stack.where.device, [stack.net])
    empty()
    if CUDA:
        torch.cuda.set_per_process_memory_fraction((card - CONTEXT) / torch.cuda.get_device_properties(0).total_memory)
    try:
        for moment in stack.moments().values():  # without emptying the cache in between, as in use
            moment()
    except torch.OutOfMemoryError as error:
        return f"{card / GB:.0f} GB: '{mode}' does not fit: {error}"
    finally:
        if CUDA:
            peak = torch.cuda.max_memory_reserved()
            torch.cuda.set_per_process_memory_fraction(1.0)
        else:
            peak = 0
    return f"{card / GB:.0f} GB: '{mode}' fits, {(peak + CONTEXT) / GB:.1f} GB at most"


def table(rows: list[Row], own: int) -> str:
    """Markdown: gigabytes with CUDA's own."""
    lines = [
        "| mode | moment | measured, GB | allocated | estimated | off | s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        real = row.reserved + own
        off = f"{100 * (row.estimated / real - 1):+.0f} %" if row.reserved else ""
        values = (
            f"{real / GB:.2f} | {(row.allocated + own) / GB:.2f} | {row.estimated / GB:.2f} | {off} | {row.seconds:.1f}"
        )
        lines.append(f"| {row.mode} | {row.moment} | {values} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1024x1536")
    parser.add_argument("--modes", default="tiled,offload,sequential,full,fp8")
    parser.add_argument("--no-cards", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    where = parts.Place(parts.TINY) if options.tiny else parts.Place(parts.FULL_SIZE, "cuda", torch.bfloat16)
    width, height = (64, 96) if options.tiny else map(int, options.size.split("x"))
    detail = 64 if options.tiny else DETAIL
    guides = ("faceid-plus-v2", "instantid")
    works = (
        Work("generate", width, height, guides),
        Work("detail", detail, detail, guides, controls=1),
        Work("upscale", TILE, TILE),
    )
    needs = ImageNeeds(works)
    stack = Stack(where, width, height, detail)
    rows: list[Row] = []
    cards: list[str] = []
    for mode in options.modes.split(","):
        if mode == "fp8" and not options.no_cards:
            cards += [on_card(stack, 24 * GB, needs), on_card(stack, 12 * GB, needs)]
        place(stack.body, mode, where.device, [stack.net])
        rows += measure(stack, mode, needs, mode)
        if mode == "full":
            levers = Levers("off", graph=CUDA)
            fast = [accelerate(one, levers) for one in (stack.face,)]
            rows += measure(stack, "full, accelerated", ImageNeeds(works, accelerated=True), "full")
            for one in fast:
                one.restore()
    own = context()
    name = torch.cuda.get_device_name() if CUDA else "CPU"
    print(
        f"\n{name}, torch {torch.__version__}, CUDA's own {own / GB:.2f} GB; {width}x{height}\n\n{table(rows, own)}\n"
    )
    print("\n".join(cards))
    print(json.dumps({"machine": name, "own": own, "rows": [vars(row) for row in rows], "cards": cards}))


if __name__ == "__main__":
    main()
