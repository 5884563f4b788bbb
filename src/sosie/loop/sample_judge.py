"""Who judges the samples of a training run: identity by every judge, copies, adherence, defects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sosie.core import Character
from sosie.core.notation import literal
from sosie.dataset.build import templates
from sosie.faces.encoders import similarity
from sosie.files.images import read_image
from sosie.scorers.adherence import PromptAdherence
from sosie.scorers.copy_paste import CopyPaste
from sosie.scorers.defects import score_defects
from sosie.scorers.sample import Sample as ScoredSample
from sosie.scorers.scorer import Scorer, measure
from sosie.training.events import Likeness, Sample, Scores
from sosie.workspace.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sosie.faces.encoders import Encoder
    from sosie.scorers.attributes import AttributeClassifier

    Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Trainee:
    """A character with the references that are judged by, its trigger, and the images that are learned from."""

    character: Character
    trigger: str
    images: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class _Person:
    templates: Mapping[str, tuple[Encoder, Vectors]]
    copies: CopyPaste


class SampleJudge:
    """Judges the samples of one run. Nothing that guides an image is among its encoders: samples have no guide.

    `people` share the samples: whose trigger a prompt holds, by that one it is judged. Copies are looked
    for by SFace: the mean of the copy-paste index of images against the training set, with the references
    that were not learned from as the other end. `classifier` None: adherence is not measured.
    """

    def __init__(self, session: Session, people: Sequence[Trainee], classifier: AttributeClassifier | None) -> None:
        self._detector = session.detector
        self._adherence = PromptAdherence(classifier)
        self._sface = session.judges[0]["sface"]
        self._people = {literal(one.trigger): self._person(session, one) for one in people}

    def __call__(self, samples: Sequence[Sample]) -> Scores:
        """The means over the pictures in which something could be measured."""
        identity: dict[str, list[float]] = {}
        copies: list[float] = []
        adherence: list[float] = []
        sound = 0
        for sample in samples:
            pixels = np.asarray(sample.image.convert("RGB"))
            shown = ScoredSample.seen(pixels, self._detector, sample.prompt)
            sound += all(score.passed for score in score_defects(shown))
            adherence += _values(self._adherence, shown)
            person = self._who(sample.prompt)
            if person is None or shown.main_face is None:
                continue
            for name, (encoder, template) in person.templates.items():
                value = similarity(encoder.metric, template, shown.embedding(encoder))
                identity.setdefault(name, []).append(value if encoder.metric == "cosine" else 1 - value)
            copies += _values(person.copies, shown)
        return Scores(
            tuple(Likeness(name, round(float(np.mean(values)), 4)) for name, values in identity.items()),
            _mean(copies),
            _mean(adherence),
            round(sound / len(samples), 4) if samples else None,
        )

    def _who(self, prompt: str) -> _Person | None:
        if len(self._people) == 1:
            return next(iter(self._people.values()))
        return next((person for trigger, person in self._people.items() if trigger in prompt), None)

    def _person(self, session: Session, one: Trainee) -> _Person:
        judged = list(session.reference_paths(one.character).values())
        copies = CopyPaste(self._sface, self._vectors(one.images), self._vectors(judged))
        return _Person(templates(session, one.character), copies)

    def _vectors(self, paths: Sequence[Path]) -> Vectors:
        found: list[Vectors] = []
        for path in paths:
            pixels = np.asarray(read_image(path))
            faces = self._detector.detect(pixels)
            found += [self._sface.embed(pixels, faces[0])] if faces else []
        return np.stack(found) if found else np.zeros((0, 128), np.float32)


def _values(scorer: Scorer, sample: ScoredSample) -> list[float]:
    """What could be measured."""
    return [score.value for score in measure(scorer, sample) if score.value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
