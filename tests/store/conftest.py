"""A new store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sosie.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".sosie"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with Store.open(folder) as opened:
        yield opened
