"""Whether the captions of a training set teach what they should: there, different, with the trigger, of the picture."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.dataset.given.captions import Captions
from sosie.dataset.given.words import CAPTION_KEYS
from sosie.dataset.names import listed, printable

T010 = Rule("SOS-T010", "warning", "Captions are missing")
T011 = Rule("SOS-T011", "warning", "Captions are empty")
T015 = Rule("SOS-T015", "warning", "The trigger token is missing in captions")
T016 = Rule("SOS-T016", "info", "Images share one caption")
T017 = Rule("SOS-T017", "warning", "Captions are generic")
T018 = Rule("SOS-T018", "warning", "The trigger token is an ordinary word")
T019 = Rule("SOS-T019", "warning", "No trigger token was given")

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
                f"{', '.join(CAPTION_KEYS)}"
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
