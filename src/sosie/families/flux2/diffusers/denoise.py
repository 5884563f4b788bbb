"""The transformer asked for one step: with guidance by words, and by references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sosie.families.flux2.diffusers.fast.transformer import FastTransformer
from sosie.families.flux2.diffusers.latents import places, reference_places, text_places, tokens
from sosie.families.flux2.diffusers.noise_level import exact_level
from sosie.families.flux2.diffusers.parts import Transformer


@dataclass(frozen=True, eq=False)
class Guidance:
    """The prompt's states [512, width], the negative one's and the scale (CFG); without guidance `negative` is None.

    `references` are latents [1, 128, h, w] that the model sees beside the picture, and `image_scale` how far their
    effect goes: 1 as it was trained, more beyond, 0 without them. `acts` says at which noise levels CFG acts.
    """

    prompt: Tensor
    negative: Tensor | None = None
    scale: float = 1.0
    references: Sequence[Tensor] = ()
    image_scale: float = 1.0
    acts: Callable[[float], bool] = lambda _: True


class Velocity:
    """What the transformer sees at a place on the way: noise minus picture, float32.

    With words t and references r it is v(t, r), and with guidance

        v(-, -) + image_scale * (v(-, r) - v(-, -)) + cfg * (v(t, r) - v(-, r))

    (Brooks et al. 2023, arXiv:2211.09800, eq. 3), where - is the negative prompt, or no reference. What cancels is not
    asked for; without CFG t stands in the place of the negative prompt.
    """

    def __init__(
        self,
        transformer: Transformer,
        guidance: Guidance,
        device: torch.device,
        fast: FastTransformer | None = None,
    ) -> None:
        self._transformer, self._guidance, self._device, self._fast = transformer, guidance, device, fast
        used = guidance.references if guidance.image_scale else ()
        self._references = torch.cat([tokens(one) for one in used], dim=1).to(device) if used else None
        self._places = reference_places(used) if used else None

    def __call__(self, latents: Tensor, sigma: float) -> Tensor:
        """Of latents [1, 128, h, w] with a share `sigma` of noise, 0 to 1."""
        guidance = self._guidance
        negative = guidance.negative if guidance.acts(sigma) else None
        base = self._ask(latents, sigma, guidance.prompt if negative is None else negative)
        seen = base
        if self._references is not None and guidance.image_scale != 1:
            bare = self._ask(latents, sigma, guidance.prompt if negative is None else negative, alone=True)
            seen = bare + guidance.image_scale * (base - bare)
        if negative is None:
            return seen
        return seen + guidance.scale * (self._ask(latents, sigma, guidance.prompt) - base)

    def _ask(self, latents: Tensor, sigma: float, states: Tensor, *, alone: bool = False) -> Tensor:
        height, width = latents.shape[-2:]
        dtype = self._transformer.dtype
        drawn = tokens(latents).to(self._device, dtype)
        where = places(height, width)
        if self._references is not None and self._places is not None and not alone:
            given = torch.cat([drawn, self._references.to(dtype)], dim=1)
            where = torch.cat([where, self._places])
        else:
            given = drawn
        level = torch.full((1,), sigma, device=self._device)
        text = states[None].to(self._device, dtype)
        if self._fast is not None:
            made = self._fast.velocity(given, text, level, where, drawn.shape[1])
        else:
            made = asked(self._transformer, given, level, text, where.to(self._device))[:, : drawn.shape[1]]
        return made.float().transpose(1, 2).reshape(latents.shape)


def asked(transformer: Any, given: Tensor, levels: Tensor, text: Tensor, where: Tensor) -> Tensor:
    """What the stock transformer says of tokens [n, k, 128] that stand at `where` [k, 4] or [n, k, 4]: [n, k, 128].

    `levels` are float32 [n], `text` the states of a prompt each [n, 512, width].
    """
    with exact_level(transformer, levels):
        made: Tensor = transformer(
            hidden_states=given,
            timestep=levels,
            encoder_hidden_states=text,
            txt_ids=text_places(text.shape[1], given.device),
            img_ids=where,
            return_dict=False,
        )[0]
    return made
