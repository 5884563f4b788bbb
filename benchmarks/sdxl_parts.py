"""SDXL pipelines with random weights, at full size or tiny: what the speed and memory benchmarks run on.

Sizes are those of SDXL's published configurations, of InstantID's ControlNet and adapter and of
FaceID Plus v2 (1.25 B, 0.42 B and 0.49 B parameters at full size). `tiny` is the same architecture,
narrow, for a rehearsal on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

FULL_SIZE: dict[str, Any] = {
    "blocks": {
        "block_out_channels": (320, 640, 1280),
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "condition": (16, 32, 96, 256),
    "vae": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 1024},
    "pooled": 1280,
    "face": 512,
    "clip": 1280,
    "resampler": {"hidden_dims": 1280, "depth": 4, "dim_head": 64, "heads": 20, "num_queries": 16},
    "perceiver": {"depth": 4, "dim_head": 64, "heads": 32},
    "upscaler": (64, 32, 23),
    "vision": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
        "projection_dim": 1024,
    },
    "encoders": (
        {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
        {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20},
    ),
}

TINY: dict[str, Any] = {
    "blocks": {
        "block_out_channels": (8, 16, 16),
        "attention_head_dim": (1, 2, 2),
        "transformer_layers_per_block": (1, 1, 2),
        "cross_attention_dim": 32,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 64,
        "norm_num_groups": 4,
    },
    "condition": (4, 8, 8, 8),
    "vae": {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 2, "sample_size": 32},
    "pooled": 16,
    "face": 12,
    "clip": 20,
    "resampler": {"hidden_dims": 16, "depth": 1, "dim_head": 8, "heads": 2, "num_queries": 6},
    "perceiver": {"depth": 1, "dim_head": 8, "heads": 2},
    "upscaler": (8, 4, 1),
    "vision": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    "encoders": (
        {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
    ),
}

DOWN = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
UP = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")


@dataclass(frozen=True)
class Place:
    """Where and how weights are held."""

    sizes: dict[str, Any]
    device: str = "cpu"
    dtype: torch.dtype = torch.float32


def _made(build: Any, place: Place, seed: int) -> Any:
    """A model with PyTorch's own random start; parameters that start as zeros are drawn too."""
    torch.manual_seed(seed)
    with torch.device(place.device):
        model = build()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return model.to(place.dtype).eval().requires_grad_(False)


def _blocks(place: Place) -> dict[str, Any]:
    common = {"down_block_types": DOWN, "use_linear_projection": True, "addition_embed_type": "text_time"}
    return {**place.sizes["blocks"], **common, "layers_per_block": 2}


def unet(place: Place) -> Any:
    from diffusers import UNet2DConditionModel

    return _made(lambda: UNet2DConditionModel(**_blocks(place), up_block_types=UP, sample_size=128), place, 0)


def control(place: Place, seed: int = 1) -> Any:
    from diffusers import ControlNetModel

    condition = place.sizes["condition"]
    build = lambda: ControlNetModel(**_blocks(place), conditioning_embedding_out_channels=condition)  # noqa: E731
    return _made(build, place, seed)


def vae(place: Place) -> Any:
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    build = lambda: AutoencoderKL(**place.sizes["vae"], **blocks, latent_channels=4, scaling_factor=0.13025)  # noqa: E731
    return _made(build, place, 2)


def encoders(place: Place) -> list[Any]:
    """CLIP-L and OpenCLIP bigG's text towers."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    first, second = (
        CLIPTextConfig(**sizes, vocab_size=49408, max_position_embeddings=77, projection_dim=sizes["hidden_size"])
        for sizes in place.sizes["encoders"]
    )
    return [
        _made(lambda: CLIPTextModel(first), place, 3),
        _made(lambda: CLIPTextModelWithProjection(second), place, 4),
    ]


def vision(place: Place) -> Any:
    """FaceID Plus's image encoder, ViT-H/14."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**place.sizes["vision"], hidden_act="gelu")
    return _made(lambda: CLIPVisionModelWithProjection(config), place, 9)


