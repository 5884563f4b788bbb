"""The nouns: frozen dataclasses that know nothing of torch, files or networks."""

from sosie.core.character import Character, CharacterLora, Reference
from sosie.core.errors import SosieError
from sosie.core.event import Event, Note, Preview, Progress, Result
from sosie.core.finding import Finding, Severity
from sosie.core.plan import Asset, Draw, Plan, derive_seed, plan
from sosie.core.recipe import (
    Acceptance,
    Detail,
    Guide,
    Keypoints,
    LookRule,
    LoraUse,
    Marking,
    Recipe,
    RecipeFile,
    Sampler,
    Stage,
    Upscale,
)
from sosie.core.render import Engine, Environment, Render
from sosie.core.request import AskedLora, Choice, Request, Sampling
from sosie.core.score import Calibrated, CohortRate, Outcome, Score, Scorecard, Verdict

__all__ = [
    "Acceptance",
    "AskedLora",
    "Asset",
    "Calibrated",
    "Character",
    "CharacterLora",
    "Choice",
    "CohortRate",
    "Detail",
    "Draw",
    "Engine",
    "Environment",
    "Event",
    "Finding",
    "Guide",
    "Keypoints",
    "LookRule",
    "LoraUse",
    "Marking",
    "Note",
    "Outcome",
    "Plan",
    "Preview",
    "Progress",
    "Recipe",
    "RecipeFile",
    "Reference",
    "Render",
    "Request",
    "Result",
    "Sampler",
    "Sampling",
    "Score",
    "Scorecard",
    "Severity",
    "SosieError",
    "Stage",
    "Upscale",
    "Verdict",
    "derive_seed",
    "plan",
]
