"""Images of the store: their JSON, the settings that made them, and what people say of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sosie.api.views.settings import settings_of
from sosie.core import Score
from sosie.core.errors import UsageError
from sosie.store.gallery import Gallery, Query, Said, Shown


def line_of(shown: Shown) -> dict[str, Any]:
    """An image of the gallery as JSON. A score without a value has the reason; nothing that is unknown is 0."""
    return {
        "sha256": shown.sha256,
        "render": shown.render,
        "plan": shown.plan,
        "parent": shown.parent or None,
        "character": shown.character,
        "recipe": shown.recipe,
        "prompt": shown.prompt,
        "seed": str(shown.seed),  # 63 bits: more than a number of JavaScript holds
        "width": shown.width,
        "height": shown.height,
        "engine": shown.engine,
        "seconds": round(shown.seconds, 3),
        "created": shown.created,
        "verdict": shown.outcome or None,
        "reasons": list(shown.reasons),
        "human": shown.opinion.verdict or None,
        "stars": shown.opinion.stars,
        "scores": [_score(score) for score in shown.scores],
    }


def _score(score: Score) -> dict[str, Any]:
    evidence = score.evidence
    rate = evidence.joint or evidence.rate if evidence else None
    return {
        "kind": score.kind,
        "name": score.name,
        "value": score.value,
        "unit": score.unit,
        "threshold": score.threshold,
        "higher_is_better": score.higher_is_better,
        "pass": score.passed,
        "reason": score.reason,
        "rate": None
        if rate is None
        else {"fmr": rate.fmr, "upper95": rate.upper95, "n": rate.n, "cohort": rate.cohort},
    }


def describe_image(gallery: Gallery, sha256: str) -> dict[str, Any]:
    """An image with the plan that made it, and its settings as a request. Raises `NotFoundError`."""
    shown = gallery.image(sha256)
    return {**line_of(shown), "made_by": gallery.settings(shown.plan), "settings": settings_of(gallery, shown)}


def say_of(
    gallery: Gallery, images: Sequence[str], query: Query | None, verdict: Said | None, stars: int | None
) -> int:
    """Puts a person's verdict on images on record: of those named, or of all that a query finds. How many they are.

    Raises `UsageError` if both or neither are given, and `NotFoundError`.
    """
    if bool(images) == (query is not None):
        raise UsageError("name images, or a filter: one of them", "sosie image list")
    if verdict is None and stars is None:
        raise UsageError("nothing is said; expected a verdict or stars", "sosie image mark --help")
    return gallery.say_of_all(query, verdict, stars) if query is not None else gallery.say(images, verdict, stars)
