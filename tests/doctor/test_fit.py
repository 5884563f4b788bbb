"""What a graph puts together, held against what each model was trained with: right ones pass, wrong ones are named."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from header_files import FACE, FACEID_PLUS, INSTANTID, Table, model, stripped, write
from workflow_files import Json, node

from sosie.core import Finding
from sosie.core.errors import BadModelError
from sosie.doctor.assembly import called_family
from sosie.doctor.examined import examine_file
from sosie.doctor.workflows import check_graph
from sosie.families import families
from sosie.files.model_file import Known, identify
from sosie.graph.read import read_table
from sosie.lora import read_lora
from sosie.workspace.workspace import Workspace, open_workspace

pytestmark = pytest.mark.usefixtures("unprobed")

FILES = {
    "diffusion_models": (
        *("flux1-dev-single", "flux2-klein-4b", "flux2-dev-single", "qwen-image", "zimage-single", "lumina2-single"),
        *("chroma", "hidream", "hunyuan-image", "hunyuan-video", "ernie", "ideogram4", "krea2", "ltx", "pixart-sigma"),
        *("qwen-image-2.1", "wan-14b", "sd3-medium-single", "sdxl-unet-single", "sd1-unet-single"),
    ),
    "checkpoints": ("sdxl-checkpoint", "sd1-checkpoint", "flux1-dev-single"),
    "text_encoders": (
        *("clip-l", "clip-g", "t5-xxl", "umt5-xxl", "byt5-small", "qwen3-0.6b", "qwen3-4b", "qwen3-8b", "qwen3-vl-8b"),
        *("qwen2.5-7b", "gemma-2-2b", "gemma-3-12b", "llama-3.1-8b", "mistral-small-24b", "ministral-3-3b"),
    ),
    "vae": (
        *("vae-4-single", "vae-16-single", "vae-flux2", "vae-wan-single", "vae-hunyuan-video", "vae-ltx"),
        "vae-qwen-image-2.1",
    ),
    "clip_vision": ("clip-h-vision", "clip-g-vision", "clip-l-vision"),
    "controlnet": ("sdxl-controlnet", "sd1-controlnet"),
}
"""The stripped headers that lie in each folder of models, by their fixtures' names."""

BLOCK = {"ip_adapter.1.to_k_ip.weight": ("F16", [640, 2048])}
OWN: dict[str, Table] = {
    "diffusion_models/klein-9b": {
        "double_stream_modulation_img.lin.weight": ("BF16", [24576, 4096]),
        "single_stream_modulation.lin.weight": ("BF16", [12288, 4096]),
        "double_blocks.0.img_attn.norm.key_norm.scale": ("BF16", [128]),
        "img_in.weight": ("BF16", [4096, 128]),
    },
    "text_encoders/qwen3-vl-4b": {
        "model.layers.0.self_attn.q_norm.weight": ("BF16", [128]),
        "model.layers.0.post_attention_layernorm.weight": ("BF16", [2560]),
        "model.norm.weight": ("BF16", [2560]),
        "visual.deepstack_merger_list.0.norm.weight": ("BF16", [4096]),
    },
    "vae/hunyuan-image": {
        "decoder.conv_in.weight": ("BF16", [1024, 64, 3, 3]),
        "decoder.conv_in.bias": ("BF16", [1024]),
        "decoder.mid.block_1.norm1.weight": ("BF16", [1024]),
    },
    "model_patches/fun": {
        "control_all_x_embedder.2-1.weight": ("BF16", [3840, 64]),
        "control_layers.0.before_proj.bias": ("BF16", [3840]),
    },
    "ipadapter/plus-h": {
        **BLOCK,
        "image_proj.latents": ("F16", [1, 16, 1280]),
        "image_proj.proj_in.weight": ("F16", [1280, 1280]),
    },
    "ipadapter/plain-g": {**BLOCK, "image_proj.proj.weight": ("F16", [8192, 1280])},
    "ipadapter/plain-h": {**BLOCK, "image_proj.proj.weight": ("F16", [8192, 1024])},
    "ipadapter/faceid": {**FACE, "image_proj.proj.0.weight": ("F16", [1024, 512])},
    "ipadapter/faceid-plus": FACEID_PLUS,
    "instantid/ip-adapter": INSTANTID,
}
"""Files of which only the marks are needed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models as ComfyUI has it, of sparse files with true headers."""
    root = tmp_path_factory.mktemp("fit")
    for place, names in FILES.items():
        for name in names:
            model(root / "models" / place / f"{name}.safetensors", name)
    for name, table in OWN.items():
        (root / "models" / name).parent.mkdir(exist_ok=True)
        write(root / "models" / f"{name}.safetensors", table)
    (root / "sosie.toml").write_text('model_folders = ["models"]\n')
    return root


