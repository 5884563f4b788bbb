"""From an image to a scorecard and a verdict, by the recipe's rules of acceptance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sosie.core import Acceptance, Finding, Outcome, Score, Scorecard, Verdict
from sosie.core.errors import ConfigError, nearest
from sosie.core.schema import digest
from sosie.scorers.defects import DEFECTS, score_defects
from sosie.scorers.identity import Gate, Identity
from sosie.scorers.sample import Sample
from sosie.scorers.scorer import measure

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.faces.detect import Detector

SCORERS_VERSION = 1


@dataclass(frozen=True)
class Origin:
    """How an image came about: what its stages said, whether it mends another, whether another try is useless."""

    findings: tuple[Finding, ...] = ()
    is_repair: bool = False
    is_final: bool = False


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores images of one character under one gate and one set of rules.

    `id` changes with anything that could change a verdict. With `retryable`, an image that fails
    is to be retried; without (a picture from elsewhere), it is rejected. With `mends`, one that
    fails by nothing but its identity is to be repaired.
    """

    detector: Detector
    gate: Gate
    acceptance: Acceptance
    retryable: bool = True
    mends: bool = False

    def __post_init__(self) -> None:
        known = [judge.encoder.name for judge in self.gate.judges] + list(self.gate.absent)
        for name in self.acceptance.judges:
            if name not in known:
                raise ConfigError(f"acceptance asks for judge '{name}', which is not known{nearest(name, known)}")
        for name in self.acceptance.defects:
            if name not in DEFECTS:
                raise ConfigError(f"acceptance asks for defect '{name}', which is not known{nearest(name, DEFECTS)}")

    @cached_property
    def id(self) -> str:
        """SHA-256 over the gate, the rules and the scorers' version."""
        return digest([self.gate.id, self.acceptance, SCORERS_VERSION, self.retryable, self.mends])

    def __call__(self, image: Image, origin: Origin | None = None) -> tuple[Scorecard, Verdict]:
        """Scores and judges one RGB image, which came about as `origin` says."""
        import numpy as np

        pixels: Any = np.asarray(image.convert("RGB"))
        sample = Sample(pixels, self.detector.detect(pixels))
        identity = measure(Identity(self.gate), sample)
        card = Scorecard((*identity, *score_defects(sample, self.acceptance.defects)))
        return card, self.verdict(card, origin or Origin())

    def verdict(self, card: Scorecard, origin: Origin) -> Verdict:
        """Keep if every required judge and every defect check passes; a missing value is no pass.

        An image whose stages refused their work is never kept.
        """
        required = self.acceptance.judges or tuple(judge.encoder.name for judge in self.gate.judges)
        identity = [score for score in card.of("identity") if score.name in required]
        failed = [score for score in (*identity, *card.of("defect")) if not score.passed]
        refused = [finding.message for finding in origin.findings if finding.severity == "error"]
        reasons = list(dict.fromkeys([*refused, *(_because(score) for score in failed)]))
        if not identity:
            reasons.insert(
                0, "no judge could judge identity: " + "; ".join(f"{k}: {v}" for k, v in self.gate.absent.items())
            )
        if not reasons:
            return Verdict("keep")
        return Verdict(self._next(failed, refused, origin), tuple(reasons))

    def _next(self, failed: list[Score], refused: list[str], origin: Origin) -> Outcome:
        """What is to be done with an image that is not kept."""
        if not self.retryable or origin.is_final:
            return "reject"
        faces = all(score.kind == "identity" and score.value is not None for score in failed)
        return "repair" if self.mends and not origin.is_repair and not refused and failed and faces else "retry"


def _because(score: Score) -> str:
    return score.reason or f"{score.name} did not pass"
