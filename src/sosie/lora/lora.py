"""The noun `Lora`: a LoRA file, known from its header, its metadata and its alpha scalars alone.

And what a family brings for its LoRAs: `LoraSupport`. Nothing here knows any family.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from sosie.files.safetensors import Header
from sosie.files.signature import Signed
from sosie.lora.adapters import BUNDLED, Adapter
from sosie.lora.keymap import ANY, KeyRule
from sosie.lora.layouts import Layout
from sosie.lora.modules import Table
from sosie.lora.spellings import AS_READ, Spelling
from sosie.lora.training import TrainingMetadata

AlphaSource = Literal["key", "metadata", "none"]
Result = Literal["loads", "partial", "nothing", "fails", "unknown"]


@dataclass(frozen=True)
class Alpha:
    """An adapter's alpha and where it stands. Without one every reader takes alpha = rank."""

    value: float
    source: AlphaSource


@dataclass(frozen=True)
class Outcome:
    """What a loader does: loads all, loads a part, has no effect, fails with an error, or not known.

    `dropped` are the names of the tensors that have no effect; `because` says why, empty if all load.
    """

    loader: str
    result: Result
    dropped: tuple[str, ...] = ()
    because: str = ""


@dataclass(frozen=True)
class Loader:
    """What one loader does with a family's LoRAs, and how that is known (`source`: "tried with ...")."""

    name: str
    outcome: Callable[[Lora], Outcome]
    source: str


@dataclass(frozen=True)
class Variants:
    """Variants of a family that share a header, so that only a name tells which one a LoRA was trained on.

    `titles` are their titles by name. `named` gives the variant that a model's name, its path or a user's
    word means, or empty. LoRAs of one variant are worth a try on those of its group in `kin`. `bare` are names of the
    base in small letters that tell no variant, as trainers write them.
    """

    titles: Mapping[str, str]
    named: Callable[[str], str]
    kin: tuple[tuple[str, ...], ...] = ()
    bare: tuple[str, ...] = ()

    def akin(self, variant: str) -> tuple[str, ...]:
        """The variants that a LoRA of `variant` may suit, itself first."""
        group = next((group for group in self.kin if variant in group), ())
        return (variant, *(name for name in group if name != variant))


@dataclass(frozen=True)
class Sign:
    """How LoRAs of a model without a table are known: by modules that its LoRAs have and no others do.

    `modules` is searched for in each module's name (as the file spells it, without prefix). Where `rows` or
    `columns` are given, the change of such a module must have one of them.
    """

    title: str
    modules: str
    because: str
    rows: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()

    def fits(self, adapters: Sequence[Adapter], names: str) -> bool:
        """True if one of the adapters changes such a module; `names` are the names of all, one a line."""
        if not re.search(self.modules, names, re.MULTILINE):
            return False
        return not (self.rows or self.columns) or any(map(self._has_size, adapters))

    def _has_size(self, adapter: Adapter) -> bool:
        rows, columns = adapter.shape
        sized = (not self.rows or rows in self.rows) and (not self.columns or columns in self.columns)
        return sized and re.search(self.modules, adapter.module) is not None


@dataclass(frozen=True)
class LoraSupport:
    """What a family brings for its LoRAs; what it leaves out is unknown, and never another family's.

    `table` are the modules that can be adapted, `sizes` those of the family's other sizes; without any a LoRA is never
    known to be the family's, only named by the first of `signs` as being near it. `named` is a pattern that its LoRAs'
    modules have and others' lack (empty: they are always compared). `reduced`: smaller models of the same build are
    about, which LoRAs are trained for too. `like` is a family whose LoRAs look the same: one
    that fits both is that family's, unless its metadata name this one.

    `spellings` are the layouts that can be written, by the names of `convert`; `comfy` is there without being listed.
    `keys` are the spellings that ComfyUI reads beside those that it reads of every model (`keymap`). `loaders` are
    other programs that were tried. `software` are beginnings of `ss_network_module` and who writes them.
    """

    table: Table | None = None
    sizes: tuple[Table, ...] = ()
    named: str = ""
    reduced: bool = False
    like: str = ""
    spellings: Mapping[str, Spelling] = field(default_factory=dict[str, Spelling])
    keys: tuple[KeyRule, ...] = ()
    loaders: tuple[Loader, ...] = ()
    variants: Variants | None = None
    signs: tuple[Sign, ...] = ()
    software: tuple[tuple[str, str], ...] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """The modules in each of its sizes."""
        return (self.table, *self.sizes) if self.table else ()

    @property
    def rules(self) -> tuple[KeyRule, ...]:
        """All that ComfyUI reads of its models."""
        return (*ANY, *self.keys)

    @property
    def layouts(self) -> Mapping[str, Spelling]:
        """The layouts that can be written, by name."""
        return {"comfy": AS_READ, **self.spellings} if self.table else self.spellings


