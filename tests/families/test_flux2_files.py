"""What is said of FLUX.2's files: licence, what draws them, what their names tell; and LoRAs of the wrong model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from header_files import model

from sosie.core.errors import BadModelError
from sosie.families import families, terms_of
from sosie.families.flux2.partners import variant_of
from sosie.files.model_file import Known, identify

pytestmark = pytest.mark.once


def terms(path: Path, header: str) -> str:
    model(path, header)
    found = identify(path, families())
    assert isinstance(found, Known), found.message
    return terms_of(found.model)


def test_klein_4b_may_be_sold_and_is_drawn_here_and_dev_is_neither(tmp_path: Path) -> None:
    klein = terms(tmp_path / "flux-2-klein-4b.safetensors", "flux2-klein-4b")
    assert klein == "licence: Apache-2.0; drawn in this process"
    dev = terms(tmp_path / "flux2-dev.safetensors", "flux2-dev")
    assert dev.startswith(
        "licence: FLUX non-commercial licence of Black Forest Labs; not drawn in this process: build it"
    )


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("flux-2-klein-4b.safetensors", "distilled"),
        ("models/FLUX.2-klein-base-4B", "base"),
        ("flux-2-klein-9b-kv.safetensors", "kv"),
        ("klein/flux2-dev.safetensors", ""),
        ("z_image_bf16", ""),
    ],
)
def test_what_no_header_tells_is_told_by_the_name(name: str, variant: str) -> None:
    assert variant_of(name) == variant


def test_klein_kv_is_named_and_it_is_said_how_it_is_drawn(tmp_path: Path) -> None:
    said = terms(tmp_path / "flux-2-klein-9b-kv.safetensors", "flux2-klein-4b")
    assert "by its name klein KV, which keeps what it saw of references; here it sees them anew in every step" in said


@pytest.mark.parametrize("header", ["qwen-image-2.1", "krea2", "ideogram4", "ernie"])
def test_the_other_models_of_the_season_are_named_with_their_licence_and_not_drawn_here(
    tmp_path: Path, header: str
) -> None:
    said = terms(tmp_path / f"{header}.safetensors", header)
    assert said.startswith("licence: ")
    assert "licence: not noted" not in said
    assert "not drawn in this process: build it in ComfyUI" in said


def lora(path: Path, width: int, block: str = "single_transformer_blocks.0.attn.to_out") -> Path:
    import torch
    from safetensors.torch import save_file

    made = {
        f"transformer.{block}.lora_A.weight": torch.zeros(4, 4 * width),
        f"transformer.{block}.lora_B.weight": torch.zeros(width, 4),
    }
    save_file(made, path)
    return path


@pytest.mark.local
def test_a_lora_of_klein_4b_on_9b_is_refused_with_the_widths(tmp_path: Path) -> None:
    """And one of 9B on 4B: neither is merged in part."""
    import torch
    from diffusers import Flux2Transformer2DModel

    from sosie.core import LoraUse
    from sosie.families.flux2.diffusers.loras import Loras

    with torch.device("meta"):
        nine: Any = Flux2Transformer2DModel(
            num_layers=1, num_single_layers=1, num_attention_heads=32, joint_attention_dim=12288, guidance_embeds=False
        )
    nine.single_transformer_blocks[0].attn.to_out = torch.nn.Linear(4 * 4096, 4096, bias=False)
    path = lora(tmp_path / "four.safetensors", 3072)
    with pytest.raises(BadModelError) as refused:
        Loras(nine).set((LoraUse("l"),), {"l": path})
    assert "3072" in refused.value.message
    assert "4096" in refused.value.message
