"""How files of FLUX.1 are known from their headers.

Numbers: width 3072 = 24 heads of 128; a double block's modulation has six vectors (18432), a single
block's three (9216). `guidance_in` tells dev from schnell; the image input takes 64 channels, 128 with
a control image (canny, depth), 384 with a masked image and its mask (fill). Kontext and Krea share
dev's header. Chroma has neither `vector_in` nor modulation and is another family. Marks are biases and
norms: no quantisation touches them.

Sources: diffusers `loaders/single_file_utils.py`, `models/transformers/transformer_flux.py`, ComfyUI
`model_detection.py`, nunchaku and deepcompressor `backend/nunchaku` (names of SVDQuant files).
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant, bundled

WIDTH = 3072
DEV, SCHNELL, FILL, CONTROL = 11_901_408_320, 11_891_178_560, 11_902_391_360, 11_901_604_928
DEV_NAME = "dev (Kontext and Krea share its header)"
PLAIN = "flux1-dev.safetensors (23.80 GB in bf16)"


def _variants(image: str, guidance: str) -> tuple[Variant, ...]:
    return (
        Variant("fill", (Mark(image, 1, (384,)),), FILL),
        Variant("canny or depth (the same header)", (Mark(image, 1, (128,)),), CONTROL),
        Variant(DEV_NAME, (Mark(guidance),), DEV),
    )


SINGLE = Part(
    "denoiser",
    "single file",
    (
        Mark("double_blocks.0.img_attn.norm.key_norm.scale", 0, (128,)),
        Mark("single_blocks.0.norm.key_norm.scale", 0, (128,)),
        Mark("img_in.bias", 0, (WIDTH,)),
        Mark("vector_in.in_layer.bias", 0, (WIDTH,)),
    ),
    absent=("distilled_guidance_layer.*", f"{COMFY}distilled_guidance_layer.*", "controlnet_blocks.*"),
    prefixes=("", COMFY),
    variants=_variants("img_in.weight", "guidance_in.*"),
    variant="schnell",
    parameters=SCHNELL,
    plain_file=PLAIN,
)

_TIME = "time_text_embed.text_embedder.linear_1.bias"
_SPLIT = (
    Mark("single_transformer_blocks.0.norm.linear.bias", 0, (3 * WIDTH,)),
    Mark("transformer_blocks.0.norm1.linear.bias", 0, (6 * WIDTH,)),
    Mark("x_embedder.bias", 0, (WIDTH,)),
    Mark(_TIME, 0, (WIDTH,)),
)


def _split(layout: str, query: Mark) -> Part:
    return Part(
        "denoiser",
        layout,
        (*_SPLIT, query),
        absent=("controlnet_blocks.*", "controlnet_x_embedder.*"),
        variants=_variants("x_embedder.weight", "time_text_embed.guidance_embedder.*"),
        variant="schnell",
        parameters=SCHNELL,
        plain_file=PLAIN,
    )


CONTROLNET = Part(
    "controlnet",
    "diffusers",
    (Mark("controlnet_x_embedder.bias", 0, (WIDTH,)), Mark("controlnet_blocks.0.bias"), *_SPLIT[1:]),
)

USO = Part(
    "model-patch",
    "USO",
    (Mark("feature_embedder.mid_layer_norm.bias"), Mark("feature_embedder.high_projection.bias", 0, (WIDTH,))),
    variant="USO's projector of style",
    used_by="USOStyleReference",
)

CHECKPOINTS = (bundled(SINGLE, Mark("text_encoders.*")), bundled(SINGLE, Mark("vae.*")))

GGUF = Part(
    "denoiser",
    "GGUF",
    (
        Mark("double_blocks.0.*"),
        Mark("img_in.weight", 0, (WIDTH,)),
    ),
    absent=("distilled_guidance_layer.*", "double_stream_modulation_img.*"),
    variants=_variants("img_in.weight", "guidance_in.*"),
    variant="schnell",
    architecture="flux",
)
"""By what a file says of itself, whatever it keeps of its biases."""

PARTS = (
    *CHECKPOINTS,
    SINGLE,
    _split("diffusers", Mark("transformer_blocks.0.attn.norm_k.weight", 0, (128,))),
    _split("nunchaku", Mark("transformer_blocks.0.norm_k.weight", 0, (128,))),
    CONTROLNET,
    USO,
    GGUF,
)
