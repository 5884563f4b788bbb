"""A panel of small noise images, ready to be served."""

from __future__ import annotations

from pathlib import Path

import pytest
from renders import picture

from sosie.panels.drawing import draw_pairs
from sosie.panels.folder import PanelFolder, make_panel
from sosie.panels.panel import Panel, PanelImage
from sosie.store.images import encode
from sosie.workspace.workspace import open_workspace


@pytest.fixture
def folder(tmp_path: Path) -> PanelFolder:
    """Two secret cells of eight blocks: eight test pairs, a repeat and an identical pair."""
    pictures = [encode(picture(place)) for place in range(17)]
    cells = ("secret cell one", "secret cell two")
    images = [
        PanelImage(one.sha256, cells[place % 2], f"block {place // 2}") for place, one in enumerate(pictures[:16])
    ]
    pairs = draw_pairs(images, cells, 20, 0)
    panel = Panel("blind", "likeness", "mira", "mini", cells, (pictures[16].sha256,), tuple(images), pairs)
    return make_panel(open_workspace(tmp_path), panel, pictures)
