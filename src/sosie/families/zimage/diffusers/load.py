"""Loads Z-Image's parts, each from where it is, offline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import diffusers
import torch

from sosie.core.errors import BadModelError
from sosie.diffusion.autoencoder import autoencoder_naming
from sosie.diffusion.parts import TextEncoder, Vae
from sosie.diffusion.qwen3.load import load_qwen3
from sosie.diffusion.qwen3.tokenizer import load_tokenizer
from sosie.diffusion.weights.part import Loading, builder, filled, open_part, split_rows
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
    build = builder(_library.ZImageTransformer2DModel, weights, transformer_config)
    return cast(Transformer, filled(weights, split_rows(weights.shapes, transformer_names), build, how))


def load_text_encoder(path: Path, how: Loading) -> TextEncoder:
    """The `Qwen3Model` at `path`; a file may hold the language model's head too, which is not used."""
    return load_qwen3(open_part(path, TEXT_ENCODER), how)


def load_vae(path: Path, how: Loading) -> Vae:
    """The `AutoencoderKL` at `path`; FLUX.1's in its single file, or one with the same layout."""
    weights = open_part(path, VAE)
    build = builder(_library.AutoencoderKL, weights, vae_config)
    return cast(Vae, filled(weights, autoencoder_naming(weights.shapes), build, how))


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


def _shift(path: Path) -> float:
    schedule = path / "scheduler" / "scheduler_config.json"
    config = read_object(schedule, "download it again") if schedule.is_file() else {}
    shift = config.get("shift")
    return float(shift) if isinstance(shift, int | float) and shift > 0 else PARTNERS.shift
