"""What the trainer needs of Z-Image: latents and texts for its cache, the error of a batch, samples, and names of keys.

It is a flow model (Lipman et al. 2022, arXiv:2210.02747; rectified flow, Liu et al. 2022, arXiv:2209.03003): a picture
at noise level s is (1 - s) x0 + s noise, and what is predicted is the way from noise to picture, x0 - noise. The
transformer is told 1 - s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from sosie.core.recipe import Sampler, Targets, Training
from sosie.diffusion.flow.levels import flow_levels
from sosie.diffusion.flow.training import FlowBase, noised_batch, training_dtype
from sosie.diffusion.vae import to_image
from sosie.families.contract.trains import BaseFiles
from sosie.families.zimage.diffusers.load import Files, load_parts
from sosie.families.zimage.diffusers.parts import Parts
from sosie.families.zimage.diffusers.text import encode
from sosie.families.zimage.partners import PARTNERS
from sosie.families.zimage.velocity import MULTIPLE, layout, velocity

if TYPE_CHECKING:
    from PIL.Image import Image

Tensors = dict[str, Tensor]
Size = tuple[int, int]

_ATTENTION = r"attention\.(to_q|to_k|to_v|to_out\.0)"
_FEED = r"feed_forward\.(w1|w2|w3)"
_ALL = rf"({_ATTENTION}|{_FEED}|adaLN_modulation\.0)"
TARGETS: Mapping[Targets, str] = {
    "attention": rf"layers\.\d+\.{_ATTENTION}",
    "feed-forward": rf"layers\.\d+\.({_ATTENTION}|{_FEED})",
    "transformer": rf"layers\.\d+\.{_ALL}",
    "all": rf"(layers|noise_refiner|context_refiner)\.\d+\.{_ALL}",
}
"""What a LoRA changes: of the 30 layers 120 modules, 210, or all 240; with the refiners 270."""

STORED: str = rf"(layers|noise_refiner|context_refiner)\.\d+\.({_ATTENTION}|{_FEED})(\.base_layer)?"
"""Modulation, embedders and the last layer stay as they are: in 8 bits they cost most (docs/training.md)."""

MATRICES: tuple[str, str] = ("lora_A", "lora_B")


def open_base(files: BaseFiles, training: Training, device: str) -> ZImageBase:
    """The model of a diffusers folder, a checkpoint, or single files, on `device` (`cpu` or `cuda`).

    Nothing is downloaded. What is packed in the files becomes numbers. Raises `BadModelError` if it cannot be loaded.
    """
    parts = load_parts(Files.of(files.model, files.text_encoder, files.vae), training_dtype(training, device), device)
    return ZImageBase(parts, training, device)


class ZImageBase(FlowBase[Parts]):
    """A loaded model: first it encodes what the cache is to hold, then, settled, it is trained.

    The VAE works in fp32, transformer and text encoder in the precision of the training (`auto`: fp32 on a CPU, bf16
    on a GPU).
    """

    ragged: Mapping[str, int] = MappingProxyType({"states": MULTIPLE})

    def __init__(self, parts: Parts, training: Training, device: str) -> None:
        super().__init__(parts, device)
        self._again = training.gradient_checkpointing is True

    def encode_picture(self, pixels: NDArray[np.uint8], original: Size, crop: Size) -> Tensors:
        """Of pixels [h, w, 3]: mean and deviation of the latents, float32 [16, h / 8, w / 8]."""
        del original, crop  # the model is told neither
        config = self._vae.config
        mean, std = (tensor[0].cpu() for tensor in self.latents(pixels))
        return {"mean": (mean - config.shift_factor) * config.scaling_factor, "std": std * config.scaling_factor}

    def read(self, parts: Parts, text: str) -> Tensor:
        """The states of a text [tokens, width], of the layer before the last."""
        return encode(parts, text)

    def add_noise(
        self, batch: Mapping[str, Tensor], generator: Generator, positions: Callable[[int, int], Tensor]
    ) -> Tensors:
        """A batch at random noise levels: `noisy` latents and what is to be predicted (`target`), [n, 16, h, w].

        `batch` stacks what `encode_picture` and `encode_text` gave, on the CPU. Latents and noise are drawn from
        `generator`; then `positions` (of how many, of how many levels) says at which noise, 0 to 1.
        """
        made = noised_batch(batch, generator, positions)
        height, width = made.noise.shape[-2:]
        return {
            "noisy": made.noisy,
            "target": made.clean - made.noise,
            "levels": made.levels,
            "weights": torch.ones(len(made.levels)),
            "states": batch["states"],
            **layout(self._config, (height, width), [int(rows) for rows in batch["states_rows"]]),
        }

    @property
    def _config(self) -> Any:
        return cast(Any, self.denoiser).config

    def unreduced_loss(self, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The squared errors of what `add_noise` gave, float32 [n, 16, h, w], and what each counts for, [n]."""
        predicted = velocity(self.denoiser, given, again=self._again)
        return (predicted.float() - given["target"]) ** 2, given["weights"]

    def draw(self, text: Mapping[str, Tensor], seed: int, size: Size, sampler: Sampler) -> Image:
        """The picture (RGB) of a text with its negative, drawn by the model as it now is."""
        shape = (1, self._config.in_channels, size[1] // 8, size[0] // 8)
        names = ("states",) if sampler.cfg == 1 else ("states", "negative_states")
        told = [_filled(text[name]) for name in names]

        def to_noise(x: Tensor, sigma: float) -> Tensor:
            ways = [self._way(x, sigma, states, rows) for states, rows in told]
            return -(ways[0] if len(ways) == 1 else ways[1] + sampler.cfg * (ways[0] - ways[1]))

        latents = self.drawn(sampler, to_noise, flow_levels(sampler, PARTNERS.shift), shape, seed)
        config = self._vae.config
        return to_image(self.decoded(lambda _: latents + config.shift_factor * config.scaling_factor))

    def _way(self, latents: Tensor, level: float, states: Tensor, rows: int) -> Tensor:
        height, width = latents.shape[-2:]
        places = layout(self._config, (height, width), [rows])
        given = {"levels": torch.tensor([level]), "states": states, **places}
        moved = {name: tensor.to(self._device) for name, tensor in given.items()}
        return velocity(self.denoiser, {**moved, "noisy": latents}).float()


def _filled(states: Tensor) -> tuple[Tensor, int]:
    """States [1, tokens, width] filled up with zeros, and their real number."""
    rows = len(states)
    return nn.functional.pad(states, (0, 0, 0, -rows % MULTIPLE))[None], rows


def key(module: str) -> str:
    """How a file names a module of the transformer: ComfyUI's prefix before diffusers' names, as ai-toolkit writes."""
    return f"diffusion_model.{module}"


def metadata(prediction: str, resolution: int) -> dict[str, str]:
    """What a file says of its kind (Stability's modelspec 1.0.0)."""
    return {
        "modelspec.architecture": "z-image/lora",
        "modelspec.implementation": "https://github.com/Tongyi-MAI/Z-Image",
        "modelspec.prediction_type": prediction,
        "modelspec.resolution": f"{resolution}x{resolution}",
        "ss_base_model_version": "zimage",
    }
