"""FLUX.2 klein in very small, with random weights: in a diffusers folder and in single files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny_zimage
from PIL import Image

from sosie.core import Character, Guide, Plan, Recipe, Request, Sampler, Stage, plan
from sosie.core.character import Reference
from sosie.core.plan import Draw, asset_names
from sosie.families.contract.draws import StageInput

SIDE = 96
WIDTH, HEAD, TEXT, WORDS = 64, 32, 16, 151_936


@dataclass(frozen=True)
class Made:
    """Where the model lies in each form."""

    folder: Path
    transformer: Path
    text_encoder: Path
    vae: Path


def modules() -> tuple[Any, Any, Any]:
    """Transformer, text encoder and VAE with random weights."""
    import torch
    from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(1)
    transformer = Flux2Transformer2DModel(
        in_channels=128, num_layers=2, num_single_layers=2, attention_head_dim=HEAD, num_attention_heads=WIDTH // HEAD,
        joint_attention_dim=3 * TEXT, axes_dims_rope=(8, 8, 8, 8), guidance_embeds=False,
    )  # fmt: skip
    encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=WORDS, hidden_size=TEXT, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2,
            num_key_value_heads=1, head_dim=8, max_position_embeddings=2048, rope_theta=1_000_000.0,
            rope_parameters={"rope_theta": 1_000_000.0, "rope_type": "default"}, tie_word_embeddings=True,
        )
    )  # fmt: skip
    vae = AutoencoderKLFlux2(
        block_out_channels=(16, 16, 16, 16), layers_per_block=1, latent_channels=32, norm_num_groups=16,
        sample_size=64,
    )  # fmt: skip
    with torch.no_grad():
        for module in (transformer, encoder, vae):
            for name, tensor in module.named_parameters():
                if "norm" not in name:
                    tensor.copy_(torch.randn_like(tensor) * 0.08)
                elif "attn" in name:
                    tensor.mul_(1 + 0.2 * torch.randn_like(tensor))
        norm: Any = vae.bn
        norm.running_mean.copy_(torch.randn(128) * 0.1)
        norm.running_var.copy_(torch.rand(128) + 0.5)
    return transformer.eval(), encoder.eval(), vae.eval()


def make(root: Path) -> Made:
    """Writes the model in every form below `root`, float32."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline
    from safetensors.torch import save_file

    transformer, encoder, vae = modules()
    folder = root / "folder"
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    Flux2KleinPipeline(scheduler, vae, encoder, None, transformer, is_distilled=True).save_pretrained(folder)  # pyright: ignore
    forms = (
        ("klein", single_names(transformer.state_dict())),
        ("qwen", {name: tensor for name, tensor in encoder.state_dict().items() if "lm_head" not in name}),
        ("vae", vae_single_names(vae.state_dict())),
    )
    for name, state in forms:
        save_file({key: tensor.contiguous().clone() for key, tensor in state.items()}, root / f"{name}.safetensors")
    return Made(folder, *(root / f"{name}.safetensors" for name, _ in forms))


def stock(folder: Path, distilled: bool = True) -> Any:
    """diffusers' own pipeline of a folder, float32; it is given embeddings."""
    import torch
    from diffusers import Flux2KleinPipeline

    made = Flux2KleinPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True, tokenizer=None)
    made.register_to_config(is_distilled=distilled)
    made.set_progress_bar_config(disable=True)
    return made


