"""Pictures that are black, of one colour, or of no numbers are caught, with their likely causes in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_zimage as tiny
from header_files import model
from PIL import Image

from sosie.core import Sampler
from sosie.core.recipe import LoraUse
from sosie.engines.blank import NoPictureError, causes, check_drawn, one_colour
from sosie.engines.diffusers import DiffusersEngine
from sosie.engines.scheme import Supplies


def colour(*rgb: int) -> Image.Image:
    return Image.new("RGB", (8, 8), rgb)


def noisy() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 255, (8, 8, 3), np.uint8))


def test_black_and_one_colour_are_told_from_pictures() -> None:
    assert one_colour(colour(0, 0, 0)) == "black"
    assert one_colour(colour(2, 0, 1)) == "black"
    assert one_colour(colour(120, 118, 119)) == "of one colour ([120, 118, 119])"
    assert one_colour(noisy()) == ""


def test_a_blank_image_that_was_worked_on_blames_no_stage() -> None:
    stage = tiny.stage("refine")
    plan = tiny.planned(stage)
    assert check_drawn(colour(9, 9, 9), colour(9, 9, 9), stage, plan, {}) == []
    (finding,) = check_drawn(colour(9, 9, 9), noisy(), stage, plan, {})
    assert finding.code == "SOS-E035"
    assert finding.message.endswith("; nothing in the recipe explains it, so its weights may be damaged")


def test_the_causes_that_apply_come_in_order(tmp_path: Path) -> None:
    lora = LoraUse("me", 2.0)
    sampler = Sampler(cfg=20.0, shift=12.0)
    stage = replace(tiny.stage(vae="ae"), precision="fp16", sampler=sampler, loras=(lora,))
    packed = model(tmp_path / "z.safetensors", "zimage-dfloat11")
    found = list(causes(stage, {"z": packed}))
    assert found[0].startswith("precision fp16: activations of Z-Image reach 344,064")
    assert found[1].startswith("'z' is stored as dfloat11")
    assert found[2:] == [
        "VAE 'ae', if it was made for other latents",
        "shift 12, where the model was trained with 3",
        "CFG 20",
        "LoRA 'me' at 2",
    ]
    assert list(causes(tiny.stage(), {})) == []


def render(stage: Any, paths: dict[str, Path]) -> Any:
    def nobody(_: Any) -> Any:
        raise AssertionError("nothing is asked for")

    engine = DiffusersEngine(Supplies(paths, tiny.Nobody(), nobody), device="cpu")
    try:
        return list(engine.run([tiny.planned(stage)]))[-1]
    finally:
        engine.close()


def damaged(made: tiny.Made, folder: Path, field: str, change: Any) -> dict[str, Path]:
    """The paths of the single files, one of which has other numbers."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(getattr(made, field))
    change(tensors)
    save_file(tensors, folder / f"{field}.safetensors")
    paths = {"transformer": made.transformer, "text_encoder": made.text_encoder, "vae": made.vae}
    paths[field] = folder / f"{field}.safetensors"
    return {"z": paths["transformer"], "qwen": paths["text_encoder"], "ae": paths["vae"]}


@pytest.mark.local
def test_nan_is_caught_before_it_is_decoded_and_a_black_picture_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.diffusion import vae

    made = tiny.make(tmp_path)
    stage = replace(tiny.stage(text_encoder="qwen", vae="ae", steps=1), sampler=Sampler(steps=1, cfg=1.0, shift=9.0))

    def without_light(tensors: dict[str, Any]) -> None:
        tensors["decoder.conv_out.weight"].zero_()
        tensors["decoder.conv_out.bias"].fill_(-1.0)

    drawn = render(stage, damaged(made, tmp_path, "vae", without_light))
    (finding,) = [finding for finding in drawn.findings if finding.severity == "error"]
    assert finding.code == "SOS-E035"
    assert finding.message.startswith("the picture of stage 'generate' is black; likely, the first most: (1) VAE 'ae'")
    assert "(2) shift 9, where the model was trained with 3" in finding.message

    def decode(*_: Any) -> Any:
        raise AssertionError("NaN was decoded")

    monkeypatch.setattr(vae, "_decode", decode)
    nan = damaged(made, tmp_path, "transformer", lambda tensors: tensors["x_embedder.bias"].fill_(float("nan")))
    with pytest.raises(
        NoPictureError, match=r"stage 'generate': the latents hold NaN or infinity, .*not decoded"
    ) as error:
        render(stage, nan)
    assert error.value.code == "SOS-E036"
    assert "sosie doctor z" in error.value.hint
