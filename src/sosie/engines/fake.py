"""The fake engine: pictures without a model, for tests and for trying the loop.

Its pictures are the character's own references, brightened a little by the seed; every fourth
seed gives a grey page, so that there is something to reject.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.core import Environment, Finding, Plan, Preview, Progress, Render
from sosie.core.finding import Rule
from sosie.core.sight import Sight
from sosie.engines.glimpses import Glimpses
from sosie.engines.scheme import Scheme, Supplies, unwatched
from sosie.files.images import read_image

if TYPE_CHECKING:
    from PIL.Image import Image

E005 = Rule("SOS-E005", "error", "The fake engine has no references to draw from")


class FakeEngine:
    """Keeps the Engine protocol. `references` maps SHA-256 to the file of a reference image."""

    name = "fake"

    def __init__(self, references: Mapping[str, Path], watched: Callable[[], bool] = unwatched) -> None:
        self._references = references
        self._watched = watched

    def check(self, plan: Plan) -> list[Finding]:
        """A plan without references cannot be faked."""
        if plan.character.references:
            return []
        message = f"character '{plan.character.name}' has no references, which the fake engine draws from"
        return [E005.at(plan.character.name, message, "sosie new CHARACTER IMAGES...")]

    def run(self, plans: Iterable[Plan]) -> Iterator[Progress | Render]:
        """One picture a plan; the same seed gives the same picture."""
        from PIL import Image as Images
        from PIL import ImageEnhance

        for plan in plans:
            yield Progress("generate", 1, 2)
            size = (plan.width, plan.height)
            if plan.seed % 4 == 3:
                image = Images.new("RGB", size, (128, 128, 128))
            else:
                reference = plan.character.references[plan.seed % len(plan.character.references)]
                source = read_image(self._references[reference.sha256])
                image = source.resize(size, Images.Resampling.LANCZOS)
                image = ImageEnhance.Brightness(image).enhance(0.95 + (plan.seed >> 8) % 100 / 1000)
            if data := Glimpses(self._watched()).take(1, 2, partial(_small, image)):
                yield Preview("generate", 1, 2, data, "jpeg")
            yield Progress("generate", 2, 2)
            yield Render(image, plan, self.name, Environment(platform.python_version(), "any", "none", ()), 0.0)

    def close(self) -> None:
        """Nothing is held."""


def _small(image: Image) -> Sight:
    return Sight(image.resize((image.width // 4, image.height // 4)), 0.0)


def _open(_: str, supplies: Supplies) -> FakeEngine:
    return FakeEngine(supplies.paths, supplies.watched)


SCHEME = Scheme("fake", "fake", _open, reads="references")
