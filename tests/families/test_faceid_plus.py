"""FaceID and FaceID Plus v2 against their published equations, alone and beside others; wrong files are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_sdxl as tiny
from identity_equations import apart, attend_to, decouple, faceid_plus_tokens, faceid_tokens, instantid_tokens
from PIL import Image

from sosie.core import Guide
from sosie.core.errors import BadModelError, ConfigError, EngineError
from sosie.core.recipe import Keypoints, LoraUse

pytestmark = pytest.mark.local

PLUS = Guide("faceid-plus-v2", "plus", "buffalo", scale=0.85, image_encoder="clip")
INSTANTID = Guide("instantid", "instantid", "antelope", scale=0.4)
FACEID = Guide("faceid", "faceid", "own", scale=0.6)
SHALLOW = {"transformer_layers_per_block": 1}


@pytest.fixture(scope="module")
def adapters() -> Mapping[str, Mapping[str, Any]]:
    net = tiny.unet(**SHALLOW)
    return {
        "plus": tiny.faceid_plus(net),
        "instantid": tiny.instantid(net),
        "faceid": tiny.faceid(net, taken=256, tokens=8),
    }


@pytest.fixture(scope="module")
def paths(adapters: Mapping[str, Mapping[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("guides")
    tiny.image_encoder().save_pretrained(folder / "clip")
    files = {name: tiny.saved(folder / f"{name}.safetensors", content) for name, content in adapters.items()}
    encoders = {name: folder / f"{name}.onnx" for name in ("buffalo", "antelope", "own")}
    return {**files, **encoders, "tiny": folder, "clip": folder / "clip"}


@pytest.fixture(scope="module")
def faces() -> tiny.FakeFaces:
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (224, 224, 3), dtype=np.uint8))
    wide = tiny.random(41, 512)
    embeddings = {
        "buffalo": wide / wide.norm(),
        "antelope": tiny.random(42, 512) * 1.1,
        "own": tiny.random(43, 256) / 16,
    }
    return tiny.FakeFaces(embeddings, [picture])


@pytest.fixture
def pipeline() -> Any:
    return tiny.pipeline("StableDiffusionXLPipeline", tiny.unet(**SHALLOW))


def weights(adapters: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    return {key.removeprefix("image_proj."): tensor for key, tensor in adapters[name].items()}


def clip_states(faces: tiny.FakeFaces) -> Any:
    """What CLIP's second last layer says of nothing, and of the face."""
    import torch

    pixels = np.asarray(faces.crops(PLUS, None)[0].resize((32, 32), Image.Resampling.BICUBIC)) / 255  # type: ignore[arg-type]
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    face = torch.from_numpy((pixels - mean) / deviation).float().permute(2, 0, 1)
    with torch.no_grad():
        return tiny.image_encoder()(torch.stack([face * 0, face]), output_hidden_states=True).hidden_states[-2]


def faceid_plus_of(adapters: Mapping[str, Mapping[str, Any]], faces: tiny.FakeFaces) -> Any:
    """[2, 4, context]: the unconditional half's tokens, then the face's."""
    import torch

    face = torch.from_numpy(faces.embedding(PLUS, None))  # type: ignore[arg-type]
    return faceid_plus_tokens(weights(adapters, "plus"), torch.stack([face * 0, face]), clip_states(faces))


@pytest.mark.parametrize(("cfg", "images"), [(3.0, 1), (3.0, 3), (1.0, 2)])
def test_faceid_plus_tokens_equal_the_published_projection(
    adapters: Any, paths: Any, faces: Any, pipeline: Any, cfg: float, images: int
) -> None:
    import torch

    from sosie.families.sdxl.diffusers.guidance import Guides

    with tiny.conditioned(Guides(pipeline), pipeline, tiny.given([PLUS], paths, faces, cfg), None, images) as arguments:
        embeds = pipeline.prepare_ip_adapter_image_embeds(
            None, arguments["ip_adapter_image_embeds"], "cpu", images, cfg > 1
        )
        with torch.no_grad():
            (found,) = pipeline.unet.encoder_hid_proj(embeds)
    nothing, face = faceid_plus_of(adapters, faces)
    wanted = torch.stack(([nothing] * images if cfg > 1 else []) + [face] * images)
    assert apart(found[:, 0], wanted) < 1e-5


