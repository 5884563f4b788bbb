"""How a LoRA of a family is trained: what its module `training` holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sosie.core.recipe import Sampler, Targets, Training

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

    Tensors = Mapping[str, torch.Tensor]
    """By name; what they are is the family's own matter. The trainer stores and stacks them."""


@dataclass(frozen=True)
class BaseFiles:
    """Where a model lies: its file or folder, and its VAE and text encoder where they have files of their own."""

    model: Path
    vae: Path | None = None
    text_encoder: Path | None = None


class Encodes(Protocol):
    """A model while the cache is filled."""

    def encode_picture(self, pixels: NDArray[np.uint8], original: tuple[int, int], crop: tuple[int, int]) -> Tensors:
        """Of uint8 [h, w, 3]: tensors on the CPU of which `mean` [c, y, x] gives the shape of the latents."""
        ...

    def encode_text(self, text: str, negative: str | None = None) -> Tensors:
        """Of a caption; with a negative text, of a prompt that is drawn."""
        ...

    def settle(self) -> None:
        """Frees what only encodes."""
        ...


class Denoises(Protocol):
    """A model while it is trained."""

    @property
    def denoiser(self) -> torch.nn.Module:
        """What gets the adapters."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What the denoiser computes in."""
        ...

    @property
    def prediction(self) -> str:
        """What the denoiser predicts, by the family's own word."""
        ...

    @property
    def ragged(self) -> Mapping[str, int]:
        """Tensors of which pictures of one batch may have more or fewer rows, each with what their number is filled to.

        The trainer fills them with zeros up to a multiple of that, and adds their real numbers: `NAME_rows` [n].
        """
        ...

    def add_noise(
        self, batch: Tensors, generator: torch.Generator, positions: Callable[[int, int], torch.Tensor]
    ) -> Tensors:
        """What `unreduced_loss` takes, on the CPU: the stacked batch with noise from `generator`.

        `positions(count, levels)` draws, after it, how noisy each picture becomes: 0 to 1, clean to noise.
        """
        ...

    def unreduced_loss(self, given: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared errors [n, c, y, x] in float32 of what `add_noise` gave, and the weight of each picture [n].

        A pure function of tensors on the denoiser's device: it is captured as a CUDA graph.
        """
        ...

    def draw(self, text: Tensors, seed: int, size: tuple[int, int], sampler: Sampler) -> Image:
        """A picture (RGB) of width and height `size`."""
        ...


class Base(Encodes, Denoises, Protocol):
    """A loaded model that can be trained on."""


class Trains(Protocol):
    """A family whose LoRAs can be trained: its module `training`."""

    TARGETS: Mapping[Targets, str]
    """What a LoRA may change, as an expression over the names of the denoiser's modules."""

    STORED: str
    """The modules whose frozen weights may lie in 8 bits, as such an expression."""

    MATRICES: tuple[str, str]
    """How a LoRA file calls the two matrices of a module: first the one that is fed."""

    def open_base(self, files: BaseFiles, training: Training, device: str) -> Base:
        """Loads a model; `BadModelError` if it is none of the family's."""
        ...

    def key(self, module: str) -> str:
        """How a LoRA file names a module of the denoiser, without `.lora_A.weight`."""
        ...

    def metadata(self, prediction: str, resolution: int) -> dict[str, str]:
        """What a LoRA file says of its kind."""
        ...
