"""SDXL checkpoints in one file: loaded without a network, every weight at its place."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from sosie.core.errors import BadModelError, MissingExtraError
from sosie.families.sdxl.diffusers.single_file import CONFIG, PARTS, clip_tokenizers, load_single_file
from sosie.files.strip import read_stripped

pytestmark = pytest.mark.local

FIXTURES = ROOT / "tests" / "fixtures"
UNET, VAE, CLIP_L, CLIP_G = PARTS.values()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def layouts() -> Any:
    """The renaming from diffusers' names to single files' that the header fixtures were made with."""
    sys.path.insert(0, str(FIXTURES))
    try:
        import layouts
    finally:
        sys.path.remove(str(FIXTURES))
    return layouts


def real_shapes() -> dict[str, tuple[int, ...]]:
    header, _ = read_stripped(FIXTURES / "headers" / "sdxl-checkpoint.json.gz")
    return {name: tensor.shape for name, tensor in header.tensors.items()}


def build(config: Path, **more: Any) -> dict[str, Any]:
    """The four networks of a folder of configurations."""
    import diffusers
    import transformers

    made: dict[str, Any] = {}
    for part, kind in (("unet", diffusers.UNet2DConditionModel), ("vae", diffusers.AutoencoderKL)):
        made[part] = kind.from_config(kind.load_config(config, subfolder=part))
    for part, kind in (
        ("text_encoder", transformers.CLIPTextModel),
        ("text_encoder_2", transformers.CLIPTextModelWithProjection),
    ):
        made[part] = kind(kind.config_class.from_pretrained(config, subfolder=part))
    return made


def single_file(parts: dict[str, Any], layouts: Any) -> dict[str, Any]:
    """The networks' tensors under a single file's names and in its shapes."""
    found: dict[str, Any] = {}
    for part, prefix, rename in (
        ("unet", UNET, lambda table: layouts.ldm_unet(table, 3)),
        ("vae", VAE, layouts.ldm_vae),
    ):
        state = parts[part].state_dict()
        table = rename({name: tuple(tensor.shape) for name, tensor in state.items()})
        for (name, shape), tensor in zip(table.items(), state.values(), strict=True):
            found[prefix + name] = tensor.reshape(shape)
    for name, tensor in parts["text_encoder"].state_dict().items():
        found[f"{CLIP_L}text_model.{name.removeprefix('text_model.')}"] = tensor
    return found | {CLIP_G + name: tensor for name, tensor in open_clip(parts["text_encoder_2"].state_dict()).items()}


def open_clip(state: dict[str, Any]) -> dict[str, Any]:
    """transformers' CLIP as open_clip keeps it: q, k and v stacked, the projection turned."""
    import torch

    found: dict[str, Any] = {"logit_scale": torch.ones((), dtype=state["text_projection.weight"].dtype)}
    for name, tensor in state.items():
        own = name.removeprefix("text_model.")
        for pattern, new in (
            (r"embeddings\.(token_embedding)", r"\1"),
            (r"embeddings\.position_embedding\.weight", "positional_embedding"),
            (r"encoder\.layers", "transformer.resblocks"),
            (r"layer_norm(\d)", r"ln_\1"),
            (r"mlp\.fc1", "mlp.c_fc"),
            (r"mlp\.fc2", "mlp.c_proj"),
            (r"final_layer_norm", "ln_final"),
            (r"self_attn\.", "attn."),
            (r"q_proj\.(weight|bias)", r"in_proj_\1"),
        ):
            own = re.sub(pattern, new, own)
        if own == "text_projection.weight":
            found["text_projection"] = tensor.T.contiguous()
        elif "in_proj" in own:
            found[own] = torch.cat([state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
        elif not re.search(r"[kv]_proj", own):
            found[own] = tensor
    return found


def narrow(folder: Path) -> Path:
    """SDXL's configuration with every part and every layer, at small widths."""
    shutil.copytree(CONFIG, folder)
    for part, change in {
        "unet": {
            "block_out_channels": [32, 64, 96],
            "attention_head_dim": [1, 2, 3],
            "cross_attention_dim": 48,
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 32 + 6 * 4,
            "sample_size": 8,
        },
        "vae": {"block_out_channels": [32, 64, 96, 96]},
        "text_encoder": {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "projection_dim": 16},
        "text_encoder_2": {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "projection_dim": 32},
    }.items():
        file = folder / part / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A narrow SDXL with random weights: its configuration and networks, in half precision."""
    import torch

    torch.manual_seed(0)
    config = narrow(tmp_path_factory.mktemp("narrow") / "config")
    return config, {name: part.half() for name, part in build(config).items()}


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, small: tuple[Path, dict[str, Any]], layouts: Any) -> Write:
    """Writes the narrow SDXL as a single file, with marks beside it or tensors missing."""
    from safetensors.torch import save_file

    def made(marks: dict[str, Any] | None = None, without: str = "none") -> Path:
        tensors = {
            name: tensor.clone()
            for name, tensor in single_file(small[1], layouts).items()
            if not name.startswith(without)
        }
        path = tmp_path / "model.safetensors"
        save_file(tensors | (marks or {}), path)
        return path

    return made


def test_the_configuration_fits_the_real_checkpoint_name_by_name_and_shape_by_shape(layouts: Any) -> None:
    import torch

    with torch.device("meta"):
        parts = build(CONFIG)
    ours = {name: tuple(tensor.shape) for name, tensor in single_file(parts, layouts).items()}
    assert ours == real_shapes()
    assert sum(tensor.numel() for tensor in parts["unet"].state_dict().values()) == 2_567_463_684


def test_what_no_shape_shows_is_as_published_for_sdxl_base() -> None:
    def read(part: str) -> dict[str, Any]:
        return json.loads((CONFIG / part).read_text())

    unet, vae = read("unet/config.json"), read("vae/config.json")
    assert (unet["attention_head_dim"], unet["addition_time_embed_dim"]) == ([5, 10, 20], 256)
    assert (vae["scaling_factor"], vae["force_upcast"]) == (0.13025, True)
    for folder, heads, activation in (("text_encoder", 12, "quick_gelu"), ("text_encoder_2", 20, "gelu")):
        text = read(f"{folder}/config.json")
        assert (text["num_attention_heads"], text["hidden_act"], text["eos_token_id"]) == (heads, activation, 2)
    scheduler = read("scheduler/scheduler_config.json")
    assert (scheduler["beta_start"], scheduler["beta_end"]) == (0.00085, 0.012)
    assert (scheduler["timestep_spacing"], scheduler["steps_offset"]) == ("leading", 1)


def test_the_narrow_model_of_these_tests_has_the_real_names(small: Any, layouts: Any) -> None:
    assert set(single_file(small[1], layouts)) == set(real_shapes())


def test_every_weight_of_a_single_file_lands_where_it_belongs(small: Any, write: Write) -> None:
    import torch

    pipeline = load_single_file(write(), torch.float16, small[0])
    for name, part in small[1].items():
        loaded = getattr(pipeline, name).state_dict()
        assert loaded.keys() == part.state_dict().keys()
        for key, tensor in part.state_dict().items():
            assert loaded[key].dtype == tensor.dtype == torch.float16
            assert torch.equal(loaded[key], tensor), (name, key)
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    assert pipeline.config.force_zeros_for_empty_prompt


def test_a_checkpoint_in_half_precision_draws_in_the_dtype_that_was_asked_for(small: Any, write: Write) -> None:
    import torch

    pipeline = load_single_file(write(), torch.float32, small[0])
    for name in small[1]:
        assert {p.dtype for p in getattr(pipeline, name).parameters()} == {torch.float32}
    pipeline.set_progress_bar_config(disable=True)
    latent = pipeline("a cat", width=64, height=64, num_inference_steps=2, output_type="latent").images
    assert latent.shape == (1, 4, 8, 8)
    assert bool(latent.isfinite().all())


def test_a_checkpoint_that_says_v_prediction_gets_such_a_scheduler(small: Any, write: Write) -> None:
    import torch

    mark = {"v_pred": torch.zeros(0)}
    config = load_single_file(write(mark), torch.float16, small[0]).scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", False)
    config = load_single_file(write(mark | {"ztsnr": torch.zeros(0)}), torch.float16, small[0]).scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", True)
    assert config.timestep_spacing == "trailing"


@pytest.mark.parametrize("mark", ["edm_mean", "edm_vpred.sigma_max"])
def test_a_model_of_other_noise_levels_is_refused(small: Any, write: Write, mark: str) -> None:
    import torch

    with pytest.raises(BadModelError, match=f"EDM's noise levels .tensor '{mark}'"):
        load_single_file(write({mark: torch.zeros(1)}), torch.float16, small[0])


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (UNET, "has no UNet; expected"),
        (VAE, "has no VAE; expected"),
        (CLIP_L, "has no text encoder; expected"),
        (CLIP_G, "has no second text encoder; expected"),
        (f"{UNET}middle_block.1.proj_in.weight", "could not be loaded as an SDXL checkpoint"),
        (
            f"{CLIP_G}ln_final.weight",
            "lacks 1 of SDXL's tensors, first text_encoder_2.text_model.final_layer_norm.weight",
        ),
    ],
)
def test_a_checkpoint_without_one_of_its_parts_is_refused(small: Any, write: Write, missing: str, said: str) -> None:
    import torch

    with pytest.raises(BadModelError, match=said):
        load_single_file(write(without=missing), torch.float16, small[0])


def test_a_checkpoint_of_other_widths_is_refused(small: Any, write: Write) -> None:
    import torch

    with pytest.raises(BadModelError, match="could not be loaded as an SDXL checkpoint"):
        load_single_file(write(), torch.float16)


def test_a_cut_file_is_refused(small: Any, write: Write) -> None:
    import torch

    path = write()
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BadModelError):
        load_single_file(path, torch.float16, small[0])


# --- the vocabulary ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("hello world!", [3306, 1002, 256]),
        ("! !! !!!", [256, 748, 995]),
        ("", []),
    ],
)
def test_the_tokens_are_those_of_clip(text: str, ids: list[int]) -> None:
    first, second = clip_tokenizers()
    assert first(text).input_ids == second(text).input_ids == [49406, *ids, 49407]


def test_the_second_tokenizer_pads_with_0_and_the_first_with_its_end() -> None:
    first, second = clip_tokenizers()
    for tokenizer, padding in ((first, 49407), (second, 0)):
        row = tokenizer("a cat", padding="max_length", truncation=True).input_ids
        assert len(row) == tokenizer.model_max_length == 77
        assert set(row[4:]) == {padding}


def test_the_tokens_are_those_of_openais_own_tokenizer() -> None:
    pytest.importorskip("ftfy")
    source = importlib.metadata.distribution("clip-anytorch").locate_file("clip/simple_tokenizer.py")
    spec = importlib.util.spec_from_file_location("openai_tokenizer", str(source))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs, (ours, _) = module.SimpleTokenizer(), clip_tokenizers()
    assert (len(ours), theirs.encoder["<|endoftext|>"]) == (49408, 49407)
    for text in (
        "portrait of a young woman, auburn braided hair, 85mm f/1.4, soft daylight",
        "Éléonore's naïve café: 3 cats!! don't they've 1234 unbelievablenesses?",
        "日本語 ☕🙂 Ünïcödé   many   spaces",
    ):
        assert ours(text, add_special_tokens=False).input_ids == theirs.encode(text)


def test_a_vocabulary_that_is_not_there_or_not_openais_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sosie.families.sdxl.diffusers.single_file as module

    monkeypatch.setattr(module, "VOCABULARY", ("clip-anytorch", "clip/none.gz"))
    with pytest.raises(MissingExtraError, match="CLIP's vocabulary is not installed"):
        clip_tokenizers()
    monkeypatch.setattr(module, "VOCABULARY", ("no-such-package", "clip/none.gz"))
    with pytest.raises(MissingExtraError, match="CLIP's vocabulary is not installed"):
        clip_tokenizers()
    monkeypatch.setattr(module, "VOCABULARY", ("clip-anytorch", "clip/simple_tokenizer.py"))
    with pytest.raises(BadModelError, match="is not OpenAI's"):
        clip_tokenizers()