def test_three_guides_at_once_add_up_in_every_attention(adapters: Any, paths: Any, faces: Any, pipeline: Any) -> None:
    import torch

    from sosie.families.sdxl.diffusers.guidance import Guides

    guides = (INSTANTID, PLUS, FACEID)
    seen, time, text = tiny.random(51, 2, 4, 8, 8), torch.tensor(500.0), tiny.random(52, 2, 7, tiny.CONTEXT)
    added = {"text_embeds": tiny.random(53, 2, tiny.POOLED), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)}
    with tiny.conditioned(Guides(pipeline), pipeline, tiny.given(guides, paths, faces)) as arguments, torch.no_grad():
        images = {**added, "image_embeds": arguments["ip_adapter_image_embeds"]}
        found = pipeline.unet(seen, time, text, added_cond_kwargs=images).sample
    papers = tiny.unet(**SHALLOW)
    decouple(papers, [adapters[guide.weights] for guide in guides])
    raw, own = (torch.from_numpy(faces.embedding(guide, None)) for guide in (INSTANTID, FACEID))
    tokens = (
        instantid_tokens(weights(adapters, "instantid"), torch.stack([raw * 0, raw])),
        faceid_plus_of(adapters, faces),
        faceid_tokens(weights(adapters, "faceid"), torch.stack([own * 0, own])),
    )
    assert [part.shape[1] for part in tokens] == [16, 4, 8]
    attend_to(papers, [(part, guide.scale) for part, guide in zip(tokens, guides, strict=True)])
    with torch.no_grad():
        wanted = papers(seen, time, text, added_cond_kwargs=added).sample
    assert apart(found, wanted) < 1e-5


def test_guides_are_replaced_and_taken_out_without_a_trace(paths: Any, faces: Any, pipeline: Any) -> None:
    import torch

    from sosie.families.sdxl.diffusers.guidance import Guides

    def draw() -> Any:
        call = {"guidance_scale": 3.0, "num_inference_steps": 1, "output_type": "latent", "width": 64, "height": 64}
        generator = torch.Generator().manual_seed(0)
        return pipeline(**tiny.prompt(), **call, **arguments, generator=generator).images

    guides, drawn = Guides(pipeline), list[Any]()
    before = {name: tensor.clone() for name, tensor in pipeline.unet.state_dict().items()}
    for chosen in ([], [FACEID], [PLUS, INSTANTID], [FACEID], []):
        guides.load(chosen, paths)
        with tiny.conditioned(guides, pipeline, tiny.given(chosen, paths, faces)) as arguments:
            drawn.append(draw())
    assert torch.equal(drawn[0], drawn[4])
    assert torch.equal(drawn[1], drawn[3])
    assert apart(drawn[1], drawn[0]) > 1e-3
    assert apart(drawn[2], drawn[1]) > 1e-3
    after = pipeline.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


def test_guides_of_other_stages_that_are_loaded_too_change_nothing(paths: Any, faces: Any, pipeline: Any) -> None:
    import torch

    from sosie.families.sdxl.diffusers.guidance import Guides

    def draw(chosen: list[Guide]) -> Any:
        call = {"guidance_scale": 3.0, "num_inference_steps": 1, "output_type": "latent", "width": 64, "height": 64}
        with tiny.conditioned(guides, pipeline, tiny.given(chosen, paths, faces)) as arguments:
            generator = torch.Generator().manual_seed(0)
            return pipeline(**tiny.prompt(), **call, **arguments, generator=generator).images

    guides = Guides(pipeline)
    alone: list[Any] = []
    for chosen in ([FACEID], [INSTANTID], [PLUS], []):
        guides.load(chosen, paths)
        alone.append(draw(chosen))
    guides.load([FACEID, INSTANTID, PLUS], paths)
    together = [draw(chosen) for chosen in ([FACEID], [INSTANTID], [PLUS], [])]
    assert guides.holds([FACEID, INSTANTID, PLUS], paths)
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
    assert apart(alone[0], alone[1]) > 1e-3
    guides.unload()