@pytest.fixture
def place(folder: Path) -> Workspace:
    return open_workspace(folder)


def file(name: str) -> str:
    return f"{name}.safetensors"


def loader(encoders: tuple[str, ...], type_: str) -> Json:
    kinds = ("CLIPLoader", "DualCLIPLoader", "TripleCLIPLoader", "QuadrupleCLIPLoader")
    names = ("clip_name",) if len(encoders) == 1 else tuple(f"clip_name{i + 1}" for i in range(len(encoders)))
    more = {"type": type_} if len(encoders) < 3 else {}
    return node(kinds[len(encoders) - 1], **dict(zip(names, map(file, encoders), strict=True)), **more)


def drawn(**nodes: Json) -> Json:
    """A graph that draws; `nodes` replace or add nodes: `unet`, `clip` and `vae` are its files."""
    base: Json = {
        "yes": node("CLIPTextEncode", text="a woman", clip=["clip", 0]),
        "no": node("CLIPTextEncode", text="", clip=["clip", 0]),
        "empty": node("EmptySD3LatentImage", width=1024, height=1024, batch_size=1),
        "draw": node(
            "KSampler",
            model=["unet", 0],
            positive=["yes", 0],
            negative=["no", 0],
            latent_image=["empty", 0],
            seed=7,
            steps=8,
            cfg=3.0,
            sampler_name="euler",
            scheduler="simple",
            denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["draw", 0], vae=["vae", 0]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="x"),
    }
    return base | nodes


def apart(unet: str, encoders: tuple[str, ...], type_: str, vae: str) -> Json:
    return drawn(
        unet=node("UNETLoader", unet_name=file(unet), weight_dtype="default"),
        clip=loader(encoders, type_),
        vae=node("VAELoader", vae_name=file(vae)),
    )


def checkpoint(name: str, **nodes: Json) -> Json:
    graph = drawn(unet=node("CheckpointLoaderSimple", ckpt_name=file(name)), **nodes)
    for place, key, slot in (("yes", "clip", 1), ("no", "clip", 1), ("decode", "vae", 2)):
        if key not in nodes:
            graph[place]["inputs"][key] = ["unet", slot]
    return graph


def bad(place: Workspace, graph: Json) -> list[Finding]:
    """What is wrong with the files; steps and CFG are the same in all graphs here, which suits not every model."""
    found = check_graph(place, read_table(graph, "g.json"), "g.json")
    return [each for each in found if each.severity != "info" and each.code != "SOS-R021"]


def codes(place: Workspace, graph: Json) -> list[str]:
    return [each.code for each in bad(place, graph)]


