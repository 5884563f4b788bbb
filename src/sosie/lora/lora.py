"""The noun `Lora`: a LoRA file, known from its header, its metadata and its alpha scalars alone."""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from sosie.core.errors import BadModelError
from sosie.files.safetensors import Header, read_header
from sosie.lora.adapters import Adapter, group
from sosie.lora.layouts import Fusion, Layout, Naming
from sosie.lora.modules import Table, table_of, tables
from sosie.lora.training import Training, plain, read_training

MAX_ALPHAS = 20_000
"""Most alpha scalars that are read from one file; the largest known LoRAs have about 1,500."""

MOSTLY = 5 / 6
"""At least this share of a LoRA's tensors is named so; an IP-Adapter FaceID, which has LoRAs inside, stays below."""

AlphaSource = Literal["key", "metadata", "none"]


@dataclass(frozen=True)
class Alpha:
    """An adapter's alpha and where it stands. Without one every reader takes alpha = rank."""

    value: float
    source: AlphaSource


@dataclass(frozen=True)
class Lora:
    """A LoRA file.

    `family` is `zimage`, `sdxl`, or empty if unknown; then `nearest` (a title, maybe empty) and
    `because` say what was seen. `variant` is `base`, or `reduced` if the shapes are smaller than
    the family's. `alphas` are the values of the alpha tensors by name. `strangers` are tensors
    whose names are no LoRA's. `start` is where the tensors' bytes begin in the file.
    """

    path: Path
    header: Header
    family: str
    variant: str
    nearest: str
    because: str
    layout: Layout
    adapters: tuple[Adapter, ...]
    strangers: tuple[str, ...]
    alphas: Mapping[str, float]
    training: Training
    start: int

    @property
    def algorithms(self) -> tuple[str, ...]:
        """Algorithms by name (`lora`, `loha`, `lokr`, `diff`, `dora`, `other`), the most frequent first."""
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

    def alpha(self, adapter: Adapter) -> Alpha:
        """An adapter's alpha: its own tensor, else diffusers' metadata, else the rank.

        rsLoRA's alpha / sqrt(rank) is given as the alpha that means the same without it.
        """
        if "alpha" in adapter.keys and adapter.keys["alpha"] in self.alphas:
            return Alpha(self.alphas[adapter.keys["alpha"]], "key")
        stored = self.training.peft.get(adapter.prefix.part)
        if stored is not None and adapter.algorithm == "lora" and adapter.rank:
            value = stored.of(adapter.targets[0].name if len(adapter.targets) == 1 else adapter.module)
            return Alpha(value * math.sqrt(adapter.rank) if stored.rslora else value, "metadata")
        return Alpha(float(adapter.rank), "none")

    def scale(self, adapter: Adapter) -> float:
        """What the product of an adapter's matrices is multiplied with: alpha / rank, or 1 for full matrices."""
        return self.alpha(adapter).value / adapter.rank if adapter.rank else 1.0


def read_lora(path: Path, trained_on: str = "", header: Header | None = None) -> Lora:
    """Reads what a LoRA is; no weight is read. `trained_on` is what the user says of its base.

    `header` is the file's, if it was read already.

    Raises `NotFoundError`, and `BadModelError` for a broken file or one that is no LoRA.
    """
    header = read_header(path) if header is None else header
    grouped = group(header)
    named, total = sum(len(adapter.keys) for adapter in grouped.adapters if adapter.style), len(header.tensors)
    if not named or named < MOSTLY * total:
        first = plain(grouped.strangers[0] if grouped.strangers else next(iter(header.tensors), "none"))
        message = f"{path} is no LoRA: {named} of its {total} tensors are named as one (not {first})"
        raise BadModelError(message, "sosie model show says what it is")
    start = _start(path)
    answer = _family(grouped.adapters)
    table = table_of(answer.family)
    adapters = grouped.adapters
    if table is not None:
        find = table.find
        adapters = tuple(a.aimed_at(find(a.prefix.part, a.module)) for a in adapters)
    return Lora(
        path=path,
        header=header,
        family=answer.family,
        variant=answer.variant,
        nearest=answer.nearest,
        because=answer.because,
        layout=_layout(adapters),
        adapters=adapters,
        strangers=grouped.strangers,
        alphas=MappingProxyType(_read_alphas(path, header, adapters, start)),
        training=read_training(header.metadata, trained_on),
        start=start,
    )


def _start(path: Path) -> int:
    with path.open("rb") as stream:
        return 8 + int.from_bytes(stream.read(8), "little")


def _read_alphas(path: Path, header: Header, adapters: Sequence[Adapter], start: int) -> dict[str, float]:
    names = [a.keys["alpha"] for a in adapters if "alpha" in a.keys]
    names = [name for name in names if math.prod(header.tensors[name].shape) == 1]
    if len(names) > MAX_ALPHAS:
        raise BadModelError(f"{path} holds {len(names):,} alpha tensors; at most {MAX_ALPHAS:,} are read")
    values: dict[str, float] = {}
    with path.open("rb") as stream:
        for name in sorted(names, key=lambda name: header.tensors[name].offsets):
            info = header.tensors[name]
            stream.seek(start + info.offsets[0])
            value = scalar(info.dtype, stream.read(info.offsets[1] - info.offsets[0]))
            if value is None:
                raise BadModelError(f"{path}: alpha {plain(name)} has the dtype {info.dtype}, expected a float")
            values[name] = value
    return values


