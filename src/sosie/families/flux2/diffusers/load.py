"""Loads the parts of FLUX.2 klein, each from where it is, offline."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
from torch import nn

from sosie.core.errors import BadModelError
from sosie.diffusion.autoencoder import is_projection
from sosie.diffusion.flow.memory import PartSize
from sosie.diffusion.parts import TextEncoder, Vae
from sosie.diffusion.qwen3.load import MARKS as QWEN3
from sosie.diffusion.qwen3.load import load_qwen3
from sosie.diffusion.qwen3.tokenizer import load_tokenizer
from sosie.diffusion.weights.part import (
    Loading,
    Naming,
    PartKind,
    Shapes,
    filled,
    open_part,
    own_config,
    part_size,
)
from sosie.diffusion.weights.sources import Source
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
    kind = _library.Flux2Transformer2DModel
    found = weights.shapes

    def build(shapes: Shapes) -> nn.Module:
        known = inspect.signature(kind.__init__).parameters
        return kind(**(own_config(weights.config, known) or transformer_config(shapes)))

    def part(source: Source, parts: int, part: int) -> Source:
        rows = found[source.name][0] // parts
        return Source(source.name, (part * rows, (part + 1) * rows))

    shapes = transformer_names(found, _rows)
    sources = transformer_names({name: Source(name) for name in found}, part)
    made = filled(weights, Naming(shapes, sources), build, how)
    if TURNED in found:
        linear: Any = made.get_submodule("norm_out.linear")
        linear.weight.data = torch.cat(linear.weight.data.chunk(2)[::-1])
    return cast(Transformer, made)


def load_vae(path: Path, how: Loading) -> Vae:
    """The `AutoencoderKLFlux2` at `path`: a folder, or its single file."""
    weights = open_part(path, VAE)
    kind = _library.AutoencoderKLFlux2

    def build(shapes: Shapes) -> nn.Module:
        known = inspect.signature(kind.__init__).parameters
        return kind(**(own_config(weights.config, known) or vae_config(shapes)))

    named = vae_names(weights.shapes)
    shapes = {name: shape[:2] if is_projection(name) else shape for name, shape in named.items()}
    sources = vae_names({name: Source(name) for name in weights.shapes})
    return cast(Vae, filled(weights, Naming(shapes, sources), build, how))


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


def _rows(shape: tuple[int, ...], parts: int, part: int) -> tuple[int, ...]:
    del part
    return (shape[0] // parts, *shape[1:])
