"""Checks of pickled model files and of GGUF files: what is in them, and whether it is whole and harmless."""

from __future__ import annotations

from pathlib import Path

from sosie.core import Finding
from sosie.core.errors import NotFoundError
from sosie.core.finding import Rule
from sosie.files.gguf import G005, Gguf, GgufError, read_gguf
from sosie.files.pickles.pickled import Pickled, read_pickled
from sosie.files.pickles.records import PickleError

G006 = Rule("SOS-G006", "warning", "A GGUF file has bytes after its last tensor")
G009 = Rule("SOS-G009", "error", "A GGUF file holds no tensors")
G010 = Rule("SOS-G010", "info", "A GGUF file is whole")
G019 = Rule("SOS-G019", "error", "A model file does not exist")
K012 = Rule("SOS-K012", "info", "A pickled model holds only tensors")
K013 = Rule(
    "SOS-K013", "warning", "A pickled model is written in a protocol that torch's weights-only reader does not take"
)
K014 = Rule("SOS-K014", "info", "A pickled model carries tensors beside the model's")
K049 = Rule("SOS-K049", "error", "A model file does not exist")

TORCH_PROTOCOL = 2
"""The pickle protocol of `torch.save`, and the one that its weights-only reader takes."""

PADDING = 2**16
"""Bytes after the last tensor that are no finding: writers pad the last one to the alignment."""


def check_pickle(path: Path) -> list[Finding]:
    """SOS-K001 to K011 if the file is refused, else SOS-K012 and what is remarkable; nothing in it is run."""
    try:
        return pickle_findings(read_pickled(path))
    except PickleError as error:
        return [error.finding(str(path))]
    except NotFoundError as error:
        return [K049.at(str(path), error.message, error.hint)]


def pickle_findings(pickled: Pickled) -> list[Finding]:
    """What there is to say of a pickled model that holds only tensors."""
    subject, count = str(pickled.path), len(pickled.header.tensors)
    convert = f"sosie model convert {subject}"
    message = f"{subject} is a pickle and holds only tensors ({count:,}); a .safetensors file cannot run code at all"
    findings = [K012.at(subject, message, convert)]
    if pickled.protocol > TORCH_PROTOCOL:
        message = f"{subject} is a pickle of protocol {pickled.protocol}; torch's weights-only reader takes protocol 2"
        hint = "get it as .safetensors, or save it again with torch.save(..., pickle_protocol=2) where it comes from"
        findings.append(K013.at(subject, message, hint))
    if pickled.left_out:
        message = (
            f"{subject} carries {pickled.left_out:,} tensors beside the model's (an optimiser's, or a second copy)"
        )
        findings.append(K014.at(subject, message, f"{convert} leaves them out"))
    return findings


def check_gguf(path: Path) -> list[Finding]:
    """SOS-G001 to G009 for what is wrong with a GGUF file, else SOS-G010 with what it holds."""
    try:
        return gguf_findings(read_gguf(path))
    except GgufError as error:
        return [error.finding(str(path))]
    except NotFoundError as error:
        return [G019.at(str(path), error.message, error.hint)]


def gguf_findings(gguf: Gguf) -> list[Finding]:
    """What there is to say of a GGUF file with a valid header."""
    subject = str(gguf.path)
    if not gguf.tensors:
        message = (
            f"{subject} holds no tensors, only {len(gguf.metadata)} metadata entries (a vocabulary, or a first shard)"
        )
        return [G009.at(subject, message, "get the file with the model's weights")]
    if gguf.bytes < gguf.expected:
        share = f"{gguf.bytes:,} of {gguf.expected:,} bytes are there ({gguf.bytes / gguf.expected:.0%})"
        return [G005.at(subject, f"{subject} is truncated: {share}", "download the file again")]
    findings: list[Finding] = []
    if gguf.bytes - gguf.expected >= PADDING:
        message = f"{subject} has {gguf.bytes - gguf.expected:,} bytes after its last tensor; none were expected"
        findings.append(G006.at(subject, message, "compare its SHA-256 with the publisher's"))
    storage = gguf.storage if gguf.file_type in ("", gguf.storage) else f"{gguf.storage} ({gguf.file_type})"
    message = (
        f"{subject} is GGUF version {gguf.version}, architecture {gguf.architecture or 'not named'}, mostly {storage}, "
        f"{len(gguf.tensors):,} tensors, {gguf.parameters / 1e6:,.1f} M parameters"
    )
    hint = "ComfyUI loads it with the nodes of ComfyUI-GGUF only"
    return [*findings, G010.at(subject, message, hint)]
