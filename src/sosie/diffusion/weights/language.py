"""The names that llama.cpp gives the tensors of language models in GGUF, by transformers' names of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sosie.core.errors import BadModelError, MissingExtraError
from sosie.diffusion.weights.sources import Source

ENDS = (".weight", ".bias")


def llama_cpp_sources(architecture: str, parameters: Iterable[str], layers: int) -> dict[str, Source]:
    """Where parameters (`layers.0.self_attn.q_proj.weight`) are in a GGUF file of an architecture (`qwen3`).

    The table is that of llama.cpp's package `gguf`. Raises `BadModelError` for an architecture or a parameter that it
    does not have, `MissingExtraError` without the package.
    """
    try:
        import gguf
    except ImportError:
        raise MissingExtraError("GGUF files are read with the package gguf", "pip install 'sosie[local]'") from None
    library: Any = gguf
    known = {name: number for number, name in library.MODEL_ARCH_NAMES.items()}
    if architecture not in known:
        raise BadModelError(f"llama.cpp knows no architecture '{architecture[:40]}'")
    table = library.get_tensor_name_map(known[architecture], layers)
    return {name: Source(_named(table, name)) for name in parameters}


def _named(table: Any, parameter: str) -> str:
    for prefix in ("model.", ""):
        name = table.get_name(prefix + parameter, try_suffixes=ENDS)
        if isinstance(name, str):
            return name
    raise BadModelError(f"llama.cpp has no name for '{parameter[:120]}'")
