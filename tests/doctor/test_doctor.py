"""`sosie doctor`: what is named is found out, file by file; the stories of a lost week are in `test_seven_stories`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from header_files import write, zimage_lora
from json_lines import codes, lines
from places import ROOT

Sosie = Callable[..., Any]


def test_a_web_page_saved_as_a_model_is_called_one(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "z.safetensors").write_text("<!DOCTYPE html><html><head><title>404</title></head></html>" * 20)
    result = sosie("doctor", tmp_path / "z.safetensors", "--json", "--workspace", workspace)
    assert result.code == 1
    line = lines(result.out)[0]
    assert list(line) == [
        "subject",
        "kind",
        "path",
        "role",
        "family",
        "variant",
        "layout",
        "storage",
        "parameters",
        "findings",
    ]
    assert "web page" in line["findings"][0]["message"]


def test_a_pickle_that_runs_code_is_refused_and_named(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.bin"
    path.write_bytes(b"\x80\x02cposix\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    line = lines(sosie("doctor", path, "--json", "--workspace", workspace).out)[0]
    assert "SOS-K" in codes(line)[0]
    assert "posix.system" in line["findings"][0]["message"]
    assert not (tmp_path / "ran").exists()


def test_recipes_and_characters_are_examined_by_name_and_a_clash_is_asked_about(sosie: Sosie, workspace: Path) -> None:
    assert [
        line["kind"] for line in lines(sosie("doctor", "mini", "mira", "--json", "--workspace", workspace).out)
    ] == [
        "recipe",
        "character",
    ]
    (workspace / "characters" / "mira").rename(workspace / "characters" / "mini")
    toml = workspace / "characters" / "mini" / "character.toml"
    toml.write_text(toml.read_text().replace('"mira"', '"mini"'))
    clash = sosie("doctor", "mini", "--workspace", workspace)
    assert clash.code == 2
    assert "recipe:mini" in clash.err
    both = sosie("doctor", "recipe:mini", "character:mini", "--json", "--workspace", workspace)
    assert [line["kind"] for line in lines(both.out)] == ["recipe", "character"]


def test_a_folder_of_models_gives_a_line_each(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "loras").mkdir(parents=True)
    zimage_lora(folder / "loras" / "a.safetensors", 1)
    (folder / "b.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    found = lines(sosie("doctor", folder, "--json", "--workspace", workspace).out)
    assert sorted(Path(line["path"]).name for line in found) == ["a.safetensors", "b.safetensors"]
    assert any("LFS" in finding["message"] for line in found for finding in line["findings"])


def test_the_embedded_model_is_healthy_and_this_machine_can_be_examined(sosie: Sosie, workspace: Path) -> None:
    import sosie_mini

    result = sosie("doctor", sosie_mini.folder(), "--json", "--workspace", workspace)
    line = lines(result.out)[0]
    assert (line["family"], line["kind"]) == ("sdxl", "model")
    assert all(finding["severity"] != "error" for finding in line["findings"])
    assert lines(sosie("doctor", "--json", "--workspace", workspace).out)[0]["kind"] == "machine"


def test_what_is_not_there_names_the_nearest(sosie: Sosie, workspace: Path) -> None:
    result = sosie("doctor", "minni", "--workspace", workspace)
    assert result.code == 2
    assert "did you mean 'mini'" in result.err
    assert "did you mean 'SOS-D001'" in sosie("doctor", "--explain", "SOS-D0001", "--workspace", workspace).err
    assert "cannot be written" in sosie("doctor", "--explain", "SOS-D001", "--workspace", workspace).out


def test_every_code_in_the_source_has_a_title() -> None:
    import re

    import sosie
    from sosie.doctor.explain import sections

    source = "\n".join(path.read_text() for path in Path(sosie.__file__).parent.rglob("*.py"))
    assert set(re.findall(r"SOS-[A-Z]\d{3}", source)) == set(sections())


def test_a_header_survives_being_stripped(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    path = zimage_lora(tmp_path / "a.safetensors", 2)
    result = sosie("model", "strip", path, tmp_path / "a.json", "--json", "--workspace", workspace)
    assert result.code == 0, result.err
    assert lines(result.out)[0]["tensors"] == 32
    assert (tmp_path / "a.json").stat().st_size < 10_000


@pytest.mark.local
def test_a_published_pickle_becomes_safetensors(sosie: Sosie, workspace: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.numpy import load_file

    torch.save(
        {"image_proj": {"w": torch.arange(6.0).reshape(2, 3)}, "ip_adapter": {"1.b": torch.ones(2)}},
        tmp_path / "ip.bin",
    )
    result = sosie("model", "convert", tmp_path / "ip.bin", "--workspace", workspace)
    assert result.code == 0, result.err
    made = load_file(tmp_path / "ip.safetensors")
    assert np.array_equal(made["image_proj.w"], np.arange(6.0, dtype=np.float32).reshape(2, 3))
    assert set(made) == {"image_proj.w", "ip_adapter.1.b"}


def test_a_variant_that_no_header_tells_is_said_once_and_known_from_then_on(
    sosie: Sosie, workspace: Path, tmp_path: Path
) -> None:
    from sosie.files.strip import read_stripped

    stored = next(path for path in (ROOT / "tests" / "fixtures" / "headers").glob("zimage-single.json.gz"))
    header, _ = read_stripped(stored)
    tensors = {name: (info.dtype, list(info.shape)) for name, info in header.tensors.items()}
    path = write(tmp_path / "z.safetensors", tensors)
    before = lines(sosie("doctor", path, "--json", "--workspace", workspace).out)[0]
    assert "SOS-F106" in codes(before)
    assert sosie("model", "add", path, "--variant", "Z-Image Turbo", "--workspace", workspace).code == 0
    after = lines(sosie("doctor", path, "--json", "--workspace", workspace).out)[0]
    assert after["variant"] == "Z-Image Turbo"
    assert "SOS-F106" not in codes(after)
    refused = sosie("model", "add", "mini", "--variant", "x", "--workspace", workspace)
    assert refused.code == 2
    assert "no variant to be told" in refused.err