def test_the_same_guides_at_another_scale_are_not_loaded_again(paths: Any, faces: Any, pipeline: Any) -> None:
    import dataclasses

    from sosie.families.sdxl.diffusers.guidance import Guides

    guides = Guides(pipeline)
    guides.load([FACEID], paths)
    loaded = pipeline.unet.encoder_hid_proj
    stronger = dataclasses.replace(FACEID, scale=1.0)
    with tiny.conditioned(guides, pipeline, tiny.given([stronger], paths, faces)):
        scales = [p.scale for name, p in pipeline.unet.attn_processors.items() if name.endswith("attn2.processor")]
    assert pipeline.unet.encoder_hid_proj is loaded
    assert all(scale == [1.0] for scale in scales)


def test_guides_act_the_same_while_the_weights_are_offloaded(paths: Any, faces: Any) -> None:
    import dataclasses

    import accelerate
    import torch

    from sosie.families.contract.guides import Pose
    from sosie.families.sdxl.diffusers.guidance import Guides

    net = tiny.unet(**SHALLOW)
    pipeline = tiny.pipeline("StableDiffusionXLControlNetPipeline", net, tiny.controlnet(**SHALLOW))
    guides = Guides(pipeline)
    fed = dataclasses.replace(PLUS, keypoints=Keypoints("controlnet"))
    pose = Pose(np.array([[22, 26], [42, 25], [31, 36], [24, 46], [40, 45]], dtype=np.float32), 64, 64)

    def draw() -> Any:
        with tiny.conditioned(guides, pipeline, tiny.given([fed, INSTANTID], paths, faces), pose) as arguments:
            call = {"guidance_scale": 3.0, "num_inference_steps": 1, "output_type": "latent"}
            return pipeline(**tiny.prompt(), **call, **arguments, generator=torch.Generator().manual_seed(0)).images

    there = draw()
    accelerate.cpu_offload(net, torch.device("cpu"))
    assert next(net.parameters()).device.type == "meta"
    assert apart(draw(), there) < 1e-6


def with_lora(net: Any, adapter: Mapping[str, Any], rank: int = 4) -> dict[str, Any]:
    """FaceID with its LoRA inside, as it is published: its keys count all attention layers."""
    shapes: dict[str, Sequence[int]] = {}
    for place, name in enumerate(net.attn_processors):
        layer = net.get_submodule(name.removesuffix(".processor"))
        for letter in ("q", "k", "v", "out"):
            rows, columns = (layer.to_out[0] if letter == "out" else getattr(layer, f"to_{letter}")).weight.shape
            key = f"ip_adapter.{place}.to_{letter}_lora"
            shapes |= {f"{key}.down.weight": (rank, columns), f"{key}.up.weight": (rows, rank)}
    return {**adapter, **tiny.tensors(14, shapes)}


def character_lora(net: Any, path: Path, rank: int = 4, alpha: float = 2.0) -> Path:
    """A LoRA of self-attention in kohya's layout."""
    import torch

    content: dict[str, Any] = {}
    for place, name in enumerate(net.attn_processors):
        module = name.removesuffix(".processor") + ".to_q"
        rows, columns = net.get_submodule(module).weight.shape
        stem = "lora_unet_" + module.replace(".", "_")
        content[f"{stem}.lora_down.weight"] = tiny.random(600 + place, rank, columns) / 6
        content[f"{stem}.lora_up.weight"] = tiny.random(700 + place, rows, rank) / 4
        content[f"{stem}.alpha"] = torch.tensor(alpha)
    return tiny.saved(path, content)


def noise_of(net: Any, arguments: Mapping[str, Any]) -> Any:
    import torch

    added = {"text_embeds": tiny.random(53, 2, tiny.POOLED), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)}
    if arguments:
        added["image_embeds"] = arguments["ip_adapter_image_embeds"]
    with torch.no_grad():
        seen, text = tiny.random(51, 2, 4, 8, 8), tiny.random(52, 2, 7, tiny.CONTEXT)
        return net(seen, torch.tensor(500.0), text, added_cond_kwargs=added).sample


