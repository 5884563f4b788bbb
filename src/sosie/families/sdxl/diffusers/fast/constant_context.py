"""What stays the same over the steps of one image, computed once: keys and values of cross-attention.

Text and identity tokens do not change while an image is denoised, so neither do `to_k` and `to_v` of
them in any layer; stock diffusers computes them again in every step, and the projection of identity
embeddings too. Decoupled attention (IP-Adapter, Ye et al. 2023, arXiv:2308.06721) adds
`scale * attention(q, k_ip, v_ip)`; the scale is folded into `v_ip` here, equal up to rounding.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from sosie.families.sdxl.diffusers.fast.parts import Attention, Denoiser


class SelfAttention:
    """An attention processor with one product for queries, keys and values.

    `weight` is [3 x inner, channels]: its rows are those of `to_q`, `to_k`, `to_v`.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self, attn: Attention, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        """[batch, tokens, channels] to the same shape."""
        batch, tokens = hidden_states.shape[:2]
        joined = functional.linear(hidden_states, self.weight).view(batch, tokens, 3, attn.heads, -1)
        query, key, value = (joined[:, :, part].transpose(1, 2) for part in range(3))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return attn.to_out[0](mixed.transpose(1, 2).reshape(batch, tokens, -1))


class CrossAttention:
    """An attention processor that reads keys and values from buffers, one pair a source of tokens.

    Each buffer is [batch, heads, tokens, channels of a head]; what the sources give is added up.
    """

    def __init__(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        self.keys = list(keys)
        self.values = list(values)

    def __call__(self, attn: Attention, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        """[batch, tokens, channels] to the same shape; the context passed in is not read."""
        batch, tokens = hidden_states.shape[:2]
        query = attn.to_q(hidden_states).view(batch, tokens, attn.heads, -1).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(query, self.keys[0], self.values[0])
        for key, value in zip(self.keys[1:], self.values[1:], strict=True):
            mixed = mixed + functional.scaled_dot_product_attention(query, key, value)
        return attn.to_out[0](mixed.transpose(1, 2).reshape(batch, tokens, -1))


def attentions(model: Denoiser) -> list[tuple[str, Attention]]:
    """Every attention layer with its name. Those called `attn2` attend to the context."""
    named = model.named_modules()
    return [(name, cast(Attention, module)) for name, module in named if type(module).__name__ == "Attention"]


class ConstantContext:
    """Keys and values of one model for one shape of its tokens, in buffers whose addresses stay."""

    def __init__(self, model: Denoiser) -> None:
        self._model = model
        self._layers = [layer for name, layer in attentions(model) if name.endswith("attn2")]
        self.processors: list[CrossAttention] = []
        self._stamp: tuple[object, ...] = ()
        self._kept: tuple[object, ...] = ()

    def update(self, states: Tensor, identity: Sequence[Tensor]) -> bool:
        """Fills the buffers if tokens, scales or projections changed since; says whether they did.

        `states` is [batch, tokens, channels]; `identity` the image embeddings of the identity guides.
        """
        settings = _projection_settings(self._model)
        tensors = (states, *identity, *(value for value in settings if isinstance(value, Tensor)))
        plain = (value for value in settings if not isinstance(value, Tensor))
        now = (*map(stamp, tensors), *plain, *scales(self._layers))
        if now == self._stamp:
            return False
        self._fill(states, list(identity))
        self._stamp, self._kept = now, tensors  # kept alive: an id is not given twice
        return True

    def _fill(self, states: Tensor, identity: list[Tensor]) -> None:
        text, tokens = states, list[Tensor]()
        if identity:
            text, tokens = self._model.process_encoder_hidden_states(states, {"image_embeds": identity})
        filled = [list(_pairs(layer, text, tokens)) for layer in self._layers]
        if not self.processors:
            self.processors = [
                CrossAttention([key.contiguous() for key, _ in pairs], [value.contiguous() for _, value in pairs])
                for pairs in filled
            ]
            return
        for processor, pairs in zip(self.processors, filled, strict=True):
            for index, (key, value) in enumerate(pairs):
                processor.keys[index].copy_(key)
                processor.values[index].copy_(value)

    @contextmanager
    def installed(self) -> Generator[None]:
        """The model's cross-attention reads the buffers inside, and is as before after."""
        before = [layer.processor for layer in self._layers]
        for layer, processor in zip(self._layers, self.processors, strict=True):
            layer.set_processor(processor)
        self._model.process_encoder_hidden_states = _as_given
        try:
            yield
        finally:
            del self._model.process_encoder_hidden_states
            for layer, processor in zip(self._layers, before, strict=True):
                layer.set_processor(processor)


def scales(layers: Sequence[Attention]) -> tuple[object, ...]:
    """The scales of the identity guides in every layer."""
    return tuple(value for layer in layers for value in getattr(layer.processor, "scale", ()))


def _as_given(encoder_hidden_states: Tensor, added_cond_kwargs: object) -> Tensor:  # noqa: ARG001
    """In the place of the projection of identity embeddings, whose result is cached."""
    return encoder_hidden_states


def _projection_settings(model: Denoiser) -> list[object]:
    """What the projections of identity embeddings hold beside their weights (FaceID Plus)."""
    layers = getattr(getattr(model, "encoder_hid_proj", None), "image_projection_layers", ())
    names = ("clip_embeds", "shortcut", "shortcut_scale")
    return [getattr(layer, name, None) for layer in layers for name in names]


def _pairs(layer: Attention, text: Tensor, tokens: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Key and value of the text, then of each identity guide."""
    yield _heads(layer, layer.to_k(text)), _heads(layer, layer.to_v(text))
    guide = layer.processor
    strengths: Sequence[float] = getattr(guide, "scale", ())
    keys: Sequence[nn.Linear] = getattr(guide, "to_k_ip", ())
    values: Sequence[nn.Linear] = getattr(guide, "to_v_ip", ())
    for source, scale, to_k, to_v in zip(tokens, strengths, keys, values, strict=True):
        yield _heads(layer, to_k(source)), _heads(layer, to_v(source) * scale)


def _heads(layer: Attention, projected: Tensor) -> Tensor:
    """[batch, ..., inner] as [batch, heads, tokens, channels of a head]."""
    batch, inner = projected.shape[0], projected.shape[-1]
    return projected.view(batch, -1, layer.heads, inner // layer.heads).transpose(1, 2)


def stamp(tensor: Tensor) -> object:
    """What changes when a tensor is another one or was written to; never equal for inference tensors."""
    return object() if tensor.is_inference() else (id(tensor), tensor._version)
