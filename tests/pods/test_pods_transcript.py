"""The transcripts of docs/pods.md say what the commands say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from sosie.pods.providers import vast as vast_module
from sosie.pods.providers.fake_vast import KEY, FakeVast


def shown(command: str) -> list[str]:
    """The lines that the docs show after a command."""
    text = (ROOT / "docs" / "pods.md").read_text(encoding="utf-8")
    _, found, rest = text.partition(f"    $ {command}\n")
    assert found, f"docs/pods.md shows no {command}"
    return [line.strip() for line in rest.partition("\n\n")[0].splitlines()]


def test_a_search_prints_what_the_docs_show(
    sosie: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vast_module.PROVIDER, "_given", None)
    command = "sosie pod search --disk 60GB --place EEA --tflop 7000 --download 20GB"
    with FakeVast() as fake:
        monkeypatch.setenv("VAST_URL", fake.url)
        monkeypatch.setenv("VAST_API_KEY", KEY)
        done = sosie(*command.split()[1:], "--workspace", tmp_path)
    vast_module.PROVIDER._given = None
    told = f"{done.out}{done.err}".replace("\t", "  ")
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    assert lines == shown(command)
