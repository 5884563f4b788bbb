"""How files of Krea 2 are known from their headers.

Numbers: 48 heads of 128 make 6144, with 12 heads of keys; the text is 12 layers of Qwen3-VL-4B (2560 wide), fused by a
small transformer of their own (`txtfusion`, in diffusers `text_fusion`).

Sources: diffusers `models/transformers/transformer_krea2.py`, ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part

TEXT = 2560
PARAMETERS = 12_820_073_036

SINGLE = Part(
    "denoiser",
    "single file",
    (
        Mark("txtfusion.projector.weight"),
        Mark("txtfusion.layerwise_blocks.0.prenorm.scale", 0, (TEXT,)),
        Mark("blocks.0.attn.wq.*"),
    ),
    prefixes=("", COMFY),
)

SPLIT = Part(
    "denoiser",
    "diffusers",
    (
        Mark("text_fusion.projector.weight"),
        Mark("text_fusion.layerwise_blocks.0.norm1.weight", 0, (TEXT,)),
        Mark("time_mod_proj.bias", 0, (6 * 6144,)),
    ),
    parameters=PARAMETERS,
)

PARTS = (SINGLE, SPLIT)
