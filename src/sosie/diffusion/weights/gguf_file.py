"""The tensors of one GGUF file."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from sosie.core.errors import BadModelError
from sosie.diffusion.weights.mapped import DTYPES, MappedFile, expect_possible
from sosie.diffusion.weights.packed import BLOCKS, Packed, unpacks
from sosie.diffusion.weights.stored import PackedTensor, PlainTensor, Stored
from sosie.files.gguf import Gguf, GgufTensor, read_gguf
from sosie.files.safetensors import TensorInfo

AGAIN = "download the file again and compare its SHA-256 with the publisher's"


def gguf_tensors(path: Path) -> dict[str, Stored]:
    """By name. Raises `BadModelError` for types that are not read here, `MissingExtraError` without `gguf`."""
    gguf = read_gguf(path)
    file = MappedFile(path)
    header = gguf.header
    for name, info in header.tensors.items():
        expect_possible(path, name, info.shape)
    return {name: _gguf_tensor(file, gguf, header.tensors[name], tensor) for name, tensor in gguf.tensors.items()}


def _gguf_tensor(file: MappedFile, gguf: Gguf, info: TensorInfo, tensor: GgufTensor) -> Stored:
    start = gguf.start + tensor.offset
    if math.prod(info.shape) != math.prod(tensor.shape):
        shapes = f"{list(tensor.shape)} and {list(info.shape)}"
        raise BadModelError(f"{gguf.path}: the shapes {shapes} of one tensor contradict each other", AGAIN)
    if tensor.type in DTYPES:
        return PlainTensor(file, TensorInfo(tensor.type, info.shape, info.offsets), start)
    if not unpacks(tensor.type):
        message = f"{gguf.path} has tensors of GGUF's type {tensor.type}, which is not read here"
        raise BadModelError(message, "take a file in Q8_0, Q6_K, Q5_K, Q4_K or bf16")
    numbers, size = BLOCKS[tensor.type]
    columns = tensor.shape[-1]
    rows = math.prod(tensor.shape[:-1])

    def read() -> Packed:
        data = file.tensor(torch.uint8, (rows, columns // numbers * size), start)
        return Packed(tensor.type, (rows, columns), data)

    return PackedTensor(read, info.shape, f"gguf-{tensor.type}")
