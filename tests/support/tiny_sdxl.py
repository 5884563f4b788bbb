"""SDXL in very small, with random weights: its 140 attention layers, their names, and their adapters' keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sosie.core import Character, Guide, Plan, Recipe, Request, Sampler, Stage, plan
from sosie.core.plan import Draw, asset_names
from sosie.families import guides_of
from sosie.families.contract.draws import StageInput
from sosie.families.contract.guides import Pose, conditionings

CONTEXT, POOLED, SIZE = 32, 16, 64
WIDTHS = (32, 64, 64)

UNET: Mapping[str, Any] = {
    "block_out_channels": WIDTHS,
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (1, 2, 4),
    "cross_attention_dim": CONTEXT,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + POOLED,
    "use_linear_projection": True,
    "norm_num_groups": 8,
}


def unet(**changes: Any) -> Any:
    """SDXL's UNet with its depths at small widths."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(1)
    config = {**UNET, **changes}
    ups = ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
    return UNet2DConditionModel(sample_size=8, up_block_types=ups, **config).eval()


def controlnet(**changes: Any) -> Any:
    """A ControlNet for it; what training starts at zero is random, so that it does something."""
    import torch
    from diffusers import ControlNetModel

    torch.manual_seed(2)
    net = ControlNetModel(**{**UNET, **changes}).eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.startswith(("controlnet_down", "controlnet_mid", "controlnet_cond_embedding.conv_out")):
                weight.normal_(0, 0.3)
    return net


def vae() -> Any:
    """A VAE that makes images eight times smaller."""
    import torch
    from diffusers import AutoencoderKL

    torch.manual_seed(3)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    return AutoencoderKL(block_out_channels=[8] * 4, norm_num_groups=4, layers_per_block=1, **blocks).eval()


def scheduler() -> Any:
    """SDXL's noise, spaced from the last step."""
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing"
    )


def pipeline(kind: str, net: Any, control: Any = None) -> Any:
    """A stock pipeline by its class's name, around the given UNet, without text encoders."""
    import diffusers

    parts = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    extra = {} if control is None else {"controlnet": control}
    made = getattr(diffusers, kind)(**parts, **extra, vae=vae(), unet=net, scheduler=scheduler(), add_watermarker=False)
    made.set_progress_bar_config(disable=True)
    return made


