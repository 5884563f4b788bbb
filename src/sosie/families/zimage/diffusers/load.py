"""Loads Z-Image's parts, each from where it is, offline."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
from torch import nn

from sosie.core.errors import BadModelError
from sosie.diffusion.autoencoder import autoencoder_names, is_projection
from sosie.diffusion.parts import TextEncoder, Vae
from sosie.diffusion.qwen3.load import load_qwen3
from sosie.diffusion.qwen3.tokenizer import load_tokenizer
from sosie.diffusion.weights.part import Loading, Naming, Shapes, filled, open_part, own_config
from sosie.diffusion.weights.sources import Source
from sosie.families.zimage.diffusers.configs import transformer_config, vae_config
from sosie.families.zimage.diffusers.names import transformer_names
from sosie.families.zimage.diffusers.parts import Parts, Transformer
from sosie.families.zimage.diffusers.weights import TEXT_ENCODER, TRANSFORMER, VAE
from sosie.families.zimage.packing import held_packed
from sosie.families.zimage.partners import PARTNERS
from sosie.files.foreign import read_object

__all__ = ["Files", "Loading", "load_parts", "load_text_encoder", "load_transformer", "load_vae"]

_library: Any = diffusers


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
    weights = open_part(path, TRANSFORMER)
    kind = _library.ZImageTransformer2DModel

    def build(shapes: Shapes) -> nn.Module:
        known = inspect.signature(kind.__init__).parameters
        return kind(**(own_config(weights.config, known) or transformer_config(shapes)))

    def part(source: Source, parts: int, part: int) -> Source:
        rows = weights.shapes[source.name][0] // parts
        return Source(source.name, (part * rows, (part + 1) * rows))

    shapes = transformer_names(weights.shapes, _rows)
    sources = transformer_names({name: Source(name) for name in weights.shapes}, part)
    return cast(Transformer, filled(weights, Naming(shapes, sources), build, how))


def load_text_encoder(path: Path, how: Loading) -> TextEncoder:
    """The `Qwen3Model` at `path`; a file may hold the language model's head too, which is not used."""
    return load_qwen3(open_part(path, TEXT_ENCODER), how)


def load_vae(path: Path, how: Loading) -> Vae:
    """The `AutoencoderKL` at `path`; FLUX.1's in its single file, or one with the same layout."""
    weights = open_part(path, VAE)
    kind = _library.AutoencoderKL

    def build(shapes: Shapes) -> nn.Module:
        known = inspect.signature(kind.__init__).parameters
        return kind(**(own_config(weights.config, known) or vae_config(shapes)))

    named = autoencoder_names(weights.shapes)
    shapes = {name: shape[:2] if is_projection(name) else shape for name, shape in named.items()}
    sources = autoencoder_names({name: Source(name) for name in weights.shapes})
    return cast(Vae, filled(weights, Naming(shapes, sources), build, how))


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


def _rows(shape: tuple[int, ...], parts: int, part: int) -> tuple[int, ...]:
    del part
    return (shape[0] // parts, *shape[1:])


def _shift(path: Path) -> float:
    schedule = path / "scheduler" / "scheduler_config.json"
    config = read_object(schedule, "download it again") if schedule.is_file() else {}
    shift = config.get("shift")
    return float(shift) if isinstance(shift, int | float) and shift > 0 else PARTNERS.shift
