"""Which precision a family cannot be trained in, or run in."""

from __future__ import annotations

from sosie.core import Finding

FP16_NAMES = frozenset({"fp16", "float16", "half", "f16", "16", "16-mixed"})

FP16_REASONS: dict[str, str] = {
    "zimage": (
        "activations of Z-Image reach 344,064 (layers.0.feed_forward.w2), fp16 ends at 65,504: they become infinite "
        "and the loss NaN, or exactly 0 in a trainer that hides it"
    ),
    "sdxl": "the VAE of SDXL overflows fp16: latents and pictures become NaN or black",
}
"""Family -> what happens in fp16. Families that are not here have nothing against it that is known."""

TRAINED_ONLY = frozenset({"sdxl"})
"""Families that run in fp16 all the same: their VAE is run in fp32 beside a model in fp16."""


def check_precision(family: str, dtype: str, training: bool = True) -> list[Finding]:
    """SOS-T040 if training `family` in `dtype` (`fp16`, `bf16`, `fp32`...), or else running it, is known to fail."""
    reason = FP16_REASONS.get(family)
    if reason is None or dtype.strip().lower().removeprefix("torch.") not in FP16_NAMES:
        return []
    if not training and family in TRAINED_ONLY:
        return []
    verb = "train" if training else "run"
    message = f"{family} was asked to {verb} in {dtype}: {reason}"
    hint = f"{verb} in bf16 (cards from the RTX 30 series on) or fp32"
    return [Finding("SOS-T040", "error", family, message, hint)]
