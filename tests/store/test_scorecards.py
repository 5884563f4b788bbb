"""Scorecards come back equal, once a gate."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from renders import CARD, KEEP, a_render

from sosie.core import (
    CohortRate,
    Score,
    Scorecard,
    Verdict,
)
from sosie.core.errors import StoreError
from sosie.store import Store

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
RATES = st.none() | st.builds(
    CohortRate, st.text(), st.integers(0, 10**6), st.integers(0, 10**6), fmr=NUMBERS, upper95=NUMBERS
)
SCORES = st.builds(
    Score,
    kind=st.sampled_from(["identity", "defect"]),
    name=st.text(),
    value=st.none() | NUMBERS,
    threshold=st.none() | NUMBERS,
    passed=st.none() | st.booleans(),
    reason=st.text(),
    unit=st.text(),
    low=NUMBERS,
    high=NUMBERS,
    higher_is_better=st.booleans(),
    rate=RATES,
    joint=RATES,
    others=RATES,
    guided_by=st.lists(st.text(), max_size=3).map(tuple),
)
VERDICTS = st.builds(
    Verdict, st.sampled_from(["keep", "retry", "repair", "reject"]), st.lists(st.text(), max_size=3).map(tuple)
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scores=st.lists(SCORES, max_size=4).map(tuple), verdict=VERDICTS)
def test_every_scorecard_and_verdict_comes_back_equal(
    store: Store, scores: tuple[Score, ...], verdict: Verdict
) -> None:
    render, gate = store.add_render(a_render(1)), f"gate {store.counts()['scorecards']}"
    store.add_scorecard(render.id, gate, Scorecard(scores), verdict)
    assert store.find_scorecard(render.id, gate) == (Scorecard(scores), verdict)


def test_a_gate_judges_a_render_once_and_another_gate_anew(store: Store) -> None:
    render = store.add_render(a_render(1))
    store.add_scorecard(render.id, "one", CARD, KEEP)
    store.add_scorecard(render.id, "one", Scorecard(()), Verdict("reject"))
    store.add_scorecard(render.id, "two", Scorecard(CARD.scores[:1]), Verdict("retry", ("why",)))
    assert store.find_scorecard(render.id, "one") == (CARD, KEEP)
    assert store.find_scorecard(render.id, "two") == (Scorecard(CARD.scores[:1]), Verdict("retry", ("why",)))
    assert store.counts()["scores"] == len(CARD.scores) + 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused_and_not_stored_as_none(store: Store, bad: float) -> None:
    render = store.add_render(a_render(1))
    for score in (
        Score("defect", "noise", bad, 0.1, passed=None),
        replace(CARD.scores[0], joint=CohortRate("c", 1, 0, 0.0, bad)),
    ):
        with pytest.raises(StoreError, match=r"holds (nan|inf); expected finite"):
            store.add_scorecard(render.id, "gate", Scorecard((CARD.scores[0], score)), KEEP)
    assert store.counts()["scorecards"] == 0
