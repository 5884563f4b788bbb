"""Acceleration of SDXL pipelines: the numbers of stock diffusers, undone on request, refused with a reason."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from sosie.core.errors import EngineError

pytestmark = pytest.mark.local
sys.path.insert(0, str(ROOT / "benchmarks"))
SIDE = 64
KINDS = {
    (False, False): "StableDiffusionXLPipeline",
    (True, False): "StableDiffusionXLControlNetPipeline",
    (False, True): "StableDiffusionXLImg2ImgPipeline",
    (True, True): "StableDiffusionXLControlNetInpaintPipeline",
}


@pytest.fixture
def place() -> Any:
    """Tiny, in fp32, on the CPU."""
    import sdxl_parts

    return sdxl_parts.Place(sdxl_parts.TINY)


def built(place: Any, *, control: bool = False, picture: bool = False, identity: bool = False) -> Any:
    """A stock pipeline with random weights."""
    import sdxl_parts as parts

    nets = [parts.control(place)] if control else []
    for name, parameter in ((n, p) for net in nets for n, p in net.named_parameters()):
        if name.startswith("controlnet_"):  # else a wrong condition would hardly be seen
            parameter.mul_(12)
    made = parts.pipeline(place, *nets, kind=KINDS[control, picture])
    if identity:
        parts.add_identity(made.unet, place)
    return made


def draw(made: Any, place: Any, **changes: Any) -> Any:
    """The latents after three guided steps."""
    import sdxl_parts as parts
    import torch

    given: dict[str, Any] = {**parts.text(place), "num_inference_steps": 3, "guidance_scale": 4.0}
    picture = parts.random((1, 3, SIDE, SIDE), place, 40).clamp(0, 1)
    if hasattr(made, "controlnet"):
        given |= {"controlnet_conditioning_scale": 0.8}
        given |= {"control_image": picture} if "Inpaint" in type(made).__name__ else {"image": picture}
    if "Inpaint" in type(made).__name__:
        given |= {"image": picture, "mask_image": torch.ones(1, 1, SIDE, SIDE), "strength": 0.9}
    if "Img2Img" in type(made).__name__:
        given |= {"image": picture, "strength": 0.9}
    else:
        given |= {"width": SIDE, "height": SIDE}
    if made.unet.encoder_hid_proj is not None:
        given["ip_adapter_image_embeds"] = parts.faces(place)
    return made(**{**given, **changes}, output_type="latent", generator=torch.Generator().manual_seed(5)).images


def fast(made: Any, **levers: Any) -> Any:
    """Without graphs, which need a GPU, and without compiling, which takes minutes on a CPU."""
    from sosie.families.sdxl.diffusers.fast.acceleration import Levers, accelerate

    return accelerate(made, Levers(**{"compile": "off", "graph": False, **levers}))


def far(one: Any, other: Any) -> float:
    """How far two latents are apart, as a share of the norm."""
    return float(((one - other).norm() / one.norm()).detach())


@pytest.fixture
def as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling without Inductor: the graph is captured and run as it is."""
    import torch

    from sosie.families.sdxl.diffusers.fast import compiling

    torch._dynamo.reset()
    settings = {"fullgraph": True, "dynamic": False, "backend": "eager"}
    monkeypatch.setattr(compiling, "SETTINGS", settings)


@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize(("control", "picture"), list(KINDS))
def test_every_pipeline_draws_what_stock_diffusers_draws(
    place: Any, control: bool, picture: bool, identity: bool
) -> None:
    made = built(place, control=control, picture=picture, identity=identity)
    stock = draw(made, place)
    accelerated = fast(made)
    assert far(stock, draw(made, place)) < 5e-6
    assert accelerated.stock_calls == 0
    assert accelerated.programs == 1 + control


def test_compiled_blocks_draw_what_stock_diffusers_draws(place: Any, as_written: None) -> None:
    made = built(place, identity=True)
    stock = draw(made, place, num_inference_steps=1)
    accelerated = fast(made, compile="blocks")
    assert far(stock, draw(made, place, num_inference_steps=1)) < 5e-6
    assert any(module._compiled_call_impl is not None for module in made.unet.modules())
    accelerated.restore()
    assert not any(module._compiled_call_impl is not None for module in made.unet.modules())
    assert far(stock, draw(made, place, num_inference_steps=1)) == 0


