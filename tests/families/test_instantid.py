"""InstantID from stock pieces against its equations, written down in plain torch.

InstantID (arXiv:2401.07519) section 3, Euler's method on the probability flow (Karras et al. 2022,
eq. 4), classifier-free guidance; attention and resampler are in `identity_equations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_sdxl as tiny
from identity_equations import apart, attend_to, decouple, instantid_tokens
from PIL import Image

from sosie.core import Guide
from sosie.core.errors import BadModelError
from sosie.core.recipe import Keypoints
from sosie.faces.keypoints import KeypointStyle, draw_keypoints

pytestmark = pytest.mark.local

POINTS = np.array([[22, 26], [42, 25], [31, 36], [24, 46], [40, 45]], dtype=np.float32)
KEYPOINTS = Keypoints("controlnet", scale=0.8, stick=2.0, radius=3.0)
GUIDE = Guide("instantid", "adapter", "encoder", scale=0.7, keypoints=KEYPOINTS)
STEPS, CFG, STRENGTH, SEED = 4, 3.0, 0.7, 5
KINDS = {
    "txt2img": "StableDiffusionXLControlNetPipeline",
    "img2img": "StableDiffusionXLControlNetImg2ImgPipeline",
    "inpaint": "StableDiffusionXLControlNetInpaintPipeline",
}


@dataclass(frozen=True)
class Run:
    """What a run is asked for. `mutation` breaks the equations on purpose."""

    kind: str = "txt2img"
    cfg: float = CFG
    images: int = 1
    guide: Guide = GUIDE
    mutation: str = ""

    @property
    def skipped(self) -> int:
        return 0 if self.kind == "txt2img" else STEPS - int(STEPS * STRENGTH)


@dataclass(frozen=True, eq=False)
class World:
    """The same weights twice: with stock processors for our code, with the paper's for the reference."""

    ours: Any
    papers: Any
    controlnet: Any
    adapter: Mapping[str, Any]
    paths: Mapping[str, Path]
    face: Any
    picture: Image.Image
    mask: Image.Image
    made: dict[object, Any] = field(default_factory=dict)

    def faces(self) -> tiny.FakeFaces:
        return tiny.FakeFaces({"encoder": self.face})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("instantid")
    ours, papers = tiny.unet(), tiny.unet()
    adapter = tiny.instantid(ours)
    decouple(papers, [adapter])
    rng = np.random.default_rng(0)
    mask = np.zeros((tiny.SIZE, tiny.SIZE), np.uint8)
    mask[16:56, 16:48] = 255
    return World(
        ours, papers, tiny.controlnet(), adapter,
        {"tiny": folder, "encoder": folder / "encoder.onnx", "adapter": tiny.saved(folder / "a.safetensors", adapter)},
        tiny.random(31, 512) * 1.2,
        Image.fromarray(rng.integers(0, 256, (tiny.SIZE, tiny.SIZE, 3), dtype=np.uint8)), Image.fromarray(mask),
    )  # fmt: skip


def ours(world: World, run: Run) -> Any:
    """The latents [n, 4, 8, 8] by our code and a stock pipeline."""
    if run not in world.made:
        world.made[run] = drawn(world, run)
    return world.made[run]


def drawn(world: World, run: Run) -> Any:
    import torch

    from sosie.families.contract.guides import Pose
    from sosie.families.sdxl.diffusers.guidance import Guides

    pipeline = tiny.pipeline(KINDS[run.kind], world.ours, world.controlnet)
    guides = world.made.setdefault("guides", Guides(pipeline))
    extra: dict[str, Any] = {"width": tiny.SIZE, "height": tiny.SIZE}
    if run.kind != "txt2img":
        extra = {"image": world.picture, "strength": STRENGTH}
    if run.kind == "inpaint":
        extra["mask_image"] = world.mask
    given = tiny.given([run.guide], world.paths, world.faces(), run.cfg)
    pose = Pose(POINTS, tiny.SIZE, tiny.SIZE)
    with tiny.conditioned(guides, pipeline, given, pose, run.images) as arguments:
        return pipeline(
            **tiny.prompt(run.images), **extra, **arguments, guidance_scale=run.cfg, num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(SEED), output_type="latent",
        ).images  # fmt: skip


def papers(world: World, run: Run) -> Any:
    """The latents by the equations."""
    import torch

    alphas = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
    times = [round(1000 - place * 1000 / STEPS) - 1 for place in range(STEPS)][run.skipped :]
    sigmas = [float(((1 - alphas[time]) / alphas[time]) ** 0.5) for time in times] + [0.0]
    start, mask, noise = begin(world, run)
    x = noise * sigmas[0] + start
    context = halves(world, run)
    with torch.no_grad():
        for place, time in enumerate(times):
            share = float(place / len(times) >= run.guide.keypoints.start) * run.guide.keypoints.scale
            share *= float((place + 1) / len(times) <= run.guide.keypoints.end)
            batch = torch.cat([x] * (2 if run.cfg > 1 else 1)) / (sigmas[place] ** 2 + 1) ** 0.5
            found = predicted(world, run, (batch, torch.tensor(float(time)), share), context)
            if run.cfg > 1:
                nothing, wanted = found.chunk(2)
                found = nothing + run.cfg * (wanted - nothing)
            x = x + (sigmas[place + 1] - sigmas[place]) * found
            x = mask * x + (1 - mask) * (start + sigmas[place + 1] * noise)
    return x


