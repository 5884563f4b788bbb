"""What other programs read of an image: A1111's parameters, or a JSON file beside it; nothing unless asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from header_files import zimage_lora

from sosie.core import Character, LoraUse, Plan, Recipe, Request, Sampler, Stage, plan
from sosie.core.plan import Draw
from sosie.provenance.parameters import infotext, parameters_in, sidecar
from sosie.workspace.prompts.settings import read_settings

Sosie = Callable[..., Any]

STAGE = Stage(
    "generate",
    "sdxl",
    "/home/ann/models/Jugger naut, v9.safetensors",
    loras=(LoraUse("styles/soft.safetensors", 0.7),),
    sampler=Sampler("dpmpp_2m", "karras", 28, 6.5),
)


def planned(prompt: str = "smiling, (soft:1.2) light", **changes: Any) -> Plan:
    recipe = Recipe("r", (replace(STAGE, **changes),), "{prompt}", 832, 1216, negative_prompt="hat,\nglasses")
    names = {STAGE.model: "0123456789abcdef" * 4, "styles/soft.safetensors": "f" * 64}
    return plan(recipe, Character("mira", "fictional", True), Request("r", "mira", prompt, seed=5), Draw(), names)


def test_the_text_is_what_a1111_and_civitai_read(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"x")
    lora = zimage_lora(tmp_path / "soft.safetensors", layers=1)
    content = lora.read_bytes()
    autov3 = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()[:12]
    made = planned()
    assert infotext(made, {STAGE.model: model, "styles/soft.safetensors": lora}) == (
        "smiling, (soft:1.2) light <lora:soft:0.7>\n"
        "Negative prompt: hat, glasses\n"
        "Steps: 28, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, "
        f"Seed: {made.seed}, Size: 832x1216, "
        'Model hash: 0123456789, Model: "Jugger naut, v9", '
        f'Lora hashes: "soft: {autov3}", Version: Sosie 0.1.0'.replace("0.1.0", infotext(made, {}).rsplit(" ", 1)[1])
    )


def test_what_is_not_here_has_no_hash(tmp_path: Path) -> None:
    text = infotext(planned(), {STAGE.model: tmp_path})  # a folder is no file that others know
    assert "hash" not in text
    assert "/home/ann" not in text


def test_what_is_written_is_read_back_as_it_was_asked() -> None:
    told = read_settings(infotext(planned('a sign "OPEN: now", x'), {})).values
    assert told["prompt"] == 'a sign "OPEN: now", x <lora:soft:0.7>'
    assert told["negative_prompt"] == "hat, glasses"
    assert (told["steps"], told["cfg"], told["size"]) == ("28", "6.5", "832x1216")
    assert (told["sampler"], told["schedule"]) == ("DPM++ 2M", "Karras")


def test_a_file_beside_it_has_everything() -> None:
    made = planned()
    table = json.loads(json.dumps(sidecar(made, {})))
    assert (table["prompt"], table["seed"], table["plan"]) == (made.prompt, made.seed, made.id)
    assert table["asked"]["seed"] == 5
    assert table["model"]["hash"] is None


def test_each_run_leaves_what_it_was_asked_for(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    command = ("generate", "mira", "smiling \u7f8e\u7389", "--engine", "fake", "--json", "--out", tmp_path / "out")
    for choice in ("none", "a1111", "none", "sidecar"):
        row = json.loads(sosie(*command, "--metadata", choice, "--workspace", workspace).out.splitlines()[0])
        image = Path(row["image"])
        text = parameters_in(image)
        assert ("smiling \u7f8e\u7389" in text and "Steps: " in text) is (choice == "a1111")
        assert image.with_suffix(".json").is_file() is (choice == "sidecar")
        assert sosie("verify", image, "--workspace", workspace).code == 0
    assert json.loads(image.with_suffix(".json").read_text(encoding="utf-8"))["plan"] == row["plan"]
