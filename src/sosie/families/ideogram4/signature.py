"""How files of Ideogram 4 are known from their headers.

Numbers: 18 heads of 256 make 4608; the text is 13 layers of Qwen3-VL-8B side by side (13 x 4096 = 53248). Single files
fuse query, key and value. The model that draws without text has the same header.

Sources: diffusers `models/transformers/transformer_ideogram4.py`, ComfyUI `ldm/ideogram4/model.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part

WIDTH, TEXT = 4608, 53248
PARAMETERS = 9_279_288_448


def _part(layout: str, attention: str, prefixes: tuple[str, ...]) -> Part:
    return Part(
        "denoiser",
        layout,
        (
            Mark("input_proj.bias", 0, (WIDTH,)),
            Mark("llm_cond_norm.weight", 0, (TEXT,)),
            Mark("layers.0.adaln_modulation.bias", 0, (4 * WIDTH,)),
            Mark(f"layers.0.attention.{attention}.*"),
        ),
        prefixes=prefixes,
        variant="with or without text (the same header)",
        parameters=PARAMETERS,
    )


PARTS = (_part("single file", "qkv", ("", COMFY)), _part("diffusers", "to_q", ("",)))
