"""What a server writes into its log and tells nobody: LoRAs that load nothing, weights that are missing, NaN.

The sentences are those of ComfyUI's lora.py, model_base.py, sd.py and nodes.py (0.33).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sosie.core import Finding, Severity
from sosie.core.finding import Rule
from sosie.engines.comfy.answers import LogEntry
from sosie.files.foreign import as_line

Y030 = Rule("SOS-Y030", "warning", "A LoRA was not loaded, or only a part of it")
Y031 = Rule("SOS-Y031", "warning", "A model was loaded without some of its weights")
Y032 = Rule("SOS-Y032", "error", "An image holds values that are no numbers")

About = Literal["lora", "model", "image"]

_LORA = re.compile(r"lora key not loaded: *(\S+)")
_MISSING = re.compile(r"\b(?:unet missing|Missing VAE keys|missing unet keys)\b[: ]*(.*)")
_UNEXPECTED = re.compile(r"\bunet unexpected\b[: ]*(.*)")
_NAN = re.compile(r"invalid value encountered in cast|NaN(?:s)? (?:detected|found|in)|nan_to_num")
_ENCODER = re.compile(r"^(?:lora_te\d?_|text_encoders?(?:_\d)?\.|te\d?\.|clip_[lg]\.|lora_prior_te_)")


@dataclass(frozen=True)
class LogFinding:
    """A finding, and what it is about: it holds for later images too while the server keeps that loaded."""

    about: About
    finding: Finding


def since(log: Sequence[LogEntry], mark: str) -> list[LogEntry]:
    """The entries after the time `mark`."""
    return [entry for entry in log if entry.time > mark]


def is_cut(log: Sequence[LogEntry], mark: str) -> bool:
    """Whether entries after the time `mark` are gone already: a server keeps its last 300 only.

    The log of a server that was started again since begins later too, and is whole.
    """
    return bool(mark and log) and min(entry.time for entry in log) > mark


def last(log: Sequence[LogEntry]) -> str:
    """The time of the last entry: a mark for `since`."""
    return max((entry.time for entry in log), default="")


def read_entries(log: Iterable[LogEntry], subject: str) -> list[LogFinding]:
    """What a part of a log says that the answers to the prompt do not; `subject` is whom it is about."""
    lines = "".join(entry.text if entry.text.endswith("\n") else f"{entry.text}\n" for entry in log).splitlines()
    return [*_loras(lines, subject), *_weights(lines, subject), *_numbers(lines, subject)]


def _loras(lines: list[str], subject: str) -> list[LogFinding]:
    keys = list(dict.fromkeys(as_line(match[1], 120) for line in lines if (match := _LORA.search(line))))
    if not keys:
        return []
    shown = f"{len(keys):,} of a LoRA's tensors were not loaded: {', '.join(keys[:2])}"
    hint = "sosie doctor LORA tells how much of it fits; sosie lora convert LORA --to comfy mends its layout"
    if all(_ENCODER.match(key) for key in keys):
        message = f"{shown}; all are the text encoder's, which this graph may not give it"
        return [LogFinding("lora", Y030.at(subject, message, hint))]
    message = f"{shown}; the server goes on without them and calls that a success"
    return [LogFinding("lora", Y030.at(subject, message, hint, severity="error"))]


def _weights(lines: list[str], subject: str) -> list[LogFinding]:
    told: list[LogFinding] = []
    kinds: tuple[tuple[re.Pattern[str], Severity, str], ...] = (
        (_MISSING, "error", "weights are missing, and stay whatever was in memory"),
        (_UNEXPECTED, "warning", "weights were left over, which the model has no place for"),
    )
    for pattern, severity, what in kinds:
        found = next((match for line in lines if (match := pattern.search(line)) and match[1].strip(" []")), None)
        if found:
            message = f"a model was loaded, but {what}: {as_line(found[1], 160)}"
            hint = "the file is packed or for another program: sosie doctor FILE"
            told.append(LogFinding("model", Y031.at(subject, message, hint, severity=severity)))
    return told


def _numbers(lines: list[str], subject: str) -> list[LogFinding]:
    line = next((line for line in lines if _NAN.search(line)), "")
    if not line:
        return []
    message = f"the image holds values that are not numbers: {as_line(line, 160)}"
    hint = "the model overflows in fp16, or its file is not what it says: use bf16, switch SageAttention off"
    return [LogFinding("image", Y032.at(subject, message, hint))]
