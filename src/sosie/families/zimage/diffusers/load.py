"""Loads Z-Image's parts, each from where it is, offline; the names and shapes are checked before a number is read."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import accelerate
import diffusers
import torch
import transformers
from torch import Tensor, nn

from sosie.core.errors import BadModelError
from sosie.diffusion.loading import quiet
from sosie.diffusion.parts import Vae
from sosie.families.zimage.diffusers.configs import own_config, text_encoder_config, transformer_config, vae_config
from sosie.families.zimage.diffusers.names import transformer_names, vae_names
from sosie.families.zimage.diffusers.parts import Parts, TextEncoder, Transformer
from sosie.families.zimage.diffusers.tokenizer import load_tokenizer
from sosie.families.zimage.diffusers.weights import SHOW, Shapes, Weights, described, open_weights
from sosie.families.zimage.partners import PARTNERS
from sosie.files.foreign import read_object

_library: Any = diffusers
_language: Any = transformers
_empty: Any = accelerate.init_empty_weights

Module = TypeVar("Module")


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


def load_parts(files: Files, dtype: torch.dtype) -> Parts:
    """A whole Z-Image in `dtype` on the CPU, ready to draw or to be trained on.

    Raises `BadModelError` for a file that is not the part or does not fit the others.
    """
    transformer = load_transformer(files.transformer, dtype)
    encoder = load_text_encoder(files.text_encoder, dtype)
    vae = load_vae(files.vae, dtype)
    expect_fit(files, transformer, encoder, vae)
    return Parts(transformer, encoder, vae, load_tokenizer(files.text_encoder), _shift(files.transformer))


def load_transformer(path: Path, dtype: torch.dtype) -> Transformer:
    """The `ZImageTransformer2DModel` at `path`: a folder, a single file or a checkpoint that holds it."""
    weights = open_weights(path, "transformer")
    kind = _library.ZImageTransformer2DModel

    def build(shapes: Shapes) -> nn.Module:
        known = inspect.signature(kind.__init__).parameters
        return kind(**(own_config(weights.config, known) or transformer_config(shapes)))

    shapes = transformer_names(weights.shapes, _rows)
    return cast(Transformer, _filled(weights, shapes, build, lambda: transformer_names(weights.read(dtype), _part)))


def load_text_encoder(path: Path, dtype: torch.dtype) -> TextEncoder:
    """The `Qwen3Model` at `path`; a file may hold the language model's head too, which is not used."""
    weights = open_weights(path, "text_encoder")
    library = _language

    def build(shapes: Shapes) -> nn.Module:
        table = weights.config if weights.config.get("model_type") == "qwen3" else text_encoder_config(shapes)
        return library.Qwen3Model(library.Qwen3Config(**{**table, "use_cache": False}))

    return cast(TextEncoder, _filled(weights, weights.shapes, build, lambda: weights.read(dtype), ("lm_head.weight",)))


def load_vae(path: Path, dtype: torch.dtype) -> Vae:
    """The `AutoencoderKL` at `path`; FLUX.1's in its single file, or one with the same layout."""
    weights = open_weights(path, "vae")
    kind = _library.AutoencoderKL

    def build(shapes: Shapes) -> nn.Module:
        known = inspect.signature(kind.__init__).parameters
        return kind(**(own_config(weights.config, known) or vae_config(shapes)))

    def tensors() -> dict[str, Tensor]:
        made = vae_names(weights.read(dtype))
        return {name: tensor.flatten(1) if _is_projection(name) else tensor for name, tensor in made.items()}

    shapes = {name: shape[:2] if _is_projection(name) else shape for name, shape in vae_names(weights.shapes).items()}
    return cast(Vae, _filled(weights, shapes, build, tensors))


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


def _filled(weights: Weights, shapes: Shapes, build: Any, tensors: Any, unused: Iterable[str] = ()) -> nn.Module:
    """The module that `build` makes of the shapes, with the tensors; all of them must be there and fit."""
    try:
        with quiet(), _empty():
            module: nn.Module = build(shapes)
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
        message = f"{described(weights.path)}; its tensors make no model: {str(error)[:200]}"
        raise BadModelError(message, SHOW) from error
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    _expect_shapes(weights, {name: shape for name, shape in shapes.items() if name not in set(unused)}, wanted)
    state: Mapping[str, Tensor] = tensors()
    module.load_state_dict({name: state[name] for name in wanted}, strict=True, assign=True)
    return _with_buffers(module).eval().requires_grad_(False)


def _expect_shapes(weights: Weights, found: Shapes, wanted: Shapes) -> None:
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


def _part(tensor: Tensor, parts: int, part: int) -> Tensor:
    return tensor.chunk(parts)[part]


def _is_projection(name: str) -> bool:
    """Single files hold the projections of a VAE's attention as convolutions of 1x1."""
    return ".attentions.0.to_" in name and name.endswith(".weight")


def _shift(path: Path) -> float:
    schedule = path / "scheduler" / "scheduler_config.json"
    config = read_object(schedule, "download it again") if schedule.is_file() else {}
    shift = config.get("shift")
    return float(shift) if isinstance(shift, int | float) and shift > 0 else PARTNERS.shift
