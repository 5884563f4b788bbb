"""Tiny reads into a model file: values that no trained model has, in a file whose header is right.

A download that reserved its space and stopped is as long as the whole file, with zeros where nothing
was written; a training run that went wrong saves NaN. Both load without an error and give black images.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sosie.core import Finding
from sosie.core.errors import BadModelError
from sosie.core.finding import Rule
from sosie.files.safetensors import Header, TensorInfo, read_tensor

F120 = Rule("SOS-F120", "error", "A model file holds NaN or infinite weights")
F121 = Rule("SOS-F121", "error", "A model file is all zeros where it was probed")
F122 = Rule("SOS-F122", "warning", "Some weights of a model file are all zeros")
F123 = Rule("SOS-F123", "warning", "A model file could not be probed")
PROBES = tuple(rule.code for rule in (F120, F121, F122, F123))

SAMPLES = 12
"""Tensors that are looked at, evenly spaced over the file."""

READ = 65_536
"""Bytes that are read of each."""

LEAST = 1024
"""Bytes of the smallest tensor that is looked at: smaller ones may well be zero."""

EXPONENTS: dict[str, tuple[Literal["H", "I"], int]] = {
    "F16": ("H", 0x7C00),
    "BF16": ("H", 0x7F80),
    "F32": ("I", 0x7F800000),
}
"""The dtypes that can be looked into: their unsigned type and the exponent that NaN and infinity have."""

PACKED = ("U8", "I8", "F8_E4M3", "F8_E5M2")
"""Dtypes of which only zeros are looked for."""


def probe(path: Path, header: Header) -> list[Finding]:
    """SOS-F120 to F123 from at most `SAMPLES` reads of `READ` bytes of the safetensors file `path`.

    All-zero samples are an error if all are, and a warning if some are (a model may have been
    trained from zeros there). No finding means only that nothing was found.
    """
    names = sampled(header)
    bad: list[str] = []
    zero: list[str] = []
    try:
        for name in names:
            info = header.tensors[name]
            data = read_tensor(path, info.offsets, READ)
            if data == bytes(len(data)):
                zero.append(name)
            elif _has_no_number(info.dtype, data):
                bad.append(name)
    except BadModelError as error:
        return [F123.at(str(path), error.message, error.hint)]
    findings: list[Finding] = []
    if bad:
        message = f"{path} holds NaN or infinity in {_listed(bad, names)}; finite numbers were expected"
        findings.append(F120.at(str(path), message, "take an earlier save, or download it again"))
    if zero and len(zero) == len(names):
        message = f"{path} is all zeros in {_listed(zero, names)}: its weights were never written"
        findings.append(F121.at(str(path), message, _AGAIN))
    elif zero:
        message = f"{path} is all zeros in {_listed(zero, names)}: a part may never have been written"
        findings.append(F122.at(str(path), message, _AGAIN))
    return findings


def sampled(header: Header) -> list[str]:
    """The names of the weights that are looked at, in the order of the file, evenly spaced, the last one among them."""

    def fits(name: str, info: TensorInfo) -> bool:
        looked_at = info.dtype in EXPONENTS or info.dtype in PACKED
        return looked_at and name.endswith("weight") and info.offsets[1] - info.offsets[0] >= LEAST

    names = sorted((n for n, i in header.tensors.items() if fits(n, i)), key=lambda n: header.tensors[n].offsets)
    if len(names) <= SAMPLES:
        return names
    return [names[round(i * (len(names) - 1) / (SAMPLES - 1))] for i in range(SAMPLES)]


def _has_no_number(dtype: str, data: bytes) -> bool:
    """True if one of the values is NaN or infinite."""
    if dtype not in EXPONENTS:
        return False
    kind, exponent = EXPONENTS[dtype]
    values: array.array[int] = array.array(kind)
    size = values.itemsize
    if not data[size - 1 :: size].translate(None, delete=_ORDINARY[dtype]):
        return False
    values.frombytes(data[: len(data) // size * size])
    if sys.byteorder == "big":
        values.byteswap()
    return any(value & exponent == exponent for value in set(values))


_ORDINARY = {
    dtype: bytes(top for top in range(256) if top & (exponent >> shift) != exponent >> shift)
    for dtype, (kind, exponent) in EXPONENTS.items()
    for shift in (8 if kind == "H" else 24,)
}
"""The highest bytes that no NaN and no infinity of a dtype has: where there are only these, nothing else is read."""


def _listed(some: Sequence[str], probed: Sequence[str]) -> str:
    return f"{len(some)} of {len(probed)} probed tensors (the first is {some[0][:80]!r})"


_AGAIN = "download the file again and compare its SHA-256 with the publisher's"
