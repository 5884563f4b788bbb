"""Images of the store: their JSON, the settings that made them, and what people say of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sosie.core import Score
from sosie.core.errors import UsageError
from sosie.files.foreign import as_object
from sosie.store.gallery import Gallery, Query, Said, Shown
from sosie.workspace.prompts.settings import read_settings


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


def settings_of(gallery: Gallery, shown: Shown) -> dict[str, Any]:
    """What to ask for so that the image is drawn again: the fields of a job `generate`, and what cannot be had."""
    requested = as_object(gallery.settings(shown.plan).get("requested"))
    asked = {
        "character": shown.character,
        "recipe": shown.recipe,
        "prompt": requested.get("prompt", shown.prompt),
        "seed": str(requested.get("seed", shown.seed)),
        "size": f"{shown.width}x{shown.height}",
    }
    return {"how": "sosie", "asked": asked, "unused": []}


def settings_of_text(text: str) -> dict[str, Any] | None:
    """The settings that another program's text holds, as far as Sosie has them; None if it holds none."""
    told = read_settings(text)
    if not text or not told.how:
        return None
    values = dict(told.values)
    asked = {name: values[name] for name in ("prompt", "seed", "size") if values.get(name)}
    if re.fullmatch(r"\d+", asked.get("seed", "0")) is None:
        del asked["seed"]
    if negative := values.get("negative_prompt"):
        asked["negative"] = negative
    others = [[name, value] for name, value in values.items() if name not in (*asked, "negative_prompt")]
    return {"how": told.how, "asked": asked, "unused": [*others, *map(list, told.unused)]}


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
