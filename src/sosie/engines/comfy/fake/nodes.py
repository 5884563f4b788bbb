"""What the fake server's nodes do: each result is a digest of all that went into it, with a few traits.

A model file's content (`FakeServer.models`) may be one of the traps of ComfyUI 0.33:

| content | what happens |
|---|---|
| `truncated`, `html` | the loader raises SafetensorError |
| `other kind` | the loader raises RuntimeError |
| `wrong encoder` | the sampler raises RuntimeError |
| `df11` | the log says `unet missing`, the image is black, the prompt a success |
| `foreign lora` | the log names every key, the image is the one without the LoRA |
| `half lora` | the log names the attention's keys, the image changes |
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sosie.engines.comfy.fake.behaviour import Raises
from sosie.graph import NodeType, node_type

if TYPE_CHECKING:
    from PIL.Image import Image

SAFETENSORS = "safetensors._safetensors_rust.SafetensorError"
TRAPS: Mapping[str, Raises] = {
    "truncated": Raises(SAFETENSORS, "Error while deserializing header: incomplete metadata, file not fully covered\n"),
    "html": Raises(SAFETENSORS, "Error while deserializing header: header too large\n"),
    "other kind": Raises("RuntimeError", "ERROR: Could not detect model type of: models/file.safetensors\n"),
}
WRONG_ENCODER = Raises(
    "RuntimeError",
    "Given normalized_shape=[64], expected input with shape [*, 64], but got input of size[2, 77, 768]\n",
)
KEYS = {
    "foreign lora": tuple(f"transformer.other.{i}.{part}.weight" for i in range(3) for part in ("lora_A", "lora_B")),
    "half lora": tuple(f"lora_unet_layers_{i}_attention_to_{q}.alpha" for i in range(2) for q in "qkv"),
}


WAY = ("images", "samples", "latent_image", "upscaled_image", "pixels", "image")
"""The inputs along which an image comes to the node that saves it."""


class NodeError(Exception):
    """What a node raised."""

    def __init__(self, raised: Raises) -> None:
        super().__init__(raised.message)
        self.raised = raised


@dataclass(frozen=True)
class Result:
    """A node's result: a digest, the size of the picture that is in it, and the traits of the files behind it."""

    digest: str
    size: tuple[int, int] = (64, 64)
    traits: frozenset[str] = frozenset()
    said: tuple[str, ...] = field(default=(), compare=False)


def run_node(kind: str, inputs: Mapping[str, Any], files: Mapping[str, str]) -> Result:
    """The result of a node; links in `inputs` are `Result`s, `files` is what model files hold. Raises `NodeError`."""
    known = node_type(kind)
    before = [value for value in inputs.values() if isinstance(value, Result)]
    traits = frozenset(trait for result in before for trait in result.traits)
    contents = (
        [files.get(str(inputs[entry.name]), "") for entry in known.files if entry.name in inputs] if known else []
    )
    said: list[str] = []
    for content in contents:
        if content in TRAPS:
            raise NodeError(TRAPS[content])
        if content in KEYS:
            said += [f"lora key not loaded: {key}\n" for key in KEYS[content]]
        if content == "df11":
            said.append("unet missing: ['layers.0.attention.qkv.weight', 'layers.0.attention.out.weight']\n")
    if "foreign lora" in contents and isinstance(inputs.get("model"), Result):
        return Result(inputs["model"].digest, inputs["model"].size, traits, tuple(said))
    if is_sampler(kind) and "wrong encoder" in traits:
        raise NodeError(WRONG_ENCODER)
    if ends(known) and "df11" in traits:
        said.append("nodes.py:1698: RuntimeWarning: invalid value encountered in cast\n")
    told = sorted((name, value.digest if isinstance(value, Result) else value) for name, value in inputs.items())
    digest = hashlib.sha256(repr([kind, told, contents]).encode()).hexdigest()
    return Result(digest, _size(kind, inputs, before), traits | frozenset(contents), tuple(said))


def is_sampler(kind: str) -> bool:
    """Whether a class works in steps."""
    return "Sampler" in kind and not kind.endswith("Select")


def ends(known: NodeType | None) -> bool:
    """Whether a graph may end at a class."""
    return known is not None and known.ends


def draw(result: Result) -> Image:
    """The picture of a result: noise made of its digest; black where the weights were missing."""
    import PIL.Image

    if "df11" in result.traits:
        return PIL.Image.new("RGB", result.size)
    seed = hashlib.shake_256(result.digest.encode()).digest(192)
    tile = PIL.Image.frombytes("RGB", (8, 8), seed)
    return tile.resize(result.size, PIL.Image.Resampling.BICUBIC)


def _size(kind: str, inputs: Mapping[str, Any], before: list[Result]) -> tuple[int, int]:
    width, height = inputs.get("width"), inputs.get("height")
    if isinstance(width, int) and isinstance(height, int) and "Conditioning" not in kind and "Encode" not in kind:
        return width, height
    if kind == "ResolutionSelector":
        return _selected(*(str(inputs.get(name)) for name in ("aspect_ratio", "megapixels", "multiple")))
    worked_on = next((inputs[name] for name in WAY if isinstance(inputs.get(name), Result)), None)
    return worked_on.size if worked_on else max((result.size for result in before), default=(64, 64))


def _selected(aspect: str, megapixels: str, multiple: str) -> tuple[int, int]:
    """Width and height of a resolution: `2:3 (Portrait Photo)` and 1.0 are about 836 x 1254."""
    wide, high = (int(side) for side in aspect.partition(" ")[0].split(":"))
    unit, step = (float(megapixels) * 2**20 / (wide * high)) ** 0.5, int(multiple)
    return max(step, round(wide * unit / step) * step), max(step, round(high * unit / step) * step)
