"""A Fun ControlNet beside Z-Image's transformer: loaded from its single file, refused if it does not fit.

Layouts (diffusers `ZImageControlNetModel`; alibaba-pai): 1.0 has a refiner of its own for the picture and takes 16
channels; 2.0 sends it through its layers, and 2.1 through refiner blocks of ControlNet's kind, both with 33 channels:
the picture, a mask and what is under it. 2.0 holds the blocks of 2.1 with zeros, which are not used. The layers lie
evenly over the transformer's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import accelerate
import diffusers
import torch
from torch import Tensor, nn
from torch.nn import functional

from sosie.core.errors import BadModelError
from sosie.diffusion.flow.levels import FlowLevels
from sosie.diffusion.flow.spans import between
from sosie.diffusion.loading import quiet
from sosie.diffusion.parts import Vae
from sosie.diffusion.vae import encode_image
from sosie.diffusion.weights.part import SHOW
from sosie.diffusion.weights.reading import Weights, read_weights
from sosie.families import guides_of
from sosie.families.contract.draws import StageInput
from sosie.families.contract.guides import Control, conditionings
from sosie.families.zimage.diffusers.parts import Transformer
from sosie.families.zimage.diffusers.weights import described

EMBEDDER = "control_all_x_embedder.2-1.weight"

SHARED = (
    "t_scale",
    "t_embedder",
    "all_x_embedder",
    "cap_embedder",
    "rope_embedder",
    "noise_refiner",
    "context_refiner",
    "x_pad_token",
    "cap_pad_token",
)
"""What the ControlNet takes of the transformer."""


@dataclass(frozen=True, eq=False)
class ControlNet:
    """A loaded ControlNet; `channels` is how many its picture has."""

    net: nn.Module
    channels: int


@dataclass(frozen=True, eq=False)
class Acting:
    """A ControlNet with its picture's latents [1, channels, 1, h / 8, w / 8].

    `acts` says at which noise levels it acts, with `scale`.
    """

    controlnet: ControlNet
    picture: Tensor
    scale: float
    acts: Callable[[float], bool]

    def residuals(
        self, transformer: Transformer, frames: list[Tensor], time: Tensor, texts: list[Tensor], sigma: float
    ) -> dict[int, Tensor]:
        """What is added after each of the transformer's layers; nothing where it does not act."""
        if not self.acts(sigma):
            return {}
        bring(transformer)
        net: Any = self.controlnet.net
        for name in SHARED:
            # Not as submodules: what moves or packs the ControlNet shall leave the transformer's parts alone.
            net.__dict__[name] = getattr(transformer, name)
        rows = [_padded(self.picture[0].to(frames[0]), frames[0])] * len(frames)
        return cast("dict[int, Tensor]", net(frames, time, texts, rows, conditioning_scale=self.scale))


class Controls:
    """The ControlNets of one model: those of the stage that was drawn last, so that another stage has their memory."""

    def __init__(self) -> None:
        self._loaded: dict[Path, ControlNet] = {}

    @property
    def nets(self) -> list[nn.Module]:
        """Those that are loaded."""
        return [one.net for one in self._loaded.values()]

    def load(self, given: StageInput, transformer: Transformer) -> bool:
        """Loads those of a stage and lets the others go; whether they are others now. Raises as `load_controlnet`."""
        wanted = [given.paths[guide.weights] for guide in given.stage.guides if _controls(guide.kind)]
        others = set(wanted) != set(self._loaded)
        self._loaded = {path: net for path, net in self._loaded.items() if path in wanted}
        for path in wanted:
            if path not in self._loaded:
                self._loaded[path] = load_controlnet(path, transformer, transformer.dtype)
        return others

    def acting(self, given: StageInput, vae: Vae, levels: FlowLevels) -> tuple[Acting, ...]:
        """As the stage's guides say."""
        controls = [asked.control for _, asked in conditionings(guides_of("zimage"), given) if asked.control]
        return tuple(self._acting(given, control, vae, levels) for control in controls)

    def _acting(self, given: StageInput, control: Control, vae: Vae, levels: FlowLevels) -> Acting:
        span = control.keypoints
        controlnet = self._loaded[given.paths[span.controlnet]]
        picture = with_channels(encode_image(vae, control.picture), controlnet.channels)
        return Acting(controlnet, picture, span.scale, between(levels, span.start, span.end))


