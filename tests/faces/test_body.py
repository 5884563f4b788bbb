"""Key points of bodies: read from OpenPose's files, drawn as ControlNets for poses know them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sosie.core.errors import BadFileError
from sosie.faces.body import COLOURS, OF_25, draw_bodies, read_bodies

# A person who stands: nose, neck, right arm, left arm, right leg, left leg, eyes, ears; in a picture of 200 x 400.
STANDING = [
    (100, 50), (100, 90), (70, 92), (60, 140), (55, 190), (130, 92), (140, 140), (145, 190), (82, 200), (80, 280),
    (78, 360), (118, 200), (120, 280), (122, 360), (93, 42), (107, 42), (85, 46), (115, 46),
]  # fmt: skip


def written(folder: Path, points: list[tuple[float, float]], wrap: bool = False, **more: Any) -> Path:
    numbers = [float(one) for x, y in points for one in (x, y, 1.0)]
    table: Any = {"people": [{"pose_keypoints_2d": numbers}], "canvas_width": 200, "canvas_height": 400, **more}
    path = folder / "pose.json"
    path.write_text(json.dumps([table] if wrap else table))
    return path


def test_every_point_has_its_colour_and_every_limb_is_darker(tmp_path: Path) -> None:
    picture = np.asarray(draw_bodies(read_bodies(written(tmp_path, STANDING)), (400, 800)))
    for (x, y), colour in zip(STANDING, COLOURS, strict=True):
        assert tuple(picture[2 * y, 2 * x]) == colour
    shoulder, elbow = STANDING[2], STANDING[3]
    middle = picture[shoulder[1] + elbow[1], shoulder[0] + elbow[0]]
    assert tuple(middle) == tuple(round(0.6 * level) for level in COLOURS[2])
    assert (picture[0] == 0).all()


def test_lists_of_pictures_and_files_of_25_points_hold_the_same_person(tmp_path: Path) -> None:
    wanted = read_bodies(written(tmp_path, STANDING))
    assert read_bodies(written(tmp_path, STANDING, wrap=True)) == wanted
    more: list[tuple[float, float]] = [(7.0, 7.0)] * 25
    for place, point in zip(OF_25, STANDING, strict=True):
        more[place] = point
    assert read_bodies(written(tmp_path, more)) == wanted


def test_points_that_were_not_seen_and_their_limbs_are_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, STANDING)
    table = json.loads(path.read_text())
    for place in (3, 4):
        table["people"][0]["pose_keypoints_2d"][3 * place + 2] = 0
    path.write_text(json.dumps(table))
    (body,) = read_bodies(path)
    assert [place for place, point in enumerate(body.points) if point is None] == [3, 4]
    picture = np.asarray(draw_bodies([body], (200, 400)))
    assert not picture[STANDING[4][1] - 5 :, :62].any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "no list of 'people'"),
        ("{}", "no list of 'people'"),
        ('{"people": []}', "no list of 'people'"),
        ('{"people": [1]}', "not 18 or 25 points"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', "not 18 or 25 points"),
        (json.dumps({"people": [{"pose_keypoints_2d": ["x"] * 54}]}), "not 18 or 25 points"),
        (json.dumps({"people": [{"pose_keypoints_2d": [300.0] * 54}]}), "it says no 'canvas_width'"),
        (json.dumps({"people": [{}], "canvas_width": -1, "canvas_height": 9}), "no sizes in pixels"),
        (json.dumps({"people": [{}] * 65}), "expected at most 64"),
        ("{", "not valid JSON"),
    ],
)
def test_what_holds_no_key_points_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "pose.json"
    path.write_text(text)
    with pytest.raises(BadFileError, match=said):
        read_bodies(path)
