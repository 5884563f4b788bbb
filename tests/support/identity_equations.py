"""The equations of identity guides in plain torch, independent of diffusers, by the names in published files.

IP-Adapter (arXiv:2308.06721) eq. 5; InstantID (arXiv:2401.07519); FaceID Plus v2 (tencent-ailab/IP-Adapter).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def apart(one: Any, other: Any) -> float:
    """The largest difference relative to the largest number."""
    return float((one - other).abs().max() / other.abs().max())


def linear(x: Any, weights: Mapping[str, Any], name: str) -> Any:
    product = x @ weights[f"{name}.weight"].T
    return product + weights[f"{name}.bias"] if f"{name}.bias" in weights else product


def gelu(x: Any) -> Any:
    import torch

    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def layer_norm(x: Any, weights: Mapping[str, Any], name: str) -> Any:
    centred = x - x.mean(-1, keepdim=True)
    normal = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return normal * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attend(query: Any, key: Any, value: Any, heads: int) -> Any:
    """softmax(q k^T / sqrt(d)) v, [batch, tokens, width]."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
    return (weights @ value).transpose(1, 2).flatten(2)


def resampled(w: Mapping[str, Any], latents: Any, x: Any) -> Any:
    """Four layers in which `latents` attend to `x` and themselves, then the way out."""
    import torch

    x = linear(x, w, "proj_in")
    for layer in (f"layers.{place}" for place in range(4)):
        seen, own = layer_norm(x, w, f"{layer}.0.norm1"), layer_norm(latents, w, f"{layer}.0.norm2")
        query = linear(own, w, f"{layer}.0.to_q")
        key, value = linear(torch.cat([seen, own], 1), w, f"{layer}.0.to_kv").chunk(2, -1)
        latents = latents + linear(attend(query, key, value, query.shape[-1] // 64), w, f"{layer}.0.to_out")
        hidden = gelu(linear(layer_norm(latents, w, f"{layer}.1.0"), w, f"{layer}.1.1"))
        latents = latents + linear(hidden, w, f"{layer}.1.3")
    return layer_norm(linear(latents, w, "proj_out"), w, "norm_out")


def instantid_tokens(w: Mapping[str, Any], face: Any) -> Any:
    """Face embeddings [n, 512] to [n, 16, context]; `w` without `image_proj.`."""
    return resampled(w, w["latents"].expand(len(face), -1, -1), face[:, None])


def faceid_tokens(w: Mapping[str, Any], face: Any) -> Any:
    """Face embeddings [n, 512] to [n, tokens, context]."""
    wide = linear(gelu(linear(face, w, "proj.0")), w, "proj.2")
    return layer_norm(wide.unflatten(-1, (-1, len(w["norm.weight"]))), w, "norm")


def faceid_plus_tokens(w: Mapping[str, Any], face: Any, clip: Any, shortcut: float = 1.0) -> Any:
    """x + s * resampler(x, clip): face embeddings and CLIP's states [n, patches, width] to [n, 4, context]."""
    inner = {name.removeprefix("perceiver_resampler."): tensor for name, tensor in w.items() if "perceiver" in name}
    x = faceid_tokens(w, face)
    return x + shortcut * resampled(inner, x, clip)


class Decoupled:
    """Attention to the text plus, for each identity, `scale` times attention to its tokens, set from outside."""

    def __init__(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        self.pairs = pairs
        self.given: Sequence[tuple[Any, float]] = ()

    def __call__(self, attn: Any, hidden: Any, encoder_hidden_states: Any = None, **_: Any) -> Any:
        query, text = attn.to_q(hidden), encoder_hidden_states
        mixed = attend(query, attn.to_k(text), attn.to_v(text), attn.heads)
        for (key, value), (tokens, scale) in zip(self.pairs, self.given, strict=True):
            mixed = mixed + scale * attend(query, tokens @ key.T, tokens @ value.T, attn.heads)
        return attn.to_out[0](mixed)


def decouple(unet: Any, adapters: Sequence[Mapping[str, Any]]) -> None:
    """Gives every cross-attention its part of each adapter, by its place among all attention layers."""
    processors = dict(unet.attn_processors)
    for place, name in enumerate(processors):
        if name.endswith("attn2.processor"):
            keys = [f"ip_adapter.{place}.to_{letter}_ip.weight" for letter in "kv"]
            processors[name] = Decoupled([(adapter[keys[0]], adapter[keys[1]]) for adapter in adapters])
    unet.set_attn_processor(processors)


def attend_to(unet: Any, given: Sequence[tuple[Any, float]]) -> None:
    """Sets the identities' tokens [batch, tokens, context] and scales."""
    for processor in unet.attn_processors.values():
        if isinstance(processor, Decoupled):
            processor.given = given
