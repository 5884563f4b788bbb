"""Weights are mapped from their files, and no byte of them is read on the way: what one process read another finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def read_so_far() -> int:
    """Bytes that this process has asked the system to read; what is mapped is not among them."""
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


@pytest.mark.local
@pytest.mark.skipif(sys.platform != "linux", reason="counts of Linux")
def test_a_models_weights_are_mapped_and_not_read(tmp_path: Path) -> None:
    import sosie_mini
    import torch

    from sosie.families.sdxl.diffusers.single_file import load_pipeline

    folder = sosie_mini.folder()
    load_pipeline(folder, None, torch.float32)  # what is imported for it is read once
    before = read_so_far()
    pipeline = load_pipeline(folder, None, torch.float32)
    read = read_so_far() - before
    numbers = sum(weight.numel() for part in (pipeline.unet, pipeline.vae) for weight in part.parameters())
    files = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    assert numbers > 1e7
    assert read < files / 10
