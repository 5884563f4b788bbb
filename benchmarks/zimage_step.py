"""Milliseconds of one step of a LoRA's training of Z-Image by itself: layers as they are, and compiled, in one run.

    python benchmarks/zimage_step.py [--rounds 6] [--tiny]

Random weights at full size, a picture of 1024 x 1024 px with a short text, rank 16 on attention's projections, bf16,
without checkpointing: forward, backward and the gradient, as the trainer does them, in a CUDA graph and under
deterministic algorithms. Every round's gradient is compared to the first, bit for bit. No optimiser, no data: the whole
training beside diffusers' script is `zimage_train_speed.py`. `--tiny` rehearses on a CPU, where nothing is compiled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import zimage_parts as parts

from sosie.core.recipe import Training
from sosie.diffusion.cuda_graph import Replay
from sosie.families.zimage import velocity
from sosie.families.zimage.training import TARGETS
from sosie.training.adapters import Adapters
from sosie.training.deterministic import deterministic, strictly

RANK, WORDS = 16, 40


def given(model: Any, where: parts.Place, side: int) -> dict[str, torch.Tensor]:
    """A picture of `side` latents with its text, and what is to be predicted."""
    made = {
        "noisy": parts.random((1, 16, side, side), where, 1).float(),
        "target": parts.random((1, 16, side, side), where, 2).float(),
        "levels": torch.tensor([0.3]),
        "states": parts.random((1, velocity.up(WORDS), model.config.cap_feat_dim), where, 3),
        **velocity.layout(model.config, (side, side), [WORDS]),
    }
    return {name: tensor.to(where.device) for name, tensor in made.items()}


def measure(model: Any, adapters: Adapters, inputs: Mapping[str, torch.Tensor], rounds: int) -> dict[str, Any]:
    """Seconds of the first round, in which kernels are compiled and the graph is captured, then of each."""
    on_card = next(iter(inputs.values())).is_cuda

    def slope(tensors: Mapping[str, torch.Tensor]) -> Sequence[torch.Tensor]:
        adapters.begin_step()
        loss = ((velocity.velocity(model, tensors).float() - tensors["target"]) ** 2).mean()
        loss.backward()
        adapters.end_backward()
        return (torch.stack([loss.detach(), adapters.weights.grad.norm()]),)

    replay = Replay(slope, graphs=on_card)
    seconds: list[float] = []
    grads: list[torch.Tensor] = []
    with strictly("cuda" if on_card else "cpu"):
        for _ in range(rounds + 1):
            began = time.perf_counter()
            loss = float(replay(inputs)[0].cpu()[0])
            seconds.append(time.perf_counter() - began)
            grads.append(adapters.weights.grad.clone())
    first, *rest = seconds
    same = all(torch.equal(grads[0], grad) for grad in grads)
    peak = torch.cuda.max_memory_allocated() / 1e9 if on_card else 0.0
    made = {"ms": 1000 * statistics.median(rest), "least": 1000 * min(rest), "first_s": first, "gb": peak}
    return {**made, "loss": loss, "same_bits": same, "grad": grads[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    tiny = options.tiny
    where = parts.Place(parts.TINY, "cpu") if tiny else parts.Place(parts.FULL_SIZE, "cuda", torch.bfloat16)
    model = parts.transformer(where)
    adapters = Adapters(model, TARGETS["attention"], Training(rank=RANK, alpha=RANK, steps=1))
    model.to(where.device)
    adapters.settle(where.dtype)
    inputs, rows = given(model, where, 8 if tiny else 128), {}
    with deterministic(where.device):
        for name, least in (("as they are", 2**62), ("compiled", velocity.LARGE)):
            velocity.LARGE = least
            if not tiny:
                torch.cuda.reset_peak_memory_stats()
            rows[name] = measure(model, adapters, inputs, options.rounds)
    plain = rows["as they are"].pop("grad")
    apart = float((rows["compiled"].pop("grad") - plain).norm() / plain.norm())
    print(
        "| layers | ms a step, median (least) | first, s | GB | loss | same bits every round |\n" + "| --- " * 6 + "|"
    )
    for name, row in rows.items():
        print(
            f"| {name} | {row['ms']:.1f} ({row['least']:.1f}) | {row['first_s']:.1f} | {row['gb']:.1f} | "
            f"{row['loss']:.5f} | {'yes' if row['same_bits'] else 'NO'} |"
        )
    device = "CPU" if tiny else torch.cuda.get_device_name()
    print(f"\ngradients differ by {apart:.1e} of their norm; {device}, torch {torch.__version__}")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
