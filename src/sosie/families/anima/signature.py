"""How files of Anima are known from their headers.

Numbers: Cosmos Predict 2's blocks, 2048 wide, and an adapter of text (`llm_adapter`) that Cosmos has not.

Source: ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part

PARTS = (
    Part(
        "model-patch",
        "LLLite",
        (Mark("lllite_conditioning1.conv1.weight"),),
        variant="LLLite",
        used_by="AnimaLLLiteApply",
    ),
    Part(
        "denoiser",
        "single file",
        (
            Mark("blocks.0.mlp.layer1.weight"),
            Mark("llm_adapter.blocks.0.cross_attn.q_proj.weight"),
            Mark("x_embedder.proj.1.weight"),
        ),
        prefixes=("", COMFY, "net."),
    ),
)
