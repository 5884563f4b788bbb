"""How files of HiDream-I1 are known from their headers.

Numbers: 20 heads of 128 make 2560; captions (T5 and Llama, 4096 each) are projected for each of its 48 layers. Single
files keep the names of diffusers. HiDream-O1 is another model.

Sources: diffusers `models/transformers/transformer_hidream_image.py`, ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part

WIDTH = 2560

GGUF = Part("denoiser", "GGUF", (Mark("caption_projection.0.linear.weight"),), architecture="hidream")
"""By what a file says of itself, whatever it keeps of its biases."""

PARTS = (
    Part(
        "denoiser",
        "diffusers",
        (
            Mark("caption_projection.0.linear.weight", 0, (WIDTH,)),
            Mark("p_embedder.pooled_embedder.linear_1.bias", 0, (WIDTH,)),
            Mark("double_stream_blocks.0.*"),
        ),
        prefixes=("", COMFY),
    ),
    GGUF,
)
