"""Reading a LoRA: which family it is for, its layout, its alphas. No weight is read."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import MappingProxyType

from sosie.core.errors import BadModelError
from sosie.files.regular import open_regular
from sosie.files.safetensors import Header, read_header
from sosie.files.signature import claims
from sosie.lora.adapters import Adapter, group
from sosie.lora.embeddings import embedded
from sosie.lora.layouts import Fusion, Layout, Naming
from sosie.lora.lora import Lora, LoraFamily, LoraSupport
from sosie.lora.recognise import recognise
from sosie.lora.training import base_words, plain, read_training

MAX_ALPHAS = 20_000
"""Most alpha scalars that are read from one file; the largest known LoRAs have about 1,500."""

MOSTLY = 5 / 6
"""At least this share of a LoRA's tensors is named so; an IP-Adapter FaceID, which has LoRAs inside, stays below."""


def read_lora(path: Path, families: Iterable[LoraFamily], trained_on: str = "", header: Header | None = None) -> Lora:
    """Reads what a LoRA is; no weight is read. `families` are those that it can be known as.

    `trained_on` is what the user says of its base. `header` is the file's, if it was read already.
    Raises `NotFoundError`, and `BadModelError` for a broken file or one that is no LoRA.
    """
    header, families = read_header(path) if header is None else header, tuple(families)
    grouped = group(header)
    named = sum(len(adapter.keys) for adapter in grouped.adapters if adapter.style)
    total = len(header.tensors) - len(grouped.embeddings)
    if not named or named < MOSTLY * total:
        first = plain(grouped.strangers[0] if grouped.strangers else next(iter(header.tensors), "none"))
        message = f"{path} is no LoRA: {named} of its {total} tensors are named as one (not {first})"
        if vectors := embedded(header):
            message = f"{path} is no LoRA but an embedding (textual inversion): {', '.join(vectors)}"
        raise BadModelError(message, f"sosie doctor {path} says what it is")
    if grouped.strangers and (known := claims(header, families)):
        what = f"{known[0].part.role} of family {known[0].family} ({known[0].variant})"
        raise BadModelError(f"{path} is no LoRA but {what}, whose tensors are named like one's", f"sosie doctor {path}")
    start = _start(path)
    answer = recognise(grouped.adapters, families, f"{trained_on} {base_words(header.metadata)}")
    support = answer.family.adapters if answer.family else LoraSupport()
    adapters = grouped.adapters
    if answer.table is not None:
        find = answer.table.find
        adapters = tuple(a.aimed_at(find(a.prefix.component, a.module)) for a in adapters)
    bare = support.variants.bare if support.variants else ()
    return Lora(
        path=path,
        header=header,
        known=answer.family,
        variant=answer.variant,
        table=answer.table,
        also=answer.also,
        nearest=answer.nearest,
        because=answer.because,
        layout=_layout(adapters),
        adapters=adapters,
        strangers=grouped.strangers,
        embeddings=grouped.embeddings,
        alphas=MappingProxyType(_read_alphas(path, header, adapters, start)),
        training=read_training(header.metadata, trained_on, bare, support.software),
        start=start,
    )


def _start(path: Path) -> int:
    with open_regular(path) as stream:
        return 8 + int.from_bytes(stream.read(8), "little")


def _read_alphas(path: Path, header: Header, adapters: Sequence[Adapter], start: int) -> dict[str, float]:
    names = [a.keys["alpha"] for a in adapters if "alpha" in a.keys]
    names = [name for name in names if math.prod(header.tensors[name].shape) == 1]
    if len(names) > MAX_ALPHAS:
        raise BadModelError(f"{path} holds {len(names):,} alpha tensors; at most {MAX_ALPHAS:,} are read")
    values: dict[str, float] = {}
    with open_regular(path) as stream:
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


def _layout(adapters: Sequence[Adapter]) -> Layout:
    namings: set[Naming] = {adapter.prefix.naming for adapter in adapters}
    naming: Naming = namings.pop() if len(namings) == 1 else "mixed"
    styles = Counter(adapter.style for adapter in adapters)
    style = styles.most_common(1)[0][0] if len(styles) == 1 else "mixed"
    if naming == "diffusers" and any(a.prefix.text == "transformer." and "alpha" in a.keys for a in adapters):
        naming = "onetrainer"
    fused = any(len(a.targets) > 1 for a in adapters)
    split = any(len(a.targets) == 1 and a.targets[0].part is not None for a in adapters)
    fusion: Fusion = "mixed" if fused and split else "fused" if fused else "split" if split else "none"
    return Layout(naming, style, fusion)
