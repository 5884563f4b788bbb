"""What the statistics of experiments promise, simulated: how often they are wrong, and what a plan can show."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sosie.statistics.answers import Rules, answer, answers_at_the_end, is_behind
from sosie.statistics.betting import confidence_sequence, evidence, log_capital
from sosie.statistics.bootstrap import bootstrap_mean
from sosie.statistics.power import Trial, first_claims, looks, smallest_difference
from sosie.statistics.student import holm, incomplete_beta, paired_interval, paired_p, t_quantile, t_tail, welch

Numbers = NDArray[np.float64]
SD, CLIP, WORLDS, BLOCKS = 0.064, 0.15, 3000, 128

NOISES: dict[str, Callable[[np.random.Generator], Numbers]] = {
    "normal": lambda random: random.normal(0, SD, (WORLDS, BLOCKS)),
    "heavy tails": lambda random: random.standard_t(3, (WORLDS, BLOCKS)) * SD / math.sqrt(3),
    "skewed": lambda random: (random.exponential(1, (WORLDS, BLOCKS)) - 1) * SD,
    "skewed the other way": lambda random: (1 - random.exponential(1, (WORLDS, BLOCKS))) * SD,
}


# Error rates


@pytest.mark.parametrize("noise", NOISES)
def test_two_equal_arms_are_called_different_in_5_of_100_experiments_at_most(noise: str) -> None:
    claims = first_claims(Trial(BLOCKS, every=4), NOISES[noise](np.random.default_rng(11)))
    assert np.isfinite(claims).mean() <= 0.05


def test_looking_at_a_t_test_again_and_again_is_what_this_is_not() -> None:
    noise = NOISES["normal"](np.random.default_rng(11))[:500]
    wrong = [any(paired_p(world[:n]) <= 0.05 for n in range(8, BLOCKS + 1, 4)) for world in noise]
    assert np.mean(wrong) > 0.2


def test_prompts_that_differ_in_their_effects_cause_no_false_claim_where_whole_passes_are_looked_at() -> None:
    random = np.random.default_rng(5)
    effects = np.array([-0.12, -0.04, 0.04, 0.12])
    passes = [random.permuted(np.tile(effects, (WORLDS, 1)), axis=1) for _ in range(BLOCKS // 4)]
    noise = np.concatenate(passes, axis=1) + random.normal(0, 0.02, (WORLDS, BLOCKS))
    assert np.isfinite(first_claims(Trial(BLOCKS, every=4), noise)).mean() <= 0.05


@pytest.mark.parametrize("noise", NOISES)
def test_of_26_questions_together_5_of_100_experiments_claim_a_false_one_at_most(noise: str) -> None:
    together = NOISES[noise](np.random.default_rng(3))[: 26 * 100]
    claims = np.isfinite(first_claims(Trial(BLOCKS, 26, every=4), together)).reshape(100, 26)
    assert claims.any(axis=1).mean() <= 0.05


def test_the_interval_holds_the_mean_at_all_looks_together() -> None:
    random = np.random.default_rng(8)
    at = looks(48, 4)
    inside = 0
    for _ in range(200):
        bound = confidence_sequence(random.normal(0.03, 0.05, 48), CLIP, 0.05, at)
        inside += bound.low <= 0.03 <= bound.high
    assert inside >= 190


def test_one_look_at_the_end_with_holm_is_wrong_in_5_of_100_experiments() -> None:
    random = np.random.default_rng(2)
    rules = Rules(0.02, CLIP, stopping="none", contrasts=8)
    wrong = 0
    for _ in range(300):
        found = answers_at_the_end(list(random.normal(0, SD, (8, 32))), rules)
        wrong += any(one.verdict in ("better", "worse") for one in found)
    assert wrong / 300 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_a_race_drops_5_of_100_equal_arms_at_most() -> None:
    noise = NOISES["skewed"](np.random.default_rng(6))[:600]
    rules = Rules(0.02, CLIP)
    assert np.mean([is_behind(world, rules, looks(BLOCKS, 4)) for world in noise]) <= 0.05


# What a plan can show


@pytest.mark.parametrize(
    ("contrasts", "effect", "blocks"),
    [(1, 0.03, 43), (1, 0.04, 30), (1, 0.06, 19), (8, 0.03, 66), (8, 0.04, 44), (8, 0.06, 28), (26, 0.04, 52)],
)
def test_the_blocks_until_a_claim_are_those_of_the_published_table(contrasts: int, effect: float, blocks: int) -> None:
    noise = np.random.default_rng(4).normal(effect, SD, (600, BLOCKS))
    median = float(np.median(first_claims(Trial(BLOCKS, contrasts, every=4), noise)))
    assert abs(median - blocks) <= 4 + 0.1 * blocks


def test_a_grid_of_27_cells_and_16_blocks_shows_nothing_below_eight_hundredths() -> None:
    found = smallest_difference(Trial(16, 26))
    assert found is None or found > 0.08
    longer = smallest_difference(Trial(64, 26))
    assert longer is not None
    assert 0.035 < longer < 0.05


def test_four_times_the_blocks_show_half_the_difference_also_where_it_is_not_simulated() -> None:
    short, long = smallest_difference(Trial(128)), smallest_difference(Trial(512))
    assert short is not None
    assert long == pytest.approx(short / 2)
    simulated = first_claims(Trial(512), np.random.default_rng(1).normal(long, SD, (200, 512)))
    assert 0.7 <= np.isfinite(simulated).mean() <= 0.9


def test_a_plan_without_a_block_shows_nothing() -> None:
    assert smallest_difference(Trial(0)) is None
    assert smallest_difference(Trial(1)) is None


# Capital and intervals


def test_the_capital_is_what_a_bet_by_hand_wins() -> None:
    won = float(np.exp(log_capital(np.array([0.15]), 0.0, 0.15)[0]))
    shares = (0.05, 0.15, 0.3, 0.5, 0.75, 0.98)
    assert won == pytest.approx(sum(1 + share for share in shares) / 6)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.floats(0.05, 0.5))
def test_the_interval_ends_where_the_bets_stop_to_refute(values: list[float], clip: float) -> None:
    differences = np.array(values)
    at = looks(len(values), 4)
    bound = confidence_sequence(differences, clip, 0.05, at)
    assert -clip <= bound.low <= bound.high <= clip
    inside = (bound.low + bound.high) / 2
    if abs(inside) < clip:
        assert max(evidence(differences, inside, clip, at)) <= math.log(40) + 1e-6


def test_an_answer_is_better_worse_the_same_or_undecided() -> None:
    random = np.random.default_rng(0)
    rules, at = Rules(0.02, CLIP), looks(96, 4)
    assert answer(random.normal(0.06, SD, 96), rules, at).verdict == "better"
    assert answer(random.normal(-0.06, SD, 96), rules, at).verdict == "worse"
    assert answer(random.normal(0.0, 0.02, 96), rules, at).verdict == "same"
    assert answer(random.normal(0.0, SD, 16), rules, looks(16, 4)).verdict == "undecided"
    assert answer(np.zeros(0), rules, looks(0, 4)).verdict == "undecided"


def test_differences_beyond_the_clip_are_counted() -> None:
    found = answer(np.array([0.5, 0.01, 0.02, -0.01]), Rules(0.02, CLIP), looks(4, 4))
    assert found.clipped == 0.25
    assert found.bound.mean == pytest.approx((0.15 + 0.01 + 0.02 - 0.01) / 4)


# Student, Holm, bootstrap


def test_students_t_is_that_of_the_tables() -> None:
    assert t_quantile(0.025, 10) == pytest.approx(2.228139, abs=1e-5)
    assert t_quantile(0.0005, 60) == pytest.approx(3.4602, abs=1e-4)
    assert t_tail(0.0, 5) == pytest.approx(0.5)
    assert t_tail(-2.0, 7) == pytest.approx(1 - t_tail(2.0, 7))
    assert incomplete_beta(0.5, 2, 2) == pytest.approx(0.5)
    assert incomplete_beta(0.3, 2, 5) == pytest.approx(0.579825, abs=1e-6)


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([]) == ()
    assert holm([0.9, 0.8]) == (1.0, 1.0)


def test_paired_and_unpaired_means_agree_with_their_formulas() -> None:
    differences = np.array([0.1, 0.2, 0.3, 0.2])
    bound = paired_interval(differences, 0.05)
    half = 3.182446 * float(np.std(differences, ddof=1)) / 2
    assert (bound.mean, bound.high - bound.mean) == (pytest.approx(0.2), pytest.approx(half, rel=1e-5))
    assert paired_p(differences, 0.2) == pytest.approx(1.0)
    assert paired_p(np.array([0.1])) == 1.0
    apart, p = welch(np.array([1.0, 1.1, 0.9]), np.array([0.0, 0.1, -0.1]), 0.05)
    assert apart.mean == pytest.approx(1.0)
    assert p < 0.001


def test_a_mean_is_drawn_again_by_prompt_only_where_there_are_eight() -> None:
    random = np.random.default_rng(9)
    prompts = random.normal(0, 1, (8, 1))
    many = bootstrap_mean(prompts + random.normal(0, 0.1, (8, 4)))
    few = bootstrap_mean((prompts + random.normal(0, 0.1, (8, 4)))[:4])
    assert many is not None
    assert few is not None
    assert (many.by, few.by, many.n) == ("prompt and seed", "seed", 32)
    assert many.high - many.low > 4 * (few.high - few.low)
    assert bootstrap_mean(np.full((2, 2), np.nan)) is None


def test_looks_are_at_every_pass_and_at_the_end() -> None:
    assert looks(10, 4).tolist() == [4, 8, 10]
    assert looks(3, 4).tolist() == [3]
    assert looks(0, 4).tolist() == []
