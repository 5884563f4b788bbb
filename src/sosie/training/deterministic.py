"""The same numbers from the same state: on a GPU that must be asked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from typing import Any


@contextlib.contextmanager
def deterministic(device: str) -> Generator[None]:
    """Within, torch takes the algorithms that give the same bits every time, where there are such.

    A CPU has no others. cuBLAS needs a workspace of fixed size for that, which counts from its first use on.
    """
    if device == "cpu":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch.utils.deterministic

    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = before[1]


@contextlib.contextmanager
def strictly(device: str) -> Generator[None]:
    """Within `deterministic`, for a step: what cannot give the same bits every time is an error, not a warning.

    Attention's backward in fp32 has a deterministic form that torch takes only then.
    """
    if device == "cpu":
        yield
        return
    import torch

    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=True)
