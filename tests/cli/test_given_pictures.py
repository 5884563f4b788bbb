"""`--from`: a picture that no attempt can mend is refused before the first one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Sosie = Callable[..., Any]
pytestmark = pytest.mark.local


@pytest.fixture
def pair(tmp_path: Path, references: list[Path]) -> Path:
    """Two people side by side."""
    picture = Image.new("RGB", (1024, 512))
    for place, path in enumerate(references[:2]):
        with Image.open(path) as image:
            picture.paste(image.resize((512, 512)), (512 * place, 0))
    picture.save(tmp_path / "pair.png")
    return tmp_path / "pair.png"


def test_a_picture_of_two_people_is_refused_before_the_first_attempt(sosie: Sosie, workspace: Path, pair: Path) -> None:
    order = ("generate", "mira", "smiling", "--recipe", "mini-full", "--engine", "fake", "--workspace", workspace)
    done = sosie(*order, "--from", pair, "--stages", "detail")
    assert done.code == 2
    assert "SOS-J008" in done.err
    assert "crop the picture" in done.err
    assert "--attempts" not in done.err
