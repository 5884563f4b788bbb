"""From an image to a scorecard and a verdict, by the recipe's rules of acceptance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sosie.core import Acceptance, Finding, Outcome, Score, Scorecard, Verdict
from sosie.core.errors import ConfigError, nearest
from sosie.core.schema import digest
from sosie.scorers.company import Company
from sosie.scorers.defects import DEFECTS, score_defects
from sosie.scorers.defects.framing import SCORER as FRAMING
from sosie.scorers.identity import Gate, Identity
from sosie.scorers.looks import LOOKS, Looks
from sosie.scorers.plugged import Plugged
from sosie.scorers.sample import Sample
from sosie.scorers.scorer import Scorer, measure

if TYPE_CHECKING:
    from PIL.Image import Image

    from sosie.faces.detect import Detector

SCORERS_VERSION = 5


@dataclass(frozen=True)
class Origin:
    """How an image came about: what its stages said, whether it mends another, whether another try is useless.

    `prompt` is the final one; empty if it is not known. `face` is where its face was drawn last, x and y in shares of
    width and height; None if that is not known.
    """

    findings: tuple[Finding, ...] = ()
    is_repair: bool = False
    is_final: bool = False
    prompt: str = ""
    face: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores images of one character under one gate and one set of rules.

    `id` changes with anything that could change a verdict. With `retryable`, an image that fails
    is to be retried; without (a picture from elsewhere), it is rejected. With `mends`, one that
    fails by nothing but its identity is to be repaired. What `reported` and `plugged` measure, and looks, is recorded
    with identity and defects, and must pass where the rules name it. With a `company` each of its people is judged by
    their own gate, and all must pass; `gate` is the first one's.
    """

    detector: Detector
    gate: Gate
    acceptance: Acceptance
    retryable: bool = True
    mends: bool = False
    reported: tuple[Scorer, ...] = ()
    plugged: tuple[Plugged, ...] = ()
    company: Company | None = None

    def __post_init__(self) -> None:
        known = [judge.encoder.name for judge in self.gate.judges] + list(self.gate.absent)
        for name in self.acceptance.judges:
            if name not in known:
                raise ConfigError(f"acceptance asks for judge '{name}', which is not known{nearest(name, known)}")
        scales = {scale.name: scale for scorer in (*self.reported, *self.plugged) for scale in scorer.scales}
        broken = {scorer.name for scorer in self.plugged if scorer.broken}
        for name in self.acceptance.defects:
            if name in {look.name for look in LOOKS}:
                raise ConfigError(
                    f"'{name}' is a look, no defect", f'ask for it by [[acceptance.looks]] name = "{name}"'
                )
            if name not in DEFECTS and name not in scales:
                raise ConfigError(
                    f"acceptance asks for defect '{name}', which is not known{nearest(name, [*DEFECTS, *scales])}",
                    "edit the recipe, or install the package whose scorer it is",
                )
            if name in scales and scales[name].threshold is None and name not in broken:
                raise ConfigError(f"acceptance asks for '{name}', which has no threshold: it is only reported")
        self.looks  # noqa: B018  (a rule that cannot be kept is an error here, not with the first image)

    @cached_property
    def looks(self) -> Looks:
        """The scorer of looks, with the limits of the rules."""
        return Looks(self.acceptance.looks)

    @cached_property
    def id(self) -> str:
        """SHA-256 over the gate, the rules and the scorers' version, and over what else must pass.

        That is scorers of other packages, and looks: what is only reported makes no verdict stale.
        """
        plugged = [[one.source, one.why_not, one.scales] for one in self.plugged if self.requires(one)]
        asked = [*plugged, *([list(self.looks.required)] if self.looks.required else [])]
        people = [[one.name, one.gate.id] for one in self.company.persons] if self.company else []
        asked += [people] if people else []
        return digest([self.gate.id, self.acceptance, SCORERS_VERSION, self.retryable, self.mends, *asked])

    @cached_property
    def required(self) -> frozenset[str]:
        """The scores but identity's that must pass: those that the rules name; all defects, if none is among them."""
        named = frozenset(self.acceptance.defects)
        looks = {rule.name for rule in self.acceptance.looks}
        return (named if named & set(DEFECTS) else named.union(DEFECTS)) | looks

    def requires(self, scorer: Scorer) -> bool:
        """Whether something that it measures must pass."""
        return any(scale.name in self.required for scale in scorer.scales)

    def __call__(self, image: Image, origin: Origin | None = None) -> tuple[Scorecard, Verdict]:
        """Scores and judges one RGB image, which came about as `origin` says."""
        import numpy as np

        pixels: Any = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        origin = origin or Origin()
        sample = Sample.seen(pixels, self.detector, origin.prompt, origin.face, self._people)
        scores = measure(self.company or Identity(self.gate), sample)
        scores += score_defects(sample, [name for name in DEFECTS if name in self.required])
        for scorer in (self.looks, *self.reported, *self.plugged):
            scores += measure(scorer, sample)
        card = Scorecard(tuple(scores))
        return card, self.verdict(card, origin)

    def hopeless(self, image: Image) -> list[str]:
        """Why no image can pass whose faces stand as those of this RGB one do: what is required of them and fails."""
        import numpy as np

        pixels: Any = np.asarray(image.convert("RGB"))
        sample = Sample.seen(pixels, self.detector, persons=self._people)
        framing = [score for score in measure(FRAMING, sample) if score.name in self.required]
        return [_because(score) for score in framing if score.passed is False]

    def verdict(self, card: Scorecard, origin: Origin) -> Verdict:
        """Keep if every required judge and every required score passes; a missing value is no pass.

        An image whose stages refused their work is never kept.
        """
        required = self._required_judges()
        identity = [score for score in card.of("identity") if score.name in required]
        others = [score for score in card.scores if score.kind != "identity" and score.name in self.required]
        failed = [score for score in (*identity, *others) if not score.passed]
        refused = [finding.message for finding in origin.findings if finding.severity == "error"]
        reasons = list(dict.fromkeys([*refused, *(_because(score) for score in failed)]))
        if not identity:
            reasons.insert(
                0, "no judge could judge identity: " + "; ".join(f"{k}: {v}" for k, v in self.gate.absent.items())
            )
        if not reasons:
            return Verdict("keep")
        return Verdict(self._next(failed, refused, origin), tuple(reasons))

    @property
    def _people(self) -> int:
        return len(self.company.persons) if self.company else 1

    def _required_judges(self) -> tuple[str, ...]:
        """The scores of identity that must pass, by name: of each person, by each judge that the rules name, or all."""
        if self.company is None:
            return self.acceptance.judges or tuple(judge.encoder.name for judge in self.gate.judges)
        return tuple(
            person.called(name)
            for person in self.company.persons
            for name in self.acceptance.judges or [judge.encoder.name for judge in person.gate.judges]
        )

    def _next(self, failed: list[Score], refused: list[str], origin: Origin) -> Outcome:
        """What is to be done with an image that is not kept."""
        if not self.retryable or origin.is_final:
            return "reject"
        faces = all(score.kind == "identity" and score.value is not None for score in failed)
        return "repair" if self.mends and not origin.is_repair and not refused and failed and faces else "retry"


def _because(score: Score) -> str:
    return score.reason or f"{score.name} did not pass"
