"""What the models of a family must be put together with, and the settings that they were made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class SamplingRange:
    """The steps and the guidance (CFG) that a variant was made for, ends included.

    A variant that is distilled to few steps loses them if it is trained: `train_instead` says on what else.
    """

    variant: str
    title: str
    steps: tuple[int, int]
    cfg: tuple[float, float]
    train_instead: str = ""


@dataclass(frozen=True)
class Partners:
    """The partners of a denoiser, and the settings it was made for.

    `encoders` are the text encoders that it takes, as (family, variant), `encoder_file` the published
    one; `latents` are the channels of its VAE, `vae_file` the published one.

    `ranges` hold for variants that `variant_of` tells from a file's name (empty: none); `published` are the settings
    of its publisher in words. `shift` is the timestep shift that is built in, `left_shift` the one that ComfyUI's
    `shift_node` sets by default; 0: there is none. `called` is what its files' names hold, for a file that cannot be
    read: letters and digits only, in small letters.
    """

    encoders: tuple[tuple[str, str], ...] = ()
    encoder_file: str = ""
    latents: int = 0
    vae_file: str = ""
    ranges: tuple[SamplingRange, ...] = ()
    published: str = ""
    variant_of: Callable[[str], str] = lambda _: ""
    shift: float = 0.0
    left_shift: float = 0.0
    shift_node: str = ""
    called: str = ""
