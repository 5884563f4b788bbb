"""What loading weights with diffusers and transformers takes in every family."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from sosie.diffusion.parts import Vae


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Turns the progress bars and warnings of diffusers and transformers off while weights load."""
    from diffusers.utils import logging
    from transformers.utils import logging as transformers_logging

    before = logging.get_verbosity(), transformers_logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before[0])
        transformers_logging.set_verbosity(before[1])


def load_vae(path: Path, dtype: torch.dtype) -> Vae:
    """The `AutoencoderKL` of a diffusers folder or a single file, on the CPU; nothing is downloaded."""
    import diffusers

    library: Any = diffusers
    kind = library.AutoencoderKL
    load = kind.from_pretrained if path.is_dir() else kind.from_single_file
    return load(path, torch_dtype=dtype, local_files_only=True)


def without_weights(parts: Iterable[tuple[str, nn.Module]]) -> list[str]:
    """The parameters that loading left without numbers, as PART.NAME; diffusers says nothing of a text encoder's."""
    return [f"{part}.{name}" for part, module in parts for name, it in module.named_parameters() if it.is_meta]