FOUR, SIXTEEN, FLUX2, WAN = "vae-4-single", "vae-16-single", "vae-flux2", "vae-wan-single"
RIGHT: list[tuple[str, tuple[str, ...], str, str]] = [
    ("flux1-dev-single", ("clip-l", "t5-xxl"), "flux", SIXTEEN),
    ("flux1-dev-single", ("t5-xxl", "clip-l"), "flux", SIXTEEN),
    ("flux2-klein-4b", ("qwen3-4b",), "flux2", FLUX2),
    ("flux2-klein-4b", ("qwen3-vl-4b",), "flux2", FLUX2),
    ("klein-9b", ("qwen3-8b",), "flux2", FLUX2),
    ("klein-9b", ("qwen3-8b",), "stable_diffusion", FLUX2),
    ("klein-9b", ("qwen3-vl-8b",), "flux2", FLUX2),
    ("flux2-dev-single", ("mistral-small-24b",), "flux2", FLUX2),
    ("qwen-image", ("qwen2.5-7b",), "qwen_image", WAN),
    ("zimage-single", ("qwen3-4b",), "lumina2", SIXTEEN),
    ("zimage-single", ("qwen3-4b",), "stable_diffusion", SIXTEEN),
    ("zimage-single", ("qwen3-4b",), "qwen_image", SIXTEEN),
    ("lumina2-single", ("gemma-2-2b",), "lumina2", SIXTEEN),
    ("chroma", ("t5-xxl",), "chroma", SIXTEEN),
    ("chroma", ("t5-xxl",), "stable_diffusion", SIXTEEN),
    ("hidream", ("clip-l", "clip-g", "t5-xxl", "llama-3.1-8b"), "", SIXTEEN),
    ("hidream", ("t5-xxl", "llama-3.1-8b"), "hidream", SIXTEEN),
    ("hunyuan-image", ("qwen2.5-7b", "byt5-small"), "hunyuan_image", "hunyuan-image"),
    ("hunyuan-image", ("qwen2.5-7b",), "hunyuan_image", "hunyuan-image"),
    ("hunyuan-video", ("clip-l", "llama-3.1-8b"), "hunyuan_video", "vae-hunyuan-video"),
    ("ernie", ("ministral-3-3b",), "flux2", FLUX2),
    ("ernie", ("ministral-3-3b",), "stable_diffusion", FLUX2),
    ("ideogram4", ("qwen3-vl-8b",), "ideogram4", FLUX2),
    ("krea2", ("qwen3-vl-4b",), "krea2", WAN),
    ("ltx", ("t5-xxl",), "ltxv", "vae-ltx"),
    ("pixart-sigma", ("t5-xxl",), "pixart", FOUR),
    ("qwen-image-2.1", ("qwen3-vl-8b",), "qwen_image", "vae-qwen-image-2.1"),
    ("wan-14b", ("umt5-xxl",), "wan", WAN),
    ("sd3-medium-single", ("clip-l", "clip-g", "t5-xxl"), "", SIXTEEN),
    ("sd3-medium-single", ("clip-l", "clip-g"), "sd3", SIXTEEN),
    ("sd3-medium-single", ("t5-xxl",), "sd3", SIXTEEN),
    ("sdxl-unet-single", ("clip-l", "clip-g"), "sdxl", FOUR),
    ("sd1-unet-single", ("clip-l",), "stable_diffusion", FOUR),
]


@pytest.mark.parametrize(("unet", "encoders", "type_", "vae"), RIGHT)
def test_what_belongs_together_is_no_finding(
    place: Workspace, unet: str, encoders: tuple[str, ...], type_: str, vae: str
) -> None:
    assert bad(place, apart(unet, encoders, type_, vae)) == []


