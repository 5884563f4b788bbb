"""Which precision a family cannot be trained in, or run in."""

from __future__ import annotations

from sosie.core import Finding
from sosie.core.finding import Rule
from sosie.families import figures_of

T040 = Rule("SOS-T040", "error", "Fp16 for a family that overflows it")

FP16_NAMES = frozenset({"fp16", "float16", "half", "f16", "16", "16-mixed"})
"""How trainers call fp16."""


def check_precision(family: str, dtype: str, training: bool = True) -> list[Finding]:
    """SOS-T040 if training `family` in `dtype` (`fp16`, `bf16`, `fp32`...), or else running it, is known to fail."""
    name = dtype.strip().lower().removeprefix("torch.")
    precision = "fp16" if name in FP16_NAMES else name
    verb = "train" if training else "run"
    hint = f"{verb} in bf16 (cards from the RTX 30 series on) or fp32"
    return [
        T040.at(family, f"{family} was asked to {verb} in {dtype}: {each.reason}", hint)
        for each in figures_of(family).fails
        if each.precision == precision and (training or not each.training_only)
    ]
