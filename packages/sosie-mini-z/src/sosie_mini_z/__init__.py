"""`mini-z`, the second embedded model of Sosie: Z-Image in small, as a stock diffusers folder.

`folder()` is the whole interface; `MODEL` is what the entry point group `sosie.models` finds. Neither needs torch.
"""

from __future__ import annotations

from pathlib import Path

from sosie_mini import MODEL as MINI
from sosie_mini import MiniError, Model

__all__ = ["MODEL", "MiniError", "folder"]

_HERE = Path(__file__).parent


def folder(verify: bool = False) -> Path:
    """The stock diffusers folder of `mini-z`, expanded once into the user's cache (64 MB).

    It lies in `SOSIE_CACHE` or the user's cache folder, at `models/mini-z-DIGEST`, and holds float16
    safetensors and the tokenizer. It is whole or not there, several processes may ask at once, and damaged
    files are replaced. `verify` checks every digest again. Raises `MiniError` if the package is damaged or
    the cache cannot be written.
    """
    from sosie_mini.cache import Package, cache_folder, ensure_folder
    from sosie_mini.manifest import load_manifest

    from sosie_mini_z.last_layer import expanded_bytes

    package = Package("mini-z", _HERE / "weights", load_manifest(_HERE / "manifest.json"), expanded_bytes)
    return ensure_folder(package, cache_folder() / "models", verify)


def _beside(name: str) -> Path | None:
    path = _HERE / name
    return path if path.is_file() else None


MODEL = Model(
    name="mini-z",
    family="zimage",
    licence="CC0-1.0",
    folder=folder,
    cohort=_beside("cohort.npz"),
    attributes=MINI.attributes,  # it reads the same words from pictures of the same renderer
    summary="Z-Image in small, for CPUs: 256x256 rendered portraits of fictional adults, without an identity guide",
)