def scalar(dtype: str, data: bytes) -> float | None:
    """One number of a float dtype from its bytes; None for another dtype."""
    if dtype == "BF16":
        dtype, data = "F32", b"\0\0" + data
    code = {"F16": "<e", "F32": "<f", "F64": "<d"}.get(dtype)
    return None if code is None or len(data) != struct.calcsize(code) else float(struct.unpack(code, data)[0])


@dataclass(frozen=True)
class _Answer:
    family: str = ""
    variant: str = ""
    nearest: str = ""
    because: str = ""


SHARE = 0.9
"""A family is known if it has at least this share of the modules; the others are strangers to it."""

FOREIGN = (
    (r"(double|single)_blocks?[._]\d|single_transformer_blocks[._]\d", "FLUX"),
    (r"transformer_blocks[._]\d+[._]attn[._]add_[qkv]_proj", "Qwen-Image"),
    (r"joint_blocks[._]\d|transformer_blocks[._]\d+[._]attn2?[._]add_", "SD3"),
    (r"(^|[._])blocks[._]\d+[._](cross|self)_attn", "Wan"),
    (r"down_blocks[._]0[._]attentions|input_blocks[._]1[._]1[._]", "SD 1.5 or SD 2"),
)
"""Names of modules of families without a table, and their titles."""


def _family(adapters: Sequence[Adapter]) -> _Answer:
    """The family whose table has (almost) all modules, judged by names first and by shapes then."""
    known = {table.family: sum(bool(table.find(a.prefix.part, a.module)) for a in adapters) for table in tables()}
    table = max(tables(), key=lambda table: known[table.family])
    share = known[table.family] / len(adapters)
    modules = "\n".join(adapter.module[:200] for adapter in adapters)
    foreign = (title for pattern, title in FOREIGN if re.search(pattern, modules, re.MULTILINE))
    if title := next(foreign, ""):
        return _Answer(nearest=title, because=f"its modules are named as those of {title}")
    if share < SHARE:
        because = f"{table.title} has {known[table.family]} of its {len(adapters)} modules"
        return _Answer(nearest=table.title if share else "", because=because)
    return _variant(table, adapters)


def _variant(table: Table, adapters: Sequence[Adapter]) -> _Answer:
    """Base if the shapes are the family's, reduced if none is larger; anything else is another family."""
    larger = smaller = 0
    for adapter in adapters:
        targets = table.find(adapter.prefix.part, adapter.module)
        if not targets or not all(adapter.shape):
            continue
        rows = sum(module.shape[0] for module in targets)
        columns = math.prod(targets[0].shape[1:])
        larger += adapter.shape[0] > rows or adapter.shape[1] > columns
        smaller += adapter.shape[0] < rows or adapter.shape[1] < columns
        if table.family == "zimage" and adapter.module.endswith("qkv") and adapter.shape[1] == 2304:
            return _Answer(nearest="Lumina 2", because="its names are Z-Image's, but its width is 2304, not 3840")
    judged = max(len(adapters), 1)
    if larger > judged * (1 - SHARE):
        because = f"{larger} of its {judged} modules are larger than {table.title}'s"
        return _Answer(nearest=table.title, because=because)
    if table.family == "sdxl" and _is_narrow(adapters):
        return _Answer(nearest="SD 1.5 or SD 2", because="its cross-attention is 768 or 1024 wide; SDXL's is 2048")
    return _Answer(table.family, "reduced" if smaller > judged / 2 else "base")


def _is_narrow(adapters: Sequence[Adapter]) -> bool:
    """True if text enters with the width of SD 1.5 or SD 2 while the images are as wide as SDXL's."""
    widths = {a.shape for a in adapters if re.search(r"attn2[._]to_[kv]$", a.module)}
    return any(rows in (640, 1280) and columns in (768, 1024) for rows, columns in widths)


def _layout(adapters: Sequence[Adapter]) -> Layout:
    namings: set[Naming] = {adapter.prefix.naming for adapter in adapters}
    naming: Naming = namings.pop() if len(namings) == 1 else "mixed"
    styles = Counter(adapter.style for adapter in adapters)
    style = styles.most_common(1)[0][0] if len(styles) == 1 else "mixed"
    if naming == "diffusers" and any(a.prefix.text == "transformer." and "alpha" in a.keys for a in adapters):
        naming = "onetrainer"
    fused = any(len(a.targets) == 3 for a in adapters)
    split = any(len(a.targets) == 1 and a.targets[0].third is not None for a in adapters)
    fusion: Fusion = "mixed" if fused and split else "fused" if fused else "split" if split else "none"
    return Layout(naming, style, fusion)