def _controls(kind: str) -> bool:
    found = guides_of("zimage").kind(kind)
    return found is not None and found.in_process is not None and "control" in found.in_process.joins


def bring(part: Transformer) -> None:
    """Has a part that waits for its turn come to where it works: its own parts are used before it."""
    hook = getattr(part, "_hf_hook", None)
    if hook is not None:
        hook.pre_forward(part)


def with_channels(latents: Tensor, channels: int) -> Tensor:
    """A picture's latents [1, c, h, w] as a ControlNet takes them [1, channels, 1, h, w]: no mask, nothing under it."""
    return functional.pad(latents, (0, 0, 0, 0, 0, channels - latents.shape[1])).unsqueeze(2)


def load_controlnet(path: Path, transformer: Transformer, dtype: torch.dtype) -> ControlNet:
    """The `ZImageControlNetModel` at `path` in `dtype`, on the CPU, for that transformer.

    Raises `BadModelError` for what is none, or does not fit.
    """
    weights = read_weights(path)
    config = _config(path, weights, transformer)
    library, empty = cast(Any, diffusers), cast(Any, accelerate).init_empty_weights
    try:
        with quiet(), empty():
            net: nn.Module = library.ZImageControlNetModel(**config)
    except (ValueError, TypeError, AssertionError, ZeroDivisionError) as error:
        raise BadModelError(f"{described(path)}; its tensors make no ControlNet: {str(error)[:200]}", SHOW) from error
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    for name, shape in wanted.items():
        if name not in weights.names or weights.shape(name) != shape:
            found = weights.shape(name) if name in weights.names else "nothing"
            raise BadModelError(f"{described(path)}; {name} is {found}, expected {shape}", SHOW)
    net.load_state_dict({name: weights.tensor(name, dtype) for name in wanted}, strict=True, assign=True)
    return ControlNet(net.eval().requires_grad_(False), cast(int, config["control_in_dim"]))


def numbers(path: Path) -> int:
    """How many numbers a ControlNet holds."""
    weights = read_weights(path)
    return sum(torch.Size(weights.shape(name)).numel() for name in weights.names)


def _config(path: Path, weights: Weights, transformer: Transformer) -> dict[str, object]:
    """The class's arguments, from the shapes and the transformer's configuration."""
    names = weights.names
    layers = len({found[1] for name in names if (found := re.match(r"control_layers\.(\d+)\.", name))})
    if EMBEDDER not in names or not layers:
        raise BadModelError(f"{described(path)}; a Fun ControlNet of Z-Image was expected", SHOW)
    config: Any = transformer.config
    width, taken = weights.shape(EMBEDDER)
    if width != config.dim or layers > config.n_layers:
        message = f"{described(path)}; it has {layers} layers {width} wide, the model {config.n_layers} of {config.dim}"
        raise BadModelError(message, "use the ControlNet that was made for this model")
    step = config.n_layers // layers
    return {
        "control_layers_places": list(range(0, step * layers, step)),
        "control_refiner_layers_places": list(range(config.n_refiner_layers)),
        "control_in_dim": taken // 4,
        "add_control_noise_refiner": _refiner(weights),
        "dim": width,
        "n_refiner_layers": config.n_refiner_layers,
        "n_heads": config.n_heads,
        "n_kv_heads": config.n_kv_heads,
        "norm_eps": config.norm_eps,
        "qk_norm": config.qk_norm,
    }


def _refiner(weights: Weights) -> str | None:
    """Which layout it is: None is 1.0, `control_layers` 2.0, `control_noise_refiner` 2.1."""
    if weights.shape(EMBEDDER)[1] == 4 * 16:
        return None
    first = "control_noise_refiner.0.before_proj.weight"
    used = first in weights.names and bool(weights.tensor(first).any())
    return "control_noise_refiner" if used else "control_layers"


def _padded(picture: Tensor, frame: Tensor) -> Tensor:
    """The picture [c, 1, h, w] as large as the frame, whose sides are whole tokens."""
    height, width = frame.shape[-2] - picture.shape[-2], frame.shape[-1] - picture.shape[-1]
    return functional.pad(picture, (0, width, 0, height), mode="circular") if height or width else picture
