"""The ranges of a recipe's `[training]`: what it may say, whatever family is trained."""

from __future__ import annotations

from collections.abc import Iterator

from sosie.core.recipe import Training

Complaint = tuple[bool, str]
"""Whether a value is in its range, and what to say if it is not."""


def training_complaints(training: Training | None) -> list[Complaint]:
    """Every range of `[training]`; none without one."""
    return [] if training is None else [*_learning(training), *_rhythm(training)]


def _learning(t: Training) -> Iterator[Complaint]:
    yield 1 <= t.batch <= 256, f"training.batch = {t.batch} is not 1 to 256"
    yield 1 <= t.rank <= 1024, f"training.rank = {t.rank} is not 1 to 1024"
    yield 0 < t.alpha <= 4096, f"training.alpha = {t.alpha:g} is not above 0 and at most 4096"
    yield 0 < t.learning_rate <= 1, f"training.learning_rate = {t.learning_rate:g} is not above 0 and at most 1"
    yield 0 <= t.weight_decay < 1, f"training.weight_decay = {t.weight_decay:g} is not 0 to below 1"
    yield t.clip > 0, f"training.clip = {t.clip:g} is not above 0"
    yield t.min_snr >= 0, f"training.min_snr = {t.min_snr:g} is below 0 (0 switches it off)"
    yield 0.01 <= t.timestep_shift <= 100, f"training.timestep_shift = {t.timestep_shift:g} is not 0.01 to 100"
    yield 0 <= t.ema < 1, f"training.ema = {t.ema:g} is not 0 to below 1"
    yield 1 <= t.face_weight <= 100, f"training.face_weight = {t.face_weight:g} is not 1 to 100"
    yield 0 <= t.regularisation <= 10, f"training.regularisation = {t.regularisation:g} is not 0 to 10"
    right = 64 <= t.resolution <= 2048 and t.resolution % 64 == 0
    yield right, f"training.resolution = {t.resolution} is not 64 to 2048 and a multiple of 64"


def _rhythm(t: Training) -> Iterator[Complaint]:
    yield 1 <= t.steps <= 1_000_000, f"training.steps = {t.steps} is not 1 to 1000000"
    yield 0 <= t.warmup < t.steps, f"training.warmup = {t.warmup} is not 0 to below steps = {t.steps}"
    yield t.save_every >= 1, f"training.save_every = {t.save_every} is below 1"
    yield t.sample_every >= 1, f"training.sample_every = {t.sample_every} is below 1"
    yield 1 <= t.keep <= 1000, f"training.keep = {t.keep} is not 1 to 1000"
    yield 2 <= t.patience <= 100, f"training.patience = {t.patience} is not 2 to 100"
    yield 0 <= t.seed < 2**63, f"training.seed = {t.seed} is not 0 to {2**63 - 1}"
