"""Trains the upscaler that sosie-mini ships: four times the size, in 0.7 MB.

    python train_upscaler.py CHARACTERS/ upscaler.safetensors [--device cuda] [--steps 9000]

CHARACTERS holds a folder of 512x512 renders (`NAME/*.jpg`) for each person; the people in HOLD_OUT
are never trained on, and the PSNR on them is printed on the way. Needs torch, diffusers (for the
embedded model's VAE) and Pillow; on one H100 it takes about two minutes.

The network is Real-ESRGAN's compact one (Wang et al. 2021, arXiv:2107.10833): convolutions with
PReLU between them at the small size, then a pixel shuffle added to the enlarged input. Two kinds of
pairs make the loss, so that both ways of using it are trained at the scale that faces have there:

- 128 to 512: the render made smaller (box, bilinear or bicubic), lightly blurred, noisy or JPEG;
- 256 to 1,024 to 512: the render at 256 px as the embedded model's VAE gives it back (its look), or
  damaged as above; the result is compared after a box filter halved it.

Loss: L1, plus L1 of the gradients and of the Fourier spectrum. The weights are an average over the
steps (EMA). Random numbers come from one seed; kernels of a GPU may still round differently.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

SCALE = 4
FEATURES = 48
CONVOLUTIONS = 16
HOLD_OUT = ("mira", "kofi")
BATCH = 16
CROP = 192
"""Side of a crop of the sharp image, in pixels."""

LEARNING_RATE = 1e-3
EMA = 0.999
SPECTRUM, GRADIENT = 0.03, 0.3
"""Weights of the losses beside L1."""

DECODED = 4
"""How many times each render goes through the VAE, mirrored and made smaller in different ways."""

LUMINANCE = (16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17)
LUMINANCE += (22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78)
LUMINANCE += (87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99)
"""JPEG's example table of quantisation, ITU-T T.81 annex K.1."""


class Compact(nn.Module):
    """The network: RGB [n, 3, h, w] in 0..1 to [n, 3, 4h, 4w]; keys `body.N.weight` as spandrel reads them."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, FEATURES, 3, padding=1), nn.PReLU(FEATURES)]
        for _ in range(CONVOLUTIONS):
            layers += [nn.Conv2d(FEATURES, FEATURES, 3, padding=1), nn.PReLU(FEATURES)]
        layers.append(nn.Conv2d(FEATURES, 3 * SCALE**2, 3, padding=1))
        self.body = nn.Sequential(*layers)
        self._start(layers[::2])

    @torch.no_grad()
    def _start(self, layers: list[Any]) -> None:
        """Begins with features that show contrast and pass all layers, and with no change to the image.

        With the usual random beginning L1 silences the network for good: most of an image is flat, and
        there a change of nothing is right.
        """
        first, *middle, last = layers
        nn.init.kaiming_normal_(first.weight, a=0.25)
        first.weight -= 0.8 * first.weight.mean(dim=(2, 3), keepdim=True)
        first.bias.copy_(-0.45 * first.weight.sum(dim=(1, 2, 3)))  # 0.45: a usual mean of an image
        for layer in middle:
            nn.init.kaiming_normal_(layer.weight, a=0.25)
            layer.weight *= 0.3
            layer.weight[:, :, 1, 1] += torch.eye(FEATURES)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, image: Tensor) -> Tensor:
        """The enlarged image."""
        return functional.pixel_shuffle(self.body(image), SCALE) + functional.interpolate(image, scale_factor=SCALE)


@dataclass(frozen=True)
class Data:
    """Sharp images [n, 3, 512, 512] and what the VAE makes of them at half the size [n, DECODED, 3, 256, 256]; uint8.

    Of each image's decoded versions, the second half are of the mirrored image.
    """

    sharp: Tensor
    decoded: Tensor


def pixels(path: Path) -> Tensor:
    """An image as uint8 [3, h, w]."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def rounded(image: Tensor) -> Tensor:
    """As 8 bits hold it."""
    return (image.clamp(0, 1) * 255).round() / 255


