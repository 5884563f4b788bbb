"""Captions of a training set: the trigger first, then what a picture shows that does not belong to the face.

What a caption names is not learned as a part of the person. So clothes, expression, light, background,
framing and the turn of the head are named, and face, hair, beard and age are not: those are the trigger's.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sosie.core.errors import UsageError
from sosie.dataset.appearance import without_face
from sosie.dataset.check.report import CLOSE_UP, FULL_BODY
from sosie.dataset.light import background, side_of_light, tone
from sosie.machines.programs import run_bounded

if TYPE_CHECKING:
    from sosie.faces.detect import Face
    from sosie.scorers.attributes import Attribute, AttributeClassifier
    from sosie.scorers.sample import Sample

FACE = frozenset(
    {
        *("age", "sex", "gender", "skin", "skin colour", "face", "freckles", "beard", "build"),
        *("hair", "hair colour", "hair style", "eyes", "eye colour"),
    }
)
"""Attributes of a classifier that belong to the trigger, by name."""

LAST = ("expression", "light", "background")
"""The attributes that end a caption, in this order; others (clothes) come before them."""

SURE = 0.6
"""A value of the classifier that is less probable than this is not named."""

SLIGHTLY, CLEARLY = 8.0, 20.0
"""Degrees of yaw from which a head is turned slightly, and turned."""

TILTED = 8.0
"""Degrees of roll from which a head is tilted."""

MAX_TEXT = 1000
"""Characters of the longest caption that a command may give."""

COMMAND_SECONDS = 300.0

MAX_SAID = 1_000_000
"""Bytes that a captioning program may print."""

VOWELS = {"a": "4", "e": "3", "i": "1", "o": "0"}


@dataclass(frozen=True)
class Seen:
    """What a picture shows, in words. `text` is the caption without the trigger, `details` tell two alike apart."""

    text: str
    details: tuple[str, ...] = ()


def trigger_for(name: str) -> str:
    """A token for a character that has none: the name with its first vowel as a digit (`mira`: `m1ra`).

    A name is a word that models know (many people are called so); this is none.
    """
    lower = name.lower()
    place = next((index for index, letter in enumerate(lower) if letter in VOWELS), None)
    return f"{lower}01" if place is None else lower[:place] + VOWELS[lower[place]] + lower[place + 1 :]


def see(sample: Sample, classifier: AttributeClassifier | None) -> Seen:
    """What can be measured of a picture.

    Framing and pose come from the largest face. A classifier, which knows the pictures of one model, gives
    clothes, expression, light and background; without one light and background are described by their
    tones, and clothes and expression are not.
    """
    face = sample.main_face
    colours = background(sample.pixels, face)
    measured = [word for word in (tone(sample.luma), colours) if word]
    parts = [_framing(face, sample.height), _pose(face)]
    parts += _named(classifier, sample) if classifier is not None else measured
    side = side_of_light(sample.luma, face)
    details = [*measured, *([side] if side else []), *_placed(face, sample)]
    return Seen(", ".join(part for part in parts if part), tuple(details))


def captions(trigger: str, seen: Sequence[Seen], taken: Collection[str] = ()) -> list[str]:
    """A caption for each picture, the trigger first, all different from each other and from `taken`.

    Captions that are the same get details until they differ; if all details are the same too, a number.
    """
    texts = [lead(trigger, one.text) for one in seen]
    for step in range(max((len(one.details) for one in seen), default=0)):
        counts = Counter([*taken, *texts])
        if max(counts.values(), default=0) <= 1:
            break
        for index, one in enumerate(seen):
            if counts[texts[index]] > 1 and step < len(one.details) and one.details[step] not in texts[index]:
                texts[index] = f"{texts[index]}, {one.details[step]}"
    used = set(taken)
    for index, text in enumerate(texts):
        number = 2
        while texts[index] in used:
            texts[index] = f"{text}, take {number}"
            number += 1
        used.add(texts[index])
    return texts


def lead(trigger: str, text: str) -> str:
    """The text with the trigger as its first part and nowhere else."""
    if not trigger:
        return text
    token = re.compile(rf"(?<!\w){re.escape(trigger)}(?!\w)", re.IGNORECASE)
    parts = [" ".join(token.sub("", part).split()) for part in text.split(",")]
    return ", ".join([trigger, *(part for part in parts if part)])


def from_words(seen: Seen, said: str) -> Seen:
    """What is seen, in the words of a program or a model, without those on the person's looks.

    Where nothing else was said, the measured words stay.
    """
    text = without_face(said)
    return replace(seen, text=text) if text else seen


def from_command(command: str, image: Path) -> str:
    """What a program of the user's says of an image, on one line.

    `{image}` in `command` is the file's path (put at the end where it is not named); no shell is used.
    Raises `UsageError` if the program is missing, fails, is silent, says more than `MAX_SAID` bytes, or takes more
    than five minutes.
    """
    words = shlex.split(command)
    if not words:
        raise UsageError("--caption-command is empty", '--caption-command "PROGRAM {image}"')
    if not any("{image}" in word for word in words):
        words.append("{image}")
    called = [word.replace("{image}", str(image)) for word in words]
    try:
        done = run_bounded(called, COMMAND_SECONDS, MAX_SAID)
    except FileNotFoundError:
        raise UsageError(f"--caption-command: '{words[0]}' was not found", "give the path of the program") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"--caption-command: '{words[0]}' failed on {image.name}: {error}") from None
    if done.is_too_long:
        raise UsageError(
            f"--caption-command: '{words[0]}' said more than {MAX_SAID:,} bytes on {image.name}, and was ended",
            "it must print one caption on stdout and end with 0",
        )
    said = " ".join(done.out.split())
    if done.code or not said:
        last = (done.err.strip().splitlines() or ["it said nothing"])[-1][:200]
        raise UsageError(
            f"--caption-command: '{words[0]}' ended with {done.code} on {image.name}: {last}",
            "it must print one caption on stdout and end with 0",
        )
    return "".join(letter for letter in said if letter.isprintable())[:MAX_TEXT]


def _framing(face: Face | None, height: int) -> str:
    if face is None:
        return ""
    share = face.box[3] / height
    return "close-up portrait" if share >= CLOSE_UP else "full body" if share < FULL_BODY else "upper body"


def _pose(face: Face | None) -> str:
    if face is None:
        return ""
    side = "left" if face.yaw < 0 else "right"
    if abs(face.yaw) < SLIGHTLY:
        return "facing the camera"
    return f"turned {side}" if abs(face.yaw) >= CLEARLY else f"turned slightly {side}"


def _named(classifier: AttributeClassifier, sample: Sample) -> list[str]:
    seen = classifier.see(sample.pixels)
    told = [attribute for attribute in classifier.attributes if attribute.name not in FACE | {"pose"}]
    told.sort(key=lambda attribute: LAST.index(attribute.name) if attribute.name in LAST else -1)
    return [phrase for attribute in told if (phrase := _phrase(attribute, seen[attribute.name]))]


def _phrase(attribute: Attribute, shares: Mapping[str, float]) -> str:
    """How a prompt asks for the likeliest value; empty if it is not sure, or says that there is none."""
    name, share = max(shares.items(), key=lambda item: item[1])
    value = next(value for value in attribute.values if value.name == name)
    if share < SURE or name == "none" or not value.phrases:
        return ""
    if attribute.near:
        return f"{value.phrases[0]} {attribute.near[0]}"
    return next((phrase for phrase in value.phrases if attribute.name in phrase), value.phrases[0])


def _placed(face: Face | None, sample: Sample) -> list[str]:
    """Tilt, place and size of the face, and its turn in words of its degrees."""
    if face is None:
        return []
    across, down = (face.points[1] - face.points[0]).tolist()
    roll = float(np.degrees(np.arctan2(down, across)))
    found: list[str] = []
    if abs(roll) >= TILTED:
        found.append(f"head tilted to the {'right' if roll > 0 else 'left'}")
    middle = (face.box[0] + face.box[2] / 2) / sample.width
    if abs(middle - 0.5) >= 0.06:
        found.append(f"{'left' if middle < 0.5 else 'right'} of the centre")
    found.append(f"face {100 * face.box[3] / sample.height:.0f} % of the height")
    return found
