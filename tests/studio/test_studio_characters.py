"""A character on the page: how it can be told from others, what its LoRAs meet, and its way to a file and back."""

from __future__ import annotations

import json
import struct

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[studio]'")

from studio_page import Studio


def test_a_character_goes_to_a_file_and_comes_from_it_under_another_name(studio: Studio) -> None:
    answer = studio.get("/api/characters/mira/file")
    assert answer.status == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="mira.sosie"'
    made = studio.json("/api/characters/file?name=nora", answer.body)
    assert (made["character"], made["likeness"], made["left"]) == ("nora", "fictional", [])
    before, after = (studio.json(f"/api/characters/{name}") for name in ("mira", "nora"))
    assert before["references"] == after["references"]
    assert made["references"] == len(after["references"])
    taken = studio.post("/api/characters/file?name=nora", answer.body)
    assert taken.status == 422
    assert "nora" in taken.text
    for wrong in (b"", b"PK\x03\x04", answer.body[:-300]):
        refused = studio.post("/api/characters/file?name=otto", wrong)
        assert refused.status == 422
        assert "uploads" not in refused.text
    assert studio.post("/api/characters/file?name=..", answer.body).status == 422
    assert sorted(path.name for path in (studio.root / "characters").iterdir()) == ["mira", "nora"]
    assert list((studio.root / ".sosie/uploads").iterdir()) == []


def test_a_lora_says_how_much_of_its_family_it_meets(studio: Studio) -> None:
    folder = studio.root / "characters/mira"
    module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {
        f"{module}.lora_down.weight": {"dtype": "F16", "shape": [1, 1280], "data_offsets": [0, 2560]},
        f"{module}.lora_up.weight": {"dtype": "F16", "shape": [1280, 1], "data_offsets": [2560, 5120]},
    }
    header = json.dumps(tensors)
    (folder / "loras").mkdir()
    (folder / "loras/a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(5120))
    (folder / "loras/b.safetensors").write_bytes(b"no LoRA")
    with (folder / "character.toml").open("a") as file:
        for name in "ab":
            file.write(f'\n[[loras]]\nfile = "loras/{name}.safetensors"\nfamily = "sdxl"\n')
    whole, broken = studio.json("/api/characters/mira")["loras"]
    assert (whole["matched"], whole["total"], whole["why"]) == (2, 2, "")
    assert (broken["matched"], broken["total"]) == (None, None)
    assert "b.safetensors" in broken["why"]


def test_calibration_shows_the_same_person_against_impostors(studio: Studio) -> None:
    found = studio.json("/api/characters/mira/calibration?recipe=mini")
    (sface,) = [judge for judge in found["judges"] if judge["name"] == "sface"]
    passing = [value for value in sface["impostors"] if value >= sface["threshold"]]
    assert 0 < len(passing) < len(sface["impostors"])
    digests = set(studio.json("/api/characters/mira")["references"])
    assert {one["sha256"] for one in sface["references"]} <= digests
    same, others = [one["value"] for one in sface["references"]], sface["impostors"]
    assert sum(same) / len(same) > sum(others) / len(others)
    assert sface["drawn"] == [0.61] * 6  # what the judges said of the stored images
    assert found["together"]["fmr"] <= 0.05
    assert studio.get("/api/characters/nobody/calibration").status == 422
    assert studio.get("/api/characters/mira/calibration?recipe=nothing").status == 422
