"""Settings that a text brings along: an infotext that A1111 and its kin write, or `--steps 30` behind a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

KNOWN = {
    "prompt": ("prompt", "positive", "positive_prompt"),
    "negative_prompt": ("negative_prompt", "negative", "neg", "neg_prompt"),
    "steps": ("steps", "num_inference_steps", "sampling_steps"),
    "cfg": ("cfg", "cfg_scale", "guidance", "guidance_scale"),
    "seed": ("seed",),
    "sampler": ("sampler", "sampler_name", "sampling_method"),
    "schedule": ("schedule", "scheduler", "schedule_type"),
    "size": ("size",),
    "width": ("width",),
    "height": ("height",),
}
"""Sosie's name of a setting to those that programs and tables have for it."""

NAMES = {name: own for own, names in KNOWN.items() for name in names}

LABELS = {
    "negative_prompt": "Negative prompt",
    "steps": "Steps",
    "cfg": "CFG scale",
    "seed": "Seed",
    "sampler": "Sampler",
    "schedule": "Schedule type",
    "size": "Size",
    "width": "Width",
    "height": "Height",
}
"""How an infotext calls the settings."""

OPTIONS = {name: f"--{name}" for name in KNOWN}

ELSEWHERE = frozenset(
    {
        *("sd_model", "outpath_samples", "outpath_grids", "prompt_for_display", "styles", "batch_size", "n_iter"),
        *("subseed", "subseed_strength", "seed_resize_from_h", "seed_resize_from_w", "sampler_index"),
        *("restore_faces", "tiling", "do_not_save_samples", "do_not_save_grid"),
    }
)
"""Options of A1111's prompt files that Sosie has no use for."""

_QUOTED = r'"(?:\\.|[^"\\])*"'
_DASHED = re.compile(
    rf"{_QUOTED}|\u201c[^\u201d]*\u201d|(?:(?<=\s)|^)(?P<dash>--|\u2014)(?P<name>[A-Za-z][A-Za-z_-]*)(?=[\s=]|$)"
)
_NEGATIVE = re.compile(r"(?:^|\s)negative prompt\s*:", re.IGNORECASE)
_STEPS = re.compile(r"(?:^|\n|(?<=\s))Steps:\s*\d+\s*(?=,|$)", re.IGNORECASE)
_SETTING = re.compile(rf"\s*([A-Za-z][\w \-/()]*):\s*({_QUOTED}|[^,]*)(?:,|$)")
_OTHERS = re.compile(r"\b(?:Sampler|CFG scale|Seed|Size|Model):", re.IGNORECASE)


@dataclass(frozen=True)
class Told:
    """What a text says: the settings by Sosie's names, those that have no place here, and options nobody knows.

    `how` is in what form it says so; empty for a prompt alone, whose `values` are the prompt.
    """

    values: Mapping[str, str]
    unused: tuple[tuple[str, str], ...] = ()
    unknown: tuple[str, ...] = ()
    how: str = ""
    twice: tuple[str, ...] = field(default=())


def read_settings(text: str) -> Told:
    """What a text says beside its prompt, if it does."""
    if (steps := _settings_line(text)) is not None or _NEGATIVE.search(text):
        return _from_infotext(text, steps)
    marks = [match for match in _DASHED.finditer(text) if match["name"] and _is_option(match)]
    return _from_options(text, marks) if marks else Told({"prompt": text})


def ends_infotext(line: str) -> bool:
    """Whether a line of a text file is the last of an infotext."""
    return _settings_line(line) is not None and line.lstrip().lower().startswith("steps:")


def is_negative(line: str) -> bool:
    """Whether a line of a text file is the negative prompt of an infotext."""
    return _NEGATIVE.match(line.strip()) is not None


def _settings_line(text: str) -> int | None:
    """Where the settings of an infotext begin: on a line of their own, or before others that no prompt has."""
    for match in reversed(list(_STEPS.finditer(text))):
        alone = text[: match.start()].rstrip(" \t").endswith("\n") or match[0].startswith("\n") or not match.start()
        if alone or _OTHERS.search(text, match.end()):
            return match.start()
    return None


def _from_infotext(text: str, steps: int | None) -> Told:
    words, settings = (text, "") if steps is None else (text[:steps], text[steps:])
    positive, *rest = _NEGATIVE.split(words, maxsplit=1)
    values = {"prompt": _flat(positive)}
    if rest:
        values["negative_prompt"] = _flat(rest[0])
    unused: list[tuple[str, str]] = []
    for name, value in _SETTING.findall(" ".join(settings.split())):
        own = NAMES.get(re.sub(r"[ \-]+", "_", name.strip().lower()))
        if own in values:
            continue
        if own is None:
            unused.append((name.strip(), _unquoted(value)))
        else:
            values[own] = _unquoted(value)
    return Told(values, tuple(unused), (), "an infotext")


def _is_option(match: re.Match[str]) -> bool:
    """A dash that a word processor made of two counts only before a name that is known."""
    return match["dash"] == "--" or _name(match["name"]) in NAMES


def _from_options(text: str, marks: list[re.Match[str]]) -> Told:
    values: dict[str, str] = {}
    unused: list[tuple[str, str]] = []
    unknown: list[str] = []
    twice: list[str] = []
    if before := text[: marks[0].start()].strip():
        values["prompt"] = before
    for name, value in _pairs(text, marks):
        own = NAMES.get(_name(name))
        if own is not None:
            twice += [name] if own in values else []
            values[own] = value
        elif _name(name) in ELSEWHERE:
            unused.append((name, value))
        else:
            unknown.append(name)
    return Told(values, tuple(unused), tuple(unknown), "options", tuple(twice))


def _pairs(text: str, marks: list[re.Match[str]]) -> Iterator[tuple[str, str]]:
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    for mark, end in zip(marks, ends, strict=True):
        yield mark["name"], _unquoted(text[mark.end() : end].strip().removeprefix("=").strip())


def _name(text: str) -> str:
    return text.lower().replace("-", "_")


def _unquoted(value: str) -> str:
    value = value.strip()
    if re.fullmatch("\u201c[^\u201c\u201d]*\u201d", value):
        return value[1:-1]
    if (
        len(value) > 1
        and value[0] == value[-1]
        and value[0] in "\"'"
        and value.count(value[0]) - value.count(f"\\{value[0]}") in (2,)
    ):
        return value[1:-1].replace(f"\\{value[0]}", value[0])
    return value


def _flat(text: str) -> str:
    """A prompt of several lines as one: line ends part as a space does."""
    return " ".join(text.split("\n")).strip() if "\n" in text else text.strip()