class LoraFamily(Signed, Protocol):
    """A family of models as far as its LoRAs go: by its own files' marks, those are told from LoRAs."""

    @property
    def adapters(self) -> LoraSupport:
        """What it brings for its LoRAs."""
        ...


@dataclass(frozen=True)
class Lora:
    """A LoRA file.

    `known` is the family that it is for, or None; then `nearest` (a title, maybe empty) and `because`
    say what was seen. `variant` is the size of the model (`base` where there is one), or `reduced` if the shapes are
    smaller than the family's; `table` are the modules of that size. `also` are other families that it fits as well.
    `alphas` are the values of the alpha tensors by name. `strangers` are tensors whose names are no LoRA's, and
    `embeddings` those of words that were learned with it. `start` is where the tensors' bytes begin in the file.
    """

    path: Path
    header: Header
    known: LoraFamily | None
    variant: str
    table: Table | None
    also: tuple[str, ...]
    nearest: str
    because: str
    layout: Layout
    adapters: tuple[Adapter, ...]
    strangers: tuple[str, ...]
    embeddings: tuple[str, ...]
    alphas: Mapping[str, float]
    training: TrainingMetadata
    start: int

    @property
    def family(self) -> str:
        """The family's name, or empty."""
        return self.known.name if self.known else ""

    @property
    def title(self) -> str:
        """The family for people, or empty."""
        return self.known.title if self.known else ""

    @property
    def support(self) -> LoraSupport:
        """What its family brings; an empty one if the family is not known."""
        return self.known.adapters if self.known else LoraSupport()

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Algorithms by name (`layouts.NAMES`), the most frequent first."""
        counted = Counter("dora" if adapter.dora else adapter.algorithm for adapter in self.adapters)
        return tuple(name for name, _ in counted.most_common())

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks that occur, ascending; without 0."""
        return tuple(sorted({adapter.rank for adapter in self.adapters if adapter.rank}))

    @property
    def alpha_source(self) -> AlphaSource:
        """Where alpha stands: `key` before `metadata` before `none`."""
        sources = {self.alpha(adapter).source for adapter in self.adapters if adapter.rank}
        return "key" if "key" in sources else "metadata" if "metadata" in sources else "none"

    @property
    def scales(self) -> tuple[float, ...]:
        """The factors alpha / rank that occur, ascending."""
        return tuple(sorted({self.scale(adapter) for adapter in self.adapters if adapter.rank}))

    @property
    def trained_on(self) -> str:
        """The base as the user or the metadata names it, or `unknown`."""
        return self.training.base

    @property
    def words(self) -> Mapping[str, tuple[str, ...]]:
        """The words that were learned with it, each with the text encoders that have it."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.embeddings:
            word, _, encoder = name.removeprefix(BUNDLED).rpartition(".")
            found[word or encoder] = (*found.get(word or encoder, ()), encoder)
        return found

    @property
    def total(self) -> int:
        """How many tensors it has that are to change a weight."""
        return len(self.header.tensors) - len(self.embeddings)

    def alpha(self, adapter: Adapter) -> Alpha:
        """An adapter's alpha: its own tensor, else diffusers' metadata, else the rank.

        rsLoRA's alpha / sqrt(rank) is given as the alpha that means the same without it.
        """
        if "alpha" in adapter.keys and adapter.keys["alpha"] in self.alphas:
            return Alpha(self.alphas[adapter.keys["alpha"]], "key")
        stored = self.training.peft.get(adapter.prefix.component)
        if stored is not None and adapter.algorithm == "lora" and adapter.rank:
            value = stored.of(adapter.targets[0].name if len(adapter.targets) == 1 else adapter.module)
            return Alpha(value * math.sqrt(adapter.rank) if stored.rslora else value, "metadata")
        return Alpha(float(adapter.rank), "none")

    def scale(self, adapter: Adapter) -> float:
        """What the product of an adapter's matrices is multiplied with: alpha / rank, or 1 for full matrices."""
        return self.alpha(adapter).value / adapter.rank if adapter.rank else 1.0
