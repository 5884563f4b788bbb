"""diffusers' `ZImageTransformer2DModel` made fast in place: the same numbers up to rounding, fewer and larger kernels.

- A picture is never batched with another nor with its negative: different lengths would need a mask, which the fast
  kernels of attention do not take.
- The refined caption, which no noise level changes, is computed once an image; the refined picture, which no caption
  changes, once a step.
- The blocks are compiled by Inductor, once for all of them; a pass is one CUDA graph.
- By choice the large products of all blocks but the first, the last and the refiners are in fp8 (W8A8).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from sosie.core.errors import EngineError
from sosie.diffusion.cuda_graph import Replay, Tensors
from sosie.diffusion.products import compiled, fast_kernels, unfit_weights
from sosie.families.zimage.diffusers.fast.computing import run_block
from sosie.families.zimage.diffusers.fast.weights import block_of, separate
from sosie.families.zimage.diffusers.parts import Transformer
from sosie.families.zimage.velocity import MULTIPLE

PATCH = "2-1"
"""The patches that the published weights know: 2 x 2 latents of one frame."""

TABLES = 8
"""Sizes of picture and caption whose rotations are kept; 2 MB each at 1024 x 1024 px."""


@dataclass(frozen=True)
class Levers:
    """What is used, apart from what always is. On a CPU all are off."""

    compile: bool = True
    graph: bool = True
    fp8: bool = False


class FastTransformer:
    """A transformer that was made fast, to be undone by `restore`.

    Weights may change in place between images (LoRAs merged into them) unless `fp8` is on. Compiled code is kept in the
    folder `cache` for the next process; what the environment names wins. Raises `EngineError` with the reason if
    it cannot be done.
    """

    def __init__(self, model: Transformer, levers: Levers = Levers(), folder: Path | None = None) -> None:
        if reason := why_not(model, levers):
            raise EngineError(f"the transformer cannot be accelerated: {reason}")
        if folder is not None:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
        self._model, self._levers = model, levers
        last = len(model.layers) - 1
        self._noise = [block_of(block) for block in model.noise_refiner]
        self._context = [block_of(block) for block in model.context_refiner]
        self.blocks = [block_of(block, fp8=levers.fp8 and 0 < place < last) for place, block in enumerate(model.layers)]
        self._block = compiled(run_block) if levers.compile else run_block
        self._refine = Replay(self._compute_picture, graphs=levers.graph)
        self._pass = Replay(self._compute, graphs=levers.graph)
        self._turns = lru_cache(TABLES)(self._make_turns)

    def read(self, states: Tensor) -> Tensor:
        """A prompt for `velocities`: refined tokens [1, n, width], n a multiple of 32.

        `states` [n, in] are those of the text encoder, its real tokens only.
        """
        model = self._model
        tokens: Tensor = model.cap_embedder(states.to(model.dtype))
        if missing := -len(tokens) % MULTIPLE:
            tokens = torch.cat([tokens, model.cap_pad_token.expand(missing, -1)])
        tokens = tokens[None]
        cosines, sines = self._turns(tokens.shape[1], 0, 0)
        for block in self._context:
            tokens = run_block(tokens, cosines, sines, None, block)
        return tokens

    def velocities(self, latents: Tensor, clean: Tensor, captions: Sequence[Tensor]) -> list[Tensor]:
        """x0 - noise under each caption, for latents [1, 16, h, w] at `clean` [1], 1 - sigma: 0 is noise.

        In the type of the model. All captions share what the noise refiner makes of the picture: attention knows places
        by their differences, so where the caption ends makes none. Only padding stands elsewhere, at 0: a picture that
        needs it is refined for each length of caption.
        """
        height, width = latents.shape[-2] // 2, latents.shape[-1] // 2
        own = height * width + -(height * width) % MULTIPLE
        made: list[Tensor] = []
        stands, picture, level = -1, latents, clean
        with fast_kernels():
            for caption in captions:
                cosines, sines = self._turns(caption.shape[1], height, width)
                here = 0 if own == height * width else caption.shape[1]
                if here != stands:
                    turns = {"cosines": cosines[:own], "sines": sines[:own]}
                    picture, level = self._refine({"latents": latents, "clean": clean, **turns})
                    stands = here
                given = {"picture": picture, "level": level, "caption": caption, "cosines": cosines, "sines": sines}
                (tokens,) = self._pass(given)
                made.append(_unpatched(tokens[0, : height * width], latents.shape))
        return made

    def restore(self) -> None:
        """The transformer as it was; to be called before its weights move or get layers beside them."""
        for block in (*self._model.noise_refiner, *self._model.context_refiner, *self._model.layers):
            separate(block)

    def _make_turns(self, caption: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines for `run_block`, of a picture of so many tokens and a caption."""
        return _turns(self._model, _positions(caption, height, width))

    def _compute_picture(self, given: Tensors) -> Sequence[Tensor]:
        """The refined tokens of the picture and the embedded noise level."""
        model, latents = self._model, given["latents"]
        channels, height, width = latents.shape[1], latents.shape[2] // 2, latents.shape[3] // 2
        level: Tensor = model.t_embedder(given["clean"] * model.t_scale).to(model.dtype)
        patches = latents[0].view(channels, height, 2, width, 2).permute(1, 3, 2, 4, 0).reshape(height * width, -1)
        picture: Tensor = model.all_x_embedder[PATCH](patches.to(model.dtype))
        if missing := -len(picture) % MULTIPLE:
            picture = torch.cat([picture, model.x_pad_token.expand(missing, -1)])
        picture = picture[None]
        for block in self._noise:
            picture = self._block(picture, given["cosines"], given["sines"], level, block)
        return [picture, level]

    def _compute(self, given: Tensors) -> Sequence[Tensor]:
        picture, level = given["picture"], given["level"]
        tokens = torch.cat([picture, given["caption"]], dim=1)
        for block in self.blocks:
            tokens = self._block(tokens, given["cosines"], given["sines"], level, block)
        return [self._model.all_final_layer[PATCH](tokens[:, : picture.shape[1]], c=level)]


