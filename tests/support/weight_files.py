"""Small safetensors files with their weights, as bytes."""

from __future__ import annotations

import json
import struct
from typing import Any


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None) -> bytes:
    table: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text + data


def weights(count: int, content: bytes = b"\x11\x3c") -> bytes:
    return safetensors({f"blocks.{i}.weight": ("F16", [64, 64], content * 4096) for i in range(count)})


def lora(alpha: float) -> bytes:
    tensors: dict[str, tuple[str, list[int], bytes]] = {}
    for i in range(30):
        base = f"lora_unet_layers_{i}_feed_forward_w1"
        tensors[f"{base}.alpha"] = ("F32", [], struct.pack("<f", alpha))
        tensors[f"{base}.lora_down.weight"] = ("F16", [4, 3840], b"\x11\x22" * 4 * 3840)
        tensors[f"{base}.lora_up.weight"] = ("F16", [10240, 4], b"\x11\x22" * 4 * 10240)
    return safetensors(tensors)
