"""What the trainer needs of SDXL: latents and texts for its cache, the error of a batch, samples, and names of keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.utils import checkpoint

from sosie.core.errors import BadModelError
from sosie.core.recipe import Sampler, Targets, Training
from sosie.diffusion.loading import quiet
from sosie.diffusion.offload import tile
from sosie.diffusion.schedulers import scheduler_for
from sosie.diffusion.vae import decode_latents, to_image
from sosie.families.contract.trains import BaseFiles
from sosie.families.sdxl.diffusers.parts import SdxlPipeline
from sosie.families.sdxl.diffusers.single_file import load_pipeline
from sosie.families.sdxl.diffusers.text import encode

if TYPE_CHECKING:
    from PIL.Image import Image

Tensors = dict[str, Tensor]
Size = tuple[int, int]

PREDICTIONS = ("epsilon", "v_prediction")

_TRANSFORMER = r".*attentions\.\d+\.(proj_in|proj_out|.*(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2))"
TARGETS: Mapping[Targets, str] = {
    "attention": r".*attn[12]\.(to_q|to_k|to_v|to_out\.0)",
    "feed-forward": r".*transformer_blocks\.\d+\..*(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2)",
    "transformer": _TRANSFORMER,
    "all": rf"{_TRANSFORMER}|.*resnets\.\d+\.(conv1|conv2|conv_shortcut)|.*samplers\.0\.conv",
}
"""What a LoRA changes, as an expression over the names of the UNet's modules: 560 of them, 700, 722, or 771."""

STORED: str = r".*blocks.*"
MATRICES: tuple[str, str] = ("lora_down", "lora_up")


def open_base(files: BaseFiles, training: Training, device: str) -> SdxlBase:
    """The model of a diffusers folder or a single file, on `device` (`cpu` or `cuda`); nothing is downloaded.

    Raises `BadModelError` if it cannot be loaded, or is trained to predict something else than noise or v.
    """
    path = files.model
    pipeline = load_pipeline(path, files.vae, torch.float32)
    prediction = pipeline.scheduler.config.prediction_type
    if prediction not in PREDICTIONS or pipeline.unet.config.in_channels != 4:
        found = f"predicts '{prediction}' from {pipeline.unet.config.in_channels} channels"
        raise BadModelError(f"{path} {found}; expected {' or '.join(PREDICTIONS)} from 4", "train on a base model")
    return SdxlBase(pipeline, training, device)


