"""Loads Z-Image's parts, each from where it is, offline; the names and shapes are checked before a number is read."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import accelerate
import diffusers
import torch
import transformers
from torch import nn

from sosie.core.errors import BadModelError
from sosie.diffusion.loading import quiet
from sosie.diffusion.parts import Vae
from sosie.diffusion.weights.filling import fill
from sosie.diffusion.weights.language import llama_cpp_sources
from sosie.diffusion.weights.sources import Source, Sources
from sosie.families.zimage.diffusers.configs import (
    blocks,
    own_config,
    text_encoder_config,
    transformer_config,
    vae_config,
)
from sosie.families.zimage.diffusers.names import transformer_names, vae_names
from sosie.families.zimage.diffusers.parts import Parts, TextEncoder, Transformer
from sosie.families.zimage.diffusers.tokenizer import load_tokenizer
from sosie.families.zimage.diffusers.weights import SHOW, PartWeights, Shapes, described, open_weights
from sosie.families.zimage.packing import held_packed
from sosie.families.zimage.partners import PARTNERS
from sosie.files.foreign import read_object

_library: Any = diffusers
_language: Any = transformers
_empty: Any = accelerate.init_empty_weights

LAYER = (
    *(f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")),
    *(f"mlp.{part}" for part in ("gate_proj", "up_proj", "down_proj")),
    *("input_layernorm", "post_attention_layernorm"),
)
"""The modules of a layer of Qwen3."""

UNUSED_TEXT = ("lm_head.weight",)


@dataclass(frozen=True)
class Files:
    """Where the parts are: a diffusers folder or a checkpoint for all of them, or a file each."""

    transformer: Path
    text_encoder: Path
    vae: Path

    @staticmethod
    def of(model: Path, text_encoder: Path | None = None, vae: Path | None = None) -> Files:
        """Those of `model`, but for parts that have a file of their own."""
        return Files(model, text_encoder or model, vae or model)


@dataclass(frozen=True)
class Loading:
    """In what precision, through which device, and which modules stay packed (None: none)."""

    dtype: torch.dtype
    through: str = "cpu"
    keep: Callable[[str], bool] | None = None


def load_parts(files: Files, dtype: torch.dtype, through: str = "cpu", packed: bool = False) -> Parts:
    """A whole Z-Image in `dtype` on the CPU, ready to draw or to be trained on.

    With `packed` the blocks' weights stay as they are stored, where that is smaller; else they become numbers, on the
    device `through`. Raises `BadModelError` for a file that is not the part or does not fit the others.
    """
    how = Loading(dtype, through, held_packed if packed else None)
    transformer = load_transformer(files.transformer, how)
    encoder = load_text_encoder(files.text_encoder, how)
    vae = load_vae(files.vae, how)
    expect_fit(files, transformer, encoder, vae)
    return Parts(transformer, encoder, vae, load_tokenizer(files.text_encoder), _shift(files.transformer))


def load_transformer(path: Path, how: Loading) -> Transformer:
    """The `ZImageTransformer2DModel` at `path`: a folder, a single file or a checkpoint that holds it."""
    weights = open_weights(path, "transformer")
    kind = _library.ZImageTransformer2DModel

    def build(shapes: Shapes) -> nn.Module:
        known = inspect.signature(kind.__init__).parameters
        return kind(**(own_config(weights.config, known) or transformer_config(shapes)))

    def part(source: Source, parts: int, part: int) -> Source:
        rows = weights.shapes[source.name][0] // parts
        return Source(source.name, (part * rows, (part + 1) * rows))

    shapes = transformer_names(weights.shapes, _rows)
    sources = transformer_names({name: Source(name) for name in weights.shapes}, part)
    return cast(Transformer, _filled(weights, Naming(shapes, sources), build, how))


def load_text_encoder(path: Path, how: Loading) -> TextEncoder:
    """The `Qwen3Model` at `path`; a file may hold the language model's head too, which is not used."""
    weights = open_weights(path, "text_encoder")
    library = _language

    def build(shapes: Shapes) -> nn.Module:
        table = weights.config if weights.config.get("model_type") == "qwen3" else text_encoder_config(shapes)
        return library.Qwen3Model(library.Qwen3Config(**{**table, "use_cache": False}))

    found = weights.shapes
    sources = _of_llama_cpp(weights) if weights.architecture else {name: Source(name) for name in found}
    sources = {name: source for name, source in sources.items() if name not in UNUSED_TEXT}
    naming = Naming({name: found[source.name] for name, source in sources.items()}, sources)
    return cast(TextEncoder, _filled(weights, naming, build, how))


