"""diffusers' `Flux2Transformer2DModel` made fast in place: the same numbers up to rounding, fewer and larger kernels.

- A picture is never batched with its negative: at 1024 px one fills a GPU.
- The blocks of each kind are compiled by Inductor, once for all of them; a pass is one CUDA graph for each number of
  tokens.
- By choice the large products of all blocks but the first and the last of each kind are in fp8 (W8A8).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sosie.core.errors import EngineError
from sosie.diffusion import products
from sosie.diffusion.cuda_graph import Replay, Tensors
from sosie.diffusion.products import compiled, fast_kernels, unfit_weights
from sosie.families.flux2.diffusers.fast.computing import (
    double_of,
    picture_qkv,
    run_double,
    run_single,
    single_of,
    text_qkv,
)
from sosie.families.flux2.diffusers.latents import text_places
from sosie.families.flux2.diffusers.noise_level import embedded
from sosie.families.flux2.diffusers.parts import Transformer

TABLES = 8
"""Layouts of text, picture and references whose rotations are kept; 2 MB each at 1024 x 1024 px."""


@dataclass(frozen=True)
class Levers:
    """What is used, apart from what always is. On a CPU all are off."""

    compile: bool = True
    graph: bool = True
    fp8: bool = False


class FastTransformer:
    """A transformer that was made fast, to be undone by `restore`.

    Weights may change in place between images (LoRAs merged into them) unless `fp8` is on. Compiled code is kept in
    `folder` for the next process; what the environment names wins. Raises `EngineError` with the reason if it cannot be
    done.
    """

    def __init__(self, model: Transformer, levers: Levers = Levers(), folder: Path | None = None) -> None:
        if reason := why_not(model, levers):
            raise EngineError(f"the transformer cannot be accelerated: {reason}")
        if folder is not None:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
        self._model = model
        doubles, singles = model.transformer_blocks, model.single_transformer_blocks
        self.doubles = [double_of(one, fp8=levers.fp8 and _inner(at, doubles)) for at, one in enumerate(doubles)]
        self.singles = [single_of(one, fp8=levers.fp8 and _inner(at, singles)) for at, one in enumerate(singles)]
        self._double = compiled(run_double) if levers.compile else run_double
        self._single = compiled(run_single) if levers.compile else run_single
        self._pass = Replay(self._compute, graphs=levers.graph)
        self._turns = lru_cache(TABLES)(self._make_turns)

    def velocity(self, tokens: Tensor, text: Tensor, level: Tensor, where: Tensor, drawn: int) -> Tensor:
        """Noise - x0 of the first `drawn` of tokens [1, n, 128], which stand at `where` [n, 4], on the CPU.

        `text` [1, 512, in] are a prompt's states, `level` [1] how much noise there is, 0 to 1. The next call overwrites
        it.
        """
        cosines, sines = self._turns(text.shape[1], _Places(where))
        given = {"tokens": tokens, "text": text, "level": level, "cosines": cosines, "sines": sines}
        with fast_kernels():
            return self._pass(given)[0][:, :drawn]

    def restore(self) -> None:
        """The transformer as it was; to be called before its weights move or get layers beside them."""
        for block in self._model.transformer_blocks:
            products.separate([*picture_qkv(block.attn), *text_qkv(block.attn)])

    def _make_turns(self, words: int, where: _Places) -> tuple[Tensor, Tensor]:
        """Cosines and sines [n, 1, head / 2] of the text's places, then the pictures'."""
        config = self._model.config
        whole = torch.cat([text_places(words), where.tensor]).double()
        angles: list[Tensor] = []
        for axis, size in enumerate(config.axes_dims_rope):
            steps = torch.arange(0, size, 2, dtype=torch.float64) / size
            angles.append(torch.outer(whole[:, axis], 1.0 / config.rope_theta**steps).float())
        angle = torch.cat(angles, dim=1)
        return angle.cos()[:, None].to(self._model.device), angle.sin()[:, None].to(self._model.device)

    def _compute(self, given: Tensors) -> Sequence[Tensor]:
        model: Any = self._model
        level = embedded(model, given["level"])
        of_picture, of_text, of_both = (
            part(level).unsqueeze(1)
            for part in (
                model.double_stream_modulation_img,
                model.double_stream_modulation_txt,
                model.single_stream_modulation,
            )
        )
        picture, text = model.x_embedder(given["tokens"]), model.context_embedder(given["text"])
        cosines, sines = given["cosines"], given["sines"]
        for block in self.doubles:
            picture, text = self._double(picture, text, (of_picture, of_text), cosines, sines, block)
        tokens = torch.cat([text, picture], dim=1)
        for block in self.singles:
            tokens = self._single(tokens, of_both, cosines, sines, block)
        return [model.proj_out(model.norm_out(tokens[:, text.shape[1] :], level))]


class _Places:
    """Places as a key of a cache: equal where the numbers are."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._key = tensor.numpy().tobytes()

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Places) and self._key == other._key


def why_not(model: Transformer, levers: Levers = Levers()) -> str:
    """Why a transformer cannot be made fast, or nothing."""
    return unfit_weights(model, graph=levers.graph, fp8=levers.fp8)


def _inner(place: int, blocks: Sequence[object]) -> bool:
    return 0 < place < len(blocks) - 1
