"""Trains the small net that says whether there may be words in a picture, and measures what it lets pass.

    python benchmarks/glance.py train PICTURES [--renders FOLDER...] [--begin NPZ] --out NPZ
    python benchmarks/glance.py measure FOLDER... [--half choose|measure|all] [--fonts FOLDER...]

PICTURES are clean ones that are measured nowhere (256 px: `packages/sosie-mini/tools/make_cohort.py render`). Words
without meaning are drawn into parts of them, of the same enlarged by mini's upscaler, of renders, and of drawn scenes
(`benchmarks/words.py`, `benchmarks/inject.py`); as many parts stay clean, many with patterns a little like words. The
net learns for each square of 8 px whether words lie over it; what is too faint to be made out is left out. Random
numbers come from one seed. Needs torch and spandrel; 100 steps take 10 s of one core. The packaged weights are of 48
pictures: 1,500 steps, then 600 that begin with these, with `--renders examples/mira`.

`measure` reads clean pictures of the folders and the same with words, all of them in full, and asks the net of each:
with fonts it writes in these, at random, else as `benchmarks/defects.py` does.
"""

# pyright: basic, reportCallIssue=false, reportArgumentType=false, reportReturnType=false, reportAssignmentType=false
from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import defects
import inject
import numpy as np
import torch
import words
from inject import Pixels
from torch import Tensor, nn
from torch.nn import functional

from sosie.files.images import read_image
from sosie.scorers.defects import glance, text
from sosie.scorers.sample import Sample

SEED = 20261201
CROP, CELL = 128, 8
BATCH = 32
CHANNELS = (16, 24, 32, 32, 32, 32)
STRIDES = (2, 2, 2, 1, 1, 1)
DILATIONS = (1, 1, 1, 1, 2, 2)
WORDS = ("SampleStock", "PREVIEW", "Stock 2024", "watermark", "Getty Nope")
"""As in `benchmarks/defects.py`."""
RATE = 4e-3
HARD = 0.05
"""The share of the clean squares of a batch that are learnt from: those that look most like words."""


def net(begin: Path | None = None) -> nn.Sequential:
    """Convolutions of 3 x 3, each with a norm that is folded into it afterwards; then one number a square.

    One that begins with the weights of a file has its norms folded already.
    """
    layers: list[nn.Module] = []
    before = 3
    for channels, stride, dilation in zip(CHANNELS, STRIDES, DILATIONS, strict=True):
        layers += [
            nn.Conv2d(before, channels, 3, stride, dilation, dilation, bias=begin is not None),
            *([] if begin else [nn.BatchNorm2d(channels)]),
            nn.ReLU(inplace=True),
        ]
        before = channels
    model = nn.Sequential(*layers, nn.Conv2d(before, 1, 1))
    if begin is None:
        nn.init.constant_(model[-1].bias, -2)
        return model
    arrays = np.load(begin)
    for at, layer in enumerate(one for one in model if isinstance(one, nn.Conv2d)):
        layer.load_state_dict({"weight": torch.tensor(arrays[f"w{at}"]), "bias": torch.tensor(arrays[f"b{at}"])})
    return model


def folded(model: nn.Sequential) -> dict[str, np.ndarray]:
    """The weights, float16, with each norm inside its convolution: w0, b0, w1, ..."""
    found: dict[str, np.ndarray] = {}
    layers = list(model)
    for at, layer in enumerate(one for one in layers if isinstance(one, nn.Conv2d)):
        weight, bias = layer.weight.detach(), layer.bias
        norm = layers[layers.index(layer) + 1] if layer is not layers[-1] else None
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_var is not None
            assert norm.running_mean is not None
            scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
            weight, bias = weight * scale[:, None, None, None], norm.bias.detach() - norm.running_mean * scale
        assert bias is not None
        found[f"w{at}"], found[f"b{at}"] = (one.detach().numpy().astype(np.float16) for one in (weight, bias))
    return found