def _unpatched(tokens: Tensor, shape: torch.Size) -> Tensor:
    """Tokens [h / 2 * w / 2, 64] as latents of the shape [1, 16, h, w]; memory of their own."""
    _, channels, height, width = shape
    places = tokens.view(height // 2, width // 2, 2, 2, channels)
    return places.permute(4, 0, 2, 1, 3).reshape(shape)


def why_not(model: Transformer, levers: Levers = Levers()) -> str:
    """Why a transformer cannot be made fast, or nothing."""
    if reason := unfit_weights(model, graph=levers.graph, fp8=levers.fp8):
        return reason
    if model.config.siglip_feat_dim is not None:
        return "it reads reference tokens"
    return "" if PATCH in model.all_x_embedder else f"it has no patches of {PATCH}"


def _positions(caption: int, height: int, width: int) -> Tensor:
    """Positions [n, 3] of a picture, which stands behind its caption, then of the caption; padding stands at 0."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    picture = torch.stack([torch.full_like(rows, caption + 1), rows, columns], dim=-1).flatten(0, 1)
    words = torch.zeros(caption, 3, dtype=torch.int64)
    words[:, 0] = torch.arange(1, caption + 1)
    return torch.cat([picture, torch.zeros(-len(picture) % MULTIPLE, 3, dtype=torch.int64), words])


def _turns(model: Transformer, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines [n, 1, head / 2] of positions [n, 3]."""
    angles: list[Tensor] = []
    for axis, size in enumerate(model.config.axes_dims):
        speeds = 1.0 / (model.config.rope_theta ** (torch.arange(0, size, 2, dtype=torch.float64) / size))
        angles.append(torch.outer(positions[:, axis].double(), speeds).float())
    angle = torch.cat(angles, dim=1)
    return angle.cos()[:, None].to(model.device), angle.sin()[:, None].to(model.device)