def begin(world: World, run: Run) -> tuple[Any, Any, Any]:
    """The image's latents (0 for pure noise), the mask (1: drawn anew), and the noise."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    shape = (run.images, 4, tiny.SIZE // 8, tiny.SIZE // 8)
    start, mask = torch.zeros(()), torch.ones(())
    if run.kind != "txt2img":
        pixels = torch.from_numpy(np.asarray(world.picture).copy()).permute(2, 0, 1)[None] / 127.5 - 1
        vae = tiny.vae()
        with torch.no_grad():
            spread = vae.encode(pixels).latent_dist
        drawn = torch.randn(spread.mean.shape, generator=generator)
        start = (spread.mean + spread.std * drawn) * vae.config.scaling_factor
    if run.kind == "inpaint":
        mask = torch.from_numpy(np.asarray(world.mask)[::8, ::8] / 255).float()
    return start, mask, torch.randn(shape, generator=generator)


def halves(world: World, run: Run) -> tuple[Any, Any, Any]:
    """Identity tokens, text and pooled text of the batch: all of the unconditional half, then all of the other."""
    import torch

    text = tiny.prompt()
    weights = {name.removeprefix("image_proj."): tensor for name, tensor in world.adapter.items()}
    tokens = [instantid_tokens(weights, world.face[None])]
    parts = [tokens, [text["prompt_embeds"]], [text["pooled_prompt_embeds"]]]
    if run.cfg > 1:
        zero = instantid_tokens(weights, torch.zeros(1, 512))
        tokens.insert(0, torch.zeros_like(zero) if run.mutation == "zero tokens" else zero)
        parts[1].insert(0, text["negative_prompt_embeds"])
        parts[2].insert(0, text["negative_pooled_prompt_embeds"])
    return tuple(torch.cat([half.repeat(run.images, *[1] * (half.ndim - 1)) for half in part]) for part in parts)


def predicted(world: World, run: Run, at: tuple[Any, Any, float], context: tuple[Any, Any, Any]) -> Any:
    """The noise in a batch."""
    import torch

    (x, time, share), (tokens, text, pooled) = at, context
    sizes = torch.tensor([[tiny.SIZE, tiny.SIZE, 0, 0, tiny.SIZE, tiny.SIZE]]).float().expand(len(x), -1)
    added = {"text_embeds": pooled, "time_ids": sizes}
    style = KeypointStyle(run.guide.keypoints.stick, run.guide.keypoints.radius)
    drawn = torch.from_numpy(draw_keypoints(POINTS, (tiny.SIZE, tiny.SIZE), style) / 255).permute(2, 0, 1).float()
    read = text if run.mutation == "text in the ControlNet" else tokens
    picture = drawn.expand(len(x), -1, -1, -1)
    downs, middle = world.controlnet(x, time, read, picture, share, added_cond_kwargs=added, return_dict=False)
    attend_to(world.papers, [(tokens, run.guide.scale)])
    return world.papers(
        x, time, text, added_cond_kwargs=added,
        down_block_additional_residuals=downs, mid_block_additional_residual=middle,
    ).sample  # fmt: skip


def test_the_adapter_has_the_keys_of_the_published_file(world: World) -> None:
    attention = [name for name in world.adapter if name.startswith("ip_adapter.")]
    assert len(attention) == 140
    assert {attention[0], attention[-1]} == {"ip_adapter.1.to_k_ip.weight", "ip_adapter.139.to_v_ip.weight"}


@pytest.mark.parametrize("kind", KINDS)
def test_latents_equal_the_equations(world: World, kind: str) -> None:
    run = Run(kind)
    assert apart(ours(world, run), papers(world, run)) < 1e-4


def test_latents_equal_the_equations_for_two_images_at_once(world: World) -> None:
    run = Run(images=2)
    found = ours(world, run)
    assert found.shape[0] == 2
    assert apart(found, papers(world, run)) < 1e-4


def test_latents_equal_the_equations_without_guidance(world: World) -> None:
    run = Run("inpaint", cfg=1.0)
    assert apart(ours(world, run), papers(world, run)) < 1e-4


def test_scales_and_the_steps_of_the_controlnet_are_respected(world: World) -> None:
    some = Keypoints("controlnet", scale=0.5, start=0.25, end=0.75, stick=2.0, radius=3.0)
    run = Run(guide=Guide("instantid", "adapter", "encoder", scale=0.3, keypoints=some))
    found = ours(world, run)
    assert apart(found, papers(world, run)) < 1e-4
    assert apart(found, ours(world, Run())) > 1e-2


@pytest.mark.parametrize("mutation", ["zero tokens", "text in the ControlNet"])
def test_each_half_of_the_method_shows_in_the_latents(world: World, mutation: str) -> None:
    assert apart(ours(world, Run()), papers(world, Run(mutation=mutation))) > 1e-2


def test_after_the_call_the_controlnet_reads_the_text_again(world: World) -> None:
    ours(world, Run())
    assert not world.controlnet._forward_pre_hooks


def weights(net: Any) -> dict[str, Any]:
    return dict(net.state_dict())


def test_a_controlnet_is_the_same_from_a_folder_a_file_with_its_configuration_and_a_bare_file(
    world: World, tmp_path: Path
) -> None:
    import torch

    from sosie.families.sdxl.diffusers.controlnet import load_controlnet

    world.controlnet.save_pretrained(tmp_path / "folder")
    bare = tiny.saved(tmp_path / "bare" / "identitynet.safetensors", world.controlnet.state_dict())
    (bare.parent / "config.json").write_text('{"model_type": "clip"}')  # of something else in the same folder
    wanted = weights(world.controlnet)
    for path in (tmp_path / "folder", tmp_path / "folder" / "diffusion_pytorch_model.safetensors", bare):
        found = load_controlnet(path, world.ours, torch.float32)
        assert found.config.transformer_layers_per_block == (1, 2, 10) or path != bare
        assert weights(found).keys() == wanted.keys()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in weights(found).items())
    assert load_controlnet(bare, world.ours, torch.bfloat16).dtype == torch.bfloat16


def test_a_controlnet_of_another_width_or_for_another_context_is_refused(world: World, tmp_path: Path) -> None:
    import torch

    from sosie.families.sdxl.diffusers.controlnet import load_controlnet

    shallow: dict[str, Any] = {"transformer_layers_per_block": 1}
    wide = tiny.controlnet(block_out_channels=(32, 64, 96), **shallow)
    path = tiny.saved(tmp_path / "wide.safetensors", wide.state_dict())
    with pytest.raises(BadModelError, match=r"wide\.safetensors .* it does not fit .* is 96 wide, expected 64"):
        load_controlnet(path, world.ours, torch.float32)
    other = tiny.controlnet(cross_attention_dim=24, **shallow)
    path = tiny.saved(tmp_path / "text.safetensors", other.state_dict())
    with pytest.raises(BadModelError, match=r"attn2\.to_k\.weight is 24 wide, expected 32"):
        load_controlnet(path, world.ours, torch.float32)


def test_what_is_no_controlnet_is_named(world: World, tmp_path: Path) -> None:
    import torch

    from sosie.families.sdxl.diffusers.controlnet import load_controlnet

    with pytest.raises(
        BadModelError, match=r"a\.safetensors .*; a ControlNet of SDXL in diffusers' layout was expected"
    ):
        load_controlnet(world.paths["adapter"], world.ours, torch.float32)
    with pytest.raises(BadModelError, match=r"holds no \.safetensors file"):
        load_controlnet(tmp_path, world.ours, torch.float32)


def test_the_embedded_models_face_comes_where_the_key_points_are() -> None:
    """Its guide is a FaceID adapter whose eight tokens are the ControlNet's context."""
    import diffusers
    import sosie_mini
    import torch

    from sosie.faces.detect import Detector
    from sosie.families.contract.guides import Pose
    from sosie.families.sdxl.diffusers.controlnet import load_controlnet
    from sosie.families.sdxl.diffusers.guidance import Guides

    model = sosie_mini.folder()
    base = diffusers.StableDiffusionXLPipeline.from_pretrained(
        model, dtype=torch.float32, local_files_only=True, add_watermarker=False
    )
    net = load_controlnet(model / "controlnet", base.unet, torch.float32)
    pipeline = diffusers.StableDiffusionXLControlNetPipeline(**base.components, controlnet=net)
    pipeline.set_progress_bar_config(disable=True)
    face = tiny.random(3, 256)
    guide = Guide("faceid", "adapter", "encoder", keypoints=Keypoints("controlnet", stick=2.0, radius=4.5))
    paths = {
        "adapter": model / "ip-adapter" / "ip-adapter-faceid_mini.safetensors",
        "encoder": model / "id_encoder.onnx",
    }
    given = tiny.given([guide], paths, tiny.FakeFaces({"encoder": face / face.norm()}), 3.5)
    points = np.array([[124, 110], [168, 108], [147, 134], [130, 158], [166, 156]], dtype=np.float32)
    with tiny.conditioned(Guides(base), pipeline, given, Pose(points, 256, 256)) as arguments:
        image = pipeline(
            "portrait of a woman, neutral, studio light", width=256, height=256, num_inference_steps=8,
            guidance_scale=3.5, generator=torch.Generator().manual_seed(1), **arguments,
        ).images[0]  # fmt: skip
    (found,) = Detector().detect(np.asarray(image))
    assert np.linalg.norm(found.points - points, axis=1).mean() < 8