def smaller(image: Tensor, factor: int, kernel: int) -> Tensor:
    """The image at 1/factor of the side, by box (0), bilinear (1) or bicubic (2) filter with antialiasing."""
    if kernel == 0:
        return functional.avg_pool2d(image, factor)
    mode = ("bilinear", "bicubic")[kernel - 1]
    size = [side // factor for side in image.shape[-2:]]
    return functional.interpolate(image, size, mode=mode, antialias=True).clamp(0, 1)


@torch.no_grad()
def through_vae(sharp: Tensor, device: str) -> Data:
    """The pairs of sharp images (uint8) and what the embedded model's VAE makes of them at 256 px."""
    import sosie_mini
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(sosie_mini.folder(), subfolder="vae").to(device).eval()
    decoded: list[Tensor] = []
    for image in sharp:
        versions: list[Tensor] = []
        for version in range(DECODED):
            flipped = image.flip(-1) if version >= DECODED // 2 else image
            small = smaller(flipped[None].to(device).float() / 255, 2, version % 2 * 2)
            latents = vae.encode(small * 2 - 1).latent_dist.mode()
            versions.append(((vae.decode(latents).sample + 1) * 127.5).round().clamp(0, 255).byte())
        decoded.append(torch.cat(versions))
    return Data(sharp.to(device), torch.stack(decoded))


def cosines(device: str) -> Tensor:
    """The 8x8 DCT-II as a matrix."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    matrix = torch.cos(math.pi * (n + 0.5) * k / 8) / 2
    matrix[0] /= math.sqrt(2)
    return matrix.to(device)


def jpeg(image: Tensor, quality: float, dct: Tensor) -> Tensor:
    """What JPEG without chroma subsampling loses; sides are multiples of 8. The chroma table is the luminance's."""
    factor = 50 / quality if quality < 50 else 2 - quality / 50
    table = (torch.tensor(LUMINANCE, device=image.device).view(8, 8) * factor).round().clamp(min=1)
    to_ycc = image.new_tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    ycc = torch.einsum("dc,nchw->ndhw", to_ycc, image * 255)
    n, c, h, w = ycc.shape
    blocks = ycc.view(n, c, h // 8, 8, w // 8, 8).permute(0, 1, 2, 4, 3, 5)
    stored = (dct @ blocks @ dct.T / table).round() * table
    ycc = (dct.T @ stored @ dct).permute(0, 1, 2, 4, 3, 5).reshape(n, c, h, w)
    return torch.einsum("dc,nchw->ndhw", torch.linalg.inv(to_ycc), ycc) / 255


def blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur over 7x7 pixels."""
    x = torch.arange(-3.0, 4.0, device=image.device)
    kernel = torch.exp(-(x**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, 1, 7)
    padded = functional.pad(image, (3, 3, 3, 3), mode="reflect")
    across = functional.conv2d(padded, kernel, groups=image.shape[1])
    return functional.conv2d(across, kernel.transpose(2, 3), groups=image.shape[1])


def damaged(sharp: Tensor, factor: int, draw: np.random.Generator, dct: Tensor) -> Tensor:
    """The sharp crops made smaller, half of the batches blurred, noisy or through JPEG; all lightly."""
    if draw.random() < 0.4:
        sharp = blurred(sharp, draw.uniform(0.2, 0.35) * factor)
    image = smaller(sharp, factor, int(draw.integers(3)))
    if draw.random() < 0.3:
        image = image + torch.randn_like(image) * draw.uniform(0.5, 3.0) / 255
    if draw.random() < 0.3:
        image = jpeg(rounded(image), draw.uniform(75, 97), dct)
    return rounded(image)


def crops(images: Tensor, which: np.ndarray, corner: np.ndarray, side: int) -> Tensor:
    """One crop of each image named by `which`, float in 0..1; `corner` is [n, 2] in pixels."""
    return torch.stack([images[i, :, y : y + side, x : x + side] for i, (y, x) in zip(which, corner, strict=True)])


def coloured(sharp: Tensor, small: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Both turned or mirrored alike and, now and then, with channels exchanged: six people show few colours."""
    if draw.random() < 0.5:
        sharp, small = sharp.transpose(-1, -2), small.transpose(-1, -2)
    if draw.random() < 0.5:
        sharp, small = sharp.flip(-1), small.flip(-1)
    if draw.random() < 0.4:
        order = draw.permutation(3).tolist()
        sharp, small = sharp[:, order], small[:, order]
    return sharp, small


def pair(data: Data, factor: int, draw: np.random.Generator, dct: Tensor) -> tuple[Tensor, Tensor]:
    """A batch of sharp crops and of their small versions at 1/factor; for factor 2 two thirds are the VAE's."""
    which = draw.integers(len(data.sharp), size=BATCH)
    corner = draw.integers((512 - CROP) // factor + 1, size=(BATCH, 2)) * factor
    if factor == 2 and draw.random() < 0.67:
        version = int(draw.integers(DECODED))
        images = data.sharp.flip(-1) if version >= DECODED // 2 else data.sharp
        small = crops(data.decoded[:, version], which, corner // factor, CROP // factor).float() / 255
        sharp = crops(images, which, corner, CROP).float() / 255
    else:
        sharp = crops(data.sharp, which, corner, CROP).float() / 255
        small = damaged(sharp, factor, draw, dct)
    return coloured(sharp, small, draw)


def difference(made: Tensor, sharp: Tensor) -> Tensor:
    """The loss: L1 of values, gradients and spectrum."""
    loss = functional.l1_loss(made, sharp)
    for axis in (-1, -2):
        loss = loss + GRADIENT * functional.l1_loss(made.diff(dim=axis), sharp.diff(dim=axis))
    spectra = [torch.fft.rfft2(image, norm="ortho") for image in (made, sharp)]
    return loss + SPECTRUM * (spectra[0] - spectra[1]).abs().mean()


def psnr(made: Tensor, sharp: Tensor) -> float:
    """Mean over the images, in dB, of 8-bit values."""
    error = (rounded(made) - sharp).square().mean(dim=(1, 2, 3))
    return float((-10 * error.log10()).mean())


@torch.no_grad()
def validate(model: nn.Module, data: Data) -> str:
    """PSNR on people that were not trained on: 128 to 512, 256 to 512, and the VAE's 256 to 512; beside bicubic."""
    sharp = data.sharp.float() / 255
    texts: list[str] = []
    sources = (rounded(smaller(sharp, 4, 0)), rounded(smaller(sharp, 2, 0)), data.decoded[:, 0].float() / 255)
    for name, small in zip(("x4", "x2", "vae"), sources, strict=True):
        made = torch.cat([model(image[None]) for image in small])
        if made.shape != sharp.shape:
            made = smaller(made, 2, 0)
        plain = functional.interpolate(small, sharp.shape[-2:], mode="bicubic")
        texts.append(f"{name} {psnr(made, sharp):.2f} (bicubic {psnr(plain, sharp):.2f})")
    return ", ".join(texts)


def train(data: Data, check: Data, steps: int, device: str) -> nn.Module:
    """The averaged network after `steps` steps; progress on stdout."""
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    model = Compact().to(device, memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA))
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.05)
    dct = cosines(device)
    started = time.monotonic()
    for step in range(1, steps + 1):
        sharp, small = pair(data, 4, draw, dct)
        loss = difference(model(small.contiguous(memory_format=torch.channels_last)), sharp)
        sharp, small = pair(data, 2, draw, dct)
        made = model(small.contiguous(memory_format=torch.channels_last))
        loss = loss + difference(smaller(made, 2, 0), sharp)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        if step % max(steps // 8, 1) == 0:
            text = validate(average.module, check)
            print(f"step {step}, {time.monotonic() - started:.0f} s, loss {loss.item():.4f}: {text}", flush=True)
    return average.module


def images_of(people: Sequence[Path]) -> Tensor:
    """Every render of these people."""
    return torch.stack([pixels(path) for person in people for path in sorted(person.glob("*.jpg"))])


def main() -> None:
    """Trains, validates and writes the weights as float16."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("characters", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=9000)
    asked = parser.parse_args()
    people = sorted(folder for folder in asked.characters.iterdir() if folder.is_dir())
    data = through_vae(images_of([person for person in people if person.name not in HOLD_OUT]), asked.device)
    check = through_vae(images_of([person for person in people if person.name in HOLD_OUT]), asked.device)
    print(f"{len(data.sharp)} images to train on, {len(check.sharp)} to validate", flush=True)
    model = train(data, check, asked.steps, asked.device)
    state = {name: value.detach().half().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(state, asked.out, metadata={"format": "pt", "licence": "CC0-1.0"})
    print(f"{asked.out}: {asked.out.stat().st_size:,} bytes; as saved: {validate(model.half().float(), check)}")


if __name__ == "__main__":
    main()