@pytest.mark.parametrize("kind", ["GroupNorm", "LayerNorm"])
def test_norms_for_compiling_are_as_exact_as_pytorchs_in_16_bits(kind: str) -> None:
    import torch

    from sosie.families.sdxl.diffusers.fast import compiling

    torch.manual_seed(0)
    norm: Any = torch.nn.GroupNorm(8, 48) if kind == "GroupNorm" else torch.nn.LayerNorm(48)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    norm = norm.bfloat16()
    for mean in (0.0, 4.0):
        given = (torch.randn(2, 48, 6, 10) + mean).bfloat16().to(memory_format=torch.channels_last)
        given = given if kind == "GroupNorm" else given.flatten(2).mT
        exact = norm.double()(given.double()).detach()
        norm.bfloat16()
        with torch.no_grad():
            ours = getattr(compiling, kind)(norm)(given)
        assert ours.dtype == torch.bfloat16
        assert ours.shape == given.shape
        assert far(exact, ours.double()) <= 1.05 * far(exact, norm(given).double())


def test_norms_are_exchanged_in_16_bits_and_come_back(place: Any) -> None:
    import sdxl_parts as parts
    import torch

    from sosie.families.sdxl.diffusers.fast.compiling import Compiled, GroupNorm, LayerNorm

    def kinds(model: Any, *of: Any) -> list[str]:
        return [name for name, module in model.named_modules() if type(module) in of]

    model = parts.unet(parts.Place(parts.TINY, "cpu", torch.bfloat16))
    parts.add_identity(model, parts.Place(parts.TINY, "cpu", torch.bfloat16))
    stock = (torch.nn.GroupNorm, torch.nn.LayerNorm)
    before, names = kinds(model, *stock), list(model.state_dict())
    arranged = Compiled(model)
    assert kinds(model, *stock) == [name for name in before if name.startswith("encoder_hid_proj")] != []
    assert len(kinds(model, GroupNorm, LayerNorm)) > 20
    assert list(model.state_dict()) == names
    arranged.undo()
    assert kinds(model, *stock) == before
    assert kinds(Compiled(parts.unet(place))._model, GroupNorm, LayerNorm) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"controlnet_conditioning_scale": 0.3},
        {"controlnet_conditioning_scale": 0.0},
        {"control_guidance_start": 0.5},
        {"control_guidance_end": 0.4},
        {"guidance_scale": 1.5},
    ],
)
def test_settings_of_a_call_may_change_between_images(place: Any, changes: dict[str, Any]) -> None:
    made = built(place, control=True)
    stock = draw(made, place, **changes)
    fast(made)
    draw(made, place)
    assert far(stock, draw(made, place, **changes)) < 5e-6


def test_sizes_batches_and_unguided_calls_have_programs_of_their_own(place: Any) -> None:
    import sdxl_parts as parts

    made = built(place)
    calls: list[dict[str, Any]] = [
        {"width": 2 * SIDE},
        {"num_images_per_prompt": 2},
        {"guidance_scale": 1.0},
        parts.text(place, tokens=154),
    ]
    stock = [draw(made, place, **call) for call in calls]
    accelerated = fast(made)
    for _ in range(2):
        for call, expected in zip(calls, stock, strict=True):
            assert far(expected, draw(made, place, **call)) < 5e-6
    assert accelerated.programs == len(calls)


