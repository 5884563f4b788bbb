"""What the trainer needs of klein: latents and texts for its cache, the error of a batch, samples, names of keys.

It is a flow model (arXiv:2210.02747): a picture at noise level s is (1 - s) x0 + s noise, and what is predicted is the
way from picture to noise, noise - x0. References take no part in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.utils import checkpoint

from sosie.core.recipe import Sampler, Targets, Training
from sosie.diffusion.flow.levels import flow_levels
from sosie.diffusion.flow.training import FlowBase, noised_batch, training_dtype
from sosie.diffusion.vae import to_image
from sosie.families.contract.trains import BaseFiles
from sosie.families.flux2.diffusers.denoise import Guidance, Velocity, asked
from sosie.families.flux2.diffusers.latents import (
    BLOCK,
    patches,
    places,
    raw_latents,
    statistics,
    tokens,
)
from sosie.families.flux2.diffusers.load import Files, load_parts
from sosie.families.flux2.diffusers.parts import Parts
from sosie.families.flux2.diffusers.text import encode
from sosie.families.flux2.shift import shift_of

if TYPE_CHECKING:
    from PIL.Image import Image

Tensors = dict[str, Tensor]
Size = tuple[int, int]

_STREAMS = r"transformer_blocks\.\d+\.attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
_SINGLE = r"single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out)"
_FEED = r"transformer_blocks\.\d+\.(ff|ff_context)\.linear_(in|out)"
TARGETS: Mapping[Targets, str] = MappingProxyType(
    {
        "attention": rf"({_STREAMS}|{_SINGLE})",
        "feed-forward": rf"({_STREAMS}|{_SINGLE}|{_FEED})",
        "transformer": rf"({_STREAMS}|{_SINGLE}|{_FEED})",
        "all": rf"({_STREAMS}|{_SINGLE}|{_FEED})",
    }
)
"""What a LoRA changes: of klein 4B 80 modules, or 100. A block of one stream has attention and feed-forward in one.

The modulations are shared by all blocks, and ComfyUI reads no LoRA of them by these names.
"""

STORED: str = rf"({_STREAMS}|{_SINGLE}|{_FEED})(\.base_layer)?"

MATRICES: tuple[str, str] = ("lora_A", "lora_B")


def open_base(files: BaseFiles, training: Training, device: str) -> Flux2Base:
    """The model of a diffusers folder or of single files, on `device` (`cpu` or `cuda`).

    Nothing is downloaded. What is packed in the files becomes numbers. Raises `BadModelError` if it cannot be loaded.
    """
    parts = load_parts(Files.of(files.model, files.text_encoder, files.vae), training_dtype(training, device), device)
    return Flux2Base(parts, training, device)


class Flux2Base(FlowBase[Parts]):
    """A loaded model: first it encodes what the cache is to hold, then, settled, it is trained.

    The VAE works in fp32, transformer and text encoder in the precision of the training (`auto`: fp32 on a CPU, bf16
    on a GPU).
    """

    ragged: Mapping[str, int] = MappingProxyType({})

    def __init__(self, parts: Parts, training: Training, device: str) -> None:
        super().__init__(parts, device)
        if training.gradient_checkpointing is True:
            # Nothing here is random, and the state of a generator cannot be read while a graph is captured.
            once_more = partial(cast(Any, checkpoint).checkpoint, use_reentrant=False, preserve_rng_state=False)
            cast(Any, self.denoiser)._set_gradient_checkpointing(True, once_more)

    def encode_picture(self, pixels: NDArray[np.uint8], original: Size, crop: Size) -> Tensors:
        """Of pixels [h, w, 3]: mean and deviation of the latents, float32 [128, h / 16, w / 16]."""
        del original, crop  # the model is told neither
        found, deviation = self.latents(pixels)
        mean, std = statistics(self._vae, found)
        whole, spread = (patches(found) - mean) / std, patches(deviation) / std
        return {"mean": whole[0].cpu(), "std": spread[0].cpu()}

    def read(self, parts: Parts, text: str) -> Tensor:
        """The states of a text [512, 3 width]."""
        return encode(parts, text)

    def add_noise(
        self, batch: Mapping[str, Tensor], generator: Generator, positions: Callable[[int, int], Tensor]
    ) -> Tensors:
        """A batch at random noise levels: `noisy` latents and what is to be predicted (`target`), [n, 128, h, w]."""
        made = noised_batch(batch, generator, positions)
        height, width = batch["mean"].shape[-2:]
        return {
            "noisy": made.noisy,
            "target": made.noise - made.clean,
            "levels": made.levels,
            "weights": torch.ones(len(made.levels)),
            "states": batch["states"],
            "places": places(height, width).expand(len(made.levels), -1, -1),
        }

    def unreduced_loss(self, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The squared errors of what `add_noise` gave, float32 [n, 128, h, w], and what each counts for, [n]."""
        noisy, states = given["noisy"], given["states"].to(self.dtype)
        made = asked(self.denoiser, tokens(noisy).to(self.dtype), given["levels"], states, given["places"])
        predicted = made.float().transpose(1, 2).reshape(noisy.shape)
        return (predicted - given["target"]) ** 2, given["weights"]

    def draw(self, text: Mapping[str, Tensor], seed: int, size: Size, sampler: Sampler) -> Image:
        """The picture (RGB) of a text with its negative, drawn by the model as it now is, without references."""
        transformer: Any = self.denoiser
        shape = (1, transformer.config.in_channels, size[1] // BLOCK, size[0] // BLOCK)
        negative = None if sampler.cfg == 1 else text["negative_states"]
        guidance = Guidance(text["states"], negative, sampler.cfg)
        velocity = Velocity(transformer, guidance, torch.device(self._device))

        levels = flow_levels(sampler, shift_of(shape[2] * shape[3], sampler.steps))
        latents = self.drawn(sampler, velocity, levels, shape, seed)
        return to_image(self.decoded(lambda vae: raw_latents(vae, latents)))


def key(module: str) -> str:
    """How a file names a module of the transformer: as diffusers does, which ComfyUI reads since January 2026."""
    return f"transformer.{module}"


def metadata(prediction: str, resolution: int) -> dict[str, str]:
    """What a file says of its kind (Stability's modelspec 1.0.0)."""
    return {
        "modelspec.architecture": "flux-2-klein/lora",
        "modelspec.implementation": "https://github.com/black-forest-labs/flux2",
        "modelspec.prediction_type": prediction,
        "modelspec.resolution": f"{resolution}x{resolution}",
        "ss_base_model_version": "flux2_klein",
    }
