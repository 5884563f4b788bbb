"""The parts of Z-Image in a folder of diffusers, in a file, or in a part of a file, however stored."""

from __future__ import annotations

from pathlib import Path

from sosie.diffusion.flow.memory import PartSize
from sosie.diffusion.qwen3.load import MARKS as QWEN3
from sosie.diffusion.weights.part import PartKind, open_part, part_size
from sosie.families import families
from sosie.families.zimage.packing import held_packed, stream_members
from sosie.files.model_file import identify


def described(path: Path) -> str:
    """What `path` is, in a sentence for an error."""
    return identify(path, families()).message


TRANSFORMER, TEXT_ENCODER, VAE = (
    PartKind(f"{component.replace('_', ' ')} of Z-Image", component, marks, described, stream_members)
    for component, marks in (
        ("transformer", ("cap_embedder.0.weight",)),
        ("text_encoder", QWEN3),
        ("vae", ("decoder.conv_in.weight",)),
    )
)


def part_sizes(transformer: Path, text_encoder: Path, vae: Path, number: int) -> dict[str, PartSize]:
    """What each part's weights take once loaded, `number` bytes for each that does not stay packed.

    Raises as `open_part`.
    """
    places = ((TRANSFORMER, transformer), (TEXT_ENCODER, text_encoder), (VAE, vae))
    return {kind.component: part_size(open_part(path, kind).stored, number, held_packed) for kind, path in places}
