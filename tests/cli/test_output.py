"""One renderer for what every use case yields."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from sosie.cli.output import Output
from sosie.core import Event, Note, Progress, Result
from sosie.core.finding import Rule

X000 = Rule("SOS-X000", "warning", "A rule of this test")
EVENTS: tuple[Event, ...] = (Note("two of three"), X000.at("here", "it is odd", "mend it"), Progress("drawing", 1, 4))


class Bar(Output):
    """An output whose bar is a list."""

    moved: list[tuple[str, float, float]]

    @contextmanager
    def progress(self) -> Generator[None]:
        """No terminal is needed."""
        self.moved = []
        yield

    def step(self, description: str, done: float, total: float) -> None:
        """Keeps what a bar would show."""
        self.moved.append((description, done, total))


@pytest.mark.parametrize(
    ("quiet", "shown"), [(False, ["two of three", "! warning SOS-X000: it is odd", "  hint: mend it"]), (True, [])]
)
def test_findings_and_notes_are_prose_and_progress_moves_the_bar(
    quiet: bool, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    output = Bar(as_json=False, quiet=quiet, verbose=False)
    with output.progress():
        for event in (*EVENTS, Result(), Progress("fetching", 7, 0)):
            output.event(event)
    told = capsys.readouterr()
    assert (told.out, told.err.splitlines()) == ("", shown)
    assert output.moved == [("drawing", 1, 4), ("fetching", 7, 7)]
