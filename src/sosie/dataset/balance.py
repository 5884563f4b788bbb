"""What a bootstrapped set asks for, picture by picture, and which of those that pass it takes.

Expression and light are balanced by asking: the parts of the recipe's prompts are recombined so that each
comes equally often. Pose and framing are asked for too, and then measured, since models follow such words badly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sosie.dataset.check.report import CLOSE_UP, FRONTAL_DEGREES, FULL_BODY

if TYPE_CHECKING:
    from sosie.scorers.sample import Sample

POSES = ("facing the camera", "turned slightly left", "turned right", "turned left", "turned slightly right")
FRAMINGS = ("close-up portrait", "upper body", "full body")

SCENES = (
    "smiling, soft daylight, in a park",
    "neutral expression, studio light, before a plain grey wall",
    "laughing, golden hour, at the beach",
    "talking, evening light, in a city street",
    "thoughtful, window light, in a cafe",
    "surprised, overhead light, in an office",
    "grinning, overcast sky, before a brick wall",
    "serious, lamp light, in a library",
)
"""What is asked for by a recipe that says nothing of its own: expression, light and place."""

SLACK = 1.5
"""How many times its fair share one pose or framing may have."""


@dataclass(frozen=True)
class Kind:
    """The pose (left, frontal, right) and framing (close-up, half body, full body) of a picture, as measured."""

    pose: str
    framing: str


def asked(prompts: Sequence[str], place: int) -> str:
    """What the picture at `place` (from 0) is asked to show.

    Prompts with the same number of parts between commas are taken apart: in each round every part comes
    once, and from the second round on they meet others. Pose and framing go round by themselves. Where no prompt says
    anything the `SCENES` are asked for.
    """
    said = [prompt for prompt in prompts if prompt.strip()] or SCENES
    rows = [[part.strip() for part in prompt.split(",")] for prompt in said]
    turn, row = divmod(place, len(rows))
    if len({len(parts) for parts in rows}) == 1:
        parts = [rows[(row + turn * column) % len(rows)][column] for column in range(len(rows[0]))]
    else:
        parts = rows[row]
    pose, framing = POSES[place % len(POSES)], FRAMINGS[(place + place // len(FRAMINGS)) % len(FRAMINGS)]
    return ", ".join([framing, *parts, pose])


def kind_of(sample: Sample) -> Kind | None:
    """Pose and framing of a picture by its largest face; None without one."""
    face = sample.main_face
    if face is None:
        return None
    share = face.box[3] / sample.height
    framing = "close-up" if share >= CLOSE_UP else "full body" if share < FULL_BODY else "half body"
    pose = "frontal" if abs(face.yaw) < FRONTAL_DEGREES else "left" if face.yaw < 0 else "right"
    return Kind(pose, framing)


def is_wanted(kind: Kind, taken: Sequence[Kind], passed: Sequence[Kind], n: int) -> bool:
    """Whether a picture of that kind helps to balance a set of `n`.

    `taken` are those in it, `passed` all that passed the judges: what the model has never drawn is not
    waited for.
    """
    for name in ("pose", "framing"):
        drawn = {getattr(one, name) for one in (*passed, kind)}
        limit = -(-n // len(drawn)) * SLACK
        count = Counter(getattr(one, name) for one in taken)[getattr(kind, name)]
        if len(drawn) > 1 and count >= limit:
            return False
    return True
