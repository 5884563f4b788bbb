"""A studio on a workspace with a character and a few images that were judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from renders import CARD, KEEP, a_render

from sosie.core import Verdict
from sosie.store import Store
from sosie.workspace.workspace import open_workspace

if TYPE_CHECKING:
    from studio_page import Studio


@pytest.fixture
def studio(workspace: Path) -> Iterator[Studio]:
    """Six images, every other kept; what the judges say of the others is a trap for pages."""
    pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'sosie[studio]'")
    from studio_page import Studio, guarded

    from sosie.studio.desk import Desk

    with Store.open(workspace / ".sosie") as store:
        stored = [store.add_render(a_render(seed, prompt=f"prompt {seed}")) for seed in range(6)]
        for place, one in enumerate(stored):
            verdict = KEEP if place % 2 else Verdict("reject", ("<img src=x onerror=alert(1)>",))
            store.add_scorecard(one.id, "gate", CARD, verdict)
    desk = Desk(open_workspace(workspace))
    yield Studio(guarded(desk), desk, workspace, stored)
    desk.close()
