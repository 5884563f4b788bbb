"""How files of OmniGen2 are known from their headers.

Numbers: 21 heads of 120 make 2520; Lumina 2's names, and a second refiner for reference images.

Source: ComfyUI `model_detection.py`, `ldm/omnigen/omnigen2.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part

WIDTH = 2520

PARTS = (
    Part(
        "denoiser",
        "diffusers",
        (
            Mark("time_caption_embed.timestep_embedder.linear_1.bias"),
            Mark("x_embedder.bias", 0, (WIDTH,)),
            Mark("ref_image_patch_embedder.bias", 0, (WIDTH,)),
        ),
        prefixes=("", COMFY),
    ),
)
