"""Looks: what makes an image look made, whoever is in it. They are reported, and judged where a recipe asks.

What each one sees and misses is measured in `docs/looks.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sosie.core import LookRule
from sosie.core.errors import ConfigError, nearest
from sosie.core.score import Score
from sosie.scorers.looks import detail, features, light, shine, skin
from sosie.scorers.looks.look import KIND, Look
from sosie.scorers.looks.view import View
from sosie.scorers.sample import Sample
from sosie.scorers.scorer import Scale

__all__ = ["KIND", "LOOKS", "Look", "Looks", "look_score"]

LOOKS: tuple[Look, ...] = (*skin.LOOKS, *shine.LOOKS, *features.LOOKS, *detail.LOOKS, *light.LOOKS)
"""All looks, in the order in which they are measured."""


@dataclass(frozen=True)
class Looks:
    """The scorer of looks. `rules` are those of a recipe: their limits take the place of the thresholds.

    Raises `ConfigError` for a rule of a look that is not known, given twice, or without any limit.
    """

    rules: tuple[LookRule, ...] = ()
    name: str = "looks"
    needs: tuple[str, ...] = ("cv2",)

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        known = {scale.name: scale for scale in self.scales}
        for name in names:
            if name not in known:
                raise ConfigError(f"acceptance asks for look '{name}', which is not known{nearest(name, known)}")
            if names.count(name) > 1:
                raise ConfigError(
                    f"acceptance asks for look '{name}' twice; expected one entry of [[acceptance.looks]]"
                )
            if known[name].threshold is None:
                raise ConfigError(
                    f"acceptance asks for look '{name}', which has no threshold of its own",
                    "give it a limit: docs/looks.md says which values pictures have",
                )

    @property
    def scales(self) -> tuple[Scale, ...]:
        """What is measured, each with the threshold that applies."""
        limits = {rule.name: rule.limit for rule in self.rules if rule.limit is not None}
        return tuple(replace(one.scale, threshold=limits.get(one.name, one.scale.threshold)) for one in LOOKS)

    @property
    def required(self) -> tuple[tuple[Scale, int], ...]:
        """The scale and the version of each look that must pass: what its verdict depends on."""
        names = {rule.name for rule in self.rules}
        looks = zip(self.scales, LOOKS, strict=True)
        return tuple((scale, look.version) for scale, look in looks if scale.name in names)

    def score(self, sample: Sample, /) -> list[Score]:
        """One score for each look; no value, and why, where it cannot be measured."""
        view = View(sample)
        return [look_score(look, scale, view) for look, scale in zip(LOOKS, self.scales, strict=True)]


def look_score(look: Look, scale: Scale, view: View) -> Score:
    """The score of one look by a `scale` of its own or of a recipe; no value, and why, where it has none."""
    value = look.measure(view)
    if isinstance(value, str):
        return scale.unmeasured(value)
    value = min(scale.high, max(scale.low, float(value)))
    if scale.threshold is None:
        return scale.score(value)
    measured, least = f"{look.name} {value:.3g}", f"{scale.threshold:g}"
    if scale.higher_is_better:
        return scale.score(value, f"{look.fails} ({measured}, below {least})")
    return scale.score(value, f"{look.fails} ({measured}, not below {least})")