@dataclass(frozen=True)
class Source:
    """What parts are cut from: pictures at several sizes, and drawn scenes."""

    pictures: Sequence[Pixels]
    scenes: Sequence[Pixels]
    how: words.Lettering

    def part(self, rng: np.random.Generator) -> Pixels:
        """A clean square of `CROP` px, mirrored at random."""
        pool = self.pictures if rng.random() < 0.5 else self.scenes
        image = pool[int(rng.integers(len(pool)))]
        own = min(image.shape[:2])
        side = int(np.clip(CROP * rng.choice([1.0, rng.uniform(0.5, 2.0)]), 48, own))
        top, left = (int(rng.integers(0, edge - side + 1)) for edge in image.shape[:2])
        part = image[top : top + side, left : left + side]
        how = cv2.INTER_AREA if side > CROP else cv2.INTER_CUBIC
        part = cv2.resize(part, (CROP, CROP), interpolation=how) if side != CROP else part
        return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)

    def batch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Parts [n, 3, h, w], and for each square 1 (words), 0 (none) or -1 (left out) [n, h / 8, w / 8]."""
        images, marks = [], []
        for at in range(BATCH):
            image = self.part(rng)
            mark = np.zeros((CROP // CELL, CROP // CELL), np.float32)
            if at % 2:
                for _ in range(int(rng.choice([1, 1, 2]))):
                    image, block, seen = words.written(image, rng, self.how)
                    share = cv2.resize(block, mark.shape, interpolation=cv2.INTER_AREA)
                    mark[share > 0] = -1
                    if seen:
                        mark[share > 0.7] = 1
            images.append(words.spoiled(image, rng))
            marks.append(mark)
        return scaled(images), torch.from_numpy(np.stack(marks))


def scaled(images: Sequence[Pixels]) -> Tensor:
    """Pixels as the net takes them: about -1 to 1."""
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return (batch - 127.5) / 127.5


def loss_of(logits: Tensor, marks: Tensor) -> Tensor:
    """Squares with words against the hardest ones without, and the best square of every part."""
    flat, mark = logits.flatten(), marks.flatten()
    clean, inked = functional.softplus(flat[mark == 0]), functional.softplus(-flat[mark == 1])
    hardest = clean.topk(max(1, int(HARD * len(clean)))).values
    low = torch.where(marks == 0, logits, torch.full_like(logits, -30)).flatten(1).amax(1)
    high = torch.where(marks == 1, logits, torch.full_like(logits, -30)).flatten(1).amax(1)
    has = (marks == 1).flatten(1).any(1)
    return inked.mean() + hardest.mean() + functional.softplus(low).mean() + functional.softplus(-high[has]).mean()


def scenes(count: int) -> Iterator[Pixels]:
    """Drawn scenes of 320 px; their seeds are none of those that are measured."""
    rng = np.random.default_rng(SEED)
    for at in range(count):
        kind = at % 8
        if kind == 0:
            yield inject.fractal(320, 10_000 + at, (0.8, 1.0, 1.3)[at % 3])
        elif kind == 1:
            yield inject.bricks(320, 10_000 + at, figure=bool(at % 16 == 1))
        else:
            yield words.leaves(320, rng)


def pictures(folder: Path) -> Iterator[Pixels]:
    """Those of a folder, each also four times as large with fine detail, and so at half of that."""
    import sosie_mini
    from spandrel import ImageModelDescriptor, ModelLoader

    model = ModelLoader().load_from_file(str(sosie_mini.upscaler()))
    assert isinstance(model, ImageModelDescriptor)
    for at, path in enumerate(sorted(folder.glob("*.png"))):
        image = np.array(read_image(path))
        yield image
        if at % 4 == 0:
            with torch.no_grad():
                large = model(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0]
            sharp = (large.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            yield sharp
            yield cv2.resize(sharp, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed + 1)
    fonts = tuple(sorted(path for folder in options.fonts for path in folder.rglob("*.ttf")))
    start = time.process_time()
    renders = [np.array(read_image(path)) for folder in options.renders for path in sorted(folder.glob("*.jpg"))]
    source = Source(
        list(pictures(options.pictures)) + 4 * renders, list(scenes(options.scenes)), words.Lettering(fonts)
    )
    print(f"{len(source.pictures)} pictures, {len(source.scenes)} scenes, {len(fonts)} fonts", file=sys.stderr)
    model, rate = net(options.begin), RATE / 3 if options.begin else RATE
    optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, options.steps, pct_start=0.1)
    recent: list[float] = []
    for step in range(1, options.steps + 1):
        images, marks = source.batch(rng)
        loss = loss_of(model(images)[:, 0], marks)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        recent.append(loss.item())
        if step % 100 == 0:
            spent = time.process_time() - start
            print(f"step {step}: loss {np.mean(recent[-100:]):.3f}, {spent:.0f} s", file=sys.stderr, flush=True)
            np.savez(options.out, **folded(model.eval()))
            model.train()


def measure(options: argparse.Namespace) -> None:
    """One line a kind of picture: how many are read as text, which of these the net misses, how many it spares."""
    fonts = tuple(sorted(path for folder in options.fonts for path in folder.rglob("*.[ot]tf")))
    halves = {"choose": (0,), "measure": (1,), "all": (0, 1)}[options.half]
    base = [image for half in halves for image in defects.clean_images(options.folders, half)]
    kinds = {f"clean, {side} px": [defects.sized(image, side) for image in base] for side in (256, 512, 768)}
    rng = np.random.default_rng(SEED + 2)
    for height, alpha in itertools.product((12, 20, 32), (1.0, 0.5, 0.3)):
        some = [(at, defects.sized(image, (256, 768)[at % 2])) for at, image in enumerate(base[::4])]
        name = f"words of {height} px, opacity {alpha}"
        kinds[name] = [inject.text(image, WORDS[at % 5], height, alpha, at) for at, image in some]
    if fonts:
        how = words.Lettering(fonts, 10, 60)
        kinds["words in other fonts"] = [words.written(defects.sized(image, 512), rng, how)[0] for image in base]
    print("| pictures | read as text | missed by the net | spared | least / median of the net |\n|---|---|---|---|---|")
    for kind, images in kinds.items():
        values = np.array([max(float(looked.max()) for looked in glance.maps(image)) for image in images])
        sees, glance.THRESHOLD = glance.THRESHOLD, -np.inf
        read = np.array([text.scores(Sample(image))[0].passed is False for image in images])
        glance.THRESHOLD = sees
        missed, spared = (values[read] <= sees).sum(), (values[~read] <= sees).sum()
        spread = f"{values.min():.1f} / {np.median(values):.1f}"
        print(
            f"| {kind} | {read.sum()} of {len(read)} | {missed} | {spared} of {(~read).sum()} | {spread} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train")
    one.add_argument("pictures", type=Path)
    one.add_argument("--renders", type=Path, nargs="*", default=[])
    one.add_argument("--begin", type=Path)
    one.add_argument("--fonts", type=Path, nargs="+", default=[Path("/usr/share/fonts/truetype")])
    one.add_argument("--out", type=Path, default=Path("src/sosie/scorers/defects/glance.npz"))
    one.add_argument("--seed", type=int, default=SEED)
    one.add_argument("--steps", type=int, default=1500)
    one.add_argument("--scenes", type=int, default=160)
    one.set_defaults(run=train)
    two = commands.add_parser("measure")
    two.add_argument("folders", type=Path, nargs="+")
    two.add_argument("--half", choices=("choose", "measure", "all"), default="measure")
    two.add_argument("--fonts", type=Path, nargs="*", default=[])
    two.set_defaults(run=measure)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
