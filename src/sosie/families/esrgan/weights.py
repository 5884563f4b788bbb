"""An upscaler from its file: known by its header before a tensor is read, and never by running code in it.

Which network a file holds is spandrel's to say (its list of architectures), from names and shapes.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sosie.core.errors import BadModelError, MissingExtraError
from sosie.families.esrgan.signature import HOLDERS
from sosie.files.drafts import temporary_folder
from sosie.files.model_file import read_any_header
from sosie.files.pickles.convert import convert
from sosie.files.pickles.pickled import is_pickled
from sosie.files.regular import open_regular
from sosie.files.safetensors import Header

if TYPE_CHECKING:
    from spandrel import ArchSupport, ImageModelDescriptor, ModelDescriptor
    from torch import Tensor
    from torch.nn import Module


def load_upscaler(path: Path) -> ImageModelDescriptor[Module]:
    """The network of a .safetensors or pickled file, on the CPU in its own precision.

    A pickled file is converted first, in a child process of torch's weights-only reader. Raises
    `PickleError` for one with anything but tensors in it, `BadModelError` for a file that is broken
    or no upscaler of three channels, `NotFoundError` if there is none, `MissingExtraError` without spandrel.
    """
    spandrel = _spandrel()
    header, storage = read_any_header(path)
    if storage.startswith("gguf"):
        raise _refused(path, "it is a GGUF file")
    import torch

    empty = _inside({name: torch.empty(info.shape, device="meta") for name, info in header.tensors.items()})
    if not any(_detects(kind, empty) for kind in spandrel.MAIN_REGISTRY):
        raise _refused(path, f"spandrel knows no network with its {len(empty)} tensors (one is {_first(header)!r})")
    state = _inside(_tensors(path))
    try:
        model = spandrel.ModelLoader().load_from_state_dict(state)
    except Exception as error:  # whatever a network's own constructor makes of shapes that do not fit
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise _refused(path, f"spandrel could not load it: {why}") from error
    if wrong := _unfit(model, spandrel):
        raise _refused(path, wrong)
    return model


def _spandrel() -> Any:
    try:
        return importlib.import_module("spandrel")
    except ImportError as error:
        raise MissingExtraError(
            "upscaling needs spandrel, which is not installed", 'pip install "sosie[local]"'
        ) from error


def _detects(kind: ArchSupport, state: dict[str, Tensor]) -> bool:
    try:
        return bool(kind.detect(state))
    except Exception:  # a detector that stumbles over shapes does not know the file
        return False


def _unfit(model: ModelDescriptor, spandrel: ModuleType) -> str:
    """What spandrel found, if it is not an enlarger of single images with three channels; else empty."""
    name = model.architecture.name
    if not isinstance(model, spandrel.ImageModelDescriptor):
        return f"spandrel found {name}, which needs a mask"
    if model.purpose != "SR" or model.scale < 2:
        return f"spandrel found {name}, made for {model.purpose}, {model.scale}x"
    if (model.input_channels, model.output_channels) != (3, 3):
        return f"spandrel found {name}, {model.input_channels} channels to {model.output_channels}"
    return ""


def _tensors(path: Path) -> dict[str, Tensor]:
    safetensors: Any = importlib.import_module("safetensors.torch")
    with open_regular(path) as stream:
        start = stream.read(512)
    if not is_pickled(start):
        return safetensors.load(path.read_bytes())
    with temporary_folder() as folder:
        plain = folder / "upscaler.safetensors"
        convert(path, plain)
        return safetensors.load(plain.read_bytes())


def _inside(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's own table, where a training program saved it under a prefix: the averaged weights first."""
    for holder in HOLDERS:
        found = {name[len(holder) :]: value for name, value in state.items() if name.startswith(holder)}
        if holder and found:
            return found
    return state


def _first(header: Header) -> str:
    return next(iter(header.tensors), "")[:80]


def _refused(path: Path, why: str) -> BadModelError:
    return BadModelError(
        f"{path} is not an upscaler that can be used: {why}; expected one for single RGB images, 2x or more",
        f"sosie model show {path}",
    )
