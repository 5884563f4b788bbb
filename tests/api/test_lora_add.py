"""Giving a character its LoRA, and what a plan then says."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from sosie.core.errors import ConfigError
from sosie.workspace.characters import load_character
from sosie.workspace.workspace import open_workspace

Sosie = Callable[..., Any]
MODULE = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"


def lora(path: Path, trigger: str = "", seed: int = 0) -> Path:
    """A kohya LoRA of one module of SDXL."""
    random = np.random.default_rng(seed)
    tensors = {
        f"{MODULE}.lora_down.weight": random.normal(size=(4, 640)).astype(np.float16),
        f"{MODULE}.lora_up.weight": random.normal(size=(640, 4)).astype(np.float16),
        f"{MODULE}.alpha": np.array(4, dtype=np.float16),
    }
    tags = json.dumps({"10_x": {trigger: 20}}) if trigger else ""
    save_file(tensors, path, {"ss_base_model_version": "sdxl_base_v1-0"} | ({"ss_tag_frequency": tags} if tags else {}))
    return path


def test_a_lora_becomes_part_of_the_character(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    file = lora(tmp_path / "elena_v2.safetensors")
    before = (workspace / "characters/mira/character.toml").read_text()
    done = sosie("lora", "add", "mira", file, "--weight", 0.8, "--trigger", "mirax", "--json", "--workspace", workspace)
    line = json.loads(done.out)
    assert line["family"] == "sdxl"
    assert Path(line["path"]).read_bytes() == file.read_bytes()
    toml = workspace / "characters/mira/character.toml"
    assert toml.read_text().startswith(before.rstrip("\n"))
    assert tomllib.loads(toml.read_text())["loras"][0]["weight"] == 0.8
    (own,) = load_character(open_workspace(workspace), "mira").loras
    assert (own.file, own.weight, own.trigger, own.sha256) == (
        "loras/elena_v2.safetensors",
        0.8,
        "mirax",
        line["sha256"],
    )


def test_adding_the_same_lora_again_changes_nothing(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    file = lora(tmp_path / "a.safetensors")
    command = ("lora", "add", "mira", file, "--trigger", "x", "--workspace", workspace)
    sosie(*command)
    before = (workspace / "characters/mira/character.toml").read_text()
    sosie(*command)
    assert (workspace / "characters/mira/character.toml").read_text() == before


@pytest.mark.parametrize(
    ("seed", "weight", "complaint"), [(0, 0.5, "already with other terms"), (1, 0.7, "another LoRA of that name")]
)
def test_another_lora_or_other_terms_under_one_name_are_refused(
    sosie: Sosie, workspace: Path, tmp_path: Path, seed: int, weight: float, complaint: str
) -> None:
    sosie("lora", "add", "mira", lora(tmp_path / "a.safetensors"), "--trigger", "x", "--workspace", workspace)
    other = tmp_path / "other"
    other.mkdir()
    file = lora(other / "a.safetensors", seed=seed)
    again = sosie("lora", "add", "mira", file, "--trigger", "x", "--weight", weight, "--workspace", workspace)
    assert again.code == 2
    assert complaint in again.err


def test_a_lora_that_says_no_trigger_gets_a_warning(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    done = sosie("lora", "add", "mira", lora(tmp_path / "a.safetensors"), "--json", "--workspace", workspace)
    assert done.code == 1
    assert "SOS-L023" in [finding["code"] for finding in json.loads(done.out)["findings"]]


def test_a_file_that_is_no_lora_is_refused_and_leaves_nothing(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    file = tmp_path / "no.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, file)
    done = sosie("lora", "add", "mira", file, "--workspace", workspace)
    assert done.code == 2
    assert not (workspace / "characters/mira/loras").exists()


@pytest.mark.parametrize("weight", ["nan", "5", "-4.5"])
def test_a_weight_out_of_range_is_refused(sosie: Sosie, workspace: Path, tmp_path: Path, weight: str) -> None:
    done = sosie(
        "lora", "add", "mira", lora(tmp_path / "a.safetensors"), f"--weight={weight}", "--workspace", workspace
    )
    assert done.code == 2
    assert "out of range" in done.err


def test_a_character_whose_lora_is_gone_or_lies_elsewhere_is_named(workspace: Path, tmp_path: Path) -> None:
    toml = workspace / "characters/mira/character.toml"
    text = toml.read_text()
    toml.write_text(text + '\n[[loras]]\nfile = "loras/gone.safetensors"\nfamily = "sdxl"\n')
    with pytest.raises(ConfigError, match="does not exist"):
        load_character(open_workspace(workspace), "mira")
    lora(tmp_path / "a.safetensors")
    toml.write_text(text + f'\n[[loras]]\nfile = "{tmp_path}/a.safetensors"\nfamily = "sdxl"\n')
    with pytest.raises(ConfigError, match="outside the character's folder"):
        load_character(open_workspace(workspace), "mira")
