"""Captions of a training set: a `.txt` (or `.caption`) next to each image, or a JSON Lines file for all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.dataset.check.report import listed, printable
from sosie.files.foreign import parse_object

T010 = Rule("SOS-T010", "warning", "Captions are missing")
T011 = Rule("SOS-T011", "warning", "Captions are empty")
T012 = Rule("SOS-T012", "warning", "A caption names an image that is not there")
T013 = Rule("SOS-T013", "warning", "A caption file cannot be read")
T014 = Rule("SOS-T014", "warning", "An image has two different captions")
T015 = Rule("SOS-T015", "warning", "The trigger token is missing in captions")
T016 = Rule("SOS-T016", "info", "Images share one caption")
T017 = Rule("SOS-T017", "warning", "Captions are generic")
T018 = Rule("SOS-T018", "warning", "The trigger token is an ordinary word")
T019 = Rule("SOS-T019", "warning", "No trigger token was given")

SIDECARS = (".txt", ".caption")
TABLES = ("captions.jsonl", "metadata.jsonl")
FILE_KEYS = ("file_name", "file", "image", "path")
TEXT_KEYS = ("caption", "text", "prompt")
NOT_CAPTIONS = frozenset({"readme", "license", "licence", "notes", "requirements"})

MAX_CAPTION = 64_000
MAX_TABLE = 4_000_000
MANY = 0.2
GENERIC_SHARE = 0.5

_GENERIC_WORDS = """
a an the of in on at with and for from to is as by it this that her his she he they
photo photograph photography picture image portrait shot selfie closeup close up face headshot
woman women man men girl boy lady guy person people human adult character model female male
young beautiful pretty handsome attractive nice good best quality high masterpiece detailed
"""
GENERIC = frozenset(_GENERIC_WORDS.split())
"""Words that say nothing of what differs between two pictures of a person."""


@dataclass(frozen=True)
class Captions:
    """The caption of each image by file name, "" for an empty one.

    `findings` say what is wrong with the files that hold them; `other_fields` are the fields of
    records in a table that hold none.
    """

    texts: Mapping[str, str]
    findings: tuple[Finding, ...] = ()
    other_fields: tuple[str, ...] = ()


def read_captions(folder: Path, images: Sequence[str]) -> Captions:
    """The captions for the file names `images` of `folder`: SOS-T012 to T014 for what does not fit together.

    A file next to the image wins over a table, as trainers have it. Files above 64 kB (tables: 4 MB)
    are not read; names in a table are compared, never opened.
    """
    known = set(images)
    findings: list[Finding] = []
    tables: dict[str, str] = {}
    orphans: list[str] = []
    fields: dict[str, None] = {}
    for name in TABLES:
        for record in _records(folder / name, findings):
            file = next((record[key] for key in FILE_KEYS if isinstance(record.get(key), str)), None)
            text = next((record[key] for key in TEXT_KEYS if isinstance(record.get(key), str)), None)
            if file is None or file not in known:
                orphans.append(f"{name}: {printable(str(file))}")
            elif text is None:
                fields.update(dict.fromkeys(printable(key) for key in list(record)[:20]))
            else:
                tables[file] = text[:MAX_CAPTION].strip()
    texts = dict(tables)
    differ: list[str] = []
    for image in images:
        for suffix in SIDECARS:
            beside = _text(folder / Path(image).with_suffix(suffix), MAX_CAPTION, findings)
            if beside is not None:
                if image in tables and tables[image] != beside.strip():
                    differ.append(image)
                texts[image] = beside.strip()
                break
    orphans.extend(_without_image(folder, images))
    if orphans:
        message = f"{len(orphans)} captions belong to images that are not there: {listed(orphans)}"
        findings.append(T012.at("captions", message, "rename them to fit, or remove them"))
    if differ:
        message = f"{len(differ)} images have another caption next to them than in the table: {listed(differ)}"
        findings.append(T014.at("captions", message, "keep one of the two; the .txt file wins"))
    return Captions(texts, tuple(findings), tuple(fields))


def _without_image(folder: Path, images: Sequence[str]) -> list[str]:
    stems = {Path(image).stem for image in images}
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in SIDECARS and path.stem not in stems and path.stem.lower() not in NOT_CAPTIONS
    )


def _text(path: Path, limit: int, findings: list[Finding]) -> str | None:
    """The text of a regular file; None if there is none, or if it cannot be read (SOS-T013)."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise ValueError(f"has more than {limit:,} bytes")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        why = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        message = f"{printable(path.name)}: {why[:200]}; expected a caption in UTF-8"
        findings.append(T013.at(printable(path.name), message, "save it again as UTF-8 text"))
        return None


