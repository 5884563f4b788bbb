"""How flow models are trained: a batch at random noise levels, and what the trainers of every family do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from sosie.core.notation import plain
from sosie.core.recipe import Sampler, Training
from sosie.diffusion.flow.drawing import Start, draw_flow
from sosie.diffusion.flow.levels import FlowLevels
from sosie.diffusion.offload import tile
from sosie.diffusion.parts import TextEncoder, Vae
from sosie.diffusion.vae import decode_latents

Tensors = dict[str, Tensor]

TRAINED = 1000
"""Noise levels that a model is trained at."""


class NoisedBatch(NamedTuple):
    """Latents [n, c, h, w] drawn from their distribution, noise, their mix, and how noisy each is [n], 0 to 1."""

    clean: Tensor
    noise: Tensor
    noisy: Tensor
    levels: Tensor


def noised_batch(
    batch: Mapping[str, Tensor], generator: Generator, positions: Callable[[int, int], Tensor]
) -> NoisedBatch:
    """A batch of `mean` and `std` [n, c, h, w], on the CPU.

    Latents and noise are drawn from `generator`; then `positions` (of how many, of how many levels) says at which
    noise.
    """
    spread = torch.randn(batch["std"].shape, generator=generator)
    noise = torch.randn(batch["mean"].shape, generator=generator)
    levels = positions(len(noise), TRAINED).float()
    clean = batch["mean"] + batch["std"] * spread
    share = levels.view(-1, 1, 1, 1)
    return NoisedBatch(clean, noise, (1 - share) * clean + share * noise, levels)


def training_dtype(training: Training, device: str) -> torch.dtype:
    """What transformer and text encoder are trained in: by `auto` fp32 on a CPU and bf16 on a GPU."""
    precision = training.precision
    if precision == "auto":
        precision = "fp32" if device == "cpu" else "bf16"
    return torch.bfloat16 if precision == "bf16" else torch.float32


class WholeModel(Protocol):
    """A family's parts together."""

    @property
    def transformer(self) -> Any:
        """What is trained."""
        ...

    @property
    def text_encoder(self) -> TextEncoder:
        """What reads captions."""
        ...

    @property
    def vae(self) -> Vae:
        """What makes latents of pictures."""
        ...


P = TypeVar("P", bound=WholeModel)


class FlowBase(ABC, Generic[P]):
    """A loaded model: first it encodes what the cache is to hold, then, settled, it is trained.

    The VAE works in fp32, transformer and text encoder in the precision that they were loaded in.
    """

    prediction = "flow"

    def __init__(self, parts: P, device: str) -> None:
        self.dtype: torch.dtype = parts.transformer.dtype
        self.denoiser = cast(nn.Module, parts.transformer)
        self._device = device
        self._parts: P | None = parts
        self._vae: Any = parts.vae
        self._vae.float()
        for part in (parts.transformer, parts.text_encoder, self._vae):
            part.requires_grad_(False)
        for part in (parts.text_encoder, self._vae):
            part.to(device)

    @abstractmethod
    def read(self, parts: P, text: str) -> Tensor:
        """The states of a text, as the transformer takes them."""

    def encode_text(self, text: str, negative: str | None = None) -> Tensors:
        """The states of a text, float32 [tokens, width]; with `negative`, of both."""
        made = {"states": self._states(text)}
        return made if negative is None else {**made, "negative_states": self._states(negative)}

    def _states(self, text: str) -> Tensor:
        if self._parts is None:
            raise AssertionError("nothing is encoded after the text encoder was freed")
        return self.read(self._parts, plain(text)).float().cpu()

    def latents(self, pixels: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Mean and deviation of what the VAE makes of pixels [h, w, 3], each [1, c, h / 8, w / 8], on the device."""
        with torch.no_grad():
            levels = torch.as_tensor(pixels.astype(np.float32)) / 127.5 - 1.0
            found = self._vae.encode(levels.permute(2, 0, 1)[None].to(self._device)).latent_dist
        return found.mean, found.std

    def settle(self) -> None:
        """Frees the text encoder and puts the transformer where it is trained; nothing is encoded after."""
        self._parts = None
        self._vae.to("cpu")
        self.denoiser.to(self._device)
        if self._device != "cpu":
            torch.cuda.empty_cache()  # what encoding took is not held beside what a step needs

    def drawn(
        self,
        sampler: Sampler,
        velocity: Callable[[Tensor, float], Tensor],
        levels: FlowLevels,
        shape: Sequence[int],
        seed: int,
    ) -> Tensor:
        """Latents of that shape by the model as it now is; `velocity` is the way noise - x0."""
        generator = torch.Generator("cpu").manual_seed(seed)

        def noise(_: float, __: float) -> Tensor:
            return torch.randn(tuple(shape), generator=generator).to(self._device)

        with torch.no_grad():
            return draw_flow(sampler, velocity, Start(levels, noise(1, 1), noise))

    def decoded(self, raw: Callable[[Vae], Tensor]) -> Tensor:
        """The pixels of latents that `raw` gives, as the VAE decodes them; for the time being it is on the device."""
        vae = self._vae.to(self._device)
        tile(vae, self._device != "cpu")  # in fp32 the whole picture would need more memory than the training
        with torch.no_grad():
            pixels, _ = decode_latents(vae, raw(vae))
        vae.to("cpu")
        return pixels
