"""What Inductor compiles of a UNet or ControlNet, and parts of them in forms that it compiles well."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from sosie.families.sdxl.diffusers.fast.parts import Denoiser

SHAPES = 64
"""Shapes that may be compiled in one process before Inductor gives up."""

SETTINGS: dict[str, Any] = {"fullgraph": True, "dynamic": False}

CHUNK = 128
"""Pixels whose sums one thread block of the first pass of a group norm makes."""


OUTPUT = "_get_output_for_continuous_inputs"
"""The method of a transformer that makes a picture of its tokens."""


class Transformer(Protocol):
    """A `Transformer2DModel`."""

    use_linear_projection: bool
    proj_out: nn.Linear


class GroupNorm(nn.Module):
    """Group normalisation (Wu and He 2018, arXiv:1803.08494) of a picture in channels-last memory.

    Sums over runs of pixels with the channels side by side, then over runs and a group's channels;
    all in fp32. PyTorch's own reduces a group at a time, whose numbers lie far apart in that layout.
    It shares the parameters of the norm that it is made from.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.groups, self.eps = norm.num_groups, norm.eps

    def forward(self, picture: Tensor) -> Tensor:
        """[batch, channels, height, width] to the same shape and type."""
        batch, channels, height, width = picture.shape
        share = channels // self.groups
        chunk = math.gcd(height * width, CHUNK)
        rows = picture.permute(0, 2, 3, 1).reshape(batch, -1, chunk, channels).float()
        sums = torch.stack([rows.sum(2), (rows * rows).sum(2)])
        mean, square = sums.view(2, batch, -1, self.groups, share).sum((2, 4)) / (share * height * width)
        inverse = torch.rsqrt((square - mean * mean).clamp_min(0) + self.eps)
        scale = inverse.repeat_interleave(share, 1) * self.weight.float()
        shift = self.bias.float() - mean.repeat_interleave(share, 1) * scale
        return (picture.float() * scale[:, :, None, None] + shift[:, :, None, None]).to(picture.dtype)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016, arXiv:1607.06450) from sums instead of running means, in fp32.

    It shares the parameters of the norm that it is made from.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, tokens, channels] to the same shape and type."""
        rows = tokens.float()
        mean = rows.mean(-1, keepdim=True)
        variance = ((rows * rows).mean(-1, keepdim=True) - mean * mean).clamp_min(0)
        normal = (rows - mean) * torch.rsqrt(variance + self.eps)
        return (normal * self.weight.float() + self.bias.float()).to(tokens.dtype)


class ToPicture(nn.Module):
    """From a transformer's tokens back to a picture, which stays in channels-last memory."""

    def __init__(self, project: nn.Module) -> None:
        super().__init__()
        self.project = project

    def forward(self, tokens: Tensor, residual: Tensor, height: int, width: int) -> Tensor:
        """[batch, tokens, channels] projected and added to a picture [batch, channels, height, width]."""
        projected = self.project(tokens)
        return projected.reshape(residual.shape[0], height, width, -1).permute(0, 3, 1, 2) + residual


EXCHANGES: Mapping[type[nn.Module], Callable[..., nn.Module]] = {nn.GroupNorm: GroupNorm, nn.LayerNorm: LayerNorm}
PLACES = ("resnets", "attentions", "transformer_blocks", "conv_norm_out")
"""Where modules are exchanged: not in the projections of identity embeddings."""


class Compiled:
    """A model whose repeating blocks are compiled, each form of them once, to be taken back by `undo`.

    Compiling a whole pass takes three times as long and made an H100 no more than 2 % faster.
    Channels last; norms and the outputs of transformers exchanged for the forms above, in 16 bits only:
    in fp32 PyTorch's own norms are more exact where a mean is far from zero.
    """

    def __init__(self, model: Denoiser) -> None:
        self._model = model
        self._before: Mapping[str, nn.Module] = {}
        model.to(memory_format=torch.channels_last)
        if model.dtype.itemsize == 2:
            self._before = _exchangeable(model)
            _put(model, {name: EXCHANGES[type(module)](module) for name, module in self._before.items()})
        self._regions = [*_repeated(model), *map(_picture, _transformers(model))]
        for region in self._regions:
            cast(Any, region).compile(**SETTINGS)

    def undo(self) -> None:
        """The model as it was."""
        for region in self._regions:
            region.__dict__.pop("_compiled_call_impl", None)
        for transformer in _transformers(self._model):
            transformer.__dict__.pop(OUTPUT, None)
        _put(self._model, self._before)
        self._model.to(memory_format=torch.contiguous_format)


@contextmanager
def room_to_compile() -> Generator[None]:
    """Inductor may compile the same code for as many shapes as `SHAPES` inside, and says nothing of caches."""
    from torch import _dynamo

    config: Any = _dynamo.config
    with config.patch(recompile_limit=SHAPES), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Dynamo detected a call to a `functools.lru_cache`")
        yield


def _exchangeable(model: Denoiser) -> dict[str, nn.Module]:
    """Norms that have another form, by name."""
    named = model.named_modules()
    return {name: part for name, part in named if type(part) in EXCHANGES and set(name.split(".")) & set(PLACES)}


def _put(model: Denoiser, modules: Mapping[str, nn.Module]) -> None:
    """Puts modules in their places in a model, by name."""
    for name, module in modules.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, module)


def _transformers(model: Denoiser) -> list[Transformer]:
    """Transformers between pictures whose last projection is linear."""
    named = (part for part in model.modules() if type(part).__name__ == "Transformer2DModel")
    return [part for part in cast("Iterator[Transformer]", named) if part.use_linear_projection]


def _picture(transformer: Transformer) -> ToPicture:
    """Puts a `ToPicture` in the place of a transformer's output."""
    made = ToPicture(transformer.proj_out)
    setattr(transformer, OUTPUT, partial(_output, made))
    return made


def _output(
    picture: ToPicture, hidden_states: Tensor, residual: Tensor, height: int, width: int, **_: object
) -> Tensor:
    return picture(hidden_states, residual, height, width)


def _repeated(model: Denoiser) -> list[nn.Module]:
    """The blocks that repeat, and group norms outside of them."""
    kinds = ("BasicTransformerBlock", "ResnetBlock2D")
    blocks = [module for module in model.modules() if type(module).__name__ in kinds]
    inside = {id(part) for block in blocks for part in block.modules()}
    norms = [module for module in model.modules() if isinstance(module, GroupNorm) and id(module) not in inside]
    return blocks + norms
