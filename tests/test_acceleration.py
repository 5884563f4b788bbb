"""Acceleration of SDXL pipelines: the same numbers as stock diffusers, undone on request, refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sosie.core.errors import EngineError

pytestmark = pytest.mark.local

TEXT, POOLED, TIME = 32, 16, 8
ON_CPU = {"compile": "off", "graph": False}


def configuration() -> dict[str, Any]:
    """SDXL's architecture, narrow."""
    return {
        "sample_size": 16,
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "attention_head_dim": (1, 2, 2),
        "transformer_layers_per_block": (1, 1, 2),
        "cross_attention_dim": TEXT,
        "use_linear_projection": True,
        "norm_num_groups": 4,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": TIME,
        "projection_class_embeddings_input_dim": POOLED + 6 * TIME,
    }


def pipeline(*controls: Any, kind: str = "StableDiffusionXLPipeline") -> Any:
    """A stock pipeline with random weights and without text encoders."""
    import diffusers
    import torch

    torch.manual_seed(0)
    unet: Any = diffusers.UNet2DConditionModel(
        **configuration(), up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=2
    )
    vae: Any = diffusers.AutoencoderKL(block_out_channels=(4, 4, 4, 4), norm_num_groups=2, sample_size=32)
    more = {"controlnet": list(controls) if len(controls) > 1 else controls[0]} if controls else {}
    made: Any = getattr(diffusers, kind)(
        vae=vae,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet.eval(),
        scheduler=diffusers.EulerDiscreteScheduler(),
        add_watermarker=False,
        **more,
    )
    made.register_to_config(force_zeros_for_empty_prompt=False)
    made.set_progress_bar_config(disable=True)
    return made


def control(seed: int = 1) -> Any:
    import diffusers
    import torch

    torch.manual_seed(seed)
    made: Any = diffusers.ControlNetModel(
        **{key: value for key, value in configuration().items() if key != "sample_size"},
        conditioning_embedding_out_channels=(4, 8, 8, 8),
    )
    for parameter in made.parameters():  # ControlNets begin with zeros, which would hide errors
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


def with_identity(made: Any, seed: int = 2) -> Any:
    """Two identity adapters beside each other: InstantID's layout and FaceID's."""
    import torch

    from diffusers.models.embeddings import IPAdapterFaceIDImageProjection, IPAdapterPlusImageProjection

    torch.manual_seed(seed)
    unet = made.unet
    widths = {name: layer.to_k.out_features for name, layer in unet.named_modules() if name.endswith("attn2")}
    adapters = [
        (16, IPAdapterPlusImageProjection(embed_dims=12, output_dims=TEXT, hidden_dims=16, depth=1, dim_head=8, heads=2)),
        (4, IPAdapterFaceIDImageProjection(image_embed_dim=12, cross_attention_dim=TEXT, num_tokens=4)),
    ]
    files: list[dict[str, Any]] = []
    for tokens, projection in adapters:
        ...
    return made


def embeds(batch: int = 1, tokens: int = 7, seed: int = 3) -> dict[str, Any]:
    import torch

    random = torch.Generator().manual_seed(seed)
    shapes = {"prompt_embeds": (batch, tokens, TEXT), "pooled_prompt_embeds": (batch, POOLED)}
    return {
        prefix + name: torch.randn(shape, generator=random) for name, shape in shapes.items() for prefix in ("", "negative_")
    }


def draw(made: Any, **more: Any) -> Any:
    """The latents after four guided steps, [batch, 4, 16, 16]."""
    import torch

    settings = {**embeds(), "num_inference_steps": 4, "guidance_scale": 4.0, "height": 128, "width": 128, **more}
    return made(**settings, output_type="latent", generator=torch.Generator().manual_seed(5)).images
