"""What the analysis says of simulated people is what is true of them; careless ones and blind judges are found."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from simulated_panel import World, judge, person, vote, world

pytest.importorskip("choix", reason="choix is not installed: pip install 'sosie[panel]'")

from sosie.panels.agreement import Measured, agreement, most_agree, people_agree
from sosie.panels.answers import Answers, answers
from sosie.panels.panel import Attention
from sosie.panels.results import results
from sosie.panels.strengths import strengths
from sosie.panels.thresholds import fit_difference, fit_threshold, halves

CELLS = {"full": 0.9, "half": 0.1, "none": -1.0}


def table(one: World, people: int, seed: int, unsure: float = 0.0) -> Answers:
    return answers(one.panel, vote(one, people, seed, unsure=unsure), [person(place) for place in range(people)])


def chances(one: World) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The chance that a person chooses image a, for each test pair."""
    gaps = [one.truth[pair.a] - one.truth[pair.b] for pair in one.panel.pairs if pair.kind == "test"]
    return 1 / (1 + np.exp(-np.array(gaps)))


def test_strengths_are_the_true_ones_and_their_intervals_hold_them() -> None:
    held, found = 0, []
    for seed in range(8):
        one = world(CELLS, 24, seed)
        cells = {cell.cell: cell for cell in strengths(table(one, 8, seed + 100), count=80)}
        found.append([cells[name].log.value for name in CELLS])
        held += sum(cells[name].log.low <= true <= cells[name].log.high for name, true in CELLS.items())
    assert np.mean(found, axis=0) == pytest.approx(list(CELLS.values()), abs=0.12)
    assert held >= 21, "95 % of 24 are 23"


def test_cells_without_a_difference_are_not_told_apart() -> None:
    wrong = 0
    for seed in range(6):
        one = world(dict.fromkeys(CELLS, 0.0), 24, seed)
        wrong += any(cell.log.low > 0 or cell.log.high < 0 for cell in strengths(table(one, 6, seed), count=80))
    assert wrong <= 1


def test_strengths_are_those_of_choix_own_maximum_likelihood() -> None:
    import choix

    one = world(CELLS, 40, 3)
    votes = table(one, 10, 4)
    places = {cell: place for place, cell in enumerate(one.panel.cells)}
    wins: list[tuple[int, int]] = []
    for row, column in itertools.product(range(len(votes.people)), range(len(votes.pairs))):
        pair = one.panel.pairs[votes.pairs[column]]
        ends = places[one.panel.cell_of(pair.a)], places[one.panel.cell_of(pair.b)]
        wins.append(ends if votes.table[row, column] == 1.0 else ends[::-1])
    expected = choix.opt_pairwise(3, wins)
    found = {cell.cell: cell.log.value for cell in strengths(votes)}
    assert [found[cell] for cell in one.panel.cells] == pytest.approx(expected - expected.mean(), abs=0.01)


def test_a_cell_that_always_wins_has_a_finite_strength() -> None:
    one = world({"best": 50.0, "worst": -50.0}, 12, 0)
    best, worst = strengths(table(one, 4, 0))
    assert (best.cell, best.wins, worst.wins) == ("best", best.votes, 0)
    assert 2 < best.log.value < 10


def test_who_cannot_tell_gives_half_a_win_to_both() -> None:
    one = world({"a": 0.2, "b": 0.0}, 20, 0)
    for cell in strengths(table(one, 4, 0, unsure=1.0)):
        assert cell.log.value == pytest.approx(0, abs=1e-9)
        assert cell.wins == cell.votes / 2


def test_people_agree_as_often_as_their_chances_say() -> None:
    found, expected, inside = [], [], 0
    for seed in range(30):
        one = world(CELLS, 24, seed, spread=0.8)
        p = chances(one)
        estimate = people_agree(table(one, 8, seed))
        expected.append(np.mean(p**2 + (1 - p) ** 2))
        found.append(estimate.value)
        inside += estimate.low <= expected[-1] <= estimate.high
    assert np.mean(found) == pytest.approx(np.mean(expected), abs=0.015)
    assert inside >= 26


def test_a_judge_that_sees_what_people_see_agrees_as_often_as_is_possible_and_a_blind_one_half_the_time() -> None:
    seeing, expected, blind, inside = [], [], [], 0
    for seed in range(30):
        one = world(CELLS, 24, seed, spread=0.8)
        votes, p = table(one, 8, seed), chances(one)
        exact = agreement(votes, judge(one, 0.0, seed))
        expected.append(np.mean(np.maximum(p, 1 - p)))
        seeing.append(exact.share.value)
        inside += exact.share.low <= expected[-1] <= exact.share.high
        blind.append(agreement(votes, judge(one, 1e6, seed)).share.value)
        assert exact.auc > 0.6
        assert exact.covered == 1.0
    assert np.mean(seeing) == pytest.approx(np.mean(expected), abs=0.015)
    assert np.mean(blind) == pytest.approx(0.5, abs=0.03)
    assert inside >= 26


def test_no_judge_agrees_more_than_most_of_many_people_do() -> None:
    one = world(CELLS, 30, 5, spread=0.8)
    votes = table(one, 40, 5)
    assert most_agree(votes).value == pytest.approx(agreement(votes, judge(one, 0.0, 5)).share.value, abs=0.02)
    assert people_agree(votes).value < most_agree(votes).value


