"""Tensors written as other programs store them: fp8, int8, GGUF and DFloat11, each by an encoder of its own."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

State = dict[str, Tensor]

LARGEST = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0}


def fp8(
    state: Mapping[str, Tensor], packed: Sequence[str], how: str = "plain", kind: torch.dtype = torch.float8_e4m3fn
) -> tuple[State, dict[str, str], State]:
    """What a file holds, its metadata, and the weights that a reader should find (bfloat16).

    `how` is `plain`, `old` (`scale_weight` and a marker), `comfy` (`.comfy_quant` beside each), `metadata` (one text
    in the header) or `rows` (`comfy` with a scale for each row).
    """
    held: State = {}
    truth: State = {}
    layers: dict[str, Any] = {}
    if how == "old":
        held["scaled_fp8"] = torch.zeros(0, dtype=kind)
    for name, tensor in state.items():
        if name not in packed:
            held[name] = truth[name] = tensor
            continue
        stem = name.removesuffix("weight")
        whole = tensor.float()
        most = whole.abs().amax(dim=1) if how == "rows" else whole.abs().max()
        scale = (most / LARGEST[kind]).float() if how != "plain" else torch.ones(())
        held[name] = (whole / (scale[:, None] if how == "rows" else scale)).to(kind)
        factor = scale[:, None] if how == "rows" else scale
        truth[name] = held[name].to(torch.bfloat16) * factor.to(torch.bfloat16)
        if how == "old":
            held[f"{stem}scale_weight"] = scale.reshape(1)
            held[f"{stem}scale_input"] = torch.ones(1)
        elif how != "plain":
            held[f"{stem}weight_scale"] = scale
            held[f"{stem}input_scale"] = torch.ones(())
            named = "float8_e4m3fn" if kind == torch.float8_e4m3fn else "float8_e5m2"
            layers[stem[:-1]] = {"format": named}
            if how != "metadata":
                held[f"{stem}comfy_quant"] = mark(layers[stem[:-1]])
    metadata = {"_quantization_metadata": json.dumps({"layers": layers})} if how == "metadata" else {}
    return held, metadata, truth


def mark(entry: Mapping[str, Any]) -> Tensor:
    """A `.comfy_quant` tensor."""
    return torch.tensor(list(json.dumps(entry).encode()), dtype=torch.uint8)


def save(path: Path, held: State, metadata: dict[str, str] | None = None) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in held.items()}, path, metadata)
    return path


def save_gguf(path: Path, architecture: str, tensors: Mapping[str, tuple[NDArray[Any], Any]]) -> Path:
    """A GGUF file by llama.cpp's own writer; a tensor is its bytes (or numbers) and its type."""
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def codes(frequencies: Mapping[int, int]) -> dict[int, str]:
    """A Huffman code: the bits of each symbol, as text. At least two symbols are coded."""
    heap = [(count, symbol, {symbol: ""}) for symbol, count in frequencies.items()]
    if len(heap) == 1:
        heap.append((0, 256, {256: ""}))
    heapq.heapify(heap)
    while len(heap) > 1:
        (first, tie, left), (second, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        joined = {s: "0" + bits for s, bits in left.items()} | {s: "1" + bits for s, bits in right.items()}
        heapq.heappush(heap, (first + second, tie, joined))
    return {symbol: bits for symbol, bits in heap[0][2].items() if symbol < 256}


def tables(code: Mapping[int, str]) -> NDArray[np.uint8]:
    """Tables by bytes of a code, and the codes' lengths last."""
    prefixes = sorted({bits[: (len(bits) - 1) // 8 * 8] for bits in code.values()} | {""}, key=lambda p: (len(p), p))
    prefixes = sorted({p[:at] for p in prefixes for at in range(0, len(p) + 1, 8)}, key=lambda p: (len(p), p))
    luts = np.zeros((len(prefixes) + 1, 256), np.uint8)
    for place, prefix in enumerate(prefixes):
        for symbol, bits in code.items():
            rest = bits[len(prefix) :]
            if not bits.startswith(prefix) or not rest:
                continue
            if len(rest) <= 8:
                first = int(rest.ljust(8, "0"), 2)
                luts[place, first : first + 2 ** (8 - len(rest))] = symbol
            else:
                luts[place, int(rest[:8], 2)] = 256 - prefixes.index(prefix + rest[:8])
    for symbol, bits in code.items():
        luts[-1, symbol] = len(bits)
    return luts


def dfloat11(block: str, weights: Sequence[Tensor], code: Mapping[int, str] | None = None) -> State:
    """The stream of a block: bfloat16 weights, one after the other."""
    joined = torch.cat([weight.flatten() for weight in weights]).view(torch.int16).numpy().astype(np.int64)
    exponents = joined >> 7 & 0xFF
    rest = (joined >> 8 & 0x80 | joined & 0x7F).astype(np.uint8)
    code = code or codes(Counter(exponents.tolist()))
    lengths = np.array([len(code[e]) for e in exponents.tolist()], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    bits = "".join(code[e] for e in exponents.tolist())
    stream = np.packbits(np.frombuffer(bits.encode(), np.uint8) - ord("0"))
    groups = -(-len(stream) // 4096)
    lanes = starts[:-1] // 64
    gaps = np.zeros(groups * 512, np.int64)
    first = np.unique(lanes, return_index=True)
    gaps[first[0]] = starts[:-1][first[1]] % 64
    packed = np.packbits((gaps[:, None] >> np.arange(4, -1, -1) & 1).astype(np.uint8).ravel())
    positions = [int(np.searchsorted(lanes, group * 512)) for group in range(groups)] + [len(joined)]
    splits = np.cumsum([weight.numel() for weight in weights])[:-1]
    return {
        f"{block}.luts": torch.from_numpy(tables(code)),
        f"{block}.encoded_exponent": torch.from_numpy(stream),
        f"{block}.sign_mantissa": torch.from_numpy(rest),
        f"{block}.output_positions": torch.from_numpy(np.array(positions, "<u4").view(np.uint8).copy()),
        f"{block}.gaps": torch.from_numpy(packed),
        f"{block}.split_positions": torch.from_numpy(splits.astype(np.int64)),
    }
