"""A creator's ComfyUI folder of models after a week of trying: true headers and sizes, and nearly no weights.

BigLove XL with the character's LoRA, FaceID Plus v2, InstantID, 4x-UltraSharp, and two files of Z-Image: one of 7.9 GiB
from somewhere, packed as DFloat11, and the official one of 12.3 GB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from header_files import FACEID_PLUS, INSTANTID, Table, fill, model, write

from sosie.doctor.model_probe import sampled
from sosie.files.safetensors import read_header

BIGLOVE = "checkpoints/bigLove_xl1.safetensors"
PACKED = "diffusion_models/z_image_full.safetensors"
PLAIN = "diffusion_models/z_image_bf16.safetensors"
LORA = "loras/elena_v4.safetensors"
LORA_Z = "loras/elena_zimage_v2.safetensors"
GLINT, WEBFACE = 260_665_334, 174_383_860
"""Bytes of the published recognition models of antelopev2 and buffalo_l."""

HEADERS = {
    BIGLOVE: "sdxl-checkpoint",
    "clip_vision/CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors": "clip-h-vision",
    "controlnet/instantid/diffusion_pytorch_model.safetensors": "sdxl-controlnet",
    "upscale_models/4x-UltraSharp.safetensors": "esrgan-4x-old",
    PACKED: "zimage-dfloat11",
    PLAIN: "zimage-single",
    "text_encoders/qwen_3_4b_bf16.safetensors": "qwen3-4b",
    "vae/ae.safetensors": "vae-16-single",
}
"""Files by the stripped headers of the fixtures."""

PACKS = {
    "antelopev2": {"glintr100": (112, 512, GLINT), "1k3d68": (192, 3309, 0), "genderage": (96, 3, 0)},
    "buffalo_l": {"w600k_r50": (112, 512, WEBFACE), "2d106det": (192, 212, 0)},
}
"""InsightFace's packs: side of the image, numbers, bytes."""


def make(models: Path) -> Path:
    """The folder `models` of a ComfyUI; returns it."""
    for name, header in HEADERS.items():
        _written(model(models / name, header))
    for name, table in _tables():
        _written(write(models / name, table, _metadata(name)))
    for pack, networks in PACKS.items():
        for name, (side, numbers, size) in networks.items():
            onnx(models / "insightface" / "models" / pack / f"{name}.onnx", side, numbers, size)
    return models


def onnx(path: Path, side: int, numbers: int, size: int = 0) -> Path:
    """An ONNX file of an image of side x side px and some numbers, with zeros for weights up to `size` bytes."""
    node = _text(1, b"in") + _text(2, b"out") + _text(4, b"Gemm")
    ends = _value(11, "in", (None, 3, side, side)) + _value(12, "out", (1, numbers))
    weights = _text(8, b"w") + b"\x10\x01"
    known = len(_text(7, _text(1, node) + ends)) + 40
    pad = max(size - known - len(weights), 16)
    for _ in range(4):
        hole = _number(9 << 3 | 2) + _number(pad)
        weight = _number(5 << 3 | 2) + _number(len(weights) + len(hole) + pad) + weights + hole
        graph = _text(1, node) + ends
        head = b"\x08\x07" + _number(7 << 3 | 2) + _number(len(graph) + len(weight) + pad) + graph + weight
        if not size or len(head) + pad == size:
            break
        pad += size - len(head) - pad
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(head)
        stream.truncate(len(head) + pad)
    return path


def _written(path: Path) -> None:
    """Some numbers where the doctor looks for them: a file of zeros alone was never written."""
    header = read_header(path)
    fill(path, header, sampled(header))
    fill(path, header, [name for name in header.tensors if name.endswith(".alpha")], b"\x80\x41")  # 16 in bf16


def _tables() -> Iterator[tuple[str, Table]]:
    yield "ipadapter/ip-adapter-faceid-plusv2_sdxl.safetensors", FACEID_PLUS
    yield "instantid/ip-adapter.safetensors", INSTANTID
    yield (
        "loras/ip-adapter-faceid-plusv2_sdxl_lora.safetensors",
        {"0.to_q_lora.down.weight": ("F16", [128, 320]), "0.to_q_lora.up.weight": ("F16", [320, 128])},
    )
    yield LORA, dict(_kohya())
    yield LORA_Z, dict(_ai_toolkit())


def _kohya() -> Iterator[tuple[str, tuple[str, list[int]]]]:
    """A LoRA of SDXL's attention as kohya's trainer writes it, rank 16."""
    for block, depth, width in (
        ("input_blocks_4_1", 2, 640),
        ("input_blocks_7_1", 10, 1280),
        ("middle_block_1", 10, 1280),
    ):
        for layer in range(depth):
            for name, wide in (
                ("attn1_to_q", width),
                ("attn1_to_k", width),
                ("attn2_to_k", 2048),
                ("attn2_to_v", 2048),
            ):
                stem = f"lora_unet_{block}_transformer_blocks_{layer}_{name}"
                yield f"{stem}.lora_down.weight", ("BF16", [16, wide])
                yield f"{stem}.lora_up.weight", ("BF16", [width, 16])
                yield f"{stem}.alpha", ("BF16", [])


def _ai_toolkit() -> Iterator[tuple[str, tuple[str, list[int]]]]:
    """A LoRA of Z-Image as ai-toolkit writes it, rank 32, no alpha."""
    shapes = dict.fromkeys(("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0"), (3840, 3840))
    shapes |= {"feed_forward.w1": (3840, 10240), "feed_forward.w2": (10240, 3840), "feed_forward.w3": (3840, 10240)}
    shapes |= {"adaLN_modulation.0": (256, 15360)}
    for layer in range(30):
        for name, (wide, high) in shapes.items():
            yield f"diffusion_model.layers.{layer}.{name}.lora_A.weight", ("BF16", [32, wide])
            yield f"diffusion_model.layers.{layer}.{name}.lora_B.weight", ("BF16", [high, 32])


def _metadata(name: str) -> dict[str, str] | None:
    if name == LORA:
        return {"ss_base_model_version": "sdxl_base_v1-0", "ss_tag_frequency": json.dumps({"10_elena": {"elena": 56}})}
    return {"ss_base_model_version": "zimage:deturbo", "software": '{"name": "ai-toolkit"}'} if name == LORA_Z else None


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def _text(field: int, content: bytes) -> bytes:
    return _number(field << 3 | 2) + _number(len(content)) + content


def _value(field: int, name: str, shape: tuple[int | None, ...]) -> bytes:
    """A ValueInfoProto of float32 in a graph."""
    sides = b"".join(_text(1, b"\x08" + _number(side) if side else _text(2, b"n")) for side in shape)
    tensor = b"\x08\x01" + _text(2, sides)
    return _text(field, _text(1, name.encode()) + _text(2, _text(1, tensor)))