def test_a_distance_is_turned_round_and_images_without_a_score_are_counted() -> None:
    one = world(CELLS, 24, 6)
    votes, exact = table(one, 6, 6), judge(one, 0.0, 6)
    turned = Measured("turned", "identity", False, tuple(-value for value in exact.values))
    assert agreement(votes, turned).share == agreement(votes, exact).share
    some = replace(exact, values=tuple(value if place % 4 else None for place, value in enumerate(exact.values)))
    few = agreement(votes, some)
    assert 0.3 < few.covered < 0.9
    assert few.share.n == round(few.covered * agreement(votes, exact).share.n)
    none = agreement(votes, replace(exact, values=tuple(None for _ in exact.values), why_not="no face"))
    assert (none.share.value, none.auc, none.covered, none.why_not) == (None, None, 0.0, "no face")


def test_careless_people_do_not_count_and_attentive_ones_do() -> None:
    one = world(CELLS, 60, 7)
    votes = vote(one, 12, 7, careless=[2, 5], left=[9], unsure=0.0)
    found = results(one.panel, votes, [])
    out = {row.person: row.why for row in found.people if row.why}
    assert set(out) == {person(2), person(5), person(9)}
    assert all("pairs of one image twice" in why or "repeated pairs" in why for why in out.values())
    assert len(found.kept) == 9
    kept = results(one.panel, {name: own for name, own in votes.items() if name not in out}, [])
    assert kept.strengths == found.strengths
    assert found.left.low > kept.left.low


def test_too_few_checks_leave_nobody_out() -> None:
    one = world(CELLS, 60, 7)
    lenient = replace(one.panel, attention=Attention(least=1000))
    votes = vote(World(lenient, one.truth), 3, 7, careless=[0])
    assert len(results(lenient, votes, []).kept) == 3


def test_a_threshold_is_found_again_and_its_share_on_the_other_half_is_the_one_that_holds() -> None:
    found = []
    for seed in range(6):
        # Images are good (2) or bad (-2): what parts them lies between.
        one = world({"good": 2.0, "bad": -2.0}, 40, seed)
        fitted = fit_threshold(table(one, 6, seed), judge(one, 0.3, seed))
        found.append(fitted.value)
        assert fitted.held.rate == pytest.approx(1 / (1 + np.exp(-4)), abs=0.06)
    assert np.abs(found).max() < 1.8


def test_what_fits_noise_does_not_hold_on_the_other_half() -> None:
    fitted, held = [], []
    for seed in range(60):
        one = world({"a": 0.0, "b": 0.0}, 40, seed)
        result = fit_threshold(table(one, 3, seed), judge(one, 1.0, seed))
        if result.held is not None:
            fitted.append(result.fitted.rate)
            held.append(result.held.rate)
    assert len(held) >= 40
    assert np.mean(fitted) > 0.55
    assert np.mean(held) == pytest.approx(0.5, abs=0.045)


def test_the_smallest_difference_that_people_see_is_near_the_true_one() -> None:
    # exp(-d) = 1/3 at d = 1.1: there three of four choose the better one. Larger differences are among those beyond.
    one = world({f"c{place}": place * 0.35 for place in range(8)}, 40, 8, pairs=1000)
    seen = fit_difference(table(one, 6, 8), judge(one, 0.0, 8))
    beyond = [max(p, 1 - p) for p in chances(one) if abs(np.log(p / (1 - p))) >= seen.value]
    assert np.mean(beyond) == pytest.approx(0.75, abs=0.04)
    assert seen.held.rate == pytest.approx(0.75, abs=0.04)
    blind = fit_difference(table(one, 6, 8), judge(one, 1e9, 9))
    assert blind.held is None or blind.held.rate < 0.65


def test_the_halves_share_no_block_and_are_as_large() -> None:
    one = world(CELLS, 31, 9)
    fit, held = halves(table(one, 1, 9))
    blocks = np.array(table(one, 1, 9).blocks)
    assert set(blocks[fit]) & set(blocks[held]) == set()
    assert abs(len(set(blocks[fit])) - len(set(blocks[held]))) <= 1


def test_two_people_give_figures_without_intervals_and_nobody_gives_none() -> None:
    one = world(CELLS, 10, 10)
    found = results(one.panel, vote(one, 2, 10), [judge(one, 0.0, 10)])
    assert all(cell.log.low is None and cell.log.value is not None for cell in found.strengths)
    assert found.with_each_other.low is None
    empty = results(one.panel, {}, [judge(one, 0.0, 10)])
    assert (empty.people, empty.votes, empty.strengths, empty.undecided) == ((), 0, (), None)
    assert empty.with_each_other.value is None
    assert empty.agreements[0].share.value is None
    assert empty.thresholds[0].value is None


def test_votes_on_other_images_than_the_panel_shows_do_not_count() -> None:
    one = world(CELLS, 10, 11)
    votes = vote(one, 2, 11)
    own = votes[person(0)]
    own[0] = replace(own[0], left=own[0].right)
    own[5000] = replace(own[1], pair=5000)
    assert results(one.panel, votes, []).people[0].answered == len(one.panel.pairs) - 1
