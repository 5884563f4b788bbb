"""Trains the attribute classifier that sosie-mini ships: what a portrait by `mini` shows, in 1.2 MB.

    python train_attributes.py render IMAGES.npz [--n 9600] [--device cuda]    needs torch, diffusers
    python train_attributes.py train IMAGES.npz WEIGHTS.safetensors [--device cuda]      needs torch
    python train_attributes.py export WEIGHTS.safetensors attributes.onnx                needs onnx
    python train_attributes.py accuracy attributes.onnx CHARACTERS/                      needs sosie

`render` draws random people in random scenes with `mini`, without any face guide; the words of the
prompt are the labels. Some are drawn with little guidance by the text: their expressions are weaker, as
in the renders that `mini` learned from. The last tenth is never trained on: `train` prints the accuracy
on it, and on those of it that have the guidance of the recipe. `accuracy` prints the accuracy on renders
whose `captions.jsonl` says what is in them; neither `mini` nor the classifier was trained on those.

The network is a small residual one (He et al. 2016) with one head for each attribute. `export` folds
the batch norms into the convolutions, stores the weights as float16 and writes the vocabulary into the
file's metadata: the file is all that `sosie.scorers.attributes` needs.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 256
"""Side of the classifier's input, in pixels: what `mini` draws."""

GUIDANCE = (1.5, 2.5, 3.5, 3.5)
"""Scales of the guidance by text, one drawn for each batch; the last is the recipe's."""

BATCH = 64
HELD_OUT = 0.1
EPOCHS = 60
WIDTHS = (16, 32, 64, 96, 144)
"""Channels of the first convolution and of the four stages of two convolutions; each halves the side."""

HAIR = ("black", "brown", "blonde", "auburn", "red", "grey", "white", "blue", "green", "pink", "purple")
SHIRTS = ("white", "black", "grey", "red", "blue", "navy", "green", "teal", "yellow", "orange", "purple", "beige")
PLAIN = ("grey", "white", "black", "red", "green", "blue", "yellow")
PLACES = ("forest", "beach", "city at night", "office", "library", "brick wall", "mountains", "snow", "sunset sky")

VALUES: dict[str, dict[str, tuple[str, ...]]] = {
    "expression": {
        "neutral": ("neutral", "neutral expression", "serious"),
        "smiling": ("smiling", "smile", "smiles", "happy"),
        "grinning": ("grinning", "grin", "toothy smile", "big smile"),
        "laughing": ("laughing", "laugh", "laughs"),
        "surprised": ("surprised", "shocked"),
        "sad": ("sad", "unhappy"),
        "angry": ("angry", "frowning"),
        "talking": ("talking", "speaking"),
        "winking": ("winking", "wink"),
        "eyes closed": ("eyes closed", "closed eyes", "eyes shut"),
    },
    "light": {
        "soft daylight": ("soft daylight", "daylight"),
        "studio light": ("studio light", "studio lighting", "softbox"),
        "golden hour": ("golden hour", "golden hour light"),
        "dramatic side light": ("dramatic side light", "side light", "dramatic light"),
        "neon light": ("neon light", "neon lights", "neon"),
        "backlight": ("backlight", "backlit", "rim light"),
        "overhead light": ("overhead light", "light from above"),
        "cool moonlight": ("cool moonlight", "moonlight"),
    },
    "background": {
        **{place: (place, f"{place} background") for place in PLACES},
        **{f"plain {colour}": (f"plain {colour}", f"{colour} background") for colour in PLAIN},
    },
    "hair colour": {colour: (colour,) for colour in HAIR},
    "beard": {
        "none": ("clean shaven", "no beard", "without beard", "without a beard"),
        "short beard": ("short beard",),
        "beard": ("beard", "full beard"),
    },
    "shirt colour": {colour: (colour,) for colour in SHIRTS},
    "pose": {
        "facing the camera": ("facing the camera", "frontal", "front view"),
        "turned slightly left": ("turned slightly left", "slightly turned left"),
        "turned slightly right": ("turned slightly right", "slightly turned right"),
        "turned left": ("turned left",),
        "turned right": ("turned right",),
    },
}
"""What the classifier tells apart: attribute, value, and the phrases of a prompt that ask for the value."""

NEAR = {"hair colour": ("hair",), "shirt colour": ("shirt", "top", "sweater")}
"""Words of which one must follow a phrase that means something else without."""

