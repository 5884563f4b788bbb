"""Loads the parts of FLUX.2 klein, each from where it is, offline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import diffusers
import torch

from sosie.core.errors import BadModelError
from sosie.diffusion.autoencoder import autoencoder_naming
from sosie.diffusion.flow.memory import PartSize
from sosie.diffusion.parts import TextEncoder, Vae
from sosie.diffusion.qwen3.load import MARKS as QWEN3
from sosie.diffusion.qwen3.load import load_qwen3
from sosie.diffusion.qwen3.tokenizer import load_tokenizer
from sosie.diffusion.weights.part import (
    Loading,
    PartKind,
    builder,
    filled,
    open_part,
    part_size,
    split_rows,
)
from sosie.families import families
from sosie.families.flux2.diffusers.names import TURNED, transformer_config, transformer_names, vae_config, vae_names
from sosie.families.flux2.diffusers.parts import Parts, Transformer
from sosie.families.flux2.diffusers.text import LAYERS
from sosie.families.flux2.packing import held_packed
from sosie.families.flux2.partners import PARTNERS, STATES
from sosie.files.model_file import identify

_library: Any = diffusers


def described(path: Path) -> str:
    """What `path` is, in a sentence for an error."""
    return identify(path, families()).message


TRANSFORMER, TEXT_ENCODER, VAE = (
    PartKind(f"{component.replace('_', ' ')} of FLUX.2 klein", component, marks, described)
    for component, marks in (
        ("transformer", ("double_stream_modulation_img.linear.weight", "double_stream_modulation_img.lin.weight")),
        ("text_encoder", QWEN3),
        ("vae", ("bn.running_mean",)),
    )
)


@dataclass(frozen=True)
class Files:
    """Where the parts are: a diffusers folder for all of them, or a file each."""

    transformer: Path
    text_encoder: Path
    vae: Path

    @staticmethod
    def of(model: Path, text_encoder: Path | None = None, vae: Path | None = None) -> Files:
        """Those of `model`, but for parts that have a file of their own."""
        return Files(model, text_encoder or model, vae or model)

    def sizes(self, number: int) -> dict[str, PartSize]:
        """What each part's weights take once loaded, `number` bytes for each that does not stay packed."""
        places = ((TRANSFORMER, self.transformer), (TEXT_ENCODER, self.text_encoder), (VAE, self.vae))
        return {kind.component: part_size(open_part(path, kind).stored, number, held_packed) for kind, path in places}


def load_parts(files: Files, dtype: torch.dtype, through: str = "cpu", packed: bool = False) -> Parts:
    """A whole klein in `dtype` on the CPU, ready to draw or to be trained on.

    With `packed` the blocks' weights stay as they are stored, where that is smaller; else they become numbers, on the
    device `through`. Raises `BadModelError` for a file that is not the part or does not fit the others.
    """
    how = Loading(dtype, through, held_packed if packed else None)
    transformer = load_transformer(files.transformer, how)
    encoder = load_qwen3(open_part(files.text_encoder, TEXT_ENCODER), how)
    vae = load_vae(files.vae, how)
    expect_fit(files, transformer, encoder, vae)
    return Parts(transformer, encoder, vae, load_tokenizer(files.text_encoder))


def load_transformer(path: Path, how: Loading) -> Transformer:
    """The `Flux2Transformer2DModel` at `path`: a folder, or a single file."""
    weights = open_part(path, TRANSFORMER)
    build = builder(_library.Flux2Transformer2DModel, weights, transformer_config)
    made = filled(weights, split_rows(weights.shapes, transformer_names), build, how)
    if TURNED in weights.shapes:
        linear: Any = made.get_submodule("norm_out.linear")
        linear.weight.data = torch.cat(linear.weight.data.chunk(2)[::-1])
    return cast(Transformer, made)


def load_vae(path: Path, how: Loading) -> Vae:
    """The `AutoencoderKLFlux2` at `path`: a folder, or its single file."""
    weights = open_part(path, VAE)
    build = builder(_library.AutoencoderKLFlux2, weights, vae_config)
    return cast(Vae, filled(weights, autoencoder_naming(weights.shapes, vae_names), build, how))


def expect_fit(files: Files, transformer: Transformer, encoder: TextEncoder, vae: Vae) -> None:
    """Raises `BadModelError` where the widths of the parts differ, or the model is not a klein."""
    if transformer.config.guidance_embeds:
        message = f"{files.transformer} is FLUX.2 dev; in this process klein alone is drawn"
        raise BadModelError(message, "draw it by --engine comfy:URL --workflow FILE.json, or take klein")
    wide, wanted = len(LAYERS) * encoder.config.hidden_size, transformer.config.joint_attention_dim
    if wide != wanted:
        right = STATES.get(wanted, "its own")
        message = f"{files.text_encoder} gives states {wide} wide; {files.transformer} takes {wanted}"
        raise BadModelError(message, f"use the text encoder of this model: {right}")
    channels, expected = 4 * int(getattr(vae.config, "latent_channels", 0)), transformer.config.in_channels
    if channels != expected:
        raise BadModelError(
            f"{files.vae} has latents of {channels} channels a token; {files.transformer} draws {expected}",
            f"use the VAE of this model: {PARTNERS.vaes[0].file}",
        )