ENCODERS: list[tuple[str, tuple[str, ...], str, str, str]] = [
    ("flux2-klein-4b", ("qwen3-8b",), "flux2", FLUX2, "R011 4B"),
    ("klein-9b", ("qwen3-4b",), "flux2", FLUX2, "R011 8B"),
    ("flux2-dev-single", ("qwen3-8b",), "flux2", FLUX2, "R011 Mistral-Small-24B"),
    ("qwen-image", ("qwen3-8b",), "qwen_image", WAN, "R011 Qwen2.5-VL-7B"),
    ("zimage-single", ("qwen3-vl-8b",), "lumina2", SIXTEEN, "R011 4B"),
    ("zimage-single", ("t5-xxl",), "lumina2", SIXTEEN, "R011 4B"),
    ("flux1-dev-single", ("clip-l", "clip-g"), "flux", SIXTEEN, "R011 XXL"),
    ("flux1-dev-single", ("clip-l", "umt5-xxl"), "flux", SIXTEEN, "R011 UMT5"),
    ("wan-14b", ("t5-xxl",), "wan", WAN, "R011 UMT5"),
    ("krea2", ("qwen3-vl-8b",), "krea2", WAN, "R011 VL-4B"),
    ("qwen-image-2.1", ("qwen3-8b",), "qwen_image", "vae-qwen-image-2.1", "R011 VL-8B"),
    ("ernie", ("mistral-small-24b",), "flux2", FLUX2, "R011 Ministral-3-3B"),
    ("hidream", ("clip-l", "clip-g", "t5-xxl", "gemma-2-2b"), "", SIXTEEN, "R011 Llama"),
    ("lumina2-single", ("gemma-3-12b",), "lumina2", SIXTEEN, "R011 Gemma-2-2B"),
    ("sd1-unet-single", ("clip-g",), "stable_diffusion", FOUR, "R011 CLIP-L"),
    ("flux1-dev-single", ("t5-xxl",), "stable_diffusion", SIXTEEN, "R013 CLIP-L and XXL"),
    ("sdxl-unet-single", ("clip-l",), "stable_diffusion", FOUR, "R013 CLIP-L and CLIP-bigG"),
    ("sdxl-unet-single", ("clip-l", "clip-l"), "sdxl", FOUR, "R013 CLIP-L and CLIP-bigG"),
    ("hunyuan-video", ("llama-3.1-8b",), "hidream", "vae-hunyuan-video", "R013 CLIP-L and Llama"),
    ("zimage-single", ("qwen3-4b",), "flux2", SIXTEEN, "R015 lumina2"),
    ("flux2-klein-4b", ("qwen3-4b",), "lumina2", FLUX2, "R015 flux2"),
    ("flux1-dev-single", ("clip-l", "t5-xxl"), "sdxl", SIXTEEN, "R015 flux"),
    ("sdxl-unet-single", ("clip-l", "clip-g"), "flux", FOUR, "R015 sdxl"),
    ("qwen-image", ("qwen2.5-7b",), "hunyuan_image", WAN, "R015 qwen_image"),
    ("hunyuan-image", ("qwen2.5-7b",), "qwen_image", "hunyuan-image", "R015 hunyuan_image"),
    ("krea2", ("qwen3-vl-4b",), "flux2", WAN, "R015 krea2"),
    ("ideogram4", ("qwen3-8b",), "flux2", FLUX2, "R015 ideogram4"),
    ("wan-14b", ("umt5-xxl",), "stable_diffusion", WAN, "R015 wan"),
    ("sd3-medium-single", ("clip-l", "clip-g"), "sdxl", SIXTEEN, "R015 sd3"),
    ("flux1-dev-single", ("clip-l", "t5-xxl"), "flux", FOUR, "R012 16 channels"),
    ("flux2-klein-4b", ("qwen3-4b",), "flux2", SIXTEEN, "R012 32 channels"),
    ("qwen-image", ("qwen2.5-7b",), "qwen_image", SIXTEEN, "R012 16 channels, video"),
    ("zimage-single", ("qwen3-4b",), "lumina2", WAN, "R012 16 channels"),
    ("wan-14b", ("umt5-xxl",), "wan", "vae-hunyuan-video", "R012 16 channels, video"),
    ("sdxl-unet-single", ("clip-l", "clip-g"), "sdxl", SIXTEEN, "R012 4 channels"),
    ("qwen-image-2.1", ("qwen3-vl-8b",), "qwen_image", WAN, "R012 64 channels"),
    ("krea2", ("qwen3-vl-4b",), "krea2", FLUX2, "R012 16 channels, video"),
]


@pytest.mark.parametrize(("unet", "encoders", "type_", "vae", "wanted"), ENCODERS)
def test_a_wrong_partner_is_one_finding_that_names_the_right_one(
    place: Workspace, unet: str, encoders: tuple[str, ...], type_: str, vae: str, wanted: str
) -> None:
    code, _, right = wanted.partition(" ")
    (found,) = bad(place, apart(unet, encoders, type_, vae))
    assert (found.code, found.severity) == (f"SOS-{code}", "error")
    assert right in f"{found.message} {found.hint}"


def test_a_checkpoint_is_its_own_partner_and_no_other_familys(place: Workspace) -> None:
    assert codes(place, checkpoint("sdxl-checkpoint")) == []
    other = node("CheckpointLoaderSimple", ckpt_name=file("sd1-checkpoint"))
    mixed = checkpoint("sdxl-checkpoint", other=other)
    mixed["yes"]["inputs"]["clip"] = ["other", 1]
    assert codes(place, mixed) == ["SOS-R011"]
    flux = apart("flux1-dev-single", ("clip-l", "t5-xxl"), "flux", SIXTEEN) | {"other": other}
    flux["decode"]["inputs"]["vae"] = ["other", 2]
    assert codes(place, flux) == ["SOS-R012"]


