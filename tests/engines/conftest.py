"""What tests of engines leave open is closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    from comfy_bench import close_all

    yield
    close_all()