def _of_llama_cpp(weights: PartWeights) -> dict[str, Source]:
    """The parameters of `Qwen3Model` in a GGUF file."""
    layers = blocks("blk", weights.shapes)
    names = ["embed_tokens.weight", "norm.weight"]
    names += [f"layers.{layer}.{module}.weight" for layer in range(layers) for module in LAYER]
    found = llama_cpp_sources(weights.architecture, names, layers)
    return {name: source for name, source in found.items() if source.name in weights.shapes}


def load_vae(path: Path, how: Loading) -> Vae:
    """The `AutoencoderKL` at `path`; FLUX.1's in its single file, or one with the same layout."""
    weights = open_weights(path, "vae")
    kind = _library.AutoencoderKL

    def build(shapes: Shapes) -> nn.Module:
        known = inspect.signature(kind.__init__).parameters
        return kind(**(own_config(weights.config, known) or vae_config(shapes)))

    shapes = {name: shape[:2] if _is_projection(name) else shape for name, shape in vae_names(weights.shapes).items()}
    sources = vae_names({name: Source(name) for name in weights.shapes})
    return cast(Vae, _filled(weights, Naming(shapes, sources), build, how))


def expect_fit(files: Files, transformer: Transformer, encoder: TextEncoder, vae: Vae) -> None:
    """Raises `BadModelError` where the widths of the parts differ."""
    wide, wanted = encoder.config.hidden_size, transformer.config.cap_feat_dim
    if wide != wanted:
        raise BadModelError(
            f"{files.text_encoder} gives states {wide} wide; {files.transformer} takes {wanted}",
            f"use the text encoder of this model: {PARTNERS.texts[0].file}",
        )
    channels, expected = cast(Any, vae.config).latent_channels, transformer.config.in_channels
    if channels != expected:
        raise BadModelError(
            f"{files.vae} has latents of {channels} channels; {files.transformer} draws {expected}",
            f"use the VAE of this model: {PARTNERS.vaes[0].file}",
        )


@dataclass(frozen=True)
class Naming:
    """Under the names of the class: the shapes of the tensors, and where they are."""

    shapes: Shapes
    sources: Sources


def _filled(weights: PartWeights, naming: Naming, build: Any, how: Loading) -> nn.Module:
    """The module that `build` makes of the shapes, with the tensors; all of them must be there and fit."""
    try:
        with quiet(), _empty():
            module: nn.Module = build(naming.shapes)
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        message = f"{described(weights.path)}; its tensors make no model: {str(error)[:200]}"
        raise BadModelError(message, SHOW) from error
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    _expect_shapes(weights, naming.shapes, wanted)
    fill(module, weights.stored, naming.sources, how.dtype, how.keep, how.through)
    return _with_buffers(module).eval().requires_grad_(False)


def _expect_shapes(weights: PartWeights, found: Shapes, wanted: Shapes) -> None:
    lacking = [name for name in wanted if name not in found]
    odd = [name for name in wanted if name in found and found[name] != wanted[name]]
    strange = [name for name in found if name not in wanted]
    for names, what in ((lacking, "lacks"), (odd, "has of another shape"), (strange, "has and should not")):
        if names:
            message = f"{described(weights.path)}; it {what} {len(names)} tensors, first {names[0][:120]}"
            raise BadModelError(message, SHOW)


def _with_buffers(module: nn.Module) -> nn.Module:
    """The module with its buffers computed: what was built without memory has none, and no file holds them."""
    for part in module.modules():
        if any(buffer.is_meta for buffer in part.buffers(recurse=False)):
            fresh = type(part)(cast(Any, part).config)
            for name, buffer in fresh.named_buffers(recurse=False):
                part.register_buffer(name, buffer, persistent=False)
    return module


def _rows(shape: tuple[int, ...], parts: int, part: int) -> tuple[int, ...]:
    del part
    return (shape[0] // parts, *shape[1:])


def _is_projection(name: str) -> bool:
    """Single files hold the projections of a VAE's attention as convolutions of 1x1."""
    return ".attentions.0.to_" in name and name.endswith(".weight")


def _shift(path: Path) -> float:
    schedule = path / "scheduler" / "scheduler_config.json"
    config = read_object(schedule, "download it again") if schedule.is_file() else {}
    shift = config.get("shift")
    return float(shift) if isinstance(shift, int | float) and shift > 0 else PARTNERS.shift
