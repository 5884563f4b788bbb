"""The same seed on a ComfyUI server and in this process: how far apart the pictures are, in latents and in pixels.

Needs a running ComfyUI whose folders are on this machine (for the latents that it writes), and the same Z-Image as
a stock diffusers folder here. Sampling alone is compared: both get the same model, texts, seed and settings.

    python benchmarks/same_seed.py --comfy http://127.0.0.1:8188 --base ~/ComfyUI --model Z-IMAGE-FOLDER \
        --denoiser z_image_bf16.safetensors --text-encoder qwen_3_4b.safetensors
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import httpx2
import torch
from diffusers import ZImagePipeline
from safetensors.torch import load_file, save_file

from sosie.core.recipe import Sampler
from sosie.diffusion.flow.levels import flow_levels
from sosie.diffusion.flow.noise import flow_noise
from sosie.diffusion.flow.samplers import SAMPLERS
from sosie.diffusion.flow.sampling import noised, sample, x0_of_velocity
from sosie.graph.sampling import drawing

TEXT = "portrait of a young woman, long red hair, smiling, soft daylight, forest background"
SCHEDULES = ("simple", "normal", "sgm_uniform", "beta")
SCALE, SHIFT_OF_LATENTS = 0.3611, 0.1159  # by which ComfyUI stretches the latents of Z-Image that it keeps
SHIFT = 3.0


class Comfy:
    """A server, and the folder in which it keeps its files."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._http = httpx2.Client(base_url=options.comfy, timeout=60)
        self._base = options.base
        self._options = options

    def latents(self, sampler: Sampler, seed: int, under: torch.Tensor | None) -> torch.Tensor:
        """What its KSampler gives, as the model sees latents."""
        options = self._options
        if under is None:
            empty = {"width": options.size, "height": options.size, "batch_size": 1}
            source: dict[str, Any] = {"class_type": "EmptySD3LatentImage", "inputs": empty}
        else:
            kept = {"latent_tensor": under / SCALE + SHIFT_OF_LATENTS, "latent_format_version_0": torch.tensor([])}
            save_file(kept, self._base / "input" / "same-seed.latent")
            source = {"class_type": "LoadLatent", "inputs": {"latent": "same-seed.latent"}}
        graph = {
            "1": node("UNETLoader", unet_name=options.denoiser, weight_dtype="default"),
            "2": node("CLIPLoader", clip_name=options.text_encoder, type="lumina2"),
            "3": node("ModelSamplingAuraFlow", model=["1", 0], shift=SHIFT),
            "4": node("CLIPTextEncode", text=TEXT, clip=["2", 0]),
            "5": node("CLIPTextEncode", text="", clip=["2", 0]),
            "6": source,
            "7": node(
                "KSampler",
                model=["3", 0],
                positive=["4", 0],
                negative=["5", 0],
                latent_image=["6", 0],
                **drawing(sampler, seed, "simple", over=under is not None),
            ),
            "8": node("SaveLatent", samples=["7", 0], filename_prefix="same-seed"),
        }
        answer = self._http.post("/prompt", json={"prompt": graph})
        if answer.status_code != 200:
            raise SystemExit(answer.text[:2000])
        prompt = answer.json()["prompt_id"]
        while not (told := self._http.get(f"/history/{prompt}").json().get(prompt)):
            time.sleep(0.2)
        if told["status"]["status_str"] != "success":
            raise SystemExit(str(told["status"])[:2000])
        (written,) = told["outputs"]["8"]["latents"]
        path = self._base / "output" / written["subfolder"] / written["filename"]
        return (load_file(path)["latent_tensor"].float() - SHIFT_OF_LATENTS) * SCALE


class Here:
    """The stock model, drawn with Sosie's samplers and noise."""

    def __init__(self, folder: Path, size: int) -> None:
        self.pipeline: Any = ZImagePipeline.from_pretrained(folder, torch_dtype=torch.float32)
        self._shape = (1, self.pipeline.transformer.config.in_channels, size // 8, size // 8)
        with torch.no_grad():
            self._texts = [
                self.pipeline.encode_prompt(text, do_classifier_free_guidance=False)[0] for text in (TEXT, "")
            ]

    @torch.no_grad()
    def latents(self, sampler: Sampler, seed: int, under: torch.Tensor | None) -> torch.Tensor:
        levels = flow_levels(sampler, SHIFT, 1.0 if under is None else sampler.denoise)
        x, between = flow_noise(sampler, seed, self._shape, levels, "cpu")
        if under is not None:
            x = noised(under, x, float(levels.sigmas[0]))

        def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
            said, unsaid = (x0_of_velocity(self._velocity(x, sigma, text), x, sigma) for text in self._texts)
            return unsaid + (said - unsaid) * sampler.cfg

        return sample(sampler.name, denoise, x, levels, between)

    @torch.no_grad()
    def pixels(self, latents: torch.Tensor) -> torch.Tensor:
        """0 to 255, unrounded."""
        vae = self.pipeline.vae
        decoded = vae.decode(latents / vae.config.scaling_factor + vae.config.shift_factor).sample
        return (decoded / 2 + 0.5).clamp(0, 1) * 255

    def _velocity(self, x: torch.Tensor, sigma: float, text: list[torch.Tensor]) -> torch.Tensor:
        time_ = torch.tensor([1 - sigma])
        (answer,) = self.pipeline.transformer([x[0].unsqueeze(1)], time_, text, return_dict=False)[0]
        return -answer.squeeze(1)[None]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfy", required=True, help="address of the server")
    parser.add_argument("--base", required=True, type=Path, help="its base directory, with input/ and output/")
    parser.add_argument("--model", required=True, type=Path, help="the same model as a stock diffusers folder")
    parser.add_argument("--denoiser", required=True)
    parser.add_argument("--text-encoder", required=True)
    parser.add_argument("--samplers", default=",".join(name for name in SAMPLERS if name != "euler_ancestral"))
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--cfg", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


def main() -> None:
    asked = options()
    torch.set_num_threads(1)
    there, here = Comfy(asked), Here(asked.model, asked.size)
    under = here.latents(Sampler("euler", "simple", 4, asked.cfg), asked.seed + 1, None)
    print("| sampler | schedule | denoise | latents, mean | latents, largest | pixels of 255, mean | pixels, largest |")
    print("|---|---|---|---|---|---|---|")
    for denoise, name, schedule in itertools.product((1.0, 0.5), asked.samplers.split(","), SCHEDULES):
        if denoise < 1 and schedule != "simple":
            continue
        sampler = Sampler(name, schedule, asked.steps, asked.cfg, denoise, SHIFT, noise="comfy")
        base = None if denoise == 1 else under
        theirs, ours = there.latents(sampler, asked.seed, base), here.latents(sampler, asked.seed, base)
        apart = (theirs - ours).abs()
        seen = (here.pixels(theirs) - here.pixels(ours)).abs()
        figures = " | ".join(f"{value:.1e}" for value in (apart.mean(), apart.max(), seen.mean(), seen.max()))
        print(f"| `{name}` | `{schedule}` | {denoise:g} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
