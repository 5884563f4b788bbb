"""Output: data on stdout, prose and progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sosie.cli.ending.streams import json_line, write_error
from sosie.core.address import conceal
from sosie.core.event import Event, Note, Progress
from sosie.core.finding import Finding
from sosie.core.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.segment import Segment

PIPED_WIDTH = 160
MARKS = {"error": ("✗", "red"), "warning": ("!", "yellow"), "info": ("i", "cyan")}


class Output:
    """What `--json`, `-q` and `-v` mean. Holds the terminal's progress bar while one is shown."""

    def __init__(self, as_json: bool, quiet: bool, verbose: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self._bars: Bars | None = None
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """stderr, with colours where it is a terminal and NO_COLOR is not set.

        What is written to it stays as it is: no bracket is markup, no `:word:` an emoji.
        """
        if self._console is None:
            from rich.console import Console

            width = None if sys.stderr.isatty() else PIPED_WIDTH
            self._console = Console(
                stderr=True, soft_wrap=True, width=width, markup=False, emoji=False, highlight=False
            )
            self._console.render = _only_printable(self._console.render)
        return self._console

    def line(self, value: dict[str, Any]) -> None:
        """One JSON object on stdout."""
        self.document(value)

    def document(self, value: Any, indent: int | None = None) -> None:
        """A JSON value on stdout."""
        sys.stdout.write(json_line(value, indent) + "\n")
        sys.stdout.flush()

    def data(self, text: str, lines: bool = False) -> None:
        """One line of plain data on stdout; a text of several with `lines`."""
        sys.stdout.write(printable(text if lines else conceal(text), lines) + "\n")
        sys.stdout.flush()

    def say(self, text: str, style: str = "", lines: bool = False) -> None:
        """Prose on stderr, unless `-q`; one line, or several with `lines`."""
        if not self.quiet:
            self.console.print(printable(conceal(text), lines), style=style or None)

    def finding(self, finding: Finding, always: bool = False) -> None:
        """A finding on stderr; infos with `-v` (or `always`) only, warnings unless `-q`, errors always."""
        if finding.severity == "info" and not (self.verbose or (always and not self.quiet)):
            return
        if finding.severity != "error" and self.quiet:
            return
        mark, style = MARKS[finding.severity]
        message, hint = (printable(conceal(text)) for text in (finding.message, finding.hint))
        self.console.print(f"{mark} {finding.severity} {finding.code}: {message}", style=style)
        if hint:
            self.console.print(f"  hint: {hint}")

    def event(self, event: Event, always: bool = False) -> None:
        """Shows what any use case yields while it goes on; its results are the command's to show."""
        if isinstance(event, Finding):
            self.finding(event, always)
        elif isinstance(event, Note):
            self.say(event.text)
        elif isinstance(event, Progress):
            self.step(event.what, event.done, event.total or event.done or 1)

    @contextmanager
    def progress(self) -> Generator[None]:
        """A progress bar while the block runs, where stderr is a terminal."""
        if self.quiet or not self.console.is_terminal:
            yield
            return
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
        )
        # Where stdout goes to a file or a program, its lines must not be drawn above the bar on the terminal.
        shared = sys.stdout.isatty()
        with Bars(*columns, console=self.console, transient=True, redirect_stdout=shared) as bars:
            bars.add_task("starting", total=1)
            self._bars = bars
            try:
                yield
            finally:
                self._bars = None

    def step(self, description: str, done: float, total: float) -> None:
        """Moves the progress bar."""
        if self._bars is not None:
            shown = printable(conceal(description))
            self._bars.update(self._bars.task_ids[0], description=shown, completed=done, total=total)

    @staticmethod
    def error(message: str, hint: str = "") -> None:
        """`error: ...` and `hint: ...` on stderr."""
        write_error(message, hint)


def _only_printable(render: Callable[..., Iterable[Segment]]) -> Callable[..., Generator[Segment]]:
    """A console's way to make segments, whose texts hold no controls but its own: tables are rendered by it too."""

    def printed(*arguments: Any, **options: Any) -> Generator[Segment]:
        for segment in render(*arguments, **options):
            yield segment if segment.control else segment._replace(text=printable(segment.text, lines=True))

    return printed
