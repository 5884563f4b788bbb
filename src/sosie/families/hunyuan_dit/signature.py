"""How files of Hunyuan-DiT are known from their headers.

Numbers: 40 blocks, 1408 wide = 16 heads of 88; text from a CLIP (1024 wide) and mT5 (2048 wide). Marks are biases: no
quantisation touches them.

Sources: diffusers `models/transformers/hunyuan_transformer_2d.py`, ComfyUI `ldm/hydit/models.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part

WIDTH = 1408

SINGLE = Part(
    "denoiser",
    "single file",
    (
        Mark("mlp_t5.0.bias", 0, (8192,)),
        Mark("blocks.0.attn1.Wqkv.bias", 0, (3 * WIDTH,)),
        Mark("x_embedder.proj.bias", 0, (WIDTH,)),
    ),
    prefixes=("", COMFY, "model."),
)

SPLIT = Part(
    "denoiser",
    "diffusers",
    (
        Mark("text_embedder.linear_1.bias", 0, (8192,)),
        Mark("blocks.0.attn1.to_k.bias", 0, (WIDTH,)),
        Mark("pos_embed.proj.bias", 0, (WIDTH,)),
    ),
)

PARTS = (SINGLE, SPLIT)
