"""The CLIP image encoder that FaceID Plus looks at a face with.

ViT-H/14 (OpenCLIP, laion2b) in the layout of transformers; the adapters were trained on the states
before its last layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import safetensors
import torch
import transformers
from PIL import Image
from torch import Tensor

from sosie.core.errors import BadModelError
from sosie.families.sdxl.diffusers.controlnet import SHOW, config_beside, described
from sosie.files.safetensors import Header, read_header

VIT_H: Mapping[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 224,
    "projection_dim": 1024,
    "hidden_act": "gelu",
}
"""The published configuration of CLIP ViT-H/14, for a file without its config.json."""

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
"""CLIP's mean and standard deviation of RGB in 0 to 1 (Radford et al. 2021)."""

PREFIXES = ("vision_model.", "visual_projection.")


class ImageEncoder:
    """Holds the encoder in main memory, and on the device only while it looks at a picture.

    Kept: the states of the last picture, since a character's face is the same for many images.
    """

    def __init__(self, path: Path, dtype: torch.dtype) -> None:
        """Loads a transformers folder or a .safetensors file; `BadModelError` for anything else."""
        self._model: Any = _load(path, dtype).eval()
        self._seen: bytes = b""
        self._states: Tensor | None = None

    @property
    def width(self) -> int:
        """The width of its states."""
        return int(self._model.config.hidden_size)

    def states(self, crop: Image.Image, device: torch.device) -> Tensor:
        """[2, tokens, width]: the states before the last layer of an empty picture, and of `crop` (RGB).

        The empty picture (zeros after normalisation) stands for the unconditional half, as in the
        original (IP-Adapter, `ip_adapter_faceid.py`).
        """
        size = int(self._model.config.image_size)
        pixels = np.asarray(crop.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
        if self._states is None or pixels.tobytes() != self._seen:
            normal = (pixels.astype(np.float32) / 255 - MEAN) / DEVIATION
            both = np.stack([np.zeros_like(normal), normal]).transpose(0, 3, 1, 2)
            with torch.no_grad():
                self._model.to(device)
                both = torch.as_tensor(both.copy()).to(device, self._model.dtype)
                states: Tensor = self._model(both, output_hidden_states=True).hidden_states[-2]
                self._model.to("cpu")
            self._seen, self._states = pixels.tobytes(), states
        return self._states.to(device)


def _load(path: Path, dtype: torch.dtype) -> Any:
    library: Any = transformers
    kind = library.CLIPVisionModelWithProjection
    try:
        if path.is_dir():
            return kind.from_pretrained(path, dtype=dtype, local_files_only=True)
        beside = config_beside(path)
        if beside.get("model_type") in ("clip", "clip_vision_model"):
            config = library.CLIPVisionConfig.from_pretrained(path.with_name("config.json"))
        else:
            config = library.CLIPVisionConfig(**VIT_H)
        return _from_file(path, read_header(path), lambda: kind(config)).to(dtype)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        wanted = "CLIP ViT-H/14's image encoder was expected"
        raise BadModelError(f"{described(path)}; {wanted}: {str(error)[:300]}", SHOW) from error


def _from_file(path: Path, header: Header, make: Callable[[], Any]) -> Any:
    """The encoder of a single file, which may hold CLIP's text half too."""
    empty: Any = accelerate.init_empty_weights
    opened: Any = safetensors.safe_open(path, "pt")
    names = [name for name in header.tensors if name.startswith(PREFIXES) and not name.endswith("position_ids")]
    with opened as file:
        state = {name: file.get_tensor(name) for name in names}
    with empty():
        model = make()
    model.load_state_dict(state, strict=True, assign=True)
    return model
