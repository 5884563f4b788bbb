"""A live `generate` walks the model folders once and reads the header of each model once."""

from __future__ import annotations

import json
import math
import os
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sosie.files import safetensors

pytestmark = pytest.mark.once

Sosie = Callable[..., Any]

UNET = "model.diffusion_model."
CHECKPOINT = {
    "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": (1280,),
    f"{UNET}label_emb.0.0.weight": (1280, 2816),
    f"{UNET}input_blocks.0.0.weight": (320, 4, 3, 3),
    f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (640, 2048),
}
"""What SDXL is known by, and nothing more."""

MODULE = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
LORA = {f"{MODULE}.lora_down.weight": (4, 2048), f"{MODULE}.lora_up.weight": (640, 4), f"{MODULE}.alpha": ()}

RECIPE = """
name = "one"
prompt = "portrait of {description}, {prompt}"
width = 512
height = 512

[[stages]]
kind = "generate"
family = "sdxl"
model = "tiny-xl"

[[stages.loras]]
file = "tiny-lora"
"""


def write(path: Path, tensors: dict[str, tuple[int, ...]]) -> Path:
    """A safetensors file of random fp16 numbers above 0."""
    numbers = np.random.default_rng(0)
    header: dict[str, Any] = {}
    data = b""
    for name, shape in tensors.items():
        values = numbers.uniform(0.5, 1, math.prod(shape)).astype(np.float16).tobytes()
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.fixture
def one(workspace: Path) -> Path:
    """A workspace with a recipe of one stage, one model and one LoRA."""
    write(workspace / "models" / "tiny-xl.safetensors", CHECKPOINT)
    write(workspace / "models" / "loras" / "tiny-lora.safetensors", LORA)
    (workspace / "recipes").mkdir()
    (workspace / "recipes" / "one.toml").write_text(RECIPE)
    return workspace


@pytest.fixture
def counted(one: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the folder of models was listed, and each file's header parsed."""
    counts: Counter[str] = Counter()
    scandir, listdir, parse = os.scandir, os.listdir, safetensors.parse_header

    def count_folder(path: Any) -> None:
        if isinstance(path, (str, Path)) and Path(path) == one / "models":
            counts["models/"] += 1

    def scanned(path: Any = ".") -> Any:
        count_folder(path)
        return scandir(path)

    def listed(path: Any = ".") -> Any:
        count_folder(path)
        return listdir(path)

    def parsed(text: bytes, where: str) -> safetensors.Header:
        counts[Path(where).name] += one in Path(where).parents
        return parse(text, where)

    # Every command first looks for what killed ones left, at the top of each folder: no walk, and no header is read.
    monkeypatch.setattr("sosie.cli.options.put_right", lambda _: None)
    monkeypatch.setattr(os, "scandir", scanned)
    monkeypatch.setattr(os, "listdir", listed)
    monkeypatch.setattr(safetensors, "parse_header", parsed)
    return counts


def test_a_live_generate_walks_the_model_folders_once_and_reads_each_header_once(
    sosie: Sosie, one: Path, counted: Counter[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    made = sosie(
        *("generate", "mira", "smiling", "-n", 1, "--seed", 7, "--recipe", "one", "--engine", "fake"),
        *("--out", out, "--workspace", one, "--json"),
    )
    assert made.code in (0, 1), made.err
    assert {json.loads(line)["verdict"] for line in made.out.splitlines()} <= {"keep", "retry"}
    assert counted == {"models/": 1, "tiny-xl.safetensors": 1, "tiny-lora.safetensors": 1}
