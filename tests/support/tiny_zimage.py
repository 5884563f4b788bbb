"""Z-Image in very small, with random weights: in a diffusers folder, in single files and in one checkpoint."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from sosie.core import Character, Plan, Recipe, Request, Sampler, Stage, plan
from sosie.core.plan import Draw, asset_names
from sosie.families.contract.draws import StageInput

SIDE = 64
WIDTH, HEAD, TEXT, WORDS = 64, 32, 32, 151_936


@dataclass(frozen=True)
class Made:
    """Where the model lies in each form."""

    folder: Path
    transformer: Path
    text_encoder: Path
    vae: Path
    checkpoint: Path


def pipeline(folder: Path) -> Any:
    """The stock pipeline of a folder, float32."""
    import torch
    from diffusers import ZImagePipeline

    made = ZImagePipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True, tokenizer=None)
    made.set_progress_bar_config(disable=True)
    return made


def modules(layers: int = 2) -> tuple[Any, Any, Any]:
    """Transformer, text encoder and VAE with random weights; what training starts at nothing is something."""
    import torch
    from diffusers import AutoencoderKL, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    torch.manual_seed(1)
    transformer = ZImageTransformer2DModel(
        dim=WIDTH, n_layers=layers, n_refiner_layers=1, n_heads=WIDTH // HEAD, n_kv_heads=WIDTH // HEAD,
        cap_feat_dim=TEXT, axes_dims=[8, 12, 12], axes_lens=[1536, 512, 512],
    )  # fmt: skip
    encoder = Qwen3Model(
        Qwen3Config(
            vocab_size=WORDS, hidden_size=TEXT, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, max_position_embeddings=2048, rope_theta=1_000_000.0,
            rope_parameters={"rope_theta": 1_000_000.0, "rope_type": "default"}, tie_word_embeddings=True,
        )
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(16, 16, 16, 16), down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=1,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=16, norm_num_groups=16, scaling_factor=0.3611,
        shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    with torch.no_grad():
        for module in (transformer, encoder, vae):
            for name, tensor in module.named_parameters():
                if "norm" not in name:
                    tensor.copy_(torch.randn_like(tensor) * 0.08)
                elif "attention" in name or "ffn" in name:
                    tensor.mul_(1 + 0.2 * torch.randn_like(tensor))
    return transformer.eval(), encoder.eval(), vae.eval()


def make(root: Path, layers: int = 2) -> Made:
    """Writes the model in every form below `root`, bfloat16."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline
    from safetensors.torch import save_file

    transformer, encoder, vae = (module.to(torch.bfloat16) for module in modules(layers))
    folder = root / "folder"
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    ZImagePipeline(scheduler, vae, encoder, None, transformer).save_pretrained(folder)  # pyright: ignore
    tensors = [dict(module.state_dict()) for module in (transformer, encoder, vae)]
    fused, prefixed, compvis = (
        fused_names(tensors[0]),
        {f"model.{n}": t for n, t in tensors[1].items()},
        ldm(tensors[2]),
    )
    for name, state in (("z", fused), ("qwen", prefixed), ("ae", compvis)):
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, root / f"{name}.safetensors")
    whole = {f"model.diffusion_model.{name}": tensor for name, tensor in fused.items()}
    whole |= {f"text_encoders.qwen3_4b.transformer.{name}": tensor for name, tensor in prefixed.items()}
    whole |= {f"vae.{name}": tensor for name, tensor in compvis.items()}
    save_file({key: tensor.clone() for key, tensor in whole.items()}, root / "all.safetensors")
    paths = (root / f"{name}.safetensors" for name in ("z", "qwen", "ae", "all"))
    return Made(folder, *paths)


def fused_names(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Of the transformer's tensors, those of a single file, with the norm that nothing uses."""
    import torch

    made: dict[str, Any] = {"norm_final.weight": torch.ones(WIDTH, dtype=torch.bfloat16)}
    for name, tensor in tensors.items():
        if ".attention.to_q." in name:
            rows = [tensors[name.replace("to_q", f"to_{letter}")] for letter in "qkv"]
            made[name.replace("to_q", "qkv")] = torch.cat(rows)
        elif ".attention.to_k." in name or ".attention.to_v." in name:
            continue
        else:
            for old, new in (
                ("attention.to_out.0", "attention.out"),
                ("attention.norm_q", "attention.q_norm"),
                ("attention.norm_k", "attention.k_norm"),
                ("all_x_embedder.2-1", "x_embedder"),
                ("all_final_layer.2-1", "final_layer"),
            ):
                name = name.replace(old, new)  # noqa: PLW2901
            made[name] = tensor
    return made


def ldm(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Of the VAE's tensors, those of a single file as CompVis named them."""
    made: dict[str, Any] = {}
    for name, tensor in tensors.items():
        name = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{3 - int(found[1])}", name)  # noqa: PLW2901
        name = re.sub(r"down_blocks\.(\d)", r"down.\1", name)  # noqa: PLW2901
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)  # noqa: PLW2901
        for old, new in (
            ("resnets", "block"),
            ("downsamplers.0", "downsample"),
            ("upsamplers.0", "upsample"),
            ("conv_shortcut", "nin_shortcut"),
            ("conv_norm_out", "norm_out"),
            ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
            ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
            ("mid_block.attentions.0.to_", "mid.attn_1."),
        ):
            name = name.replace(old, new)  # noqa: PLW2901
        is_projection = "attn_1." in name and "norm" not in name and name.endswith("weight")
        made[name] = tensor[:, :, None, None] if is_projection else tensor
    return made


def bare(folder: Path, target: Path) -> Path:
    """A copy of a diffusers folder, to be damaged."""
    shutil.copytree(folder, target)
    return target


def given(stage: Stage, paths: Mapping[str, Path], source: Image.Image | None = None, prompt: str = "") -> StageInput:
    """A stage of a recipe of `SIDE` pixels with nothing else in it."""
    return StageInput(stage, planned(stage, prompt), 0, source, paths, Nobody(), lambda _done, _steps: None)


def planned(stage: Stage, prompt: str = "") -> Plan:
    """Its plan."""
    recipe = Recipe("tiny", (stage,), "{prompt}", SIDE, SIDE)
    request = Request("tiny", "nobody", prompt or "a red hat on a blue table")
    return plan(
        recipe, Character("nobody", "fictional", True), request, Draw(), dict.fromkeys(asset_names((stage,)), "")
    )


def stage(kind: Any = "generate", model: str = "z", **changes: Any) -> Stage:
    """A stage of few steps."""
    sampler = Sampler(steps=changes.pop("steps", 3), cfg=changes.pop("cfg", 3.0), denoise=changes.pop("denoise", 1.0))
    return Stage(kind, "zimage", model, sampler=sampler, **changes)


class Nobody:
    """No faces are asked for."""

    def embedding(self, guide: Any, plan: Any) -> Any:
        raise AssertionError("no guide is asked for")

    crops = embedding

    def find(self, image: Any, plan: Any, stage: Any) -> Any:
        raise AssertionError("no face is looked for")
