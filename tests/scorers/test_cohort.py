"""Thresholds: never looser than the promised false-match rate, and no tighter than needed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sosie.core.errors import BadModelError
from sosie.faces.encoders import Metric
from sosie.scorers.cohort import (
    Cohort,
    choose_thresholds,
    clopper_pearson_upper,
    load_cohort,
    nearest_in_description,
    rate,
    save_cohort,
)
from sosie.scorers.identity import MIN_REFERENCES, Gate, JudgeGate, leave_one_out, set_by_references
from sosie.scorers.statistics import auc, wilson


def passing(scores: dict[str, np.ndarray], thresholds: dict[str, float]) -> int:
    return int(np.logical_and.reduce([scores[name] >= thresholds[name] for name in scores]).sum())


@given(st.integers(1, 120), st.floats(0.001, 0.5), st.integers(0, 2**32), st.floats(-1, 1))
def test_at_most_the_promised_share_of_the_cohort_passes_all_judges(n: int, fmr: float, seed: int, rho: float) -> None:
    random = np.random.default_rng(seed)
    first = random.normal(size=n)
    scores = {"a": first, "b": rho * first + random.normal(size=n)}
    thresholds = choose_thresholds(scores, fmr)
    assert passing(scores, thresholds) <= math.floor(fmr * n + 1e-9)


def test_one_judge_alone_lets_exactly_the_promised_number_pass() -> None:
    scores = {"a": np.linspace(0, 1, 100)}
    assert passing(scores, choose_thresholds(scores, 0.05)) == 5


def test_two_judges_that_disagree_may_each_be_looser() -> None:
    random = np.random.default_rng(3)
    scores = {"a": random.normal(size=400), "b": random.normal(size=400)}
    thresholds = choose_thresholds(scores, 0.05)
    alone = [float((scores[name] >= thresholds[name]).mean()) for name in scores]
    assert min(alone) > 0.15
    assert passing(scores, thresholds) == 20


def test_equal_scores_are_never_split() -> None:
    scores = {"a": np.array([0.5] * 10 + [0.1] * 10)}
    assert passing(scores, choose_thresholds(scores, 0.2)) == 0


@pytest.mark.parametrize(("k", "n", "bound"), [(0, 60, 0.0487), (1, 20, 0.2161), (3, 60, 0.1242), (20, 400, 0.0719)])
def test_the_upper_bound_is_that_of_clopper_and_pearson(k: int, n: int, bound: float) -> None:
    assert clopper_pearson_upper(k, n) == pytest.approx(bound, abs=5e-4)


def test_no_match_in_n_pairs_means_less_than_three_in_n() -> None:
    for n in (30, 300, 3000):
        assert 0.9 * 3 / n < clopper_pearson_upper(0, n) < 3 / n
    assert clopper_pearson_upper(0, 0) == 1.0


def test_a_cohort_file_comes_back_whole(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    changes = (("4", "weight", 0.0), ("7", "enabled", False), ("9", "image1", None))
    cohort = Cohort("mini", "g", ("a woman",), {"sface": "1" * 64}, {"sface": rows}, "", changes)
    save_cohort(cohort, tmp_path / "c.npz")
    again = load_cohort(tmp_path / "c.npz")
    assert again.changes == changes
    assert (again.name, again.generator, again.descriptions, again.n) == ("mini", "g", ("a woman",), 7)
    assert np.array_equal(again.embeddings["sface"], rows)
    assert len(again.sha256) == 64
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 60])
def test_a_damaged_cohort_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(BadModelError, match="not a cohort"):
        load_cohort(tmp_path / "c.npz")


def test_a_pickled_cohort_is_never_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)

    np.savez(tmp_path / "c.npz", meta=np.array([Evil()], dtype=object))
    with pytest.raises(BadModelError):
        load_cohort(tmp_path / "c.npz")
    assert not (tmp_path / "ran").exists()


def test_a_rate_counts_its_matches() -> None:
    found = rate("c", np.array([True, False, False, True]))
    assert (found.n, found.false_matches, found.fmr) == (4, 2, 0.5)


def test_wilson_gives_the_published_interval() -> None:
    share = wilson(8, 10)
    assert (share.low, share.high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))
    assert wilson(0, 0).high == 1.0


def test_auc_counts_ties_half() -> None:
    assert auc([2, 3], [0, 1]) == 1.0
    assert auc([1], [1]) == 0.5
    assert auc([0, 1], [2, 3]) == 0.0


def test_the_nearest_impostors_are_those_that_share_the_most_words() -> None:
    texts = ("an old man, white hair", "a young woman, red hair", "a young woman, black hair", "a young man, red hair")
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    cohort = Cohort("c", "", texts, {"sface": "1"}, {"sface": rows}, "x")
    nearest = nearest_in_description(cohort, "young woman with Red hair", 2)
    assert nearest.descriptions == (texts[1], texts[2])
    assert np.array_equal(nearest.embeddings["sface"], rows[[1, 2]])
    assert nearest.sha256 != cohort.sha256
    assert nearest_in_description(cohort, "anybody", 4) is cohort


class Ruler:
    """A judge in one number a face: its metric is all that counts here."""

    def __init__(self, name: str, metric: Metric) -> None:
        self.name, self.sha256, self.metric = name, name, metric

    def embed(self, image: object, face: object) -> np.ndarray:
        raise NotImplementedError


def judge(metric: Metric, threshold: float | None = None) -> JudgeGate:
    return JudgeGate(Ruler(metric, metric), np.zeros(2, np.float32), threshold, None)


def test_each_reference_is_compared_to_the_template_of_all_others() -> None:
    rows = [np.array(row, np.float32) for row in ((1, 0), (0, 1), (1, 1))]
    assert leave_one_out("cosine", rows) == pytest.approx([math.cos(math.radians(67.5))] * 2 + [1.0])
    assert leave_one_out("euclidean", rows) == pytest.approx(
        [math.hypot(0.5, 1), math.hypot(1, 0.5), math.hypot(0.5, 0.5)]
    )


@given(st.integers(MIN_REFERENCES, 30), st.integers(0, 2**32))
def test_the_least_alike_reference_just_passes_and_anything_less_alike_does_not(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).uniform(0, 1, n)
    gate = set_by_references(Gate((judge("cosine"), judge("euclidean")), {}), {"cosine": values, "euclidean": values})
    cosine, distance = gate.judges
    assert cosine.threshold is not None
    assert distance.threshold is not None
    assert values.min() - 1.1e-4 < cosine.threshold <= values.min() + 1e-9
    assert values.max() - 1e-9 <= distance.threshold < values.max() + 1.1e-4
    assert (cosine.rate, distance.rate, gate.joint) == (None, None, None)
    assert {entry.basis for entry in gate.unrated} == {f"{n} references, each against the others"}
    assert gate.open == ()


def test_too_few_references_set_nothing_and_a_cohorts_threshold_stays() -> None:
    gate = Gate((judge("cosine", 0.6), judge("euclidean")), {})
    assert set_by_references(gate, {"cosine": np.ones(9), "euclidean": np.ones(MIN_REFERENCES - 1)}).id == gate.id
    assert set_by_references(gate, {}).id == gate.id
    again = set_by_references(gate, {"cosine": np.ones(9), "euclidean": np.ones(MIN_REFERENCES)})
    assert [entry.threshold for entry in again.judges] == [0.6, 1.0]
    assert again.id != gate.id
