"""Seconds to denoise an SDXL image: ComfyUI's own sampler beside Sosie's, on the same random UNet, turn by turn.

    python benchmarks/comfy_sampler.py COMFYUI-CHECKOUT [--rounds 5] [--attention pytorch] [--tiny]

COMFYUI-CHECKOUT is a clone of ComfyUI at any commit, with its requirements installed in this Python; nothing of it is
changed, and no server is started. Its UNet is loaded as its node Load Diffusion Model does, from the same weights, and
drawn by `comfy.sample.sample` (what KSampler calls), `euler` and `normal`. Both get embeddings and noise and give
latents: 1024x1024, 25 steps, guidance 5; Sosie in bf16, ComfyUI in the type that it chooses. First one call of each
network on the same input is compared, so that the two are known to be one. `--tiny` rehearses on a CPU, with the same
architecture, narrow. Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sdxl_parts as parts
import sdxl_speed as speed
import torch

from sosie.families.sdxl.diffusers.fast.acceleration import Levers, accelerate

TINY: dict[str, Any] = {
    **parts.TINY,
    "blocks": {
        "block_out_channels": (64, 128, 128),
        "attention_head_dim": (1, 2, 2),
        "transformer_layers_per_block": (1, 1, 2),
        "cross_attention_dim": 32,
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 16 + 6 * 256,
    },
}
"""ComfyUI's SDXL has heads of 64 channels, 32 groups, and its six sizes in 256 numbers each, whatever the width."""

SAMPLER, SCHEDULE, GUIDANCE = "euler", "normal", 5.0


