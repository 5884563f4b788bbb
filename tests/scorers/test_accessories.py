"""What everybody wears: noticed in the references, and given to the cohort, so that its rate holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from sosie.faces.detect import Face
from sosie.faces.encoders import Encoder, Metric, template
from sosie.faces.weights import DLIB_RESNET, SFACE
from sosie.scorers.accessories import STRICTER, known, match, suspect
from sosie.scorers.cohort import Cohort
from sosie.scorers.identity import build_gate

Rows = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Net:
    """A judge of which only the embeddings are there."""

    name: str
    sha256: str
    metric: Metric

    def embed(self, image: NDArray[np.uint8], face: Face) -> NDArray[np.float32]:
        raise NotImplementedError


NETS: dict[str, Encoder] = {
    "sface": Net("sface", SFACE.sha256, "cosine"),
    "dlib": Net("dlib", DLIB_RESNET.sha256, "euclidean"),
}


def people(n: int, seed: int, wearing: str = "") -> Rows:
    """Embeddings of n strangers who differ as much along each axis, with norms as the judges give them."""
    random = np.random.default_rng(seed)
    found: Rows = {}
    for name, net in NETS.items():
        rows = random.normal(size=(n, 128)) * (1.0 if net.metric == "cosine" else 0.55) / np.sqrt(128)
        if wearing:
            rows = rows + next(one for one in known().shifts if one.name == wearing).by_judge[net.sha256]
        found[name] = (rows / np.linalg.norm(rows, axis=1, keepdims=True) if net.metric == "cosine" else rows).astype(
            np.float32
        )
    return found


def cohort(rows: Rows) -> Cohort:
    return Cohort("people", "", ("a person",), {name: NETS[name].sha256 for name in rows}, rows, "5ha")


def one_of(rows: Rows, at: int) -> Mapping[str, tuple[Encoder, NDArray[np.float32]]]:
    return {name: (net, template(net.metric, [rows[name][at]])) for name, net in NETS.items()}


def share_passing(against: Cohort, whom: Rows, strangers: Rows, fmr: float = 0.05) -> float:
    gate = build_gate(one_of(whom, 0), {}, (), (against, None), fmr)
    together = np.ones(len(strangers["sface"]), np.bool_)
    for judge in gate.judges:
        values = np.array([judge.measure(row) for row in strangers[judge.encoder.name]])
        assert judge.threshold is not None
        together &= values >= judge.threshold if judge.higher_is_better else values <= judge.threshold
    return float(together.mean())


@pytest.mark.parametrize("wearing", ["spectacles", "sunglasses"])
def test_what_the_references_wear_is_noticed_and_strangers_with_the_same_pass_no_more_often(wearing: str) -> None:
    bare, character, strangers = cohort(people(600, 1)), people(1, 2, wearing), people(600, 3, wearing)
    matched, worn = match(bare, one_of(character, 0))
    assert worn[0].shift.name == wearing
    assert 0.5 < worn[0].share < 1.6
    assert matched.name == f"people, matched to {' and '.join(one.shift.name for one in worn)}"
    assert matched.sha256 != bare.sha256
    assert share_passing(bare, character, strangers) > 0.15
    assert share_passing(matched, character, strangers, 0.05 * STRICTER) < 0.05


def test_bare_faces_leave_the_cohort_as_it_is() -> None:
    bare, characters = cohort(people(600, 1)), people(40, 2)
    found = [match(bare, one_of(characters, at)) for at in range(40)]
    assert sum(bool(worn) for _, worn in found) <= 1
    assert all(given is bare for given, worn in found if not worn)
    assert sum(suspect(bare, one_of(characters, at)) is not None for at in range(40)) <= 12


@pytest.mark.parametrize(("share", "told"), [(0.0, "bare"), (0.3, "bare"), (0.6, "suspected"), (2.0, "sure")])
def test_what_is_too_weak_to_match_the_cohort_is_suspected(share: float, told: str) -> None:
    bare = cohort(people(600, 1))
    shift = next(shift for shift in known().shifts if shift.name == "heavy make-up")
    worn: dict[str, tuple[Encoder, NDArray[np.float32]]] = {
        name: (net, (bare.embeddings[name].mean(axis=0) + share * shift.by_judge[net.sha256]).astype(np.float32))
        for name, net in NETS.items()
    }
    doubt, sure = suspect(bare, worn), match(bare, worn)[1]
    assert (doubt is not None, bool(sure)) == (told != "bare", told == "sure")
    assert doubt is None or doubt.is_sure == bool(sure)


def test_a_cohort_that_wears_the_same_is_not_matched_again() -> None:
    same = cohort(people(600, 1, "spectacles"))
    assert match(same, one_of(people(1, 2, "spectacles"), 0)) == (same, ())


def test_a_judge_whose_shifts_are_not_known_loses_its_rate() -> None:
    character = one_of(people(1, 2, "spectacles"), 0)
    unknown: Encoder = Net("own", "0" * 64, "cosine")
    rows = people(600, 1)
    bare = cohort(rows)
    both = Cohort(
        bare.name, "", bare.descriptions, {**bare.encoders, "own": "0" * 64}, {**rows, "own": rows["sface"]}, "5ha"
    )
    templates = {**character, "own": (unknown, character["sface"][1])}
    matched, worn = match(both, templates)
    assert worn
    gate = build_gate(templates, {}, (), (matched, None), 0.05)
    assert [judge.encoder.name for judge in gate.open] == ["own"]
    assert {judge.encoder.name for judge in gate.judges if judge.rate is not None} == {"sface", "dlib"}
    assert match(both, {"own": (unknown, character["sface"][1])}) == (both, ())


def test_shifts_and_bare_faces_are_known_for_both_judges_that_come_with_the_package() -> None:
    for rows in (*(shift.by_judge for shift in known().shifts), known().bare):
        assert set(rows) == {SFACE.sha256, DLIB_RESNET.sha256}
        assert all(np.isfinite(values).all() and values.shape[-1] == 128 for values in rows.values())
