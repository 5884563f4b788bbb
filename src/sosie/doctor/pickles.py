"""Checks of pickled model files and of GGUF files: what is in them, and whether it is whole and harmless."""

from __future__ import annotations

from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import NotFoundError
from sosie.files.gguf import Gguf, GgufError, read_gguf
from sosie.files.pickles.pickled import Pickled, read_pickled
from sosie.files.pickles.records import PickleError

CODES: dict[str, str] = {
    "SOS-K001": "A pickled model names something that is not a tensor; loading it can run code",
    "SOS-K002": "A pickled model uses an opcode or an argument that torch.save never writes",
    "SOS-K003": "A pickled model refers to an object outside of it that is no storage of a tensor",
    "SOS-K004": "A pickled model is larger, in its pickle or its objects, than any table of tensors",
    "SOS-K005": "A pickled model is truncated or damaged",
    "SOS-K006": "A pickled model's zip archive is not what torch.save writes",
    "SOS-K007": "A pickled model has bytes after its end, where something can hide",
    "SOS-K008": "A file is not a pickled table of tensors",
    "SOS-K009": "A pickled file holds no tensors",
    "SOS-K010": "A pickled model holds a tensor that cannot be read or named",
    "SOS-K011": "A pickled model's tensors take far more bytes than the file has",
    "SOS-K012": "A pickled model holds only tensors",
    "SOS-K013": "A pickled model is written in a protocol that torch's weights-only reader does not take",
    "SOS-K014": "A pickled model carries tensors beside the model's",
    "SOS-K020": "Torch's weights-only reader refuses a pickled model",
    "SOS-K021": "The process that converts a pickled model was stopped",
    "SOS-K022": "A converted model is not what its pickle promised",
    "SOS-K049": "A model file does not exist",
    "SOS-G001": "A file is not a GGUF file",
    "SOS-G002": "A GGUF file has a version or byte order that is not read",
    "SOS-G003": "A GGUF file's header is larger than any known",
    "SOS-G004": "A GGUF file's header contradicts itself",
    "SOS-G005": "A GGUF file is truncated",
    "SOS-G006": "A GGUF file has bytes after its last tensor",
    "SOS-G007": "A GGUF file has a tensor of an unknown type",
    "SOS-G008": "A GGUF file's tensors overlap or are not aligned",
    "SOS-G009": "A GGUF file holds no tensors",
    "SOS-G010": "A GGUF file is whole",
    "SOS-G019": "A model file does not exist",
}
"""Every code that this module, `files.pickle_*` and `files.gguf` give, with its title."""

TORCH_PROTOCOL = 2
"""The pickle protocol of `torch.save`, and the one that its weights-only reader takes."""

PADDING = 2**16
"""Bytes after the last tensor that are no finding: writers pad the last one to the alignment."""


def check_pickle(path: Path) -> list[Finding]:
    """SOS-K001 to K011 if the file is refused, else SOS-K012 and what is remarkable; nothing in it is run."""
    try:
        return pickle_findings(read_pickled(path))
    except PickleError as error:
        return [Finding(error.code, "error", str(path), error.message, error.hint)]
    except NotFoundError as error:
        return [Finding("SOS-K049", "error", str(path), error.message, error.hint)]


def pickle_findings(pickled: Pickled) -> list[Finding]:
    """What there is to say of a pickled model that holds only tensors."""
    subject, count = str(pickled.path), len(pickled.header.tensors)
    convert = f"sosie model convert {subject}"
    message = f"{subject} is a pickle and holds only tensors ({count:,}); a .safetensors file cannot run code at all"
    findings = [Finding("SOS-K012", "info", subject, message, convert)]
    if pickled.protocol > TORCH_PROTOCOL:
        message = f"{subject} is a pickle of protocol {pickled.protocol}; torch's weights-only reader takes protocol 2"
        hint = "get it as .safetensors, or save it again with torch.save(..., pickle_protocol=2) where it comes from"
        findings.append(Finding("SOS-K013", "warning", subject, message, hint))
    if pickled.left_out:
        message = (
            f"{subject} carries {pickled.left_out:,} tensors beside the model's (an optimiser's, or a second copy)"
        )
        findings.append(Finding("SOS-K014", "info", subject, message, f"{convert} leaves them out"))
    return findings


def check_gguf(path: Path) -> list[Finding]:
    """SOS-G001 to G009 for what is wrong with a GGUF file, else SOS-G010 with what it holds."""
    try:
        return gguf_findings(read_gguf(path))
    except GgufError as error:
        return [Finding(error.code, "error", str(path), error.message, error.hint)]
    except NotFoundError as error:
        return [Finding("SOS-G019", "error", str(path), error.message, error.hint)]


def gguf_findings(gguf: Gguf) -> list[Finding]:
    """What there is to say of a GGUF file with a valid header."""
    subject = str(gguf.path)
    if not gguf.tensors:
        message = (
            f"{subject} holds no tensors, only {len(gguf.metadata)} metadata entries (a vocabulary, or a first shard)"
        )
        return [Finding("SOS-G009", "error", subject, message, "get the file with the model's weights")]
    if gguf.bytes < gguf.expected:
        share = f"{gguf.bytes:,} of {gguf.expected:,} bytes are there ({gguf.bytes / gguf.expected:.0%})"
        return [Finding("SOS-G005", "error", subject, f"{subject} is truncated: {share}", "download the file again")]
    findings: list[Finding] = []
    if gguf.bytes - gguf.expected >= PADDING:
        message = f"{subject} has {gguf.bytes - gguf.expected:,} bytes after its last tensor; none were expected"
        findings.append(Finding("SOS-G006", "warning", subject, message, "compare its SHA-256 with the publisher's"))
    storage = gguf.storage if gguf.file_type in ("", gguf.storage) else f"{gguf.storage} ({gguf.file_type})"
    message = (
        f"{subject} is GGUF version {gguf.version}, architecture {gguf.architecture or 'not named'}, mostly {storage}, "
        f"{len(gguf.tensors):,} tensors, {gguf.parameters / 1e6:,.1f} M parameters"
    )
    hint = "ComfyUI loads it with the nodes of ComfyUI-GGUF only"
    return [*findings, Finding("SOS-G010", "info", subject, message, hint)]