def _records(path: Path, findings: list[Finding]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file, one a line; lines that are none are counted in one SOS-T013."""
    wrong: list[int] = []
    for number, line in enumerate((_text(path, MAX_TABLE, findings) or "").split("\n"), 1):
        if not line.strip():
            continue
        record = parse_object(line, MAX_CAPTION)
        if record is None:
            wrong.append(number)
        else:
            yield record
    if wrong:
        message = f"{path.name}: {len(wrong)} lines are not a JSON object, the first is line {wrong[0]}"
        findings.append(T013.at(path.name, message, "one object a line, with file and caption"))


def check_captions(captions: Captions, images: Sequence[str], trigger: str) -> list[Finding]:
    """SOS-T010 to T019 for the file names `images`; `trigger` is the token that every caption should hold, or empty."""
    written = {image: captions.texts[image] for image in images if captions.texts.get(image)}
    findings = [*captions.findings, *_missing(captions, images), *_trigger(written, trigger)]
    if len(written) < 2:
        return findings
    groups = Counter(" ".join(_words(text)) for text in written.values())
    same = sum(count for count in groups.values() if count > 1)
    if same:
        severity = "warning" if same >= MANY * len(written) else "info"
        text, count = groups.most_common(1)[0]
        message = (
            f"{same} of {len(written)} images share their caption with another one; {count} have "
            f"'{printable(text)}': what differs between them is learned as part of the person"
        )
        findings.append(T016.at("captions", message, "say what is special in each picture", severity=severity))
    token = set(_words(trigger))
    generic = [image for image, text in written.items() if len(set(_words(text)) - GENERIC - token) <= 1]
    if len(generic) >= GENERIC_SHARE * len(written):
        message = (
            f"{len(generic)} of {len(written)} captions are generic ('{printable(written[generic[0]])}'): clothes, "
            "place, light and pose that no caption names are learned as part of the person"
        )
        hint = "name clothes, place, light, pose and expression, and leave out what is always so (hair, eyes)"
        findings.append(T017.at("captions", message, hint))
    return findings


def _missing(captions: Captions, images: Sequence[str]) -> Iterator[Finding]:
    missing = [image for image in images if image not in captions.texts]
    if missing:
        message = f"{len(missing)} of {len(images)} images have no caption: {listed(missing)}"
        if captions.other_fields:
            message += (
                f"; the table has records with the fields {listed(captions.other_fields)}, none is called "
                f"{', '.join(TEXT_KEYS)}"
            )
        hint = "write NAME.txt next to each image, or captions.jsonl with a line {file, caption} each"
        yield T010.at("captions", message, hint, severity="error" if len(missing) == len(images) else "warning")
    empty = [image for image in images if captions.texts.get(image) == ""]
    if empty:
        message = f"{len(empty)} of {len(images)} captions are empty: {listed(empty)}"
        yield T011.at("captions", message, "write what the picture shows, with the trigger")


def _trigger(written: Mapping[str, str], trigger: str) -> Iterator[Finding]:
    if not trigger.strip():
        message = "no trigger token was given: without one the LoRA changes every person, and cannot be called by name"
        hint = "choose a rare token and put it into each caption; in character.toml it is `trigger`"
        yield T019.at("captions", message, hint)
        return
    if set(_words(trigger)) <= GENERIC:
        message = f"the trigger token '{printable(trigger)}' is an ordinary word: the model knows it already"
        yield T018.at("captions", message, "choose a rare token that is not a word, such as 'm1ra'")
    token = re.compile(rf"(?<!\w){re.escape(trigger.strip())}(?!\w)", re.IGNORECASE)
    without = [image for image, text in written.items() if not token.search(text)]
    if without:
        share = 1 - len(without) / len(written)
        message = (
            f"the trigger token '{printable(trigger)}' is in {share:.0%} of {len(written)} captions, expected all; "
            f"it is missing in {listed(without)}"
        )
        severity = "error" if len(without) == len(written) else "warning"
        yield T015.at("captions", message, f"begin each caption with '{printable(trigger)}'", severity=severity)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
