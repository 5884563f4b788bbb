"""How a file stores its numbers: plain dtypes, quantisations and compressions, told from its header.

A packed file holds other tensors than the model it came from: two 4-bit numbers in a byte, scales
beside the weights, or whole blocks in one stream. `unpacked` undoes that for names and shapes as far
as the header tells, so that a family needs one signature for all storages, and `parameters` counts
the model's numbers and not the file's.

Sources: ComfyUI `comfy/quant_ops.py` and `ops.py` (fp8, NVFP4), bitsandbytes `QuantState.as_dict`
(nf4, fp4), nunchaku and deepcompressor `backend/nunchaku` (SVDQuant, AWQ), DFloat11 (arXiv:2504.11651).
"""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType

from sosie.files.safetensors import BITS, Header, TensorInfo

PLAIN = {
    "F64": "fp64",
    "F32": "fp32",
    "F16": "fp16",
    "BF16": "bf16",
    "F8_E4M3": "fp8_e4m3",
    "F8_E5M2": "fp8_e5m2",
    "I8": "int8",
    "U8": "uint8",
}
"""What people call a dtype; others are called as the format calls them, in small letters."""

LOADERS = {
    "dfloat11": "a DFloat11 loader or decompressor (for ComfyUI: the node pack ComfyUI-DFloat11-Extended; CUDA only)",
    "nvfp4": "ComfyUI of 2026 or later (fast on Blackwell GPUs only)",
    "mxfp8": "ComfyUI of 2026 or later (fast on Blackwell GPUs only)",
    "bnb-nf4": "bitsandbytes, through diffusers or a ComfyUI node for NF4",
    "bnb-fp4": "bitsandbytes, through diffusers or a ComfyUI node for NF4",
    "bnb-int8": "bitsandbytes, through diffusers or transformers",
    "svdquant": "nunchaku (its own nodes or pipelines)",
    "awq": "nunchaku, or transformers with AutoAWQ",
    "gptq": "transformers with GPTQModel",
    "gguf": "ComfyUI with the node pack ComfyUI-GGUF, or diffusers with GGUFQuantizationConfig",
    "scaled": "ComfyUI (its scales are no part of the plain model: diffusers would ignore them)",
    "convrot": "ComfyUI of 2026 or later (its weights are rotated before they are rounded: other loaders read noise)",
    "comfy": "ComfyUI of late 2025 or later (`.comfy_quant`; other loaders ignore its scales)",
}
"""What loads a storage, by its name, its beginning (`gguf-Q4_K`) or its end (`fp8_e4m3-scaled`)."""

NODES = {
    "gguf": "ComfyUI-GGUF",
    "svdquant": "ComfyUI-nunchaku",
    "awq": "ComfyUI-nunchaku",
}
"""The pack of nodes that loads a storage which ComfyUI's own nodes do not."""

OWN = ("nvfp4", "mxfp8", "scaled", "comfy", "convrot")
"""What ComfyUI's own nodes load."""

UNREAD = {
    "nvfp4": "holds its weights in NVFP4 (4 bits, a scale for each 16)",
    "mxfp8": "holds its weights in MXFP8 (8 bits, a scale for each 32)",
    "convrot": "holds int8 weights that were rotated before they were rounded (convrot)",
    "gguf": "holds its weights in GGUF's blocks",
    "svdquant": "holds 4-bit weights with a low-rank part (SVDQuant), laid out for nunchaku's kernels alone",
    "awq": "holds 4-bit weights of AWQ, laid out for its own kernels",
    "gptq": "holds 4-bit weights of GPTQ, laid out for its own kernels",
    "bnb-nf4": "holds 4-bit weights of bitsandbytes (nf4)",
    "bnb-fp4": "holds 4-bit weights of bitsandbytes (fp4)",
    "bnb-int8": "holds 8-bit weights of bitsandbytes",
}
"""Storages that Sosie itself does not read, or only with a package: what such a file holds."""

PACKAGES = {"nvfp4": ("comfy_kitchen", "kitchen"), "convrot": ("comfy_kitchen", "kitchen"), "gguf": ("gguf", "local")}
"""Storage -> the package that reads it, and the extra of Sosie that brings it."""

UNKNOWN_SIZE = -1
"""The size of an axis that only the data would tell."""

_SCALES = frozenset(
    {
        *("weight_scale", "weight_scale_2", "input_scale", "scale_weight", "scale_input", "scaled_fp8", "comfy_quant"),
        *("absmax", "quant_map", "nested_absmax", "nested_quant_map", "bitsandbytes__nf4", "bitsandbytes__fp4"),
        *("SCB", "weight_format", "qzeros", "scales", "g_idx", "wscales", "wzeros", "wcscales", "wtscale"),
        *("smooth", "smooth_orig", "smooth_factor", "smooth_factor_orig"),
        *("luts", "encoded_exponent", "output_positions", "gaps", "split_positions"),
    }
)
"""Last parts of the names of tensors that describe other tensors."""

_LOW_RANK = frozenset({"proj_down", "proj_up", "lora_down", "lora_up"})
"""The same for the low-rank branch of SVDQuant."""