def random(seed: int, *shape: int) -> Any:
    """Normal numbers that depend on the seed alone."""
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tensors(seed: int, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Small random tensors; scales of norms around 1."""
    made: dict[str, Any] = {}
    for place, (name, shape) in enumerate(shapes.items()):
        normal = random(seed * 100_000 + place, *shape) / max(1.0, shape[-1] if len(shape) > 1 else 4.0) ** 0.5
        made[name] = 1 + 0.2 * normal if "norm" in name and name.endswith("weight") else normal
    return made


def perceiver(prefix: str, width: int, inner: int, *, outer: str) -> dict[str, Sequence[int]]:
    """Names and shapes of four layers of a resampler; `outer` is what stands before its first and last layers."""
    shapes: dict[str, Sequence[int]] = {}
    for layer in (f"{prefix}layers.{place}" for place in range(4)):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes |= {f"{layer}.{norm}.weight": (width,), f"{layer}.{norm}.bias": (width,)}
        shapes |= {
            f"{layer}.0.to_q.weight": (inner, width),
            f"{layer}.0.to_kv.weight": (2 * inner, width),
            f"{layer}.0.to_out.weight": (width, inner),
            f"{layer}.1.1.weight": (4 * width, width),
            f"{layer}.1.3.weight": (width, 4 * width),
        }
    shapes |= {f"{outer}proj_out.weight": (CONTEXT, width), f"{outer}proj_out.bias": (CONTEXT,)}
    return {**shapes, f"{outer}norm_out.weight": (CONTEXT,), f"{outer}norm_out.bias": (CONTEXT,)}


def attention_shapes(net: Any, context: int = CONTEXT) -> dict[str, Sequence[int]]:
    """`ip_adapter.1.to_k_ip.weight` and so on, up to 139."""
    shapes: dict[str, Sequence[int]] = {}
    for place, name in enumerate(net.attn_processors):
        if name.endswith("attn2.processor"):
            width = net.get_submodule(name.removesuffix(".processor")).to_q.weight.shape[0]
            shapes |= {f"ip_adapter.{place}.to_{letter}_ip.weight": (width, context) for letter in "kv"}
    return shapes


def instantid(net: Any, taken: int = 512, width: int = 48) -> dict[str, Any]:
    """An adapter with the keys of InstantID's `ip-adapter.bin`."""
    shapes: dict[str, Sequence[int]] = {
        "image_proj.latents": (1, 16, width),
        "image_proj.proj_in.weight": (width, taken),
        "image_proj.proj_in.bias": (width,),
        **perceiver("image_proj.", width, 128, outer="image_proj."),
        **attention_shapes(net),
    }
    return tensors(11, shapes)


def faceid(net: Any, taken: int = 512, tokens: int = 4) -> dict[str, Any]:
    """An adapter with the keys of FaceID."""
    shapes: dict[str, Sequence[int]] = {
        "image_proj.proj.0.weight": (2 * taken, taken),
        "image_proj.proj.0.bias": (2 * taken,),
        "image_proj.proj.2.weight": (tokens * CONTEXT, 2 * taken),
        "image_proj.proj.2.bias": (tokens * CONTEXT,),
        "image_proj.norm.weight": (CONTEXT,),
        "image_proj.norm.bias": (CONTEXT,),
        **attention_shapes(net),
    }
    return tensors(12, shapes)


def faceid_plus(net: Any, taken: int = 512, clip: int = 64) -> dict[str, Any]:
    """An adapter with the keys of FaceID Plus v2: four tokens, as wide as the context."""
    outer = "image_proj.perceiver_resampler."
    shapes: dict[str, Sequence[int]] = {
        "image_proj.proj.0.weight": (2 * taken, taken),
        "image_proj.proj.0.bias": (2 * taken,),
        "image_proj.proj.2.weight": (4 * CONTEXT, 2 * taken),
        "image_proj.proj.2.bias": (4 * CONTEXT,),
        "image_proj.norm.weight": (CONTEXT,),
        "image_proj.norm.bias": (CONTEXT,),
        f"{outer}proj_in.weight": (CONTEXT, clip),
        f"{outer}proj_in.bias": (CONTEXT,),
        **perceiver(outer, CONTEXT, 128, outer=outer),
        **attention_shapes(net),
    }
    return tensors(13, shapes)


def image_encoder() -> Any:
    """CLIP's image encoder with 16 patches."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(4)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = CLIPVisionConfig(**sizes, patch_size=8, image_size=32, projection_dim=16, hidden_act="gelu")
    return CLIPVisionModelWithProjection(config).eval()


def saved(path: Path, content: Mapping[str, Any]) -> Path:
    """A safetensors file with these tensors."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in content.items()}, path)
    return path


class FakeFaces:
    """Faces with given embeddings, and the crops that FaceID Plus looks at."""

    def __init__(self, embeddings: Mapping[str, Any], crops: Sequence[Any] = ()) -> None:
        self._embeddings = embeddings
        self._crops = crops

    def embedding(self, guide: Guide, plan: Plan) -> np.ndarray[Any, np.dtype[np.float32]]:
        return self._embeddings[guide.encoder].numpy()

    def crops(self, guide: Guide, plan: Plan) -> Sequence[Any]:
        return self._crops

    def find(self, image: Any, plan: Plan, stage: Stage) -> Any:
        raise AssertionError("nothing is looked for")


def given(guides: Sequence[Guide], paths: Mapping[str, Path], faces: FakeFaces, cfg: float = 3.0) -> StageInput:
    """A generate stage with these guides."""
    stage = Stage("generate", "sdxl", "tiny", sampler=Sampler(cfg=cfg), guides=tuple(guides))
    recipe = Recipe("tiny", (stage,), "{prompt}", SIZE, SIZE)
    character = Character("nobody", "fictional", True)
    names = asset_names(recipe.stages)
    made = plan(recipe, character, Request("tiny", "nobody", "a face"), Draw(), dict.fromkeys(names, ""))
    return StageInput(stage, made, 0, None, paths, faces, lambda _done, _steps: None)


def conditioned(guides: Any, pipeline: Any, given: StageInput, pose: Pose | None = None, images: int = 1) -> Any:
    """The context in which a call of a pipeline is guided, by the kinds of guide that SDXL knows."""
    return guides.condition(pipeline, given, conditionings(guides_of("sdxl"), given, pose), images)


def prompt(images: int = 1) -> dict[str, Any]:
    """Text as encoders would give it."""
    return {
        "prompt_embeds": random(21, 1, 7, CONTEXT),
        "negative_prompt_embeds": random(22, 1, 7, CONTEXT),
        "pooled_prompt_embeds": random(23, 1, POOLED),
        "negative_pooled_prompt_embeds": random(24, 1, POOLED),
        "num_images_per_prompt": images,
    }