class SdxlBase:
    """A loaded model: first it encodes what the cache is to hold, then, settled, it is trained.

    Encoders and VAE work in fp32, since the VAE overflows in fp16; the UNet lies and computes in the
    precision of the training (`auto`: fp32 on a CPU, bf16 on a GPU).
    """

    ragged: Mapping[str, int] = MappingProxyType({})

    def __init__(self, pipeline: SdxlPipeline, training: Training, device: str) -> None:
        precision = training.precision
        if precision == "auto":
            precision = "fp32" if device == "cpu" else "bf16"
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._device = device
        self._min_snr = training.min_snr
        self._pipeline = pipeline
        pipeline.set_progress_bar_config(disable=True)
        for part in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.unet):
            part.requires_grad_(False)
        for part in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
            part.to(device)
        with quiet():
            self.denoiser = cast(nn.Module, pipeline.unet.to(self.dtype))
        if training.gradient_checkpointing:
            # Nothing in the UNet is random, and the state of a generator cannot be read while a graph is captured.
            again = partial(cast(Any, checkpoint).checkpoint, use_reentrant=False, preserve_rng_state=False)
            pipeline.unet.enable_gradient_checkpointing(again)
        self._schedule = dict(pipeline.scheduler.config)
        self._alphas_cumprod = pipeline.scheduler.alphas_cumprod.double()

    @property
    def prediction(self) -> str:
        """What the model predicts: `epsilon` or `v_prediction`."""
        return str(self._schedule["prediction_type"])

    def encode_picture(self, pixels: NDArray[np.uint8], original: Size, crop: Size) -> Tensors:
        """Of pixels [h, w, 3]: mean and deviation of the latents, float32 [4, h / 8, w / 8], and the six sizes.

        The sizes are SDXL's conditions (arXiv:2307.01952, 2.2): original height and width, top and left of
        the crop, height and width.
        """
        vae = self._pipeline.vae
        with torch.no_grad():
            levels = torch.as_tensor(pixels.astype(np.float32)) / 127.5 - 1.0
            found = vae.encode(levels.permute(2, 0, 1)[None].to(self._device)).latent_dist
            shift, spread = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std"))
            mean, std = found.mean[0].cpu(), found.std[0].cpu()
            if shift is not None and spread is not None:
                spread = torch.tensor(spread).view(-1, 1, 1)
                mean, std = (mean - torch.tensor(shift).view(-1, 1, 1)) / spread, std / spread
        sizes = [original[1], original[0], crop[1], crop[0], pixels.shape[0], pixels.shape[1]]
        scale = vae.config.scaling_factor
        return {"mean": mean * scale, "std": std * scale, "sizes": torch.tensor(sizes, dtype=torch.float32)}

    def encode_text(self, text: str, negative: str | None = None) -> Tensors:
        """States [77 n, width] and pooled vector of a text; with `negative`, of both, for samples."""
        found = encode(self._pipeline, text, negative or "")
        tensors = {"states": found.prompt_embeds[0].cpu(), "pooled": found.pooled[0].cpu()}
        if negative is not None:
            tensors["negative_states"] = found.negative_prompt_embeds[0].cpu()
            tensors["negative_pooled"] = found.negative_pooled[0].cpu()
        return tensors

    def settle(self) -> None:
        """Frees the text encoders and puts the UNet where it is trained; nothing is encoded after."""
        pipeline: Any = self._pipeline
        pipeline.text_encoder = pipeline.text_encoder_2 = None
        self._pipeline.vae.to("cpu")
        self.denoiser.to(self._device)
        if self._device != "cpu":
            torch.cuda.empty_cache()  # what encoding took is not held beside what a step needs

    def add_noise(
        self, batch: Mapping[str, Tensor], generator: Generator, positions: Callable[[int, int], Tensor]
    ) -> Tensors:
        """A batch at random times: `noisy` latents and what is to be predicted (`target`), [n, 4, h, w] in float32.

        `batch` stacks what `encode_picture` and `encode_text` gave, on the CPU. Latents and noise are drawn from
        `generator`; then `positions` (of how many, of how many levels) says at which noise, 0 to 1. Weights are
        min-SNR's (Hang et al. 2023, arXiv:2303.09556): min(snr, gamma) / snr, over snr + 1 for v-prediction;
        1 without gamma.
        """
        spread = torch.randn(batch["std"].shape, generator=generator)
        noise = torch.randn(batch["mean"].shape, generator=generator)
        levels = len(self._alphas_cumprod)
        times = (positions(len(noise), levels) * levels).long().clamp(max=levels - 1)
        kept = self._alphas_cumprod[times]
        clean = batch["mean"] + batch["std"] * spread
        signal, amount = ((share**0.5).float().view(-1, 1, 1, 1) for share in (kept, 1 - kept))
        return {
            "noisy": signal * clean + amount * noise,
            "target": noise if self.prediction == "epsilon" else signal * noise - amount * clean,
            "times": times,
            "weights": self._weights(kept),
            **{name: batch[name] for name in ("states", "pooled", "sizes")},
        }

    def unreduced_loss(self, given: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The squared errors of what `add_noise` gave, float32 [n, 4, h, w], and what each picture's count for, [n]."""
        predicted = self.denoiser(
            given["noisy"].to(self.dtype),
            given["times"],
            given["states"].to(self.dtype),
            added_cond_kwargs={"text_embeds": given["pooled"].to(self.dtype), "time_ids": given["sizes"]},
            return_dict=False,
        )[0]
        return (predicted.float() - given["target"]) ** 2, given["weights"]

    def _weights(self, kept: Tensor) -> Tensor:
        gamma = self._min_snr
        if not gamma:
            return torch.ones(len(kept))
        snr = kept / (1 - kept)
        return (snr.clamp(max=gamma) / (snr if self.prediction == "epsilon" else snr + 1)).float()

    def draw(self, text: Mapping[str, Tensor], seed: int, size: Size, sampler: Sampler) -> Image:
        """The picture (RGB) of a text with its negative, drawn by the model as it now is."""
        self._pipeline.scheduler = scheduler_for(sampler, self._schedule)
        given = {name: tensor[None].to(self._device, self.dtype) for name, tensor in text.items()}
        with torch.no_grad():
            latents = self._pipeline(
                prompt_embeds=given["states"],
                negative_prompt_embeds=given["negative_states"],
                pooled_prompt_embeds=given["pooled"],
                negative_pooled_prompt_embeds=given["negative_pooled"],
                width=size[0],
                height=size[1],
                num_inference_steps=sampler.steps,
                guidance_scale=sampler.cfg,
                generator=torch.Generator("cpu").manual_seed(seed),
                output_type="latent",
            ).images
        vae = self._pipeline.vae.to(self._device)
        tile(vae, self._device != "cpu")  # in fp32 the whole picture would need more memory than the training
        with torch.no_grad():
            pixels, _ = decode_latents(vae, latents.float())
        vae.to("cpu")
        return to_image(pixels)


def key(module: str) -> str:
    """How a file names a module of the UNet: kohya's manner, on diffusers' block names."""
    return "lora_unet_" + module.replace(".", "_")


def metadata(prediction: str, resolution: int) -> dict[str, str]:
    """What a file says of its kind (Stability's modelspec 1.0.0, and what kohya's tools look for)."""
    return {
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.prediction_type": "epsilon" if prediction == "epsilon" else "v",
        "modelspec.resolution": f"{resolution}x{resolution}",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_v2": "False",
    }
