"""How the fake server behaves: what it has, how slow it is, and what it does wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

Graph = Mapping[str, Mapping[str, Any]]

FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "checkpoints": ("sdxl.safetensors",),
        "diffusion_models": (
            "z_image_bf16.safetensors",
            "z_image_int8_convrot.safetensors",
            "z_image_turbo_bf16.safetensors",
            "z_image_turbo_int8_convrot.safetensors",
            "flux-2-klein-4b.safetensors",
        ),
        "text_encoders": ("qwen_3_4b.safetensors", "qwen_3_4b_fp8_mixed.safetensors"),
        "vae": ("ae.safetensors", "flux2-vae.safetensors"),
        "loras": ("character.safetensors", "ip-adapter-faceid-plusv2_sdxl_lora.safetensors"),
        "controlnet": ("instantid/diffusion_pytorch_model.safetensors",),
        "instantid": ("ip-adapter.bin",),
        "upscale_models": ("4x-UltraSharp.pth", "RealESRGAN_x4plus.safetensors"),
        "model_patches": ("Z-Image-Turbo-Fun-Controlnet-Union.safetensors",),
        "clip_vision": ("CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors",),
        "ipadapter": ("ip-adapter-faceid-plusv2_sdxl.bin",),
        "ultralytics": ("bbox/face_yolov8m.pt",),
    }
)
"""What lies in the folders of `models/`: the files of the shipped recipes and of ComfyUI's Z-Image and klein templates.

What a file holds is `FakeServer.disk.models[NAME]`.
"""


@dataclass(frozen=True)
class Raises:
    """What a node raises, and how often: an exception's type and text as ComfyUI reports it."""

    type: str
    message: str
    times: int = 1_000_000


@dataclass(frozen=True)
class Scripted:
    """An answer in place of the right one, `times` times.

    `length` is declared in place of the body's (negative: none is); `pace` is the pause in seconds before
    each byte; `breaks` ends the connection after the body, which is then shorter than declared.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    length: int | None = None
    pace: float = 0.0
    breaks: bool = False
    times: int = 1_000_000


@dataclass(frozen=True)
class Behaviour:
    """Everything that can be set.

    `picture` makes what a node saves, from the graph and the node's id; else it is one of `pictures` (files), or
    noise. Seconds: `step_seconds` a sampling step, `history_lag` from success to history, `free_lag` until memory is
    freed, `restart_seconds` from a crash to the next start (negative: never). Steps: at `drop_at` all websockets
    break, at `die_at` the server crashes, each `times` times. `raises` and `says` (log lines) go by the class of
    the node that runs. `frames` are sent over the websocket at the first step as they are.
    `is_old`: no `/api/jobs`, own ids for prompts, and every interrupt stops whatever runs. `is_mute`: no events.
    `accepts_then_breaks`: so many prompts are taken without an answer. `scripted` goes by the path. `memory` (of the
    GPU) and `ram` (of the machine, 0: not told) are in bytes.
    """

    files: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: FILES)
    lacks: frozenset[str] = frozenset()
    picture: Callable[[Graph, str], Image] | None = None
    pictures: tuple[Path, ...] = ()
    step_seconds: float = 0.0
    history_lag: float = 0.0
    free_lag: float = 0.0
    restart_seconds: float = 0.1
    drop_at: int = 0
    die_at: int = 0
    times: int = 1
    previews: bool = False
    frames: tuple[str | bytes, ...] = ()
    raises: Mapping[str, Raises] = field(default_factory=dict[str, Raises])
    says: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    is_old: bool = False
    is_mute: bool = False
    accepts_then_breaks: int = 0
    shows_log: bool = True
    token: str = ""
    max_upload: int = 104_857_600
    memory: int = 24 * 2**30
    ram: int = 0
    version: str = "0.33.0"
    scripted: Mapping[str, Scripted] = field(default_factory=dict[str, Scripted])
