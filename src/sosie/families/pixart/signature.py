"""How files of PixArt are known from their headers.

Numbers: 16 heads of 72 make 1152; T5's states are projected by two layers. Alpha is also told the size of its image.

Sources: diffusers `models/transformers/pixart_transformer_2d.py`, ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant

WIDTH = 1152

SINGLE = Part(
    "denoiser",
    "single file",
    (Mark("t_block.1.bias", 0, (6 * WIDTH,)), Mark("x_embedder.proj.bias", 0, (WIDTH,)), Mark("y_embedder.y_proj.*")),
    prefixes=("", COMFY),
    variants=(Variant("alpha", (Mark("ar_embedder.*"),)),),
    variant="sigma",
)

SPLIT = Part(
    "denoiser",
    "diffusers",
    (
        Mark("adaln_single.emb.timestep_embedder.linear_1.bias", 0, (WIDTH,)),
        Mark("pos_embed.proj.bias", 0, (WIDTH,)),
        Mark("caption_projection.linear_1.bias", 0, (WIDTH,)),
    ),
    variants=(Variant("alpha", (Mark("adaln_single.emb.resolution_embedder.*"),)),),
    variant="sigma",
)

PARTS = (SINGLE, SPLIT)
