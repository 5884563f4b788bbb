"""What pictures and texts become before they are trained on, kept on the disk by digest."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.core.schema import digest
from sosie.training.saves import save_whole

U023 = Rule("SOS-U023", "info", "A file of the cache was damaged")

VERSION = 1
"""Of what is in a file; a file of another one is never asked for."""

Tensors = dict[str, Any]


class Cache:
    """A folder with one safetensors file a picture or text; what is damaged is made again (`findings`: SOS-U023)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.findings: list[Finding] = []

    def get(self, key: object, make: Callable[[], Mapping[str, Any]]) -> Tensors:
        """The tensors that are kept under `key` (anything that is JSON), made and kept if they are not there.

        Raises `DiskFullError` if they cannot be kept.
        """
        torch_files: Any = importlib.import_module("safetensors.torch")
        errors: Any = importlib.import_module("safetensors").SafetensorError
        path = self._folder / f"{digest([VERSION, key])}.safetensors"
        if path.is_file():
            try:
                return torch_files.load_file(path)
            except (OSError, ValueError, errors) as error:
                message = f"{path.name} in the cache is damaged ({error}); it was made again"
                self.findings.append(U023.at(str(path), message, "look at the disk if it recurs"))
        made = {name: tensor.contiguous() for name, tensor in make().items()}
        save_whole(path, torch_files.save(made))
        return made
