"""What the models of a family must be put together with, and the settings that they were made for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class SamplingRange:
    """The steps and the guidance (CFG) that a variant was made for, ends included.

    A variant that is distilled to few steps loses them if it is trained: `train_instead` says on what else, and
    `train_seen` what others saw who did it.
    """

    variant: str
    title: str
    steps: tuple[int, int]
    cfg: tuple[float, float]
    train_instead: str = ""
    train_seen: str = ""


@dataclass(frozen=True)
class TextEncoders:
    """Text encoders that a model takes together, each as (family, beginning of the variant); `file` is the published.

    With `any_of` some of them are enough. ComfyUI's loaders of text encoders have a type, under which they make one
    model's states or another's of the same file: `type` is the one to set, and `also` are others that do as well; if
    there are any in `never`, all but these do. `of` begins the variants of the model that take these (empty: all).
    """

    encoders: tuple[tuple[str, str], ...]
    file: str
    type: str = ""
    also: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    any_of: bool = False
    of: str = ""

    def right(self, type_: str) -> bool:
        """Whether a loader of that type makes this model's states of them."""
        if self.never or not self.type:
            return type_ not in self.never
        return type_ in (self.type, *self.also)


@dataclass(frozen=True)
class Autoencoder:
    """A VAE that a model takes: the text of its variant up to the colon, and the published file. `of` as above."""

    kind: str
    file: str
    of: str = ""


@dataclass(frozen=True)
class Partners:
    """The partners of a denoiser, and the settings it was made for.

    `texts` and `vaes` are alternatives: it takes one of each; none means not known.

    `ranges` hold for variants that `variant_of` tells from a file's name (empty: none); `published` are the settings
    of its publisher in words. `shift` is the timestep shift that is built in, `left_shift` the one that ComfyUI's
    `shift_node` sets by default; 0: there is none. `called` is what its files' names hold, for a file that cannot be
    read: letters and digits only, in small letters. `switches_cfg`: in this process guidance can act in a part of the
    steps alone.
    """

    texts: tuple[TextEncoders, ...] = ()
    vaes: tuple[Autoencoder, ...] = ()
    ranges: tuple[SamplingRange, ...] = ()
    published: str = ""
    variant_of: Callable[[str], str] = lambda _: ""
    shift: float = 0.0
    left_shift: float = 0.0
    shift_node: str = ""
    called: str = ""
    switches_cfg: bool = False

    def texts_of(self, variant: str) -> tuple[TextEncoders, ...]:
        """The text encoders that a model of that variant takes; of one that is not known, all."""
        return tuple(one for one in self.texts if not variant or variant.startswith(one.of))

    def vaes_of(self, variant: str) -> tuple[Autoencoder, ...]:
        """The VAEs that a model of that variant takes; of one that is not known, all."""
        return tuple(one for one in self.vaes if not variant or variant.startswith(one.of))