def test_what_a_checkpoints_file_lacks_is_an_error_only_where_it_is_taken(place: Workspace) -> None:
    (found,) = bad(place, checkpoint("flux1-dev-single"))
    assert (found.code, found.severity) == ("SOS-R010", "error")
    assert "no text encoder and no VAE" in found.message
    assert "DualCLIPLoader, type flux" in found.hint
    graph = apart("flux1-dev-single", ("clip-l", "t5-xxl"), "flux", SIXTEEN)
    graph["unet"] = node("CheckpointLoaderSimple", ckpt_name=file("flux1-dev-single"))
    assert codes(place, graph) == []


@pytest.mark.parametrize(
    ("begins", "lacking", "hint"),
    [
        ("conditioner.", "text encoder", "load clip_l.safetensors and clip_g.safetensors by DualCLIPLoader, type sdxl"),
        ("first_stage_model.", "VAE", "load sdxl_vae.safetensors by VAELoader"),
    ],
)
def test_a_checkpoint_that_was_saved_without_a_part_says_which(
    tmp_path: Path, begins: str, lacking: str, hint: str
) -> None:
    (tmp_path / "sosie.toml").write_text('model_folders = ["models"]\n')
    path = tmp_path / "models" / "checkpoints" / file("merge")
    whole = stripped("sdxl-checkpoint")[0].tensors
    write(path, {name: (info.dtype, list(info.shape)) for name, info in whole.items() if not name.startswith(begins)})
    (found,) = bad(open_workspace(tmp_path), checkpoint("merge"))
    assert (found.code, found.hint, f"no {lacking}" in found.message) == ("SOS-R013", hint, True)
    known = identify(path, families())
    assert isinstance(known, Known)
    assert (known.model.role, known.model.without) == ("checkpoint", f"without {lacking}")


def test_what_a_files_licence_allows_and_what_draws_it_is_said(
    sosie: Callable[..., Any], folder: Path, workspace: Path
) -> None:
    shown = sosie("model", "show", folder / "models/diffusion_models" / file("krea2"), "--workspace", workspace)
    assert shown.code == 0
    assert "Krea 2 Community License" in shown.err
    assert "not drawn in this process: build it in ComfyUI" in shown.err


def test_the_licence_of_every_model_that_draws_is_noted() -> None:
    drawing = ("checkpoint", "denoiser")
    parts = [(family, part) for family in families() for part in family.parts if part.role in drawing]
    variants = [
        (family, name) for family, part in parts for name in (part.variant, *(one.name for one in part.variants))
    ]
    assert len(variants) > 60
    assert {f"{family.name} {name}" for family, name in variants if not family.licence(name)} == {"lumina2 NewBie"}


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("z_image_turbo_bf16.safetensors", "zimage"),
        ("folder\\Flux.1-dev.safetensors", "flux1"),
        ("flux1dev.safetensors", "flux1"),
        ("qwen_image_2.1_bf16.safetensors", "qwen_image21"),
        ("anima-preview.safetensors", "anima"),
        ("animagine-xl-4.safetensors", ""),
        ("wan_animate_2_int8.safetensors", ""),
        ("pid_flux1_1024_to_4096.safetensors", ""),
        ("flux10.safetensors", ""),
    ],
)
def test_a_file_that_is_not_here_is_of_the_family_that_its_name_begins_with(name: str, family: str) -> None:
    assert called_family(name) == family


def test_the_vae_that_encodes_the_image_to_start_from_is_judged_too(place: Workspace) -> None:
    graph = apart("flux1-dev-single", ("clip-l", "t5-xxl"), "flux", SIXTEEN)
    graph |= {
        "other": node("VAELoader", vae_name=file(FOUR)),
        "picture": node("LoadImage", image="a.png"),
        "empty": node("VAEEncode", pixels=["picture", 0], vae=["other", 0]),
    }
    assert codes(place, graph) == ["SOS-R012"]


