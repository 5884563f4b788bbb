"""How files of LTX-Video are known from their headers.

Numbers: latents of 128 channels enter by one linear layer; single files have PixArt's names of the time embedding
(`adaln_single`), but no embedding of positions. LTX-2 has the same twice, once for sound.

Sources: diffusers `models/transformers/transformer_ltx.py`, ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant

SINGLE = Part(
    "denoiser",
    "single file",
    (
        Mark("adaln_single.emb.timestep_embedder.linear_1.bias"),
        Mark("patchify_proj.bias"),
        Mark("transformer_blocks.0.attn2.*"),
    ),
    prefixes=("", COMFY),
    variants=(Variant("LTX-2", (Mark("audio_adaln_single.*"),)),),
)

SPLIT = Part(
    "denoiser",
    "diffusers",
    (
        Mark("time_embed.emb.timestep_embedder.linear_1.bias"),
        Mark("proj_in.weight", 1, (128,)),
        Mark("caption_projection.linear_1.bias"),
        Mark("transformer_blocks.0.attn2.*"),
    ),
    variants=(Variant("LTX-2", (Mark("audio_proj_in.*"),)),),
)

GGUF = Part("denoiser", "GGUF", (Mark("patchify_proj.weight"),), architecture="ltxv")
"""By what a file says of itself, whatever it keeps of its biases."""

PARTS = (SINGLE, SPLIT, GGUF)
