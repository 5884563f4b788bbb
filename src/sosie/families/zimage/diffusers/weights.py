"""The tensors of one part of a model: in a folder of diffusers, in a file, or in a part of a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.core.errors import BadModelError
from sosie.families import families
from sosie.files.foreign import read_object
from sosie.files.model_file import identify, weight_files
from sosie.files.safetensors import read_header

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SHOW = "sosie model show says what it is"

PLAIN = ("BF16", "F16", "F32")
"""Types of numbers that are weights as they are."""

MARKS = {
    "transformer": "cap_embedder.0.weight",
    "text_encoder": "layers.0.self_attn.q_norm.weight",
    "vae": "decoder.conv_in.weight",
}
"""A tensor of each part, whatever prefix its name has."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Weights:
    """A part's tensors: their shapes by name, without the prefix that they have in `files`.

    `config` is that of config.json beside them; empty where there is none.
    """

    path: Path
    files: tuple[Path, ...]
    prefix: str
    shapes: Shapes
    config: Mapping[str, Any]

    def read(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Every tensor in `dtype`, on the CPU, each file read once."""
        import safetensors

        opened: Callable[..., Any] = safetensors.safe_open
        tensors: dict[str, Tensor] = {}
        for path in self.files:
            file: Any = opened(path, "pt")
            with file:
                names: list[str] = list(file.keys())
                for name in names:
                    if name.startswith(self.prefix):
                        tensors[name.removeprefix(self.prefix)] = file.get_tensor(name).to(dtype)
        return tensors


def open_weights(path: Path, component: str) -> Weights:
    """The part called `component` (a key of `MARKS`) of the model at `path`.

    `path` is a diffusers folder, the component's own, or a file that may hold other parts too. No tensor is read.
    Raises `BadModelError` for what does not hold the part, and for numbers that are packed.
    """
    files, mark = _files(path, component), MARKS[component]
    tensors = {name: info for file in files for name, info in read_header(file).tensors.items()}
    prefixes = [name.removesuffix(mark) for name in tensors if name.endswith(mark)]
    if not prefixes:
        raise BadModelError(f"{described(path)}; expected the {component.replace('_', ' ')} of Z-Image", SHOW)
    prefix = min(prefixes, key=len)
    own = {name.removeprefix(prefix): info for name, info in tensors.items() if name.startswith(prefix)}
    if packed := next((name for name, info in own.items() if info.dtype not in PLAIN), None):
        message = f"{path} is stored in {own[packed].dtype} ({packed}); expected {', '.join(PLAIN)}"
        raise BadModelError(message, "use the file in bf16")
    beside = files[0].with_name("config.json")
    config = read_object(beside, "download it again") if beside.is_file() else {}
    return Weights(path, files, prefix, {name: info.shape for name, info in own.items()}, config)


def parameter_counts(transformer: Path, text_encoder: Path, vae: Path) -> dict[str, int]:
    """How many numbers each part holds, from the headers. Raises as `open_weights`."""
    return {
        component: sum(map(math.prod, open_weights(path, component).shapes.values()))
        for component, path in (("transformer", transformer), ("text_encoder", text_encoder), ("vae", vae))
    }


def described(path: Path) -> str:
    """What `path` is, in a sentence for an error."""
    return identify(path, families()).message


def _files(path: Path, component: str) -> tuple[Path, ...]:
    if not path.is_dir():
        return (path,)
    return tuple(weight_files(path / component if (path / component).is_dir() else path))
