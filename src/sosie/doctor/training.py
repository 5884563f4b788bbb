"""Whether a recipe's `[training]` suits the family and the variant that it trains: nothing is read for it.

Sources: min-SNR is a weighting of noise and v prediction (Hang et al. 2023, arXiv:2303.09556); LoRAs that were
trained on Z-Image Turbo itself, in bf16, are noisy, and De-Turbo cures it (kohya-ss/musubi-tuner #769).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sosie.core import Finding, Recipe
from sosie.core.finding import Rule
from sosie.dataset.check.precision import check_precision
from sosie.families import partners_of

U007 = Rule("SOS-U007", "warning", "A training does not suit its model")


def check_training(recipe: Recipe) -> list[Finding]:
    """SOS-T040 for a precision that fails, SOS-U007 for a weighting or a variant that does; none without settings."""
    if recipe.training is None or not recipe.stages:
        return []
    return [*check_precision(recipe.stages[0].family, recipe.training.precision), *_unsuited(recipe)]


def _unsuited(recipe: Recipe) -> Iterator[Finding]:
    stage, training = recipe.stages[0], recipe.training
    fit = partners_of(stage.family)
    if training is not None and training.min_snr and fit.shift:
        message = (
            f"training.min_snr = {training.min_snr:g} weighs the errors of models that predict noise; "
            f"{stage.family} is a flow model, and most of its steps would hardly count"
        )
        yield U007.at(recipe.name, message, "set min_snr = 0 in [training]", severity="error")
    variant = fit.variant_of(Path(stage.model).stem)
    entry = next((one for one in fit.ranges if one.variant == variant and one.train_instead), None)
    if entry is not None and training is not None and not training.assistant:
        message = (
            f"'{stage.model}' is distilled to few steps: what is trained on it loses them, and the pictures get noisy"
            f"{f'; others saw {entry.train_seen}' if entry.train_seen else ''}"
        )
        hint = (
            f"train {entry.train_instead}, and use the LoRA on what it was trained on; or name its training adapter: "
            "assistant = FILE in [training]"
        )
        yield U007.at(recipe.name, message, hint)