MIRRORED = {"turned slightly left": "turned slightly right", "turned left": "turned right"}
CAPTIONS = {"hair colour": "hair_color", "shirt colour": "shirt"}
"""Where a key of `captions.jsonl` has another name than the attribute."""


def vocabulary() -> dict[str, Any]:
    """`VALUES` and `NEAR` as the file's metadata holds them."""
    return {
        "side": SIDE,
        "attributes": [
            {
                "name": name,
                "near": list(NEAR.get(name, ())),
                "values": [{"name": value, "phrases": list(phrases)} for value, phrases in values.items()],
            }
            for name, values in VALUES.items()
        ],
    }


def drawn(n: int) -> tuple[list[str], np.ndarray]:
    """The first n prompts and their labels int64 [n, attributes]; the first k of n are those of k."""
    draw = random.Random(20261126)
    texts: list[str] = []
    labels: list[list[int]] = []
    for _ in range(n):
        sex = draw.choice(("woman", "man"))
        shown = {name: draw.choice(list(values)) for name, values in VALUES.items()}
        shown["beard"] = "none" if sex == "woman" or draw.random() < 0.4 else draw.choice(("short beard", "beard"))
        texts.append(prompt(draw, sex, shown))
        labels.append([list(VALUES[name]).index(value) for name, value in shown.items()])
    return texts, np.array(labels)


def prompt(draw: random.Random, sex: str, shown: dict[str, str]) -> str:
    """One person and scene in the words that `mini` was trained on; what is not labelled is random too."""
    style = draw.choice(("short", "long", "braided", "short curly", "short spiky"))
    parts = [f"portrait of {draw.choice(('a young', 'a middle-aged', 'an old'))} {sex}"]
    parts += [f"{draw.choice(('fair', 'light', 'brown', 'dark'))} skin", f"{style} {shown['hair colour']} hair"]
    parts.append(f"{draw.choice(('brown', 'dark brown', 'blue', 'green', 'grey', 'hazel'))} eyes")
    parts += [part for part in (shown["beard"], "freckles" if draw.random() < 0.2 else "none") if part != "none"]
    pattern = draw.choice(("", "", "checked ", "striped "))
    parts.append(f"{pattern}{shown['shirt colour']} shirt")
    return ", ".join([*parts, shown["expression"], shown["light"], f"{shown['background']} background", shown["pose"]])