def test_a_model_patch_is_told_its_loader_and_fits_its_family_alone(place: Workspace) -> None:
    graph = apart("zimage-single", ("qwen3-4b",), "lumina2", SIXTEEN)
    patch: dict[str, Any] = {"vae": ["vae", 0], "image": ["picture", 0], "strength": 1.0, "model_patch": ["patch", 0]}
    graph |= {
        "picture": node("LoadImage", image="a.png"),
        "patch": node("ModelPatchLoader", name=file("fun")),
        "apply": node("QwenImageDiffsynthControlnet", model=["unet", 0], **patch),
    }
    graph["draw"]["inputs"]["model"] = ["apply", 0]
    assert codes(place, graph) == []
    wrong = apart("qwen-image", ("qwen2.5-7b",), "qwen_image", WAN)
    wrong |= {name: graph[name] for name in ("picture", "patch", "apply")}
    wrong["draw"]["inputs"]["model"] = ["apply", 0]
    assert codes(place, wrong) == ["SOS-R010"]
    control = apart("zimage-single", ("qwen3-4b",), "lumina2", SIXTEEN)
    control["patch"] = node("ControlNetLoader", control_net_name=file("fun"))
    (found,) = bad(place, control)
    assert "ModelPatchLoader, with ZImageFunControlnet" in found.hint


def test_a_controlnet_of_another_family_than_the_models_is_named(place: Workspace) -> None:
    for name, expected in (("sdxl-controlnet", []), ("sd1-controlnet", ["SOS-R010"])):
        graph = checkpoint("sdxl-checkpoint")
        control = {"control_net": ["control", 0], "image": ["picture", 0], "strength": 1.0}
        graph |= {
            "picture": node("LoadImage", image="a.png"),
            "control": node("ControlNetLoader", control_net_name=file(name)),
            "apply": node("ControlNetApply", conditioning=["yes", 0], **control),
        }
        graph["draw"]["inputs"]["positive"] = ["apply", 0]
        assert codes(place, graph) == expected


def adapted(kind: str, weights: str, encoder: str = "", **more: Any) -> Json:
    graph = checkpoint("sdxl-checkpoint")
    links = {"model": ["unet", 0], "ipadapter": ["adapter", 0], "image": ["picture", 0]}
    how = {"weight_type": "linear", "combine_embeds": "concat", "embeds_scaling": "V only"}
    if encoder:
        more["clip_vision"] = ["vision", 0]
        graph["vision"] = node("CLIPVisionLoader", clip_name=file(encoder))
    if more.get("insightface"):
        graph["faces"] = node("IPAdapterInsightFaceLoader", provider="CPU", model_name="buffalo_l")
    graph |= {
        "picture": node("LoadImage", image="a.png"),
        "adapter": node("IPAdapterModelLoader", ipadapter_file=file(weights)),
        "apply": node(kind, **links, weight=0.5, start_at=0.0, end_at=1.0, **how, **more),
    }
    graph["draw"]["inputs"]["model"] = ["apply", 0]
    return graph


ADVANCED, FACE_ID, FACES = "IPAdapterAdvanced", "IPAdapterFaceID", {"insightface": ["faces", 0]}
ADAPTERS: list[tuple[str, str, str, Json, list[str]]] = [
    (ADVANCED, "plus-h", "clip-h-vision", {}, []),
    (ADVANCED, "plain-g", "clip-g-vision", {}, []),
    (ADVANCED, "plain-h", "clip-h-vision", {}, []),
    (FACE_ID, "faceid", "clip-h-vision", {"weight_faceidv2": 1.0, **FACES}, []),
    (FACE_ID, "faceid-plus", "clip-h-vision", {"weight_faceidv2": 1.0, **FACES}, []),
    (ADVANCED, "plus-h", "clip-g-vision", {}, ["SOS-R034"]),
    (ADVANCED, "plain-g", "clip-h-vision", {}, ["SOS-R034"]),
    (ADVANCED, "plain-h", "clip-l-vision", {}, ["SOS-R034"]),
    (ADVANCED, "plus-h", "", {}, ["SOS-R034"]),
    (ADVANCED, "faceid", "clip-h-vision", {}, ["SOS-R035"]),
    (FACE_ID, "faceid-plus", "clip-g-vision", {"weight_faceidv2": 1.0, **FACES}, ["SOS-R034"]),
    (FACE_ID, "faceid", "clip-h-vision", {"weight_faceidv2": 1.0}, ["SOS-R035"]),
    (FACE_ID, "plus-h", "clip-h-vision", {"weight_faceidv2": 1.0, **FACES}, ["SOS-R035"]),
]