class Dense(torch.nn.Module):
    """A residual-in-residual dense block (ESRGAN, Wang et al. 2018, arXiv:1809.00219)."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        steps = [
            [torch.nn.Conv2d(width + i * growth, growth if i < 4 else width, 3, 1, 1) for i in range(5)]
            for _ in range(3)
        ]
        self.blocks = torch.nn.ModuleList(torch.nn.ModuleList(convolutions) for convolutions in steps)

    def forward(self, whole: torch.Tensor) -> torch.Tensor:
        x = whole
        for block in self.blocks:
            states = x
            for convolution in block[:4]:
                states = torch.cat([states, torch.nn.functional.leaky_relu(convolution(states), 0.2)], 1)
            x = x + 0.2 * block[4](states)
        return whole + 0.2 * x


def upscaler(place: Place) -> Any:
    """ESRGAN's network for four times the size, 16.7 M parameters at full size, as 4x-UltraSharp has it."""
    width, growth, blocks = place.sizes["upscaler"]

    def build() -> Any:
        return torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3, 1, 1),
            *(Dense(width, growth) for _ in range(blocks)),
            *(
                layer
                for _ in range(2)
                for layer in (
                    torch.nn.Upsample(scale_factor=2),
                    torch.nn.Conv2d(width, width, 3, 1, 1),
                    torch.nn.LeakyReLU(0.2),
                )
            ),
            torch.nn.Conv2d(width, width, 3, 1, 1),
            torch.nn.LeakyReLU(0.2),
            torch.nn.Conv2d(width, 3, 3, 1, 1),
        )

    return _made(build, place, 10)


def add_identity(model: Any, place: Place) -> None:
    """InstantID's adapter and FaceID Plus v2's beside each other in a UNet, as the loader places them."""
    from diffusers.models import embeddings
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    sizes, text = place.sizes, place.sizes["blocks"]["cross_attention_dim"]
    resampler = {"embed_dims": sizes["face"], "output_dims": text, **sizes["resampler"]}
    perceiver = {"embed_dims": text, "output_dims": text, "hidden_dims": sizes["clip"], **sizes["perceiver"]}
    perceiver["id_embeddings_dim"] = sizes["face"]
    layers = [
        _made(lambda: embeddings.IPAdapterPlusImageProjection(**resampler), place, 5),
        _made(lambda: embeddings.IPAdapterFaceIDPlusImageProjection(**perceiver), place, 6),
    ]
    layers[1].shortcut = True
    layers[1].clip_embeds = random((2, 1, 257 if sizes is FULL_SIZE else 5, sizes["clip"]), place, 7)
    tokens = (sizes["resampler"]["num_queries"], 4)
    processors = dict(model.attn_processors)
    for seed, name in enumerate(processors):
        if name.endswith("attn2.processor"):
            width = model.get_submodule(name.removesuffix(".processor")).to_k.out_features
            build = lambda width=width: IPAdapterAttnProcessor2_0(width, text, tokens, [0.8, 0.7])  # noqa: E731
            processors[name] = _made(build, place, 100 + seed)
    model.set_attn_processor(processors)
    model.encoder_hid_proj = embeddings.MultiIPAdapterImageProjection(layers)
    model.config.encoder_hid_dim_type = "ip_image_proj"


def pipeline(place: Place, *controls: Any, kind: str = "", denoiser: Any = None, decoder: Any = None) -> Any:
    """A stock pipeline without text encoders; `kind` is a class of diffusers."""
    import diffusers

    more = {"controlnet": list(controls) if len(controls) > 1 else controls[0]} if controls else {}
    kind = kind or f"StableDiffusionXL{'ControlNet' if controls else ''}Pipeline"
    made = getattr(diffusers, kind)(
        vae=vae(place) if decoder is None else decoder,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet(place) if denoiser is None else denoiser,
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
        force_zeros_for_empty_prompt=False,
        **more,
    )
    made.set_progress_bar_config(disable=True)
    return made


def random(shape: tuple[int, ...], place: Place, seed: int) -> torch.Tensor:
    """Normal numbers, the same on every device."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return drawn.to(place.device, place.dtype)


def text(place: Place, batch: int = 1, seed: int = 8, tokens: int = 77) -> dict[str, torch.Tensor]:
    """Arguments of a pipeline in the place of a prompt and a negative prompt."""
    shapes = {
        "prompt_embeds": (batch, tokens, place.sizes["blocks"]["cross_attention_dim"]),
        "pooled_prompt_embeds": (batch, place.sizes["pooled"]),
    }
    return {
        prefix + name: random(shape, place, seed + index)
        for index, (prefix, (name, shape)) in enumerate((p, s) for p in ("", "negative_") for s in shapes.items())
    }


def faces(place: Place, seed: int = 20) -> list[torch.Tensor]:
    """Identity embeddings as pipelines take them: zeros for the unconditional half."""
    drawn = [random((1, 1, place.sizes["face"]), place, seed + index) for index in range(2)]
    halves = [torch.cat([torch.zeros_like(one), one]) for one in drawn]
    return [halves[0][:, :, None], halves[1]]
