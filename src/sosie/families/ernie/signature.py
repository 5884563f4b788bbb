"""How files of ERNIE-Image are known from their headers.

Numbers: 4096 wide, 36 layers with one modulation for all; text from Ministral 3 3B (3072). Base and Turbo share the
header. Single files keep the names of diffusers.

Sources: diffusers `models/transformers/transformer_ernie_image.py`, ComfyUI `ldm/ernie/model.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part

PARTS = (
    Part(
        "denoiser",
        "diffusers",
        (
            Mark("layers.0.mlp.linear_fc2.weight"),
            Mark("layers.0.self_attention.norm_q.weight", 0, (128,)),
            Mark("adaLN_modulation.1.bias"),
            Mark("x_embedder.proj.bias"),
        ),
        prefixes=("", COMFY),
        variant="base or Turbo (the same header)",
    ),
)