@pytest.mark.parametrize(("kind", "weights", "encoder", "more", "expected"), ADAPTERS)
def test_an_adapter_is_held_against_its_node_and_its_image_encoder(
    place: Workspace, kind: str, weights: str, encoder: str, more: Json, expected: list[str]
) -> None:
    assert codes(place, adapted(kind, weights, encoder, **more)) == expected


def two_faces(first: Json, second: Json) -> Json:
    graph = checkpoint("sdxl-checkpoint")
    graph |= {
        "picture": node("LoadImage", image="a.png"),
        "left": node("SolidMask", value=1.0, width=512, height=1024),
        "right": node("SolidMask", value=1.0, width=512, height=1024),
        "weights": node("InstantIDModelLoader", instantid_file=file("ip-adapter")),
        "control": node("ControlNetLoader", control_net_name=file("sdxl-controlnet")),
        "faces": node("InstantIDFaceAnalysis", provider="CPU"),
    }
    before = ("unet", "yes", "no", 0)
    for name, more in (("one", first), ("two", second)):
        links = {"instantid": ["weights", 0], "insightface": ["faces", 0], "control_net": ["control", 0]}
        model_, yes, no, slot = before
        links |= {"image": ["picture", 0], "model": [model_, 0], "positive": [yes, slot], "negative": [no, 2 * slot]}
        graph[name] = node("ApplyInstantID", **links, weight=0.85, **({"start_at": 0.0, "end_at": 1.0} | more))
        before = (name, name, name, 1)
    graph["draw"]["inputs"] |= {"model": ["two", 0], "positive": ["two", 1], "negative": ["two", 2]}
    return graph


def test_only_guides_that_act_at_the_same_place_and_time_are_piled_up(place: Workspace) -> None:
    left, right = {"mask": ["left", 0]}, {"mask": ["right", 0]}
    early, late = {"end_at": 0.5}, {"start_at": 0.5}
    for first, second, piled in (
        ({}, {}, True),
        (left, right, False),
        (left, left, True),
        (early, late, False),
        (early, {"start_at": 0.4}, True),
    ):
        assert ("SOS-R032" in codes(place, two_faces(first, second))) == piled, (first, second)


def test_an_encoder_in_gguf_sees_only_with_its_mmproj_beside_it(tmp_path: Path) -> None:
    (tmp_path / "sosie.toml").write_text('model_folders = ["models"]\n')
    texts = tmp_path / "models" / "text_encoders"
    encoder = "Qwen2.5-VL-7B-Instruct-Q4_K_M.gguf"
    gguf(texts / encoder, "qwen2vl", {"output_norm.weight": [3584]})
    gguf(tmp_path / "models" / "diffusion_models" / "edit.gguf", "qwen_image", {"txt_norm.weight": [3584]})
    model(tmp_path / "models" / "vae" / file(WAN), WAN)
    graph = apart("x", ("x",), "qwen_image", WAN)
    graph |= {
        "picture": node("LoadImage", image="a.png"),
        "unet": node("UnetLoaderGGUF", unet_name="edit.gguf"),
        "clip": node("CLIPLoaderGGUF", clip_name=encoder, type="qwen_image"),
        "yes": node("TextEncodeQwenImageEdit", clip=["clip", 0], prompt="x", vae=["vae", 0], image=["picture", 0]),
    }
    place = open_workspace(tmp_path)
    (found,) = bad(place, graph)
    assert (found.code, "Qwen2.5-VL-7B-Instruct-mmproj-F16.gguf" in found.hint) == ("SOS-R016", True)
    gguf(texts / "mmproj-F16.gguf", "clip", {"v.patch_embd.weight": [1280, 3, 14, 14], "mm.0.weight": [5120, 5120]})
    assert codes(place, graph) == ["SOS-R016"]
    (texts / "mmproj-F16.gguf").rename(texts / "Qwen2.5-VL-7B-Instruct-mmproj-F16.gguf")
    assert codes(place, graph) == []
    blind = graph | {"yes": node("CLIPTextEncode", text="x", clip=["clip", 0])}
    (texts / "Qwen2.5-VL-7B-Instruct-mmproj-F16.gguf").unlink()
    assert codes(place, blind) == []


