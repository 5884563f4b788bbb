"""How files of Qwen-Image 2.1 are known from their headers.

Numbers: 32 heads of 128 make 4096; single blocks that share one modulation; latents of 64 channels, text from
Qwen3-VL-8B (4096). Files that ComfyUI has saved fuse gate and up (`gate_up`). It shares nothing with Qwen-Image but
its name.

Sources: diffusers `models/transformers/transformer_qwenimage21.py`, ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part

WIDTH = 4096
PARAMETERS = 7_115_124_736

PARTS = (
    Part(
        "model-patch",
        "VideoX-Fun",
        (Mark("control_img_in.weight", 0, (WIDTH,)), Mark("control_blocks.0.img_mlp.*")),
        variant="Fun ControlNet",
    ),
    Part(
        "denoiser",
        "diffusers",
        (
            Mark("txt_in.text_norm.weight", 0, (WIDTH,)),
            Mark("transformer_blocks.0.attn.norm_q.weight", 0, (128,)),
            Mark("modulation.1.weight"),
            Mark("transformer_blocks.0.img_mlp.*"),
        ),
        prefixes=("", COMFY),
        variant="base or Turbo (the same header)",
        parameters=PARAMETERS,
    ),
)