class Comfy:
    """An unmodified checkout with the weights of a UNet of diffusers."""

    def __init__(self, checkout: Path, attention: str, unet: Any, place: parts.Place) -> None:
        if not (checkout / "comfy" / "sample.py").is_file():
            raise SystemExit(f"{checkout} is no checkout of ComfyUI: it has no comfy/sample.py")
        sys.path.insert(0, str(checkout))
        options = __import__("comfy.options", fromlist=["enable_args_parsing"])
        sys.argv = [sys.argv[0], *([f"--use-{attention}-cross-attention"] if attention else [])]
        sys.argv += ["--cpu"] if place.device == "cpu" else []
        options.enable_args_parsing()
        self._sample = __import__("comfy.sample", fromlist=["sample"]).sample
        self._sd = __import__("comfy.sd", fromlist=["sd"])
        self.version = _version(checkout)
        self.patcher = self._narrow(unet, place) if place.sizes is TINY else self._loaded(unet)

    def latents(self, given: dict[str, Any]) -> torch.Tensor:
        """What KSampler gives for a call of `sdxl_speed.arguments`."""
        size = {"width": given["width"], "height": given["height"]}
        positive, negative = (
            [[given[f"{sign}prompt_embeds"], {"pooled_output": given[f"{sign}pooled_prompt_embeds"], **size}]]
            for sign in ("", "negative_")
        )
        start = given["latents"].float().cpu()
        return self._sample(
            self.patcher,
            start,
            given["num_inference_steps"],
            GUIDANCE,
            SAMPLER,
            SCHEDULE,
            positive,
            negative,
            torch.zeros_like(start),
            disable_pbar=True,
            seed=0,
        )

    def _loaded(self, unet: Any) -> Any:
        weights = {name: value.detach().cpu() for name, value in unet.state_dict().items()}
        return self._sd.load_diffusion_model_state_dict(weights)

    def _narrow(self, unet: Any, place: parts.Place) -> Any:
        """The tiny network, whose size ComfyUI does not know: its own class, and its own table of names."""
        from comfy import model_management, model_patcher, supported_models, utils  # type: ignore[import-not-found]

        blocks = place.sizes["blocks"]
        width, depth = blocks["block_out_channels"], blocks["transformer_layers_per_block"]
        config = {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": width[0],
            "num_res_blocks": [2, 2, 2],
            "channel_mult": [one // width[0] for one in width],
            "transformer_depth": [0, 0, depth[1], depth[1], depth[2], depth[2]],
            "transformer_depth_middle": depth[2],
            "transformer_depth_output": [0] * 3 + [depth[1]] * 3 + [depth[2]] * 3,
            "context_dim": blocks["cross_attention_dim"],
            "adm_in_channels": blocks["projection_class_embeddings_input_dim"],
            "num_classes": "sequential",
            "use_linear_in_transformer": True,
            "use_temporal_attention": False,
            "use_spatial_transformer": True,
            "num_head_channels": 64,
            "num_heads": -1,
            "legacy": False,
            "dtype": torch.float32,
        }
        names = utils.unet_to_diffusers(config)
        weights = {names[name]: value for name, value in unet.state_dict().items()}
        kind = supported_models.SDXL(config)
        model = kind.get_model({}, "")
        missing, unknown = model.diffusion_model.load_state_dict(weights, strict=False)
        if missing or unknown:
            raise SystemExit(f"the tiny UNet does not fit ComfyUI's: {len(missing)} missing, {len(unknown)} unknown")
        device = model_management.get_torch_device()
        return model_patcher.ModelPatcher(model, load_device=device, offload_device=device)


def _version(checkout: Path) -> str:
    text = (checkout / "comfyui_version.py").read_text() if (checkout / "comfyui_version.py").is_file() else ""
    return text.partition('"')[2].partition('"')[0] or "of unknown version"


def difference(comfy: Comfy, unet: Any, given: dict[str, Any]) -> float:
    """Of one call of both networks on the same input, as a share of the output's norm."""
    from comfy import model_management  # type: ignore[import-not-found]

    model_management.load_models_gpu([comfy.patcher], force_full_load=True)
    net = comfy.patcher.model.diffusion_model
    device, dtype = unet.device, unet.dtype
    latents, text = given["latents"].to(device, dtype), given["prompt_embeds"].to(device, dtype)
    pooled = given["pooled_prompt_embeds"].to(device, dtype)
    side = given["width"]
    ids = torch.tensor([[side, side, 0, 0, side, side]], device=device, dtype=dtype)
    time_ = torch.tensor([500.0], device=device)
    here = unet(
        latents, time_, encoder_hidden_states=text, added_cond_kwargs={"text_embeds": pooled, "time_ids": ids}
    ).sample
    sizes = unet.add_time_proj(ids.flatten()).reshape(1, -1).to(dtype)
    own = net.dtype  # ComfyUI chooses it by the card
    there = net(latents.to(own), time_, context=text.to(own), y=torch.cat([pooled, sizes], 1).to(own))
    return float((here.double() - there.double()).norm() / here.double().norm())


def seconds(work: Callable[[], object]) -> float:
    """Of one call, with nothing left to do on the card."""
    speed._wait()
    started = time.perf_counter()
    work()
    speed._wait()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--attention", default="", help="pytorch, split, quad, sage...: as ComfyUI's options have it")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    place = parts.Place(TINY) if options.tiny else parts.Place(parts.FULL_SIZE, "cuda", torch.bfloat16)
    size, steps = (64, 2) if options.tiny else (1024, 25)
    stock = parts.pipeline(place)
    given = speed.arguments(place, size, steps, 1, control=False, identity=False)
    with torch.inference_mode():
        comfy = Comfy(options.checkout.resolve(), options.attention, stock.unet, place)
        apart = difference(comfy, stock.unet, given)
        kind = str(comfy.patcher.model.diffusion_model.dtype).removeprefix("torch.")
        ways: dict[str, Callable[[], object]] = {f"ComfyUI {comfy.version}, {kind}": lambda: comfy.latents(given)}
        if options.tiny:
            ways["Sosie"] = speed.Work(stock, given)
        else:
            plain, compiled = parts.pipeline(place), parts.pipeline(place)
            accelerate(plain, Levers(compile="off"))
            accelerate(compiled, Levers())
            ways |= {"Sosie, not compiled": speed.Work(plain, given), "Sosie, compiled": speed.Work(compiled, given)}
        first = {way: seconds(work) for way, work in ways.items()}
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, work in ways.items():
                times[way].append(seconds(work))
    print(f"one call of both networks differs by {apart:.1e} of the output's norm; {steps} steps, {size}x{size}\n")
    print("| | s an image, median (least) | first call, s | times of the fastest |\n| --- | --- | --- | --- |")
    medians = {way: statistics.median(found) for way, found in times.items()}
    for way, median in medians.items():
        times_of = median / min(medians.values())
        print(f"| {way} | {median:.3f} ({min(times[way]):.3f}) | {first[way]:.1f} | {times_of:.2f} |")
    device = torch.cuda.get_device_name() if place.device == "cuda" else "CPU"
    print("\n" + json.dumps({"device": device, "torch": torch.__version__, "apart": apart, "seconds": times}))


if __name__ == "__main__":
    main()
