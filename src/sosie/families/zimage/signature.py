"""How files of Z-Image are known from their headers.

Numbers: width 3840 = 30 heads of 128, 30 layers and 2 + 2 refiners; captions come from Qwen3-4B (2560
wide). 6,154,908,736 parameters make 12.31 GB in bf16. Base, Turbo and De-Turbo have the very same
header, so no header tells them apart; files with `siglip_*` take reference images (Omni).

A *reduced* model has the same parts with smaller widths, and its captions may come from another encoder of the kind.

Single files fuse query, key and value (`attention.qkv`) and may carry an unused `norm_final`; diffusers
keeps them split. Marks are biases and norms: neither quantisation nor DFloat11 touches them. The Fun ControlNets
(alibaba-pai) are patches of its blocks, no models of their own.

Sources: diffusers `models/transformers/transformer_z_image.py`, ComfyUI `model_detection.py`, `nodes_model_patch.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant, bundled

WIDTH, TEXT = 3840, 2560
LUMINA = 2304
"""Width of Lumina 2, which is built alike."""

PARAMETERS, OMNI_PARAMETERS = 6_154_908_736, 6_513_266_880
SHARED = "Base, Turbo or De-Turbo (the same header)"
PLAIN = "z_image_bf16.safetensors (Base) or z_image_turbo_bf16.safetensors (Turbo), 12.31 GB each"


def _part(layout: str, x_embedder: str, key_norm: str, prefixes: tuple[str, ...]) -> Part:
    return Part(
        "denoiser",
        layout,
        (
            Mark("cap_embedder.0.weight", 0, (TEXT,)),
            Mark("cap_embedder.1.bias", 0, (WIDTH,)),
            Mark("layers.0.adaLN_modulation.0.bias", 0, (4 * WIDTH,)),
            Mark(f"noise_refiner.0.attention.{key_norm}.weight", 0, (128,)),
            Mark(f"{x_embedder}.bias", 0, (WIDTH,)),
        ),
        prefixes=prefixes,
        variants=(Variant("Omni", (Mark("siglip_embedder.0.weight"),), OMNI_PARAMETERS),),
        variant=SHARED,
        parameters=PARAMETERS,
        fingerprint="layers.28.ffn_norm1.weight",
        plain_file=PLAIN,
    )


def _reduced(layout: str, x_embedder: str, key_norm: str) -> Part:
    marks = (
        Mark("cap_embedder.0.weight", 0, below=TEXT),
        Mark("cap_embedder.1.bias", 0, below=LUMINA),
        Mark("cap_pad_token"),  # Lumina 2 has none
        Mark(f"noise_refiner.0.attention.{key_norm}.weight"),
        Mark(f"{x_embedder}.bias", 0, below=LUMINA),
    )
    return Part("denoiser", layout, marks, prefixes=("", COMFY), variant="reduced")


SINGLE = _part("single file", "x_embedder", "k_norm", ("", COMFY))
SPLIT = _part("diffusers", "all_x_embedder.2-1", "norm_k", ("",))

FUN_CONTROL = Part(
    "model-patch",
    "diffusers",
    (Mark("control_all_x_embedder.2-1.weight", 0, (WIDTH,)), Mark("control_layers.0.before_proj.bias", 0, (WIDTH,))),
    variant="Fun ControlNet",
    used_by="ZImageFunControlnet or QwenImageDiffsynthControlnet",
)

GGUF = Part("denoiser", "GGUF", (Mark("cap_embedder.1.weight", 0, (WIDTH,)),), variant=SHARED, architecture="lumina2")
"""By what a file says of itself, whatever it keeps of its biases."""

REDUCED = (_reduced("single file", "x_embedder", "k_norm"), _reduced("diffusers", "all_x_embedder.2-1", "norm_k"))

PARTS = (
    FUN_CONTROL,
    bundled(SINGLE, Mark("text_encoders.*")),
    bundled(SINGLE, Mark("vae.*")),
    SINGLE,
    SPLIT,
    GGUF,
    *REDUCED,
)
