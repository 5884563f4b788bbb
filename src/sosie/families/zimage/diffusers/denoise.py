"""The transformer asked for one step, with guidance, and the loop around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from sosie.families.zimage.diffusers.controlnet import Acting
from sosie.families.zimage.diffusers.fast.transformer import FastTransformer
from sosie.families.zimage.diffusers.parts import Transformer
from sosie.families.zimage.diffusers.text import PADDED


@dataclass(frozen=True, eq=False)
class Guidance:
    """The prompt's states [tokens, width], the negative one's, and the scale; without guidance `negative` is None.

    `acts` says at which noise levels there is guidance.
    """

    prompt: Tensor
    negative: Tensor | None
    scale: float
    acts: Callable[[float], bool] = lambda _: True

    @property
    def texts(self) -> list[Tensor]:
        """What the transformer is asked with, the prompt first."""
        return [self.prompt] if self.negative is None else [self.prompt, self.negative]

    def texts_at(self, sigma: float) -> list[Tensor]:
        """The same at a noise level."""
        return self.texts if self.acts(sigma) else [self.prompt]


class Velocity:
    """What the transformer sees at a place on the way: noise minus picture, float32.

    With guidance it is negative + scale * (prompt - negative), so diffusers' `guidance_scale` is one less. Both texts
    go together if they are padded to the same length, else one after the other: never with an attention mask. A
    transformer that was made `fast` is asked in its place, one text after the other; it takes no residuals, which
    ControlNets add to the prompt's pass and to the negative one's.
    """

    def __init__(
        self,
        transformer: Transformer,
        guidance: Guidance,
        device: torch.device,
        fast: FastTransformer | None = None,
        controls: Sequence[Acting] = (),
    ) -> None:
        self._controls = controls
        self._transformer = transformer
        self._guidance = guidance
        self._device = device
        self._fast = fast
        self._captions = {} if fast is None else {id(text): fast.read(text) for text in guidance.texts}

    def __call__(self, latents: Tensor, sigma: float) -> Tensor:
        """Of latents [1, c, h, w] with a share `sigma` of noise, 0 to 1."""
        guidance = self._guidance
        texts = guidance.texts_at(sigma)
        if self._fast is not None or len({_padded(text) for text in texts}) == 1:
            seen = self._ask(latents, sigma, texts)
        else:
            seen = [one for text in texts for one in self._ask(latents, sigma, [text])]
        if len(seen) == 1:
            return seen[0]
        return seen[1] + guidance.scale * (seen[0] - seen[1])

    def _ask(self, latents: Tensor, sigma: float, texts: list[Tensor]) -> list[Tensor]:
        height, width = latents.shape[-2:]
        given = latents.to(self._device, self._transformer.dtype)
        given = functional.pad(given, (0, width % 2, 0, height % 2), mode="circular")  # tokens are 2x2, as ComfyUI pads
        time = torch.full((len(texts),), 1 - sigma, dtype=torch.float32, device=self._device)
        if self._fast is not None:
            ways = self._fast.velocities(given, time[:1], [self._captions[id(text)] for text in texts])
            return [-way.float()[..., :height, :width] for way in ways]
        frame = given[0].unsqueeze(1)  # [c, 1, h, w]: a film of one picture
        frames = [frame] * len(texts)
        added = self._residuals(frames, time, texts, sigma)
        named = {"controlnet_block_samples": added} if added else {}
        made: list[Tensor] = self._transformer(frames, time, texts, return_dict=False, **named)[0]
        return [-one.float()[None, :, 0, :height, :width] for one in made]

    def _residuals(self, frames: list[Tensor], time: Tensor, texts: list[Tensor], sigma: float) -> dict[int, Tensor]:
        """What all ControlNets add, by layer."""
        total: dict[int, Tensor] = {}
        for control in self._controls:
            for layer, one in control.residuals(self._transformer, frames, time, texts, sigma).items():
                total[layer] = total[layer] + one if layer in total else one
        return total


def _padded(text: Tensor) -> int:
    return -(-len(text) // PADDED)