def storage(header: Header) -> str:
    """The name of the storage: a key of `LOADERS`, a value of `PLAIN`, or `DTYPE-scaled`, `DTYPE-comfy`.

    Where several are mixed, the one that is harder to load counts; among plain dtypes, the one with
    most bytes.
    """
    last = {name.rpartition(".")[2] for name in header.tensors}
    if {"encoded_exponent", "sign_mantissa"} <= last:
        return "dfloat11"
    for kind in ("nf4", "fp4"):
        if f"bitsandbytes__{kind}" in last:
            return f"bnb-{kind}"
    if "SCB" in last:
        return "bnb-int8"
    if "qweight" in last:
        return "svdquant" if last & {"wscales", "wcscales"} and last & _LOW_RANK else _integer_groups(last)
    dtype = _most(header)
    if "weight_scale_2" in last:
        return "nvfp4"
    if any(info.dtype == "F8_E8M0" for info in header.tensors.values()):
        return "mxfp8"
    if "comfy_quant" in last or "_quantization_metadata" in header.metadata:
        return f"{dtype}-comfy"
    if last & {"scaled_fp8", "scale_weight"}:
        return f"{dtype}-scaled"
    return dtype


def loader(name: str) -> str:
    """What loads the storage of that name; empty if everything does."""
    first, _, last = name.partition("-")
    return LOADERS.get(name) or LOADERS.get(first) or LOADERS.get(last, "")


@dataclass(frozen=True)
class Unreadable:
    """What a file holds that Sosie does not read here, and the package to install for it (empty: none does)."""

    holds: str
    install: str = ""


def unreadable(name: str) -> Unreadable | None:
    """Why Sosie itself does not read a storage on this machine, by its name; None where it does."""
    first, _, last = name.partition("-")
    kind = next((kind for kind in (name, last, first) if kind in UNREAD), "")
    package, extra = PACKAGES.get(kind, ("", ""))
    if not kind or (package and importlib.util.find_spec(package) is not None):
        return None
    return Unreadable(UNREAD[kind], f"pip install 'sosie[{extra}]'" if extra else "")


def in_memory(name: str, parameters: int, size: int) -> int:
    """Bytes that a file's weights take once loaded to be computed with in 16 bits, where packed ones stay as they are.

    `size` is the file's. What is unpacked (DFloat11, rotated int8, NVFP4) or plain has 2 bytes a number.
    """
    plain_gguf = name.removeprefix("gguf-") in ("F16", "BF16", "F32")
    kept = name.startswith(("fp8", "int8", "gguf-")) and not name.endswith("-convrot") and not plain_gguf
    return size if kept else 2 * parameters


def way_out(found: Unreadable, plain_file: str = "") -> str:
    """What to do about a storage that is not read, as a hint; `plain_file` is the published file in bf16."""
    instead = f"take {plain_file or 'the file in bf16'} instead"
    return f"{found.install}, or {instead}" if found.install else instead


def is_loaded_by(name: str, pack: str) -> bool:
    """Whether the nodes of a pack (empty: ComfyUI's own) load the storage of that name; false where it is not known."""
    first, _, last = name.partition("-")
    return any(word in OWN if not pack else NODES.get(word) == pack for word in (name, first, last))


def parameters(header: Header) -> int:
    """How many numbers the model has, whatever they are packed in; scales do not count."""
    low_rank = _LOW_RANK if storage(header) == "svdquant" else frozenset[str]()
    total = 0
    for name, info in header.tensors.items():
        last = name.rpartition(".")[2]
        if last not in low_rank and not _is_scale(header, name, last):
            total += math.prod(info.shape) * _numbers(header, name, info)
    return total


def unpacked(header: Header) -> Header:
    """The names and shapes that the tensors have when unpacked; scales are left out.

    Sizes that only the data tells are `UNKNOWN_SIZE`. Offsets and dtypes stay as they are in the
    file. What DFloat11 has packed into a block's stream is gone: its names are not in the header.
    """
    tensors: dict[str, TensorInfo] = {}
    for name, info in header.tensors.items():
        if _is_scale(header, name, last := name.rpartition(".")[2]):
            continue
        own, shape = name, info.shape
        if last == "qweight":
            own, shape = name.removesuffix("qweight") + "weight", (UNKNOWN_SIZE, UNKNOWN_SIZE)
        elif _numbers(header, name, info) == 2:
            known = f"{name}_scale_2" in header.tensors
            shape = (*shape[:-1], *(2 * size for size in shape[-1:])) if known else (UNKNOWN_SIZE, UNKNOWN_SIZE)
        tensors[own] = info if shape is info.shape else TensorInfo(info.dtype, shape, info.offsets)
    return Header(MappingProxyType(tensors), header.metadata)


def _integer_groups(last: set[str]) -> str:
    return "gptq" if "g_idx" in last else "awq"


def _most(header: Header) -> str:
    """The name of the dtype that most bytes have, scales apart."""
    sizes: Counter[str] = Counter()
    for info in header.tensors.values():
        sizes[info.dtype] += math.prod(info.shape) * BITS[info.dtype]
    dtype = sizes.most_common(1)[0][0] if sizes else ""
    return PLAIN.get(dtype, dtype.lower())


def _is_scale(header: Header, name: str, last: str) -> bool:
    """True for a tensor that describes another one: by its name, or as `NAME_scale` beside `NAME`."""
    return last in _SCALES or (name.endswith("_scale") and name.removesuffix("_scale") in header.tensors)


def _numbers(header: Header, name: str, info: TensorInfo) -> int:
    """How many of the model's numbers one element of the tensor holds."""
    if name.endswith(".qweight"):
        return {"I32": 8, "I8": 2, "U8": 2}.get(info.dtype, 1)
    if info.dtype == "U8" and (
        f"{name}_scale_2" in header.tensors
        or f"{name}.quant_state.bitsandbytes__nf4" in header.tensors
        or f"{name}.quant_state.bitsandbytes__fp4" in header.tensors
    ):
        return 2
    return 1
