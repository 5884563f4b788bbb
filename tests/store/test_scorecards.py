"""Scorecards come back equal, once a gate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from catalogues import raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from renders import CARD, KEEP, a_render

from sosie.core import (
    Calibrated,
    CohortRate,
    Score,
    Scorecard,
    Verdict,
)
from sosie.core.errors import StoreError
from sosie.store import Store, catalogue, deliveries

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
RATES = st.none() | st.builds(
    CohortRate, st.text(), st.integers(0, 10**6), st.integers(0, 10**6), fmr=NUMBERS, upper95=NUMBERS
)
SCORES = st.builds(
    Score,
    kind=st.from_regex("[a-z][a-z0-9_]*", fullmatch=True),
    name=st.text(),
    value=st.none() | NUMBERS,
    threshold=st.none() | NUMBERS,
    passed=st.none() | st.booleans(),
    reason=st.text(),
    unit=st.text(),
    low=NUMBERS,
    high=NUMBERS,
    higher_is_better=st.booleans(),
    evidence=st.none()
    | st.builds(Calibrated, RATES, RATES, RATES, st.lists(st.text(), max_size=3).map(tuple), st.text()),
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
        replace(CARD.scores[0], evidence=Calibrated(joint=CohortRate("c", 1, 0, 0.0, bad))),
    ):
        with pytest.raises(StoreError, match=r"holds (nan|inf); expected finite"):
            store.add_scorecard(render.id, "gate", Scorecard((CARD.scores[0], score)), KEEP)
    assert store.counts()["scorecards"] == 0


OLD = {"rate": None, "joint": None, "others": None, "guided_by": [], "basis": ""}
"""What every score of the first three versions had."""


def test_scores_of_a_store_of_version_3_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Calibrated(
        CohortRate("mira/fl\u00f6w.json", 300, 2, 2 / 300, 1e-05),
        CohortRate("m", 1, 0, 0.0, 0.95),
        None,
        ("a",),
        "5 refs",
    )
    card = Scorecard((*CARD.scores, replace(CARD.scores[0], reason="\ud800 \u201c", evidence=rates)))
    with monkeypatch.context() as patch:
        third = catalogue.migrations()[:3]
        patch.setattr(catalogue, "migrations", lambda: third)
        patch.setattr(deliveries, "settle", lambda _: None)  # that version's deliveries had no end to be settled
        with Store.open(folder) as store:
            render = store.add_render(a_render(1))
            store.add_scorecard(render.id, "gate", card, KEEP)
    with raw(folder) as database:
        for position, text in database.execute("SELECT position, json FROM scores").fetchall():
            table = json.loads(text)
            evidence = table.pop("evidence") or {}
            old = json.dumps(table | OLD | evidence)
            database.execute("UPDATE scores SET json = ? WHERE position = ?", (old, position))
        database.commit()
    with Store.open(folder) as store:
        assert store.find_scorecard(render.id, "gate") == (card, KEEP)
    with raw(folder) as database:
        assert not any("basis" in json.loads(text) for (text,) in database.execute("SELECT json FROM scores"))
