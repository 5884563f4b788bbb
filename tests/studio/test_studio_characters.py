"""A character on the page: how it can be told from others, what its LoRAs meet, and its way to a file and back."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[studio]'")

from studio_page import Studio

from sosie.api.character_files import export_character


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


def test_description_and_marks_are_edited_and_the_rest_of_the_file_stays(studio: Studio) -> None:
    file = studio.root / "characters/mira/character.toml"
    file.write_text(f"# my notes\n{file.read_text()}\n[[loras]]\nfile = 'loras/x.safetensors'\nfamily = 'sdxl'\n")
    (file.parent / "loras").mkdir()
    (file.parent / "loras/x.safetensors").touch()
    now = studio.json("/api/characters/mira/words", {"description": 'a "tall" woman', "marks": ["a scar", " "]})
    assert (now["description"], now["marks"]) == ('a "tall" woman', ["a scar"])
    text = file.read_text()
    assert text.startswith("# my notes\n")
    assert "# fictional or consented" in text
    assert [one["file"] for one in now["loras"]] == ["loras/x.safetensors"]
    assert studio.post("/api/characters/nobody/words", {"description": "", "marks": []}).status == 404
    assert studio.post("/api/characters/mira/words", {"description": "x" * 5000, "marks": []}).status == 422


def test_a_file_of_openchar_is_taken_in_with_both_declarations_and_not_without(studio: Studio, tmp_path: Path) -> None:
    export_character(studio.desk.workspace, "mira", tmp_path / "mira.char")
    body = (tmp_path / "mira.char").read_bytes()
    for declared in ("", "&likeness=fictional", "&adult=true"):
        refused = studio.post(f"/api/characters/file?name=ada{declared}", body)
        assert refused.status == 422
        assert "declares neither" in refused.text
        assert "ne déclare ni" in refused.text
    made = studio.json("/api/characters/file?name=ada&likeness=consented&adult=true", body)
    assert (made["character"], made["likeness"]) == ("ada", "consented")
    assert made["references"] == len(studio.json("/api/characters/mira")["references"])


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
