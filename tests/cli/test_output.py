"""One renderer for what every use case yields."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from sosie.cli.output import Output
from sosie.cli.table import table
from sosie.core import Event, Note, Progress, Result, Score, Scorecard, Verdict
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


ODD = "o:moon:x/[bold]a[/bold] :star: [red] \\[x] https://x.y/[1] '7' True"


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_shown_is_what_was_used_character_by_character(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color")) if terminal else (("NO_COLOR", "1"),):
        monkeypatch.setenv(name, value)
    output = Output(as_json=False, quiet=False, verbose=True)
    card = Scorecard((Score("defect", "[b]odd[/b]:moon:", 1.0, 0.5, False),))
    with output.progress():
        output.event(Note(ODD))
        output.event(X000.at("here", ODD, ODD))
        output.step(ODD, 1, 2)
    output.say(ODD, "bold")
    output.console.print(table([(ODD, card, Verdict("retry"), 1.0)]))
    told = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert told.count(ODD) >= 5
    assert "[b]odd[/b]:moon:" in told
    assert not re.search("[\U0001f300-\U0001faff\u2b50]", told)


def test_data_reach_a_file_while_the_bar_is_drawn_on_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # stderr counts as a terminal, stdout goes to a file
    output = Output(as_json=True, quiet=False, verbose=False)
    with output.progress():
        output.step("step 1 of 2", 1, 2)
        output.data('{"kept": true}')
    seen = capsys.readouterr()
    assert seen.out == '{"kept": true}\n'
    assert "step 1 of 2" in seen.err
    assert "kept" not in seen.err