GGUF_ENCODERS: list[tuple[str, str, dict[str, list[int]], list[str]]] = [
    ("lumina2", "qwen3", {"output_norm.weight": [2560]}, []),
    ("lumina2", "qwen3", {"output_norm.weight": [4096]}, ["SOS-R011"]),
    ("lumina2", "t5encoder", {"enc.output_norm.weight": [4096]}, ["SOS-R011"]),
]


@pytest.mark.parametrize(("architecture", "encoder", "tensors", "expected"), GGUF_ENCODERS)
def test_files_in_gguf_are_known_by_what_they_say_of_themselves(
    tmp_path: Path, architecture: str, encoder: str, tensors: dict[str, list[int]], expected: list[str]
) -> None:
    (tmp_path / "sosie.toml").write_text('model_folders = ["models"]\n')
    gguf(tmp_path / "models" / "unet" / "z.gguf", architecture, {"cap_embedder.1.weight": [3840, 2560]})
    gguf(tmp_path / "models" / "clip" / "t.gguf", encoder, tensors)
    model(tmp_path / "models" / "vae" / file(SIXTEEN), SIXTEEN)
    graph = apart("x", ("x",), "lumina2", SIXTEEN)
    graph["unet"] = node("UnetLoaderGGUF", unet_name="z.gguf")
    graph["clip"] = node("CLIPLoaderGGUF", clip_name="t.gguf", type="lumina2")
    assert codes(open_workspace(tmp_path), graph) == expected


def gguf(path: Path, architecture: str, tensors: dict[str, list[int]]) -> None:
    """A file of version 3 whose tensors are F16 and zeros; shapes as in PyTorch."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 1)
    head += text("general.architecture") + struct.pack("<I", 8) + text(architecture)
    end = 0
    for name, shape in tensors.items():
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), 1, end)
        end += -(-2 * math.prod(shape) // 32) * 32
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(end))


def test_a_faceid_file_is_an_adapter_though_most_of_its_tensors_are_named_like_a_loras(tmp_path: Path) -> None:
    table: Table = {**FACE, "image_proj.proj.0.weight": ("F16", [1024, 512])}
    for layer in range(140):
        table |= {f"ip_adapter.{layer}.to_q_lora.down.weight": ("F16", [128, 640])}
        table |= {f"ip_adapter.{layer}.to_q_lora.up.weight": ("F16", [640, 128])}
    path = write(tmp_path / "faceid.safetensors", table)
    found = examine_file(path, "faceid")
    assert found.what is not None
    assert (found.what.role, found.what.variant, found.findings) == ("ip-adapter", "faceid", ())
    with pytest.raises(BadModelError, match=r"is no LoRA but ip-adapter of family sdxl \(faceid\)"):
        read_lora(path, families())


@pytest.mark.parametrize(("mark", "stored"), [('{"convrot": true}', "int8-convrot"), ('{"format": "a"}', "int8-comfy")])
def test_rotated_weights_are_told_from_plain_ones_by_the_mark_beside_them(
    tmp_path: Path, mark: str, stored: str
) -> None:
    marks: Table = {
        "cap_embedder.0.weight": ("I8", [2560]),
        "cap_embedder.1.bias": ("BF16", [3840]),
        "layers.0.adaLN_modulation.0.bias": ("BF16", [15360]),
        "noise_refiner.0.attention.k_norm.weight": ("BF16", [128]),
        "x_embedder.bias": ("BF16", [3840]),
        "layers.0.attention.qkv.weight": ("I8", [11520, 3840]),
        "layers.0.attention.qkv.comfy_quant": ("U8", [len(mark)]),
    }
    path = write(tmp_path / "z.safetensors", marks)
    with path.open("r+b") as stream:
        stream.seek(-len(mark), 2)
        stream.write(mark.encode())
    known = identify(path, families())
    assert isinstance(known, Known)
    assert known.model.storage == stored