def single_names(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Of the transformer's tensors, those of a single file as Black Forest Labs named them."""
    import torch

    made: dict[str, Any] = {}
    streams = {
        "to_q": ("img", ("to_q", "to_k", "to_v")),
        "add_q_proj": ("txt", ("add_q_proj", "add_k_proj", "add_v_proj")),
    }
    renamed = (
        ("time_guidance_embed.timestep_embedder.linear_1", "time_in.in_layer"),
        ("time_guidance_embed.timestep_embedder.linear_2", "time_in.out_layer"),
        ("x_embedder", "img_in"), ("context_embedder", "txt_in"), ("proj_out", "final_layer.linear"),
        ("norm_out.linear", "final_layer.adaLN_modulation.1"), ("modulation_img.linear", "modulation_img.lin"),
        ("modulation_txt.linear", "modulation_txt.lin"), ("stream_modulation.linear", "stream_modulation.lin"),
        ("single_transformer_blocks", "single_blocks"), ("transformer_blocks", "double_blocks"),
        ("attn.to_qkv_mlp_proj", "linear1"), ("attn.norm_added_q.weight", "txt_attn.norm.query_norm.scale"),
        ("attn.norm_added_k.weight", "txt_attn.norm.key_norm.scale"), ("attn.to_out.0", "img_attn.proj"),
        ("attn.to_add_out", "txt_attn.proj"), ("ff.linear_in", "img_mlp.0"), ("ff.linear_out", "img_mlp.2"),
        ("ff_context.linear_in", "txt_mlp.0"), ("ff_context.linear_out", "txt_mlp.2"), ("attn.to_out", "linear2"),
    )  # fmt: skip
    for name, tensor in tensors.items():
        parts = name.split(".")
        letter = parts[3] if len(parts) == 5 and parts[2] == "attn" else ""
        if letter in streams:
            stream, letters = streams[letter]
            rows = [tensors[name.replace(letter, other)] for other in letters]
            made[f"double_blocks.{parts[1]}.{stream}_attn.qkv.weight"] = torch.cat(rows)
            continue
        if letter in ("to_k", "to_v", "add_k_proj", "add_v_proj"):
            continue
        single = name.startswith("single_transformer")
        for old, new in (
            ("attn.norm_q.weight", "norm.query_norm.scale" if single else "img_attn.norm.query_norm.scale"),
            ("attn.norm_k.weight", "norm.key_norm.scale" if single else "img_attn.norm.key_norm.scale"),
            *renamed,
        ):
            name = name.replace(old, new)  # noqa: PLW2901
        made[name] = torch.cat(tensor.chunk(2)[::-1]) if "adaLN" in name else tensor
    return made


def vae_single_names(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Of the VAE's tensors, those of a single file as Black Forest Labs named them."""
    made = tiny_zimage.ldm(tensors)
    outer = {"quant_conv.": "encoder.quant_conv.", "post_quant_conv.": "decoder.post_quant_conv."}
    return {
        next((new + name.removeprefix(old) for old, new in outer.items() if name.startswith(old)), name): tensor
        for name, tensor in made.items()
    }


def given(
    stage: Stage, paths: Mapping[str, Path], source: Image.Image | None = None, pictures: Sequence[Image.Image] = ()
) -> StageInput:
    """A stage of a recipe of `SIDE` pixels with nothing else in it."""
    return StageInput(stage, planned(stage), 0, source, paths, Shown(pictures), lambda _done, _steps: None)


def planned(stage: Stage, side: int = SIDE) -> Plan:
    """Its plan, of a character with one reference."""
    recipe = Recipe("tiny", (stage,), "{prompt}", side, side)
    who = Character("nobody", "fictional", True, references=(Reference("a.png", "0" * 64),))
    request = Request("tiny", "nobody", "a red hat on a blue table")
    return plan(recipe, who, request, Draw(), dict.fromkeys(asset_names((stage,)), ""))


def stage(kind: Any = "generate", model: str = "k", **changes: Any) -> Stage:
    """A stage of few steps."""
    sampler = Sampler(steps=changes.pop("steps", 3), cfg=changes.pop("cfg", 1.0), denoise=changes.pop("denoise", 1.0))
    return Stage(kind, "flux2", model, sampler=sampler, **changes)


def guide(**changes: Any) -> Guide:
    """The guide of references."""
    return Guide(**{"kind": "references", "scale": 1.0, **changes})


class Shown(tiny_zimage.Nobody):
    """Gives pictures in place of a character's references."""

    def __init__(self, pictures: Sequence[Image.Image] = ()) -> None:
        self.pictures = list(pictures)

    def portraits(self, guide: Any, plan: Any) -> Any:
        return self.pictures[: guide.references]
