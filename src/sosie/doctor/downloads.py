"""Whether a fetched file is what it was fetched for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import SosieError
from sosie.core.finding import Rule
from sosie.doctor.loras import check_read_lora
from sosie.doctor.model_files import check_model_file
from sosie.families import families as every_family
from sosie.files.model_file import Ambiguous, Known
from sosie.lora import read_lora

N008 = Rule("SOS-N008", "error", "A fetched file is not what the recipe needs it for")

OF_A_FAMILY = ("checkpoint", "pipeline", "denoiser", "controlnet", "ip-adapter", "instantid", "lora")
"""Roles of files that fit one family only."""


def check_fetched(path: Path, role: str, families: Collection[str], known: Path | None = None) -> list[Finding]:
    """What the doctor says of a fetched file, and SOS-N008 if it is not of `role` and of one of `families`.

    An empty `role` and no `families` mean any. ONNX files are not looked into. `known`: see `check_model_file`.
    """
    if path.suffix == ".onnx":
        return []
    try:
        is_lora = path.suffix in (".safetensors", ".sft") and role in ("", "lora")
        lora = read_lora(path, every_family()) if is_lora else None
    except SosieError:
        lora = None
    if lora is not None:
        return [*check_read_lora(lora), *_misfit(path, role, families, [("lora", lora.family)])]
    answer, findings = check_model_file(path, known)
    models = (
        answer.candidates if isinstance(answer, Ambiguous) else (answer.model,) if isinstance(answer, Known) else ()
    )
    return [*findings, *_misfit(path, role, families, [(model.role, model.family) for model in models])]


def _misfit(path: Path, role: str, families: Collection[str], found: list[tuple[str, str]]) -> list[Finding]:
    """`found` are role and family of everything that the file can be; none for what is not known."""
    fitting = [
        (is_role, family)
        for is_role, family in found
        if role in ("", is_role) and (not families or is_role not in OF_A_FAMILY or family in families)
    ]
    if fitting or not (role or families) or not (role or found):
        return []
    is_what = " or ".join(f"{is_role} of family {family or 'unknown'}" for is_role, family in found) or "not known"
    wanted = f"{role or 'a file'} for {' or '.join(sorted(families))}" if families else role
    message = f"{path} is {is_what}; expected {wanted}"
    return [N008.at(str(path), message, "check the recipe's source: sosie recipe show NAME")]