def test_prompts_faces_and_scales_may_change_between_images(place: Any) -> None:
    import sdxl_parts as parts

    made = built(place, identity=True)

    def images() -> list[Any]:
        drawn = [draw(made, place), draw(made, place, **parts.text(place, seed=50))]
        drawn.append(draw(made, place, ip_adapter_image_embeds=parts.faces(place, seed=60)))
        made.set_ip_adapter_scale([0.1, 0.9])
        drawn.append(draw(made, place))
        projection = made.unet.encoder_hid_proj.image_projection_layers[1]
        kept, projection.clip_embeds = projection.clip_embeds, parts.random((2, 1, 5, 20), place, 70)
        drawn.append(draw(made, place))
        projection.clip_embeds = kept
        made.set_ip_adapter_scale([0.8, 0.7])
        return drawn

    stock = images()
    accelerated = fast(made)
    for expected, got in zip(stock, images(), strict=True):
        assert far(expected, got) < 5e-6
    assert accelerated.programs == 1
    assert min(far(stock[0], other) for other in stock[1:]) > 1e-4


def test_a_scale_that_changes_within_an_image_counts_from_the_next_step(place: Any) -> None:
    made = built(place, identity=True)

    def shifting(pipe: Any, step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        pipe.set_ip_adapter_scale([0.8, 0.7] if step == 2 else [0.0, 0.1])
        return values

    stock = draw(made, place, callback_on_step_end=shifting)
    assert far(draw(made, place), stock) > 1e-4
    fast(made)
    assert far(stock, draw(made, place, callback_on_step_end=shifting)) < 5e-6


def test_the_condition_of_a_controlnet_may_change_between_images(place: Any) -> None:
    import sdxl_parts as parts

    made = built(place, control=True)
    other = parts.random((1, 3, SIDE, SIDE), place, 90).clamp(0, 1)
    stock = draw(made, place, image=other)
    fast(made)
    assert far(stock, draw(made, place)) > 1e-4
    assert far(stock, draw(made, place, image=other)) < 5e-6


def test_keys_and_values_are_computed_once_an_image(place: Any) -> None:
    made = built(place, identity=True)
    counted = [0]
    layer = next(module for name, module in made.unet.named_modules() if name.endswith("attn2"))
    layer.to_k.register_forward_hook(lambda *_: counted.__setitem__(0, counted[0] + 1))
    draw(made, place)
    assert counted == [3]
    fast(made)
    draw(made, place)
    draw(made, place)
    assert counted == [3 + 2]


def test_text_that_is_written_over_within_an_image_is_seen(place: Any) -> None:
    made = built(place)

    def shifting(_pipe: Any, _step: int, _time: Any, values: dict[str, Any]) -> dict[str, Any]:
        values["prompt_embeds"].mul_(0.5)
        return values

    asked = {"callback_on_step_end": shifting, "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}
    stock = draw(made, place, **asked)
    assert far(draw(made, place), stock) > 1e-4
    fast(made)
    assert far(stock, draw(made, place, **asked)) < 5e-6


def test_identity_tokens_in_the_place_of_text_reach_the_controlnet(place: Any) -> None:
    import sdxl_parts as parts

    made = built(place, control=True)
    tokens = 300 * parts.random((2, 6, 32), place, 80)

    def instead(_module: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**given, "encoder_hidden_states": tokens}

    residuals: list[Any] = []
    made.controlnet.register_forward_hook(lambda _module, _given, made: residuals.append(made[1].clone()))
    draw(made, place, num_inference_steps=1)
    made.controlnet.register_forward_pre_hook(instead, with_kwargs=True)
    draw(made, place, num_inference_steps=1)
    fast(made)
    draw(made, place, num_inference_steps=1)
    plain, stock, got = residuals
    assert far(stock, got) < 5e-6
    assert far(stock, plain) > 1e-3


def test_a_scheduler_that_keeps_the_prediction_gets_a_copy(place: Any) -> None:
    import diffusers

    made = built(place)
    made.scheduler = diffusers.PNDMScheduler(skip_prk_steps=True)
    stock = draw(made, place, guidance_scale=1.0, num_inference_steps=6)
    fast(made)
    assert far(stock, draw(made, place, guidance_scale=1.0, num_inference_steps=6)) < 5e-6


def test_restoring_gives_the_stock_pipeline_back(place: Any) -> None:
    made = built(place, control=True, identity=True)
    weights = {name: (value.clone(), value.stride()) for name, value in made.unet.state_dict().items()}
    processors = dict(made.unet.attn_processors)
    stock = draw(made, place)
    accelerated = fast(made)
    draw(made, place)
    accelerated.restore()
    assert far(stock, draw(made, place)) == 0
    assert made.unet.attn_processors == processors
    assert "forward" not in vars(made.unet)
    for name, value in made.unet.state_dict().items():
        assert bool((value == weights[name][0]).all()), name
        assert value.stride() == weights[name][1], name
        assert value.untyped_storage().nbytes() == value.nbytes, name
    fast(made)
    assert far(stock, draw(made, place)) < 5e-6


def test_a_call_of_an_unknown_form_runs_as_stock(place: Any) -> None:
    import torch

    made = built(place, identity=True)
    masks = [torch.ones(1, 1, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE)]
    asked = {"cross_attention_kwargs": {"ip_adapter_masks": masks}}
    stock = draw(made, place, **asked)
    accelerated = fast(made)
    assert far(stock, draw(made, place, **asked)) == 0
    assert accelerated.stock_calls == 3


def test_replaced_weights_are_an_error_with_advice(place: Any) -> None:
    made = built(place)
    fast(made)
    draw(made, place)
    made.unet.conv_out.weight.data = made.unet.conv_out.weight.data.clone()
    with pytest.raises(EngineError, match="moved or replaced") as caught:
        draw(made, place)
    assert "restore()" in caught.value.hint


def test_weights_that_change_in_place_count_at_once(place: Any) -> None:
    made = built(place)
    accelerated = fast(made)
    draw(made, place)
    layer = next(module for name, module in made.unet.named_modules() if name.endswith("attn1"))
    layer.to_q.weight.data *= 3.0
    got = draw(made, place)
    accelerated.restore()
    assert far(draw(made, place), got) < 5e-6


def lora(made: Any) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=2, target_modules=["to_q"]), made.unet)


