"""What the models of a family must be put together with, and the settings that they were made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The steps and the guidance (CFG) that a variant was made for, ends included."""

    variant: str
    title: str
    steps: tuple[int, int]
    cfg: tuple[float, float]


@dataclass(frozen=True)
class Partners:
    """The partners of a denoiser, and the settings it was made for.

    `encoders` are the text encoders that it takes, as (family, variant), `encoder_file` the published
    one; `latents` are the channels of its VAE, `vae_file` the published one. `guides` are the kinds of
    identity guide that somebody trained for it; `no_guide` says why there are none.

    `ranges` hold for variants that `variant_of` tells from a file's name (empty: none). `shift` is the
    timestep shift that is built in, `left_shift` the one that a ComfyUI node sets if nobody looks at it;
    0: there is none. `reference_mark` is the beginning of the tensors without which reference images
    mean nothing to it (empty: it takes none). `called` is what its files' names hold, for a file that cannot be
    read: letters and digits only, in small letters.
    """

    encoders: tuple[tuple[str, str], ...] = ()
    encoder_file: str = ""
    latents: int = 0
    vae_file: str = ""
    guides: tuple[str, ...] = ()
    no_guide: str = ""
    ranges: tuple[Range, ...] = ()
    variant_of: Callable[[str], str] = lambda _: ""
    shift: float = 0.0
    left_shift: float = 0.0
    reference_mark: str = ""
    called: str = ""
