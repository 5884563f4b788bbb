"""How files of Qwen-Image are known from their headers.

Numbers: width 3072 = 24 heads of 128, 60 double blocks; text from Qwen2.5-VL-7B, 3584 wide. The
editing models (Edit, Edit-2509, Edit-2511) share the header. Single files keep the names of diffusers.
Its VAE is Wan's and belongs to `autoencoders`, its text encoder to `language`.

Sources: diffusers `models/transformers/transformer_qwenimage.py`, ComfyUI `model_detection.py`.
"""

from __future__ import annotations

from sosie.files.signature import COMFY, Mark, Part, Variant

WIDTH, TEXT = 3072, 3584
PARAMETERS = 20_430_401_088

TRANSFORMER = Part(
    "denoiser",
    "diffusers",
    (
        Mark("txt_norm.weight", 0, (TEXT,)),
        Mark("img_in.bias", 0, (WIDTH,)),
        Mark("transformer_blocks.0.img_mod.1.bias", 0, (6 * WIDTH,)),
    ),
    absent=("controlnet_blocks.*",),
    prefixes=("", COMFY),
    variants=(Variant("layered", (Mark("time_text_embed.addition_t_embedding.*"),)),),
    variant="image or edit (the same header)",
    parameters=PARAMETERS,
)

CONTROLNET = Part(
    "controlnet",
    "diffusers",
    (
        Mark("txt_norm.weight", 0, (TEXT,)),
        Mark("controlnet_x_embedder.bias", 0, (WIDTH,)),
        Mark("controlnet_blocks.0.bias", 0, (WIDTH,)),
    ),
)


BLOCKWISE = Part(
    "model-patch",
    "DiffSynth",
    (Mark("controlnet_blocks.0.y_rms.weight", 0, (WIDTH,)), Mark("img_in.weight", 0, (WIDTH,))),
    variant="blockwise ControlNet",
    used_by="QwenImageDiffsynthControlnet",
)

GGUF = Part(
    "denoiser", "GGUF", (Mark("txt_norm.weight", 0, (TEXT,)),), variant=TRANSFORMER.variant, architecture="qwen_image"
)
"""By what a file says of itself, whatever it keeps of its biases."""

PARTS = (TRANSFORMER, CONTROLNET, BLOCKWISE, GGUF)
