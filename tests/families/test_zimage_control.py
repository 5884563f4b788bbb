"""Z-Image led by a Fun ControlNet: as the stock pipeline draws it, from each layout of its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_zimage as tiny
from PIL import Image

from sosie.core import Guide
from sosie.core.errors import BadModelError, NotFoundError
from sosie.engines.guide_checks import check_guides
from sosie.families import drawer_of
from sosie.families.contract.draws import Settings

pytestmark = pytest.mark.local

LAYOUTS = ("1.0", "2.0", "2.1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tiny.Made:
    root = tmp_path_factory.mktemp("zimage")
    made = tiny.make(root)
    for layout in LAYOUTS:
        write(root / f"fun-{layout}.safetensors", layout)
    rng = np.random.default_rng(5)
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).resize((96, 96)).save(root / "pose.png")
    return made


@pytest.fixture
def runner() -> Iterator[Any]:
    made = drawer_of("zimage").runner("cpu", Settings())
    yield made
    made.close()


def net(layout: str) -> Any:
    """The stock model of a layout, with random weights."""
    import torch
    from diffusers import ZImageControlNetModel

    torch.manual_seed(6)
    refiner = {"1.0": None, "2.0": "control_layers", "2.1": "control_noise_refiner"}[layout]
    made = ZImageControlNetModel(
        control_layers_places=[0] if layout == "1.0" else [0, 1], control_refiner_layers_places=[0],
        control_in_dim=16 if layout == "1.0" else 33, add_control_noise_refiner=refiner, dim=tiny.WIDTH,
        n_refiner_layers=1, n_heads=tiny.WIDTH // tiny.HEAD, n_kv_heads=tiny.WIDTH // tiny.HEAD,
    )  # fmt: skip
    with torch.no_grad():
        for name, tensor in made.named_parameters():
            if "norm" not in name:
                tensor.copy_(torch.randn_like(tensor) * 0.08)
    return made.eval()


def write(path: Path, layout: str) -> None:
    """Its single file; that of 2.0 holds the blocks of 2.1 with zeros, as the published one does."""
    import torch
    from safetensors.torch import save_file

    tensors = dict(net(layout).state_dict())
    if layout == "2.0":
        more = {n: t for n, t in net("2.1").state_dict().items() if n.startswith("control_noise_refiner.")}
        tensors |= {name: torch.zeros_like(tensor) for name, tensor in more.items()}
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}, path)


def asked(made: tiny.Made, layout: str = "2.1", cfg: float = 1.0, steps: int = 3, **guide: Any) -> Any:
    """A stage with the guide, and where its files are."""
    stage = tiny.stage(cfg=cfg, steps=steps)
    stage = replace(stage, guides=(Guide("control", "fun", scale=0.8, picture="pose", **guide),))
    root = made.transformer.parent
    return tiny.given(stage, {"z": made.folder, "fun": root / f"fun-{layout}.safetensors", "pose": root / "pose.png"})


def latents(runner: Any, given: Any) -> Any:
    import torch

    from sosie.diffusion.canvas import Canvas

    with torch.no_grad():
        return runner._pipelines.denoise(given, Canvas(tiny.SIDE, tiny.SIDE))


@pytest.mark.parametrize(("layout", "cfg"), [("1.0", 1.0), ("2.0", 1.0), ("2.1", 1.0), ("2.1", 4.0)])
def test_the_latents_are_those_of_the_stock_pipeline_but_for_rounding(
    made: tiny.Made, runner: Any, layout: str, cfg: float
) -> None:
    import torch
    from diffusers import ZImageControlNetPipeline

    from sosie.families.zimage.diffusers.text import encode

    given = asked(made, layout, cfg)
    ours = latents(runner, given)
    parts = runner._pipelines._model.parts
    plain = tiny.pipeline(made.folder)
    stock_net = net(layout).to(torch.bfloat16).to(torch.float32)
    stock_net = type(stock_net).from_transformer(stock_net, plain.transformer)
    stock: Any = ZImageControlNetPipeline(
        plain.scheduler,
        plain.vae,
        plain.text_encoder,
        None,
        plain.transformer,
        stock_net,  # pyright: ignore
    )
    stock.set_progress_bar_config(disable=True)
    picture = Image.open(made.transformer.parent / "pose.png").resize((64, 64), Image.Resampling.LANCZOS)
    reference = stock(
        prompt_embeds=[encode(parts, given.words)], negative_prompt_embeds=[encode(parts, "")], height=tiny.SIDE,
        width=tiny.SIDE, num_inference_steps=3, guidance_scale=cfg - 1, output_type="latent", control_image=picture,
        controlnet_conditioning_scale=0.8,
        latents=torch.randn(ours.shape, generator=torch.Generator().manual_seed(given.seed)),
    ).images  # fmt: skip
    assert (ours - reference).abs().max() < 1e-3
    without = latents(runner, replace(given, stage=replace(given.stage, guides=())))
    assert (ours - without).abs().mean() > 0.02


def test_it_acts_in_its_part_of_the_steps_and_is_let_go_afterwards(
    made: tiny.Made, runner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sosie.families.zimage.diffusers import controlnet

    given = asked(made, steps=4, start=0.25, end=0.75)
    latents(runner, given)
    model = runner._pipelines._model
    (loaded,) = model.controls.nets
    calls: list[int] = []
    forward = loaded.forward
    monkeypatch.setattr(loaded, "forward", lambda *rest, **named: calls.append(1) or forward(*rest, **named))
    latents(runner, given)
    assert len(calls) == 2
    monkeypatch.setattr(controlnet, "load_controlnet", lambda *_: pytest.fail("it was loaded again"))
    latents(runner, given)
    assert {name for name, _ in loaded.named_children()} == {
        "control_layers",
        "control_all_x_embedder",
        "control_noise_refiner",
    }
    latents(runner, replace(given, stage=replace(given.stage, guides=())))
    assert model.controls.nets == []


def test_guidance_acts_in_its_part_of_the_steps(made: tiny.Made, runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = tiny.stage(steps=4)
    given = tiny.given(replace(stage, sampler=replace(stage.sampler, cfg_start=0.5)), {"z": made.folder})
    latents(runner, given)
    transformer = runner._pipelines._model.parts.transformer
    rows: list[int] = []
    forward = transformer.forward
    monkeypatch.setattr(
        transformer, "forward", lambda x, *rest, **named: rows.append(len(x)) or forward(x, *rest, **named)
    )
    latents(runner, given)
    assert rows == [1, 1, 2, 2]


def test_key_points_are_the_picture_that_is_drawn_of_them(made: tiny.Made, runner: Any, tmp_path: Path) -> None:
    from sosie.faces.body import draw_bodies, read_bodies

    points = [round(0.1 + 0.04 * number, 2) for number in range(18)]
    numbers = [one for point in points for one in (point * 200, (1 - point) * 100, 1)]
    person = {"pose_keypoints_2d": numbers}
    (tmp_path / "pose.json").write_text(json.dumps({"people": [person], "canvas_width": 200, "canvas_height": 100}))
    draw_bodies(read_bodies(tmp_path / "pose.json"), (64, 64)).save(tmp_path / "drawn.png")
    given = asked(made)
    by_points, by_picture = (
        latents(runner, replace(given, paths={**given.paths, "pose": tmp_path / name}))
        for name in ("pose.json", "drawn.png")
    )
    assert (by_points == by_picture).all()
    assert (by_points != latents(runner, given)).any()


def test_what_is_no_controlnet_of_the_model_is_refused(made: tiny.Made, runner: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    given = asked(made)
    with pytest.raises(BadModelError, match=r"a Fun ControlNet of Z-Image was expected"):
        runner.run(replace(given, paths={**given.paths, "fun": made.vae}))
    tensors = load_file(given.paths["fun"])
    del tensors["control_layers.1.feed_forward.w2.weight"]
    save_file(tensors, tmp_path / "cut.safetensors")
    with pytest.raises(BadModelError, match=r"control_layers\.1\.feed_forward\.w2\.weight is nothing, expected"):
        runner.run(replace(given, paths={**given.paths, "fun": tmp_path / "cut.safetensors"}))
    tensors = load_file(given.paths["fun"])
    wide = {name: tensor.repeat_interleave(2, 0) for name, tensor in tensors.items()}
    save_file(wide, tmp_path / "wide.safetensors")
    with pytest.raises(BadModelError, match=r"it has 2 layers 128 wide, the model 2 of 64"):
        runner.run(replace(given, paths={**given.paths, "fun": tmp_path / "wide.safetensors"}))
    with pytest.raises(NotFoundError, match="the picture 'pose' of guide 'control' is not here"):
        runner.run(replace(given, paths={name: path for name, path in given.paths.items() if name != "pose"}))


def test_what_it_cannot_do_is_said_from_the_plan_alone(made: tiny.Made) -> None:
    given = asked(made, end=0.5)
    assert check_guides(given.stage, given.plan, "in process") == []
    (found,) = check_guides(given.stage, given.plan, "in graphs")
    assert (found.code, "every step on ComfyUI" in found.message) == ("SOS-E032", True)
    (found,) = check_guides(replace(given.stage, kind="detail"), given.plan, "in process")
    assert (found.code, "in stages generate and refine" in found.message) == ("SOS-E034", True)
    bare = replace(given.stage, guides=(Guide("control", "fun"),))
    (found,) = check_guides(bare, given.plan, "in process")
    assert (found.code, "has no picture; expected a pose" in found.message) == ("SOS-E008", True)
