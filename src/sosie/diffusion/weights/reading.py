"""The tensors of a model file by name, whatever they are stored as.

| storage | read as | kept packed |
| --- | --- | --- |
| bf16, fp16, fp32 in safetensors or GGUF | is | - |
| fp8 (e4m3, e5m2), plain or with a scale, or one a row (`scale_weight`, `weight_scale`) | number x scale | yes |
| int8 with such scales (`int8_tensorwise`) | number x scale | yes |
| GGUF's blocks | by ggml's formats | yes |
| DFloat11 | the same bits | - |
| ComfyUI's rotated int8 (`convrot`) and NVFP4 | by comfy-kitchen, where it is installed | - |

Everything else is refused before a tensor is read. Scales for activations (`input_scale`) are not used: products are
computed in 16 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sosie.core.errors import BadModelError
from sosie.diffusion.weights.gguf_file import gguf_tensors
from sosie.diffusion.weights.packed import Packed
from sosie.diffusion.weights.safetensors_file import SafetensorsFile
from sosie.diffusion.weights.sources import Members, Rows
from sosie.diffusion.weights.stored import Stored
from sosie.files.model_file import read_any_header, weight_files
from sosie.files.pickles.pickled import is_pickled
from sosie.files.regular import open_regular
from sosie.files.storage import storage, unreadable, way_out


class Weights:
    """The tensors of a model by name; each is read when it is asked for. `path` is a file, or a folder of shards."""

    def __init__(self, path: Path, tensors: Mapping[str, Stored]) -> None:
        self.path = path
        self._tensors = tensors

    def under(self, prefix: str) -> Weights:
        """Those whose names begin with a prefix, without it."""
        if not prefix:
            return self
        chosen = {name.removeprefix(prefix): one for name, one in self._tensors.items() if name.startswith(prefix)}
        return Weights(self.path, chosen)

    @property
    def names(self) -> frozenset[str]:
        """The names of the model's tensors, without what describes their storage."""
        return frozenset(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """As the model has it, outermost axis first."""
        return self._get(name).shape

    def storage(self, name: str) -> str:
        """What its numbers are stored as (`bf16`, `fp8_e4m3-scaled`, `gguf-Q4_K`, `dfloat11`)."""
        return self._get(name).storage

    def tensor(
        self,
        name: str,
        dtype: torch.dtype | None = None,
        device: str | torch.device = "cpu",
        rows: Rows | None = None,
    ) -> Tensor:
        """A tensor's numbers, or some of its rows. Where nothing is cast or moved it may be the file's own bytes.

        Raises `BadModelError` if the file does not have it or holds nonsense there.
        """
        return self._get(name).tensor(device, dtype, rows)

    def packed(self, name: str, rows: Rows | None = None) -> Packed | None:
        """A weight's bytes in main memory, for `layers.PackedLinear`; None if it is stored in 16 bits or more."""
        return self._get(name).packed(rows)

    def _get(self, name: str) -> Stored:
        found = self._tensors.get(name)
        if found is None:
            raise BadModelError(f"{self.path} has no tensor '{name}'", f"sosie model show {self.path}")
        return found


def read_weights(path: Path, prefix: str = "", members: Members | None = None) -> Weights:
    """The weights in a safetensors or GGUF file, or in the folder of a component.

    Only names that begin with `prefix` are taken, and lose it. `members` says what is in DFloat11's streams. Raises
    `NotFoundError`, and `BadModelError` for what is broken or stored in a way that is not read here.
    """
    tensors: dict[str, Stored] = {}
    for file in weight_files(path) if path.is_dir() else (path,):
        tensors |= _of_file(file, members)
    weights = Weights(path, tensors).under(prefix)
    if not weights.names:
        raise BadModelError(f"{path} has no tensors" + (f" that begin with '{prefix}'" if prefix else ""))
    return weights


def _of_file(path: Path, members: Members | None) -> dict[str, Stored]:
    _refuse_pickle(path)
    header, kind = read_any_header(path)
    if kind.startswith("gguf-"):
        return gguf_tensors(path)
    if refused := unreadable(storage(header)):
        raise BadModelError(f"{path} {refused.holds}, which is not read here", way_out(refused))
    return SafetensorsFile(path, header, members).tensors()


def _refuse_pickle(path: Path) -> None:
    try:
        with open_regular(path) as stream:
            pickled = is_pickled(stream.read(512))
    except OSError:
        return  # said by whoever reads the header
    if pickled:
        raise BadModelError(f"{path} is a pickle, which is never run", f"sosie model convert {path}")