def mixed(made: Any) -> None:
    made.unet.conv_in.half()


def sliced(made: Any) -> None:
    made.enable_attention_slicing()


def offloaded(made: Any) -> None:
    from sosie.diffusion.offload import place as place_parts

    place_parts(made, "offload", "cpu")


def twice(made: Any) -> None:
    from diffusers import MultiControlNetModel

    made.controlnet = MultiControlNetModel([made.controlnet, made.controlnet])


def already(made: Any) -> None:
    fast(made)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lora, "LoRA layers"),
        (mixed, "more than one type"),
        (sliced, "SlicedAttnProcessor"),
        (offloaded, "leaves the GPU"),
        (twice, "there twice"),
        (already, "accelerated already"),
    ],
)
def test_what_rules_acceleration_out_is_named(place: Any, spoil: Callable[[Any], None], reason: str) -> None:
    from sosie.families.sdxl.diffusers.fast.acceleration import Levers, why_not

    made = built(place, control=True)
    assert why_not(made, Levers("off", graph=False)) == ""
    spoil(made)
    assert reason in why_not(made, Levers("off", graph=False))
    with pytest.raises(EngineError, match=reason):
        fast(made)


def test_graphs_are_refused_on_a_cpu(place: Any) -> None:
    from sosie.families.sdxl.diffusers.fast.acceleration import why_not

    assert "not on a GPU" in why_not(built(place))


def test_programs_of_many_sizes_do_not_pile_up(place: Any) -> None:
    from sosie.families.sdxl.diffusers.fast import replay

    made = built(place)
    accelerated = fast(made)
    for width in range(1, replay.PROGRAMS + 3):
        draw(made, place, width=32 * width, height=32, num_inference_steps=1)
    assert len(accelerated._models[0].replayed._programs) == replay.PROGRAMS
    assert accelerated.programs == replay.PROGRAMS + 2


def test_where_compiled_code_is_kept_is_what_the_environment_says_first(
    place: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sosie.families.sdxl.diffusers.fast import acceleration

    levers, environment = acceleration.Levers("off", graph=False), dict[str, str]()
    monkeypatch.setattr(acceleration.os, "environ", environment)
    acceleration.accelerate(built(place), levers, tmp_path)
    assert environment["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
    acceleration.accelerate(built(place), levers, tmp_path / "other")
    assert environment["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
