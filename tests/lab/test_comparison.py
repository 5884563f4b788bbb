"""Two sides in pairs: what is paired, and what the rows say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from renders import CARD, KEEP, a_render, deliver

from sosie.core.errors import NotFoundError, UsageError
from sosie.lab.comparison import compared, paired
from sosie.lab.sides import Side, SideImage, read_side
from sosie.panels.agreement import Measured
from sosie.store import Store
from sosie.workspace.workspace import open_workspace


def side(name: str, *blocks: str) -> Side:
    return Side(name, tuple(SideImage(Path(f"{name}-{block}.png"), block) for block in blocks))


def rows(name: str, kind: str, higher: bool, a: list[float | None], b: list[float | None]) -> list[object]:
    sides = (side("a", *map(str, range(len(a)))), side("b", *map(str, range(len(b)))))
    pairs, alone = paired(*sides)
    return list(compared(sides, pairs, alone, [Measured(name, kind, higher, (*a, *b))]).rows)


def test_images_are_paired_by_block_and_the_others_are_named() -> None:
    pairs, alone = paired(side("a", "1", "2", "3"), side("b", "3", "2", "9"))
    assert [(one.path.name, other.path.name) for one, other in pairs] == [
        ("a-2.png", "b-2.png"),
        ("a-3.png", "b-3.png"),
    ]
    assert alone == ("1", "9")
    with pytest.raises(UsageError, match="no block in common"):
        paired(side("a", "1", "2"), side("b", "3", "4"))


def test_two_single_images_are_a_pair_whatever_they_are_called() -> None:
    assert len(paired(side("a", "x"), side("b", "y"))[0]) == 1


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    scipy = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    generator = np.random.default_rng(1)
    a = generator.normal(0.5, 0.1, 12)
    b = a + generator.normal(0.03, 0.02, 12)
    (row,) = rows("sface", "identity", True, a.tolist(), b.tolist())
    expected = scipy.ttest_rel(b, a).confidence_interval(0.95)
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    assert row.difference == pytest.approx(np.mean(b - a))
    assert row.b_better == int((b > a).sum())


def test_intervals_hold_the_true_difference_as_often_as_they_say() -> None:
    generator = np.random.default_rng(2)
    held = 0
    for _ in range(300):
        a, b = generator.normal(0, 1, 10), generator.normal(0.4, 1, 10)
        (row,) = rows("s", "identity", True, a.tolist(), b.tolist())
        held += row.low <= 0.4 <= row.high
    assert 0.92 <= held / 300 <= 0.98


def test_of_a_distance_the_smaller_is_better() -> None:
    (row,) = rows("dlib", "identity", False, [0.5, 0.5, 0.4], [0.4, 0.6, 0.4])
    assert (row.a_better, row.b_better, row.equal) == (1, 1, 1)


def test_a_lost_face_loses_the_pair_and_is_in_no_mean() -> None:
    (row,) = rows("sface", "identity", True, [0.5, 0.6, None, None], [0.4, None, 0.7, None])
    assert (row.n, row.a, row.b, row.low) == (1, 0.5, 0.4, None)
    assert (row.a_better, row.b_better, row.equal) == (2, 1, 0)
    assert (row.a_missing, row.b_missing) == (2, 2)
    (check,) = rows("text", "defect", False, [0.0, None], [0.0, 1.0])
    assert (check.a_better, check.b_better, check.equal) == (0, 0, 1)


def test_of_a_score_without_a_direction_neither_side_is_better() -> None:
    from dataclasses import replace

    from sosie.api.comparing.sentences import in_words

    (row,) = rows("saturation", "look", False, [20.0, 21.0, 22.0], [10.0, 11.5, 12.0])
    assert in_words(row).verdict == "b"
    said = in_words(replace(row, is_directed=False))
    assert (said.verdict, said.pairs) == ("", "3: A lower in 0, B in 3")
    assert "neither is better" in said.note


def test_without_any_value_nothing_is_said() -> None:
    (row,) = rows("sface", "identity", True, [None], [None])
    assert (row.n, row.a, row.difference, row.low) == (0, None, None, None)


def test_a_run_is_its_first_attempts_kept_or_not(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    asked = {"character": "mira", "recipe": "mini", "prompts": ["smiling"], "n": 1}
    with Store.open(workspace.state) as store:
        for seed in (1, 2):
            run = store.begin_run("generate", {**asked, "seed": seed})
            render = store.add_render(a_render(seed))
            if seed == 1:
                store.add_scorecard(render.id, "gate", CARD, KEEP)
                deliver(store, run, render.id, tmp_path / "one.png", True)
            store.add_render(a_render(seed, parent="f" * 64))  # a second try, which does not count
    first, second = (read_side(workspace, f"run:{number}") for number in (1, 2))
    assert [image.block for image in first.images] == ["smiling · seed 1 · image 1"]
    assert [image.block for image in second.images] == ["smiling · seed 2 · image 1"]
    assert first.character == "mira"
    with pytest.raises(NotFoundError, match="run '3' of `sosie generate` does not exist"):
        read_side(workspace, "run:3")


def test_two_files_of_one_name_are_no_pair_of_anything(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    with pytest.raises(UsageError, match="two images 'a'"):
        read_side(open_workspace(tmp_path), str(tmp_path))


def test_an_arm_of_an_experiment_is_its_images_and_says_how_many_are_missing(tmp_path: Path) -> None:
    from dataclasses import replace

    from experiments import result

    from sosie.workspace.experiments import save_design, save_result

    workspace = open_workspace(tmp_path)
    found = result()
    cells = []
    with Store.open(workspace.state) as store:
        for number, cell in enumerate(found.cells):
            render = store.add_render(a_render(number))
            cells.append(replace(cell, plan=render.plan.id, image=cell.image and render.sha256))
    save_design(workspace, found.id, {})
    save_result(workspace, replace(found, cells=tuple(cells)))
    four, six = (read_side(workspace, f"cell:cfg:cfg={value}") for value in (4, 6))
    assert (len(four.images), len(six.images)) == (4, 3)
    assert six.note.endswith("1 could not be drawn")
    pairs, alone = paired(four, six)
    assert [one.block for one, _ in pairs] == ["prompt 1 · seed 1", "prompt 1 · seed 2", "prompt 2 · seed 1"]
    assert alone == ("prompt 2 · seed 2",)
    with pytest.raises(NotFoundError, match="no arm 'cfg=9'"):
        read_side(workspace, "cell:cfg:cfg=9")
    with pytest.raises(NotFoundError, match="did you mean 'cfg-0123abcd'"):
        read_side(workspace, "cell:cfgs-0123abcd:cfg=4")
