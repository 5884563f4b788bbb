"""The nouns: frozen dataclasses that know nothing of torch, files or networks."""

from sosie.core.character import Character, Reference
from sosie.core.errors import SosieError
from sosie.core.finding import Finding, Severity
from sosie.core.plan import Asset, Draw, Plan, Request, derive_seed, plan
from sosie.core.recipe import Acceptance, Guide, Recipe, Sampler, Stage
from sosie.core.render import Engine, Environment, Progress, Render
from sosie.core.score import CohortRate, Outcome, Score, Scorecard, Verdict

__all__ = [
    "Acceptance",
    "Asset",
    "Character",
    "CohortRate",
    "Draw",
    "Engine",
    "Environment",
    "Finding",
    "Guide",
    "Outcome",
    "Plan",
    "Progress",
    "Recipe",
    "Reference",
    "Render",
    "Request",
    "Sampler",
    "Score",
    "Scorecard",
    "Severity",
    "SosieError",
    "Stage",
    "Verdict",
    "derive_seed",
    "plan",
]