def render(target: Path, n: int, device: str) -> None:
    """Draws n people; images uint8 [n, 3, 256, 256], labels, guidance [n] and prompts go to an npz file."""
    import sosie_mini
    import torch
    from diffusers import StableDiffusionXLPipeline

    from sosie.core.plan import derive_seed

    torch.backends.cuda.matmul.allow_tf32 = True
    pipeline = StableDiffusionXLPipeline.from_pretrained(
        sosie_mini.folder(), dtype=torch.float32, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(device)
    texts, labels = drawn(n)
    images: list[Any] = []
    scales: list[float] = []
    draw = random.Random(20261127)
    for start in range(0, n, BATCH):
        scale = draw.choice(GUIDANCE)
        batch = texts[start : start + BATCH]
        seeds = [torch.Generator("cpu").manual_seed(derive_seed(2, start + i, 0)) for i in range(len(batch))]
        made = pipeline(
            batch,
            width=256,
            height=256,
            num_inference_steps=20,
            guidance_scale=scale,
            generator=seeds,
            output_type="pt",
        ).images
        images.append((made.float() * 255).round().to(torch.uint8).cpu())
        scales += [scale] * len(batch)
    np.savez(target, images=torch.cat(images).numpy(), labels=labels, scales=scales, texts=np.array(texts))


def network() -> Any:
    """The classifier as a torch module: float32 [n, 3, 256, 256] in 0..1 to logits [n, all values]."""
    from torch import cat, nn
    from torch.nn import functional

    def convolution(inner: int, outer: int, kernel: int, stride: int) -> Any:
        convolved = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(convolved, nn.BatchNorm2d(outer))

    class Block(nn.Module):
        def __init__(self, inner: int, outer: int) -> None:
            super().__init__()
            self.first = convolution(inner, outer, 3, 2)
            self.second = convolution(outer, outer, 3, 1)
            self.skip = convolution(inner, outer, 1, 2)

        def forward(self, x: Any) -> Any:
            return functional.relu(self.second(functional.relu(self.first(x))) + self.skip(x))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = convolution(3, WIDTHS[0], 3, 2)
            self.blocks = nn.ModuleList([Block(*pair) for pair in pairwise(WIDTHS)])
            self.heads = nn.Linear(2 * WIDTHS[-1], sum(map(len, VALUES.values())))

        def forward(self, x: Any) -> Any:
            x = functional.relu(self.stem(4 * x - 2))
            for block in self.blocks:
                x = block(x)
            pooled = cat([x.mean((2, 3)), x.amax((2, 3))], 1)
            return self.heads(functional.dropout(pooled, 0.2, self.training))

    return Network()


def train(source: Path, target: Path, device: str) -> None:
    """Trains on nine tenths of the images; prints the accuracy on the rest and writes the folded weights."""
    import torch
    from safetensors.numpy import save_file
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    torch.manual_seed(0)
    data = np.load(source)
    images = torch.from_numpy(data["images"]).to(device)
    labels = torch.from_numpy(data["labels"]).to(device)
    held = int(len(images) * HELD_OUT)
    model = network().to(device)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.995), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    steps = EPOCHS * ((len(images) - held) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps, pct_start=0.1)
    started = time.monotonic()
    for step in range(steps):
        which = torch.randint(len(images) - held, (128,), device=device)
        batch, wanted = augmented(images[which].float() / 255, labels[which])
        loss = sum(
            torch.nn.functional.cross_entropy(logits, wanted[:, place], label_smoothing=0.05)
            for place, logits in enumerate(model(batch).split([len(values) for values in VALUES.values()], 1))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        if step % 400 == 0:
            print(f"step {step} of {steps}, loss {loss.item():.2f}", flush=True)
    average.eval()
    with torch.no_grad():
        parts = [average.module(part.float() / 255) for part in images[-held:].split(256)]
    logits, truth = torch.cat(parts).cpu().numpy(), labels[-held:].cpu().numpy()
    print(f"trained in {time.monotonic() - started:.0f} s")
    for scale in ("any", GUIDANCE[-1]):
        those = np.ones(held, bool) if scale == "any" else data["scales"][-held:] == scale
        print(f"held out, guidance {scale}: {those.sum()} images, {json.dumps(correct(logits[those], truth[those]))}")
    save_file(folded(average.module), target)


def augmented(batch: Any, labels: Any) -> tuple[Any, Any]:
    """Images moved and scaled a little, half of them mirrored (left is then right), with other brightness and noise."""
    import torch
    from torch.nn import functional

    n, device = len(batch), batch.device
    mirrored = torch.rand(n, device=device) < 0.5
    zoom = 0.9 + 0.2 * torch.rand(n, device=device)
    matrix = torch.zeros(n, 2, 3, device=device)
    matrix[:, 0, 0], matrix[:, 1, 1] = torch.where(mirrored, -zoom, zoom), zoom
    matrix[:, :, 2] = 0.1 * torch.rand(n, 2, device=device) - 0.05
    grid = functional.affine_grid(matrix, list(batch.shape), align_corners=False)
    batch = functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    place, names = list(VALUES).index("pose"), list(VALUES["pose"])
    swap = {names.index(a): names.index(b) for a, b in (*MIRRORED.items(), *((b, a) for a, b in MIRRORED.items()))}
    table = torch.tensor([swap.get(i, i) for i in range(len(names))], device=device)
    labels = labels.clone()
    labels[:, place] = torch.where(mirrored, table[labels[:, place]], labels[:, place])
    batch = batch * (0.9 + 0.2 * torch.rand(n, 1, 1, 1, device=device))
    noise = 0.03 * torch.rand(n, 1, 1, 1, device=device)
    return (batch + noise * torch.randn_like(batch)).clamp(0, 1), labels


def correct(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The share of right answers, by attribute."""
    split = np.split(logits, np.cumsum([len(values) for values in VALUES.values()])[:-1], axis=1)
    return {
        name: round(float((part.argmax(1) == labels[:, place]).mean()), 4)
        for place, (name, part) in enumerate(zip(VALUES, split, strict=True))
    }


def folded(model: Any) -> dict[str, np.ndarray]:
    """Weights and biases float16 by name, each batch norm folded into the convolution before it."""
    arrays: dict[str, np.ndarray] = {}
    for name, module in model.named_modules():
        if type(module).__name__ == "Sequential":
            weight, norm = module[0].weight, module[1]
            factor = norm.weight / (norm.running_var + norm.eps).sqrt()
            arrays[f"{name}.weight"] = (weight * factor[:, None, None, None]).detach().cpu().numpy()
            arrays[f"{name}.bias"] = (norm.bias - norm.running_mean * factor).detach().cpu().numpy()
    arrays["heads.weight"] = model.heads.weight.detach().cpu().numpy()
    arrays["heads.bias"] = model.heads.bias.detach().cpu().numpy()
    return {name: np.ascontiguousarray(array.astype(np.float16)) for name, array in arrays.items()}


class Graph:
    """An ONNX graph in the making: float16 weights, float32 arithmetic."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self._make = helper.make_node
        self.stored = [numpy_helper.from_array(array, f"{name}.half") for name, array in weights.items()]
        self.nodes = [self._make("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT) for name in weights]

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """One node; the name of its output."""
        self.nodes.append(self._make(kind, list(inputs), [output], **attributes))
        return output

    def convolution(self, x: str, name: str, kernel: int, stride: int) -> str:
        """A convolution with its bias."""
        return self.add(
            "Conv", (x, f"{name}.weight", f"{name}.bias"), name, strides=[stride] * 2, pads=[kernel // 2] * 4
        )


def export(source: Path, target: Path) -> None:
    """Writes the ONNX file: input `image` float32 [n, 3, 256, 256] RGB in 0..1, output `logits` float32 [n, values]."""
    import onnx
    from onnx import TensorProto, helper
    from safetensors.numpy import load_file

    weights = {**load_file(source), "four": np.array(4, np.float16), "two": np.array(2, np.float16)}
    graph = Graph(weights)
    x = graph.add("Sub", (graph.add("Mul", ("image", "four"), "scaled"), "two"), "centred")
    x = graph.add("Relu", (graph.convolution(x, "stem", 3, 2),), "started")
    for place in range(len(WIDTHS) - 1):
        name = f"blocks.{place}"
        first = graph.add("Relu", (graph.convolution(x, f"{name}.first", 3, 2),), f"{name}.inner")
        both = (graph.convolution(first, f"{name}.second", 3, 1), graph.convolution(x, f"{name}.skip", 1, 2))
        x = graph.add("Relu", (graph.add("Add", both, f"{name}.sum"),), f"{name}.outer")
    pooled = [graph.add(f"Global{kind}Pool", (x,), kind) for kind in ("Average", "Max")]
    flat = graph.add("Flatten", (graph.add("Concat", pooled, "pooled", axis=1),), "flat")
    graph.add("Gemm", (flat, "heads.weight", "heads.bias"), "logits", transB=1)
    total = sum(map(len, VALUES.values()))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", total])
    made = helper.make_model(
        helper.make_graph(graph.nodes, "attributes", [image], [logits], graph.stored),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    helper.set_model_props(made, {"sosie.attributes": json.dumps(vocabulary(), separators=(",", ":"))})
    onnx.checker.check_model(made)
    onnx.save(made, target)
    print(f"{target}: {target.stat().st_size} bytes")


def accuracy(model: Path, characters: Path) -> None:
    """Prints the share of right answers on described renders, by attribute, and the commonest mistakes."""
    from sosie.files.images import read_image
    from sosie.scorers.attributes import AttributeClassifier

    classifier = AttributeClassifier(model)
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    captions = [(path.parent, line) for path in sorted(characters.glob("*/captions.jsonl")) for line in path.open()]
    for folder, line in captions:
        said = json.loads(line)
        seen = classifier.see(np.asarray(read_image(folder / said["file"])))
        for name, values in seen.items():
            truth = said[CAPTIONS.get(name, name)] or "none"
            best = max(values, key=lambda value, values=values: values[value])
            right[name] += best == truth
            wrong[f"{name}: {truth} taken for {best}"] += best != truth
    for name in VALUES:
        print(f"| {name} | {right[name]} of {len(captions)} | {100 * right[name] / len(captions):.0f} % |")
    for text, count in wrong.most_common(15):
        print(f"{count} x {text}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("render", "train", "export", "accuracy"))
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path, nargs="?", default=Path("attributes.onnx"))
    parser.add_argument("--n", type=int, default=9600)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.step == "render":
        render(options.first, options.n, options.device)
    elif options.step == "train":
        train(options.first, options.second, options.device)
    else:
        {"export": export, "accuracy": accuracy}[options.step](options.first, options.second)


if __name__ == "__main__":
    main()