def test_faceids_own_lora_and_the_characters_act_together_each_at_its_weight(
    adapters: Any, paths: Any, faces: Any, pipeline: Any, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    from sosie.families.sdxl.diffusers.guidance import Guides
    from sosie.families.sdxl.diffusers.loras import Loras, faceid_loras

    content = with_lora(pipeline.unet, adapters["faceid"])
    path = tiny.saved(tmp_path / "faceid.safetensors", content)
    files = {**paths, "faceid": path, "elena": character_lora(pipeline.unet, tmp_path / "elena.safetensors")}
    own = faceid_loras([FACEID], files)
    assert own == (LoraUse("faceid", FACEID.lora_weight),)

    # The weights as they ought to be: W + 0.7 * 2 / 4 * B A + 0.65 * B' A'.
    papers, lora = tiny.unet(**SHALLOW), load_file(files["elena"])
    for place, name in enumerate(papers.attn_processors):
        layer = papers.get_submodule(name.removesuffix(".processor"))
        for letter in ("q", "k", "v", "out"):
            module = layer.to_out[0] if letter == "out" else getattr(layer, f"to_{letter}")
            key = f"ip_adapter.{place}.to_{letter}_lora"
            module.weight.data += 0.65 * content[f"{key}.up.weight"] @ content[f"{key}.down.weight"]
        stem = "lora_unet_" + name.removesuffix(".processor").replace(".", "_") + "_to_q"
        layer.to_q.weight.data += 0.7 * 0.5 * lora[f"{stem}.lora_up.weight"] @ lora[f"{stem}.lora_down.weight"]
    decouple(papers, [adapters["faceid"]])
    face = torch.from_numpy(faces.embedding(FACEID, None))
    tokens = faceid_tokens(weights(adapters, "faceid"), torch.stack([face * 0, face]))
    attend_to(papers, [(tokens, FACEID.scale)])
    wanted = noise_of(papers, {})

    guides, loras = Guides(pipeline), Loras(pipeline)
    loras.set((LoraUse("elena", 0.7),), files)
    with tiny.conditioned(guides, pipeline, tiny.given([FACEID], files, faces)) as arguments:
        loras.set((LoraUse("elena", 0.7), *own), files)
        assert apart(noise_of(pipeline.unet, arguments), wanted) < 1e-5
        loras.set(own, files)
        assert apart(noise_of(pipeline.unet, arguments), wanted) > 1e-3


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
def test_the_stock_loader_switches_the_characters_lora_off(adapters: Any, pipeline: Any, tmp_path: Path) -> None:
    """Why FaceID's LoRA is not left to diffusers."""
    pipeline.load_lora_weights(str(character_lora(pipeline.unet, tmp_path / "elena.safetensors")), adapter_name="elena")
    path = tiny.saved(tmp_path / "faceid.safetensors", with_lora(pipeline.unet, adapters["faceid"]))
    pipeline.load_ip_adapter(str(tmp_path), subfolder="", weight_name=path.name, image_encoder_folder=None)
    assert pipeline.get_active_adapters() == ["faceid_0"]


def test_a_lora_file_of_its_own_goes_before_the_one_inside_the_adapter(
    adapters: Any, paths: Any, tmp_path: Path
) -> None:
    from sosie.families.sdxl.diffusers.loras import faceid_loras

    path = tiny.saved(tmp_path / "f.safetensors", with_lora(tiny.unet(**SHALLOW), adapters["faceid"]))
    files = {**paths, "faceid": path}
    guide = Guide("faceid", "faceid", "own", lora="file", lora_weight=0.5)
    assert faceid_loras([guide, INSTANTID], files) == (LoraUse("file", 0.5),)
    assert faceid_loras([FACEID, INSTANTID], paths) == ()


def sd15(content: Mapping[str, Any]) -> dict[str, Any]:
    """An adapter as one for Stable Diffusion 1.5: sixteen cross-attentions, a context of 768."""
    shapes = {f"ip_adapter.{place}.to_{letter}_ip.weight": (320, 768) for place in range(1, 32, 2) for letter in "kv"}
    return {**{key: tensor for key, tensor in content.items() if "image_proj" in key}, **tiny.tensors(15, shapes)}


def without(content: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {key: tensor for key, tensor in content.items() if part not in key}


REFUSED: Mapping[str, tuple[Guide, Callable[[Any], Mapping[str, Any]], str]] = {
    "SD 1.5": (FACEID, lambda a: sd15(a["faceid"]), r"family sd1: ip-adapter.* is \[320, 768\], expected \[64, 32\]"),
    "another kind": (FACEID, lambda a: a["instantid"], "adapter of kind 'instantid'; the guide is of kind 'faceid'"),
    "FaceID for Plus": (PLUS, lambda a: a["faceid"], "of kind 'faceid'; the guide is of kind 'faceid-plus-v2'"),
    "IP-Adapter Plus": (
        INSTANTID, lambda _: tiny.instantid(tiny.unet(**SHALLOW), taken=1280), "; the guide is of kind 'instantid'",
    ),
    "another depth": (FACEID, lambda _: tiny.faceid(tiny.unet(), 256), "which has no place for ip_adapter"),
    "a missing layer": (FACEID, lambda a: without(a["faceid"], ".1.to_k"), "1.to_k_ip.weight is not there"),
    "no adapter": (FACEID, lambda _: {"a": tiny.random(1, 2)}, "of no known family.*; the guide is of kind 'faceid'"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_an_adapter_that_does_not_fit_is_named_and_refused(
    adapters: Any, paths: Any, pipeline: Any, tmp_path: Path, what: str
) -> None:
    from sosie.families.sdxl.diffusers.guidance import Guides

    guide, make, message = REFUSED[what]
    files = {**paths, guide.weights: tiny.saved(tmp_path / "wrong.safetensors", make(adapters))}
    with pytest.raises(BadModelError, match=message) as refused:
        Guides(pipeline).load([guide], files)
    assert "wrong.safetensors" in refused.value.message
    assert refused.value.hint
    assert pipeline.unet.encoder_hid_proj is None


def test_a_broken_adapter_leaves_the_unet_as_it_was(
    adapters: Any, paths: Any, faces: Any, pipeline: Any, tmp_path: Path
) -> None:
    from sosie.families.sdxl.diffusers.guidance import Guides

    content = without(adapters["plus"], "layers.2.1.3")
    content["image_proj.proj.2.weight"] = tiny.random(1, 96, 1024)
    files = {**paths, "plus": tiny.saved(tmp_path / "plus.safetensors", content)}
    guides, plain = Guides(pipeline), noise_of(pipeline.unet, {})
    with pytest.raises(BadModelError, match=r"plus\.safetensors\) could not be loaded"):
        guides.load([PLUS], files)
    assert apart(noise_of(pipeline.unet, {}), plain) == 0
    guides.load([PLUS], paths)


def test_encoders_that_do_not_fit_their_adapter_are_refused(
    adapters: Any, paths: Any, faces: Any, pipeline: Any, tmp_path: Path
) -> None:
    from sosie.families.sdxl.diffusers.guidance import Guides

    guides = Guides(pipeline)
    other = tiny.FakeFaces({"own": tiny.random(1, 128)})
    with (
        pytest.raises(BadModelError, match=r"own\.onnx gives 128 numbers a face; .*faceid\.safetensors takes 256"),
        tiny.conditioned(guides, pipeline, tiny.given([FACEID], paths, other)),
    ):
        pass
    wide = tiny.saved(tmp_path / "wide.safetensors", tiny.faceid_plus(pipeline.unet, clip=96))
    with pytest.raises(BadModelError, match="gives states of 64 numbers; the adapter takes 96"):
        guides.load([PLUS], {**paths, "plus": wide})
    with pytest.raises(BadModelError, match=r"faceid\.safetensors .*; CLIP ViT-H/14's image encoder was expected"):
        guides.load([PLUS], {**paths, "clip": paths["faceid"]})
    with pytest.raises(ConfigError, match="the guide of plus names no image_encoder"):
        guides.load([Guide("faceid-plus-v2", "plus", "buffalo")], paths)
    none = tiny.FakeFaces({"buffalo": tiny.random(1, 512)})
    with (
        pytest.raises(EngineError, match="was given no face to look at"),
        tiny.conditioned(guides, pipeline, tiny.given([PLUS], paths, none)),
    ):
        pass


def test_the_image_encoder_is_the_same_from_a_folder_and_a_file_of_the_whole_of_clip(
    paths: Any, faces: Any, tmp_path: Path
) -> None:
    import torch

    from sosie.families.sdxl.diffusers.image_encoder import ImageEncoder

    folder = paths["clip"]
    content = {
        **tiny.image_encoder().state_dict(),
        "logit_scale": torch.ones(1),
        "text_projection.weight": torch.ones(2, 2),
    }
    content["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    file = tiny.saved(tmp_path / "clip.safetensors", content)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    crop = faces.crops(PLUS, None)[0]
    states = [ImageEncoder(path, torch.float32).states(crop, "cpu") for path in (folder, file)]
    assert states[0].shape == (2, 17, 64)
    assert torch.equal(*states)
