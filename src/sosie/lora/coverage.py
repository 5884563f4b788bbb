"""How much of a LoRA meets a base: which tensors match, which do not, and what stays untouched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sosie.core.errors import BadModelError, UsageError
from sosie.files.safetensors import Header, TensorInfo, read_header
from sosie.lora.adapters import Adapter
from sosie.lora.loaders import is_judged
from sosie.lora.lora import Lora
from sosie.lora.modules import Module, Table, underscored

FLOATS = ("F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2")
"""Dtypes with one number an element; a packed weight's shape says nothing."""

MAX_SHARDS = 100
"""Most files of one model whose headers are read."""

BASE_PREFIXES = ("model.diffusion_model.", "diffusion_model.")


@dataclass(frozen=True)
class Coverage:
    """`matched` of `total` tensors of the LoRA change a weight of the base.

    `misfits` are modules (as the LoRA writes them) that the base has with another shape,
    `foreign` those that it does not have. `untouched` are weights of the base's denoiser that
    could be adapted and are not, as the base writes them. Tensors without a known ending count as
    not matched. `unjudged` are tensors of norms, of biases alone, and of a text encoder that is not listed,
    `unreached` those of text encoders where a model alone is given; neither are in `total`.
    """

    matched: int
    total: int
    misfits: tuple[str, ...]
    foreign: tuple[str, ...]
    untouched: tuple[str, ...]
    unjudged: int = 0
    unreached: int = 0

    @property
    def message(self) -> str:
        """`480 of 480 tensors match`."""
        return f"{self.matched} of {self.total} tensors match"


def base_header(path: Path) -> Header:
    """The tensors of a base's denoiser: of its file, or of the diffusers folder's `transformer` or `unet`.

    Raises `NotFoundError` or `BadModelError`.
    """
    if not path.is_dir():
        return read_header(path)
    folder = next((path / name for name in ("transformer", "unet") if (path / name).is_dir()), path)
    files = sorted(folder.glob("*.safetensors"))
    whole = [file for file in files if ".fp16" not in file.name] or files
    if not whole:
        raise BadModelError(f"{folder} holds no .safetensors file", "give the model's file")
    tensors: dict[str, TensorInfo] = {}
    for file in whole[:MAX_SHARDS]:
        tensors |= read_header(file).tensors
    return Header(tensors, {})


def coverage(lora: Lora, base: Header | Table | None = None, denoiser_only: bool = False) -> Coverage:
    """How a LoRA covers a base: the header of its denoiser or checkpoint, or a family's table.

    By default the base is the LoRA's own family; a reduced one is then judged by names alone. Text
    encoders are judged by the family's table, whatever the base; with `denoiser_only` they are not reached. Raises
    `UsageError` if the family is not known.
    """
    table = base if isinstance(base, Table) else lora.table
    against = table if base is None else base
    if against is None:
        raise UsageError(f"{lora.path} is for an unknown model, so it is not compared", "give the base model's file")
    weights = _Weights(against, table)
    if base is None and lora.variant == "reduced":
        weights.forget_shapes()
    matched, unjudged, unreached, misfits, foreign, touched = 0, 0, 0, list[str](), list[str](), set[str]()
    for adapter in lora.adapters:
        if denoiser_only and adapter.prefix.component != "denoiser":
            unreached += len(adapter.keys)
            continue
        if not is_judged(lora, adapter):
            unjudged += len(adapter.keys)
            continue
        found = weights.of(adapter)
        if found is None:
            foreign.append(adapter.name)
        elif not _fits(adapter, found[1]):
            misfits.append(adapter.name)
        else:
            matched += len(adapter.keys)
            touched.update(found[0])
    untouched = tuple(name for name in weights.names if name not in touched)
    total = lora.total - unjudged - unreached
    return Coverage(matched, total, tuple(misfits), tuple(foreign), untouched, unjudged, unreached)


def _fits(adapter: Adapter, shape: tuple[int, ...]) -> bool:
    """True if the adapter's change has this shape; an empty one is not judged, nor an axis that is not known."""
    if adapter.problem:
        return False
    if not shape:
        return True
    rows, columns = adapter.shape
    return rows in (0, shape[0]) and columns in (0, math.prod(shape[1:]))


class _Weights:
    """The weights of a base by their names without prefix and `.weight`."""

    def __init__(self, base: Header | Table, table: Table | None) -> None:
        self._shapes: dict[str, tuple[int, ...]] = {}
        if isinstance(base, Table):
            self._shapes = {m.name: m.shape for m in base.modules if m.component == "denoiser"}
        else:
            prefix = next((start for start in BASE_PREFIXES if any(n.startswith(start) for n in base.tensors)), "")
            for name, info in base.tensors.items():
                if name.startswith(prefix) and name.endswith(".weight") and len(info.shape) > 1:
                    stem = name.removeprefix(prefix).removesuffix(".weight")
                    self._shapes[stem] = info.shape if info.dtype in FLOATS else ()
        self._flat = {underscored(name): name for name in self._shapes}
        self._table = table
        self._judges = True

    def forget_shapes(self) -> None:
        """From now on names alone count."""
        self._shapes = dict.fromkeys(self._shapes, ())
        self._judges = False

    @property
    def names(self) -> Sequence[str]:
        """All names, in the order of the base."""
        return list(self._shapes)

    def of(self, adapter: Adapter) -> tuple[list[str], tuple[int, ...]] | None:
        """The names of the weights that an adapter changes and the shape of them all, or None."""
        component = adapter.prefix.component
        if component != "denoiser":
            found = self._table.find(component, adapter.module) if self._table else ()
            return ([], found[0].shape if self._judges else ()) if found else None
        targets = self._table.find(component, adapter.module) if self._table else ()
        if not targets:
            name = self._flat.get(underscored(adapter.module))
            return None if name is None else ([name], self._shapes[name])
        whole = self._shapes.get(targets[0].single)
        if whole is not None and len(targets) > 1:
            return [targets[0].single], whole
        parts = [self._module(module) for module in targets]
        shapes = [shape for part in parts if part is not None for shape in [part[1]]]
        if len(shapes) < len(parts):
            return None
        names = [part[0] for part in parts if part is not None]
        if not all(shapes):
            return names, ()
        return names, (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def _module(self, module: Module) -> tuple[str, tuple[int, ...]] | None:
        """A module's weight in the base: under its own name, or as a part of the single file's."""
        if module.name in self._shapes:
            return module.name, self._shapes[module.name]
        shape = self._shapes.get(module.single)
        if shape is None:
            return None
        if module.part is not None and shape:
            return module.single, (self._part_rows(module, shape[0]), *shape[1:])
        return module.single, shape

    def _part_rows(self, module: Module, rows: int) -> int:
        """The rows that a part has of a fused weight: its share of the table's; 0 if that is no whole number."""
        parts = self._table.wholes[module.component, module.single] if self._table else (module,)
        share, rest = divmod(rows * module.shape[0], sum(part.shape[0] for part in parts))
        return 0 if rest else share
