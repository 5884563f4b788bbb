"""Files that were damaged or made to harm: an answer or one of our errors, in little time and memory."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sosie.core.errors import BadModelError, SosieError

pytestmark = pytest.mark.local


def fp8_file(path: Path) -> Path:
    import torch
    from stored import fp8, save

    noise = torch.Generator().manual_seed(1)
    state = {f"layers.{n}.weight": torch.randn(8, 32, generator=noise).bfloat16() for n in range(3)}
    held, metadata, _ = fp8(state, ["layers.0.weight", "layers.2.weight"], "comfy")
    return save(path, held, metadata)


def gguf_file(path: Path) -> Path:
    import gguf
    import numpy as np
    from stored import save_gguf

    kinds = ("Q8_0", "Q4_0", "Q5_1", "F16")
    data = np.random.default_rng(1).standard_normal((8, 64), np.float32)
    tensors: Any = {}
    for kind in kinds:
        number = gguf.GGMLQuantizationType[kind]
        tensors[kind] = (gguf.quantize(data, number), number)
    return save_gguf(path, "lumina2", tensors)


def dfloat11_file(path: Path) -> Path:
    import torch
    from stored import dfloat11, save

    noise = torch.Generator().manual_seed(1)
    weights = [torch.randn(shape, generator=noise).bfloat16() for shape in ((96, 32), (32, 32), (64, 32), (32, 64))]
    return save(path, {"layers.0.attention.q_norm.weight": torch.ones(4), **dfloat11("layers.0", weights)})


def members(block: str, sizes: Any, header: Any) -> Any:
    return [(f"{block}.{place}", (size // 32, 32)) for place, size in enumerate(sizes)]


def read_all(path: Path) -> int:
    import torch

    from sosie.diffusion.weights.reading import read_weights

    weights = read_weights(path, members=members)
    for name in sorted(weights.names):
        assert tuple(weights.tensor(name, torch.bfloat16).shape) == weights.shape(name)
        weights.packed(name)
    return len(weights.names)


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Bits turned, a piece cut out, doubled or overwritten; mostly near the header."""
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = int(len(data) * chance.random() ** chance.choice((1, 3)))
        size = chance.choice((1, 4, 8, 64))
        match chance.randrange(5):
            case 0 | 1:
                data[at : at + 1] = bytes([(data[at] if at < len(data) else 0) ^ 1 << chance.randrange(8)])
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size]
            case _:
                data[at : at + size] = struct.pack("<q", chance.choice((-1, 0, 2**62, 2**31)))[: min(size, 8)]
    return bytes(data)


@pytest.mark.parametrize("make", [fp8_file, gguf_file, dfloat11_file])
def test_damaged_files_are_an_answer_or_an_error_of_ours(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "whole")
    assert read_all(path) >= 3
    whole, chance, refused = path.read_bytes(), random.Random(7), 0
    for turn in range(250):
        changed = tmp_path / f"{turn % 2}"
        changed.write_bytes(damaged(whole, chance))
        try:
            read_all(changed)
        except SosieError:
            refused += 1
    assert refused > 60


def raw(path: Path, table: dict[str, Any], data: bytes) -> Path:
    text = json.dumps(table).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"a": {"dtype": "F8_E4M3", "shape": [2**60], "data_offsets": [0, 2**60]}}, "truncated"),
        ({"a": {"dtype": "F8_E4M3", "shape": [2**62, 2**62, 0], "data_offsets": [0, 0]}}, "so long"),
        (
            {
                "a.weight": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]},
                "a.weight_scale": {"dtype": "F32", "shape": [], "data_offsets": [4, 8]},
            },
            "overlaps",
        ),
        ({"b.encoded_exponent": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}, "is missing"),
    ],
)
def test_declared_sizes_are_not_believed(tmp_path: Path, table: dict[str, Any], word: str) -> None:
    size = max(info["data_offsets"][1] for info in table.values())
    with pytest.raises(BadModelError, match=word):
        read_all(raw(tmp_path / "m.safetensors", table, bytes(min(8, size))))


def test_a_gguf_of_2_60_elements_is_refused_by_its_header(tmp_path: Path) -> None:
    name = struct.pack("<Q", 1) + b"w"
    for shape in ((2**60,), (256, 2**52), (256, 2**30, 2**22)):
        axes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        data = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + name + axes + struct.pack("<IQ", 12, 0)
        path = tmp_path / "m.gguf"
        path.write_bytes(data + bytes(4096))
        with pytest.raises(BadModelError, match=r"truncated|larger"):
            read_all(path)


def test_a_gguf_without_numbers_in_its_rows_takes_no_time(tmp_path: Path) -> None:
    import torch

    from sosie.diffusion.weights.reading import read_weights

    name = struct.pack("<Q", 1) + b"w"
    data = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + name + struct.pack("<I2QIQ", 2, 0, 2**40, 2, 0)
    path = tmp_path / "m.gguf"
    path.write_bytes(data + bytes(64))
    assert read_weights(path).tensor("w", torch.bfloat16).shape == (2**40, 0)
