"""Each wrong file of Z-Image is named for what it is, by the command that would draw with it, before anything loads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from header_files import model

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12309866400\n"
PAGE = b"<!DOCTYPE html><html><head><title>401</title></head></html>"


def cut(path: Path) -> None:
    """A download that ended early."""
    model(path, "zimage-single")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def of(fixture: str) -> Callable[[Path], object]:
    return lambda path: model(path, fixture)


CASES = {
    "cut": ("z_image_bf16", cut, "SOS-F100", "is truncated: "),
    "page": ("z_image_bf16", lambda path: path.write_bytes(PAGE), "SOS-F100", "is a web page, not a model"),
    "pointer": ("ae", lambda path: path.write_bytes(LFS), "SOS-F100", "is a Git LFS pointer"),
    "VAE as denoiser": ("z_image_bf16", of("vae-16-single"), "SOS-R010", "is a vae of family autoencoders"),
    "CLIP-L as encoder": ("qwen_3_4b", of("clip-l"), "SOS-R011", "is CLIP-L; Z-Image Base takes 4B (Qwen3)"),
    "VAE of SDXL": ("ae", of("vae-4-single"), "SOS-R012", "have 16 channels"),
    "another model": ("z_image_bf16", of("sdxl-unet-single"), "SOS-R010", "of family sdxl"),
}


@pytest.mark.once
@pytest.mark.parametrize("case", CASES)
def test_generate_says_what_a_wrong_file_is_and_imports_no_torch(
    sosie: Callable[..., Any], workspace: Path, tmp_path: Path, case: str
) -> None:
    name, make, code, said = CASES[case]
    models = workspace / "models"
    models.mkdir(exist_ok=True)
    for good, fixture in (("z_image_bf16", "zimage-single"), ("qwen_3_4b", "qwen3-4b"), ("ae", "vae-16-single")):
        model(models / f"{good}.safetensors", fixture)
    (models / f"{name}.safetensors").unlink()
    make(models / f"{name}.safetensors")
    before = "torch" in sys.modules
    done = sosie("generate", "mira", "x", "--recipe", "zimage", "--workspace", workspace, "--out", tmp_path / "out")
    assert done.code == 2
    assert f"error {code}: " in done.err
    assert said in done.err
    assert ("torch" in sys.modules) == before
    assert not list((tmp_path / "out").glob("*.png"))
