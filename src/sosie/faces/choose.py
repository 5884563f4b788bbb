"""Which of several faces is the character's, or why none can be repainted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sosie.faces.detect import Face

NoChoice = Literal["no face", "too small", "turned", "ambiguous"]

# The detector's five points are reliable from about this many pixels between the eyes on.
MIN_INTEROCULAR = 12.0
# Estimated yaw in degrees; beyond it the far eye is at the outline and the five points no longer say where the face is.
MAX_YAW = 50.0
# In SFace's cosine.
MIN_LEAD = 0.05


@dataclass(frozen=True)
class Choice:
    """The `index` of the character's face, or None, why (`problem`), and the figures in a sentence (`reason`)."""

    index: int | None
    problem: NoChoice | None = None
    reason: str = ""


def choose_face(
    faces: Sequence[Face],
    similarity: Sequence[float],
    *,
    min_interocular: float = MIN_INTEROCULAR,
    max_yaw: float = MAX_YAW,
    min_lead: float = MIN_LEAD,
) -> Choice:
    """The face of `faces` that is the character's, by each one's `similarity` (higher = more alike).

    The most similar one, if its eyes are at least `min_interocular` px apart, it is turned by at
    most `max_yaw` degrees, and it leads the next by at least `min_lead`. A face that is too small
    to be recognised does not compete: it counts only where it leads all others clearly, and then
    the character is "too small". A distance goes in with its sign changed. ValueError if the two
    lengths differ.
    """
    if len(faces) != len(similarity):
        raise ValueError(f"expected one similarity for each face, got {len(similarity)} for {len(faces)}")
    if not faces:
        return Choice(None, "no face", "no face was found; expected the character's")
    ranked = sorted(range(len(faces)), key=lambda index: similarity[index], reverse=True)
    large = [index for index in ranked if faces[index].interocular >= min_interocular]
    if not large or similarity[ranked[0]] - similarity[large[0]] >= min_lead:
        index = ranked[0]
        if index not in large:
            return _too_small(faces[index], min_interocular)
    best = large[0]
    if len(large) > 1 and similarity[best] - similarity[large[1]] < min_lead:
        values = f"{similarity[best]:.2f} and {similarity[large[1]]:.2f}"
        reason = f"two of {len(faces)} faces are equally like the character ({values}); expected a lead of {min_lead}"
        return Choice(None, "ambiguous", reason)
    if abs(faces[best].yaw) > max_yaw:
        reason = f"the face is turned by {abs(faces[best].yaw):.0f} degrees; expected at most {max_yaw:.0f}"
        return Choice(None, "turned", reason)
    return Choice(best)


def _too_small(face: Face, least: float) -> Choice:
    reason = f"the character's eyes are {face.interocular:.0f} px apart; expected at least {least:.0f} px"
    return Choice(None, "too small", reason)
