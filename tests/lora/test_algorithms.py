"""Other algorithms than LoRA, bundles and embeddings: called by their names, with who reads them and who does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lora_layouts import Shape, sparse, streams

from sosie.doctor.loras import check_lora
from sosie.families import families
from sosie.lora import outcomes, read_lora

Sosie = Callable[..., Any]

KOHYA = [f"lora_unet_input_blocks_7_1_transformer_blocks_{index}_attn1_to_q" for index in range(10)]
PEFT = [f"base_model.model.down_blocks.2.attentions.0.transformer_blocks.{index}.attn1.to_q" for index in range(10)]
OFT = [name.replace("lora_", "oft_") for name in KOHYA]
FLUX = [f"oft_unet_double_blocks_{index}_img_attn_qkv" for index in range(19)]
D = 1280


def file(path: Path, stems: list[str], **ends: Shape) -> Path:
    """Each of the endings behind each of the names; `__` stands for a dot."""
    return sparse(path, {f"{stem}.{end.replace('__', '.')}": s for stem in stems for end, s in ends.items()}, None, 1.0)


READ = {
    "GLoRA": {"a1__weight": (D, 4), "a2__weight": (4, D), "b1__weight": (D, 4), "b2__weight": (4, D), "alpha": ()},
    "GLoRA of LyCORIS 2": {
        "a1__weight": (4, D),
        "a2__weight": (D, 4),
        "b1__weight": (4, D),
        "b2__weight": (D, 4),
        "alpha": (),
    },
    "OFT": {"oft_blocks": (40, 32, 32), "alpha": ()},
    "OFT, rescaled": {"oft_blocks": (40, 32, 32), "rescale": (D, 1), "alpha": ()},
    "BOFT": {"oft_blocks": (3, 40, 32, 32), "alpha": ()},
    "full differences": {"diff": (D, D), "diff_b": (D,)},
    "LoHa": {f"hada_w{n}_{way}": shape for n in "12" for way, shape in (("a", (D, 4)), ("b", (4, D)))},
    "LoKr": {"lokr_w1": (16, 16), "lokr_w2_a": (80, 4), "lokr_w2_b": (4, 80), "alpha": ()},
    "DoRA": {"lora_down__weight": (4, D), "lora_up__weight": (D, 4), "dora_scale": (D, 1), "alpha": ()},
}
PASSED_OVER = {
    "(IA)^3 of LyCORIS": (KOHYA, {"weight": (D, 1), "on_input": ()}, "A1111"),
    "(IA)^3 of LyCORIS 3": (KOHYA, {"weight": (D,), "on_input": ()}, "A1111"),
    "(IA)^3 of peft": (PEFT, {"ia3_l": (D, 1)}, "A1111"),
    "OFT of kohya": (OFT, {"oft_blocks": (4, 320, 320), "alpha": ()}, "kohya's scripts"),
    "OFT of kohya for fused weights": (FLUX, {f"oft_blocks__{n}": (4, 768, 768) for n in range(3)}, "kohya's scripts"),
    "OFT of peft": (PEFT, {"oft_R__weight": (40, 496)}, "peft"),
    "BOFT of peft": (PEFT, {"boft_R": (1, 40, 32, 32), "boft_s": (D, 1)}, "peft"),
    "VeRA of peft": (PEFT, {"vera_lambda_b": (D,), "vera_lambda_d": (256,)}, "peft"),
}


@pytest.mark.parametrize("name", READ)
def test_what_comfyui_reads_is_called_by_its_name_without_an_alarm_and_is_moved_whole(
    tmp_path: Path, sosie: Sosie, name: str
) -> None:
    path = file(tmp_path / "a.safetensors", KOHYA, **READ[name])
    found = {f.code: f for f in check_lora(path)}
    assert {f.code for f in found.values() if f.severity != "info"} == set()
    assert re.split(r",| of ", name)[0] in found["SOS-L005"].message
    assert read_lora(path, families()).family == "sdxl"
    dotted = [stem.replace("lora_unet_", "unet.").replace("_", ".") for stem in KOHYA]
    names = [
        s.replace("input.blocks", "input_blocks").replace("transformer.blocks", "transformer_blocks") for s in dotted
    ]
    odd = file(tmp_path / "b.safetensors", [s.replace("to.q", "to_q") for s in names], **READ[name])
    assert "SOS-L006" in {f.code for f in check_lora(odd)}
    assert sosie("lora", "convert", odd, tmp_path / "c.safetensors", "--to", "comfy").code == 0
    moved = read_lora(tmp_path / "c.safetensors", families())
    assert next(each.result for each in outcomes(moved) if each.loader == "ComfyUI") == "loads"
    assert (len(moved.adapters), moved.algorithms) == (10, read_lora(odd, families()).algorithms)


@pytest.mark.parametrize("name", PASSED_OVER)
def test_what_comfyui_has_no_reader_for_is_called_by_its_name_with_who_reads_it(
    tmp_path: Path, sosie: Sosie, name: str
) -> None:
    stems, ends, reader = PASSED_OVER[name]
    path = file(tmp_path / "a.safetensors", stems, **ends)
    found = {f.code: f for f in check_lora(path)}
    assert {f.code for f in found.values() if f.severity == "error"} == set()
    told = found["SOS-L016"]
    assert f"it has no reader for {name.partition(' of ')[0]}" in told.message
    assert reader in told.hint
    assert "convert" not in told.hint
    done = sosie("lora", "convert", path, tmp_path / "no.safetensors", "--to", "comfy")
    assert (done.code, "which has one layout only" in done.err) == (2, True)


def test_a_bundled_embedding_is_named_with_its_word_and_kept_by_a_conversion(tmp_path: Path, sosie: Sosie) -> None:
    ends: dict[str, Shape] = {"lora_down.weight": (4, D), "lora_up.weight": (D, 4), "alpha": ()}
    tensors = {f"{stem}.{end}": shape for stem in KOHYA for end, shape in ends.items()}
    tensors |= {"bundle_emb.mira.clip_l": (4, 768), "bundle_emb.mira.clip_g": (4, 1280)}
    path = sparse(tmp_path / "a.safetensors", tensors, None, 4.0)
    found = {f.code: f for f in check_lora(path)}
    assert "the embedding 'mira' (clip_l, clip_g)" in found["SOS-L015"].message
    assert found["SOS-L015"].hint == "put a copy there, and write embedding:a into the prompt"
    assert "30 of 30 tensors match" in found["SOS-L005"].message
    assert {f.code for f in found.values() if f.severity != "info"} == set()
    assert sosie("lora", "convert", path, tmp_path / "b.safetensors", "--to", "diffusers").code == 0
    assert set(read_lora(tmp_path / "b.safetensors", families()).words["mira"]) == {"clip_l", "clip_g"}


@pytest.mark.parametrize(
    "tensors",
    [
        {"emb_params": (4, 768)},
        {"string_to_param.*": (4, 1024)},
        {"clip_l": (4, 768), "clip_g": (4, 1280)},
        {"clip_l": (4, 768), "t5": (4, 4096)},
        {"bundle_emb.mira.clip_l": (4, 768)},
        {"<mira>": (768,)},
    ],
)
def test_an_embedding_is_no_lora_and_no_command_sends_on_to_one_that_does_not_know_it(
    tmp_path: Path, sosie: Sosie, tensors: dict[str, Shape]
) -> None:
    path = sparse(tmp_path / "mira.safetensors", tensors)
    done = sosie("doctor", path)
    assert (done.code, "SOS-L018" in done.out + done.err, "embedding:mira" in done.out + done.err) == (0, True, True)
    shown = sosie("lora", "show", path)
    assert "is no LoRA but an embedding" in shown.err
    assert f"sosie doctor {path}" in shown.err.replace("\n", "")


def test_a_file_of_nobody_gets_no_hint_that_leads_in_a_circle(tmp_path: Path, sosie: Sosie) -> None:
    path = sparse(tmp_path / "x.safetensors", {f"some.thing.{index}": (8, 8) for index in range(4)})
    done = sosie("doctor", path)
    assert "SOS-F101" in done.out + done.err
    assert "lora show" not in done.out + done.err


def test_norms_and_biases_beside_a_lora_are_no_fault_of_it(tmp_path: Path) -> None:
    tensors: dict[str, Shape] = {}
    for index in range(40):
        stem = f"diffusion_model.blocks.{index}"
        tensors |= {f"{stem}.self_attn.q.lora_down.weight": (4, 5120), f"{stem}.self_attn.q.lora_up.weight": (5120, 4)}
        tensors |= {
            f"{stem}.self_attn.q.diff_b": (5120,),
            f"{stem}.norm3.diff": (5120,),
            f"{stem}.norm3.diff_b": (5120,),
        }
    path = sparse(tmp_path / "a.safetensors", tensors)
    assert [f for f in check_lora(path) if f.severity != "info"] == []
    assert read_lora(path, families()).family == "wan"


def test_the_control_loras_of_black_forest_labs_load_as_they_are(tmp_path: Path) -> None:
    tensors: dict[str, Shape] = {}

    def add(stem: str, rows: int, columns: int) -> None:
        tensors[f"{stem}.lora_A.weight"], tensors[f"{stem}.lora_B.weight"] = (8, columns), (rows, 8)
        tensors[f"{stem}.lora_B.bias"] = (rows,)

    for index in range(19):
        for name, (rows, columns) in streams(3072, 12288, 12288, ".").items():
            add(f"double_blocks.{index}.{name}", rows, columns)
        for side in ("img", "txt"):
            for norm in ("query", "key"):
                tensors[f"double_blocks.{index}.{side}_attn.norm.{norm}_norm.scale"] = (128,)
    for index in range(38):
        add(f"single_blocks.{index}.linear1", 21504, 3072)
        for norm in ("query", "key"):
            tensors[f"single_blocks.{index}.norm.{norm}_norm.scale"] = (128,)
    add("img_in", 3072, 128)
    path = sparse(tmp_path / "canny.safetensors", tensors)
    assert [f.message for f in check_lora(path) if f.severity != "info"] == []
    lora = read_lora(path, families())
    assert (lora.family, lora.variant) == ("flux1", "canny or depth")
    assert next(each.result for each in outcomes(lora) if each.loader == "ComfyUI") == "loads"
