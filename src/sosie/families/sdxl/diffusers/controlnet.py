"""A ControlNet beside an SDXL UNet: loaded from any of the shapes it is published in, and refused if it does not fit.

Layout and configuration: diffusers `ControlNetModel` (Zhang et al. 2023, arXiv:2302.05543; InstantID's
IdentityNet, Wang et al. 2024, arXiv:2401.07519, is one of SDXL).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, cast

import accelerate
import diffusers
import safetensors.torch
import torch
from torch import Tensor, nn

from sosie.core.errors import BadModelError
from sosie.families import families
from sosie.families.sdxl.diffusers.parts import UNet
from sosie.files.foreign import read_object
from sosie.files.model_file import identify
from sosie.files.safetensors import Header, read_header

MARK = "controlnet_cond_embedding.conv_in.weight"
"""A tensor that every ControlNet of this layout has and nothing else."""


def load_controlnet(path: Path, unet: UNet, dtype: torch.dtype) -> nn.Module:
    """The `ControlNetModel` at `path` in `dtype`, on the CPU, for the SDXL UNet `unet`.

    `path` is a diffusers folder, or a .safetensors file with or without its config.json beside it;
    without one it is taken to be built as the UNet, which is how published ones are. Nothing is
    downloaded. Raises `BadModelError` for anything else, and for one of another width.
    """
    file = _weights(path)
    header = read_header(file)
    _check(path, header, unet)
    library: Any = diffusers
    empty: Any = accelerate.init_empty_weights
    known = set(inspect.signature(library.ControlNetModel.__init__).parameters) - {"self"}
    try:
        with empty():
            net = library.ControlNetModel(**_config(file, known, unet))
        read: Callable[[Path], dict[str, Tensor]] = cast(Any, safetensors.torch).load_file
        state = {name: tensor.to(dtype) for name, tensor in read(file).items()}
        net.load_state_dict(state, strict=True, assign=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadModelError(f"{path} could not be loaded as a ControlNet of SDXL: {str(error)[:300]}", SHOW) from error
    return net.eval()


SHOW = "sosie model show says what it is"


def described(path: Path) -> str:
    """What `path` is, in a sentence for an error."""
    return identify(path, families()).message


def _weights(path: Path) -> Path:
    """The one file of weights of a folder; the whole one before those of a variant (fp16)."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.safetensors"), key=lambda file: (".fp16" in file.name, file.name))
    if not found:
        raise BadModelError(f"{path} holds no .safetensors file; a ControlNet was expected", SHOW)
    return found[0]


def _check(path: Path, header: Header, unet: UNet) -> None:
    """Refuses, from the shapes alone, what is no ControlNet or does not fit the UNet."""
    tensors = header.tensors
    if MARK not in tensors:
        raise BadModelError(f"{described(path)}; a ControlNet of SDXL in diffusers' layout was expected", SHOW)
    wanted = dict(_fitting(unet))
    context = (1, int(unet.config.cross_attention_dim))
    wanted |= dict.fromkeys((name for name in tensors if name.endswith("attn2.to_k.weight")), context)
    for name, (axis, size) in wanted.items():
        found = tensors[name].shape[axis : axis + 1] if name in tensors else ()
        if found != (size,):
            wide = f"{found[0]} wide" if found else "not there"
            message = f"{described(path)}; it does not fit this model: {name} is {wide}, expected {size}"
            raise BadModelError(message, "use the ControlNet that was made for this model")


def _fitting(unet: UNet) -> Iterator[tuple[str, tuple[int, int]]]:
    """Tensors of a ControlNet whose size the UNet prescribes: name, and (axis, size).

    One residual after the first convolution, one a layer, one a downsampler, one of the middle.
    """
    config = unet.config
    widths = [config.block_out_channels[0]]
    for place, width in enumerate(config.block_out_channels):
        last = place == len(config.block_out_channels) - 1
        widths += [width] * (config.layers_per_block + (not last))
    for place, width in enumerate(widths):
        yield f"controlnet_down_blocks.{place}.weight", (0, width)
    yield "controlnet_mid_block.weight", (0, config.block_out_channels[-1])
    yield "add_embedding.linear_1.weight", (1, config.projection_class_embeddings_input_dim)
    yield "conv_in.weight", (1, config.in_channels)


def _config(file: Path, known: Set[str], unet: UNet) -> Mapping[str, object]:
    """The class's `known` arguments: of the config.json beside the file if it is a ControlNet's, else of the UNet."""
    table = config_beside(file)
    if table.get("_class_name") == "ControlNetModel":
        return {name: value for name, value in table.items() if name in known}
    own = {name: value for name, value in unet.config.items() if name in known}
    # A UNet with identity guides has a projection of their embeddings, which a ControlNet has not.
    return {**own, "encoder_hid_dim": None, "encoder_hid_dim_type": None}


def config_beside(file: Path) -> dict[str, Any]:
    """The object in the config.json beside a file of weights, or an empty one; `BadModelError` for broken JSON."""
    beside = file.with_name("config.json")
    return read_object(beside, "download it again") if beside.is_file() else {}
