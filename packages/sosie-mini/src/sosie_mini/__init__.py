"""`mini`, the embedded model of Sosie: SDXL in small, as a stock diffusers folder; and an upscaler for it.

`folder()` and `upscaler()` are the whole interface; `MODEL` and `UPSCALER` are what the entry point
group `sosie.models` finds. None needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sosie_mini.errors import MiniError

__all__ = ["MODEL", "UPSCALER", "MiniError", "Model", "folder", "upscaler"]

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Model:
    """A model that comes as a Python package.

    `folder` gives its diffusers folder, made ready at the first call, or its one file. `cohort` is the file of
    impostors' embeddings that the judges' thresholds come from, `attributes` the ONNX classifier of what its
    pictures show (expression, light, ...); None where there is none.
    """

    name: str
    family: str
    licence: str
    folder: Callable[[], Path]
    cohort: Path | None
    summary: str
    attributes: Path | None = None


def folder(verify: bool = False) -> Path:
    """The stock diffusers folder of `mini`, expanded once into the user's cache (80 MB).

    It lies in `SOSIE_CACHE` or the user's cache folder, at `models/mini-DIGEST`, and holds float16
    safetensors, both tokenizers, `ip-adapter/`, `controlnet/` and `id_encoder.onnx`. It is whole
    or not there, several processes may ask at once, and damaged files are replaced. `verify`
    checks every digest again. Raises `MiniError` if the package is damaged or the cache cannot
    be written.
    """
    from sosie_mini.cache import Package, cache_folder, ensure_folder
    from sosie_mini.manifest import load_manifest

    return ensure_folder(Package("mini", _HERE / "weights", load_manifest()), cache_folder() / "models", verify)


def upscaler() -> Path:
    """The weights of the upscaler (4x, Real-ESRGAN's compact network, float16 safetensors of 0.7 MB) in the package.

    Raises `MiniError` if they are missing.
    """
    path = _HERE / "upscaler.safetensors"
    if not path.is_file():
        raise MiniError(f"{path} is missing", "pip install --force-reinstall --no-deps packages/sosie-mini")
    return path


def _beside(name: str) -> Path | None:
    path = _HERE / name
    return path if path.is_file() else None


MODEL = Model(
    name="mini",
    family="sdxl",
    licence="CC0-1.0",
    folder=folder,
    cohort=_beside("cohort.npz"),
    summary="SDXL in small, for CPUs: 256x256 rendered portraits of fictional adults, with FaceID and key points",
    attributes=_beside("attributes.onnx"),
)

UPSCALER = Model(
    name="mini-upscaler",
    family="esrgan",
    licence="CC0-1.0",
    folder=upscaler,
    cohort=None,
    summary="four times the size, for CPUs: trained on rendered portraits of fictional adults",
)
