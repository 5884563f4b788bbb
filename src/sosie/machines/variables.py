"""The environment variables that a process which renders has a use for; nothing that gives access to anything."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, MutableMapping
from contextlib import contextmanager

PASSED = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|TEMP|TMP|SHELL|TERM|NO_COLOR|XDG_\w+|COLUMNS"
    r"|SYSTEMROOT|WINDIR|APPDATA|LOCALAPPDATA|PROGRAMDATA|USERPROFILE|HOMEDRIVE|HOMEPATH|PATHEXT|COMSPEC"
    r"|NUMBER_OF_PROCESSORS|PROCESSOR_\w+|PYTHON\w+|VIRTUAL_ENV|CONDA_PREFIX|LD_LIBRARY_PATH|LD_PRELOAD|DYLD_\w+|MALLOC_\w+"
    r"|SOSIE_\w+|HF_(?:HOME|HUB_CACHE|HUB_OFFLINE)|TRANSFORMERS_OFFLINE"
    r"|(?:CUDA|CUDNN|CUBLAS|NCCL|NVIDIA|HIP|ROCR|HSA|MIOPEN|AMD|PYTORCH|TORCH|TORCHINDUCTOR|TRITON|XFORMERS|SAFETENSORS)_\w+"
    r"|(?:OMP|KMP|GOMP|MKL|OPENBLAS|BLIS|VECLIB|NUMEXPR|ORT)_\w+|CC|CXX",
    re.IGNORECASE,
)
"""What Python, its libraries and their devices need."""

SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
"""What no variable is called that is passed on, whatever it begins with."""

RAY = re.compile(r"RAY_\w+")
"""Ray's own, its token among them: each of its processes proves by it that it belongs to the cluster."""


def is_needed(name: str) -> bool:
    """Whether a process that renders gets the variable of this name."""
    return PASSED.fullmatch(name) is not None and SECRET.search(name) is None


def is_needed_by_ray(name: str) -> bool:
    """Whether a process of a Ray cluster gets the variable of this name."""
    return is_needed(name) or RAY.fullmatch(name) is not None


def needed(variables: Mapping[str, str]) -> dict[str, str]:
    """Those of the variables that a process which renders gets."""
    return {name: value for name, value in variables.items() if is_needed(name)}


def keep_for_ray(variables: MutableMapping[str, str]) -> dict[str, str]:
    """Takes away what a process of a Ray cluster does not need, and returns it."""
    return {name: variables.pop(name) for name in list(variables) if not is_needed_by_ray(name)}


@contextmanager
def kept_for_ray(variables: MutableMapping[str, str]) -> Generator[None]:
    """As `keep_for_ray`, until the block ends: what is begun in it begins without them."""
    hidden = keep_for_ray(variables)
    try:
        yield
    finally:
        variables.update(hidden)
