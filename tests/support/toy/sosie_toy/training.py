"""A LoRA of the toy: its layers learn to predict the noise in a picture of 8 x 8 blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from sosie.core.recipe import Sampler, Targets, Training
from sosie.families.contract.trains import BaseFiles

LETTERS = "qkv"
TARGETS: Mapping[Targets, str] = dict.fromkeys(
    ("attention", "feed-forward", "transformer", "all"), r"stem\.\d\.to_[qkv]"
)
STORED = r"stem\..*"
MATRICES = ("lora_down", "lora_up")


def open_base(files: BaseFiles, training: Training, device: str) -> Base:
    return Base(load_file(files.model))


class Denoiser(torch.nn.Module):
    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.stem = torch.nn.ModuleList()
        for index in range(2):
            block = torch.nn.Module()
            for letter, part in zip(LETTERS, weights[f"stem.{index}.qkv.weight"].chunk(3), strict=True):
                layer = torch.nn.Linear(8, 8, bias=False)
                layer.weight.data.copy_(part)
                setattr(block, f"to_{letter}", layer)
            self.stem.append(block)
        self.requires_grad_(False)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        for block in self.stem:
            noisy = noisy + sum(getattr(block, f"to_{letter}")(noisy) for letter in LETTERS)
        return noisy


class Base:
    prediction = "epsilon"
    ragged: Mapping[str, int] = MappingProxyType({})

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.denoiser: Any = Denoiser(weights)
        self.dtype: Any = torch.float32

    def encode_picture(self, pixels: np.ndarray, original: tuple[int, int], crop: tuple[int, int]) -> dict[str, Any]:
        small = Image.fromarray(pixels).resize((8, 8))
        return {"mean": torch.from_numpy(np.asarray(small, np.float32) / 127.5 - 1).permute(2, 0, 1).contiguous()}

    def encode_text(self, text: str, negative: str | None = None) -> dict[str, Any]:
        return {"length": torch.tensor([float(len(text))])}

    def settle(self) -> None:
        """Nothing encodes."""

    def add_noise(
        self, batch: Mapping[str, Any], generator: Any, positions: Callable[[int, int], Any]
    ) -> dict[str, Any]:
        noise = torch.randn(batch["mean"].shape, generator=generator)
        amount = positions(len(noise), 1000).float().view(-1, 1, 1, 1)
        return {"noisy": batch["mean"] * (1 - amount) + noise * amount, "target": noise}

    def unreduced_loss(self, given: Mapping[str, Any]) -> tuple[Any, Any]:
        predicted = self.denoiser(given["noisy"])
        return (predicted - given["target"]) ** 2, torch.ones(len(predicted))

    def draw(self, text: Mapping[str, Any], seed: int, size: tuple[int, int], sampler: Sampler) -> Image.Image:
        return Image.new("RGB", size, (seed % 256, 128, 128))


def key(module: str) -> str:
    return "lora_unet_" + module.replace(".", "_")


def metadata(prediction: str, resolution: int) -> dict[str, str]:
    return {"modelspec.architecture": "toy/lora"}
