"""Converting: a pickled model becomes a safetensors file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sosie.core import Finding
from sosie.doctor.pickles import K012, pickle_findings
from sosie.files.pickles.convert import convert


@dataclass(frozen=True)
class Conversion:
    """What was converted: from where, to where, how many tensors, and what was remarkable."""

    path: Path
    out: Path
    tensors: int
    bytes: int
    findings: tuple[Finding, ...]


def convert_model(path: Path, out: Path | None = None) -> Conversion:
    """Writes `out`, by default `path` with the ending .safetensors; it appears whole or not at all.

    Raises `PickleError` if the file is refused, `UsageError`
    if `out` exists, `NotFoundError`, `MissingExtraError` where torch is not installed.
    """
    out = path.with_suffix(".safetensors") if out is None else out
    pickled = convert(path, out)
    # SOS-K012 says to convert it, which is done.
    findings = tuple(finding for finding in pickle_findings(pickled) if finding.code != K012.code)
    return Conversion(path, out, len(pickled.header.tensors), out.stat().st_size, findings)
