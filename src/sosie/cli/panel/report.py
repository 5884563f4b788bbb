"""`sosie panel report`: what people chose, and how judges and looks agree with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import PATH, common, session
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.panels.resampling import Estimate
    from sosie.panels.results import Results
    from sosie.panels.thresholds import Fitted


@click.command("report")
@click.argument("name")
@click.option("--out", type=PATH, help="Write a page to look at, too.")
@click.option("--language", type=click.Choice(["en", "fr"]), default="en", show_default=True, help="Of the page.")
@common
def report(name: str, out: Path | None, language: Any, output: Output, workspace: Workspace) -> int:
    """Count the votes of the panel NAME: cells by Bradley-Terry, and every score beside people.

    Intervals are of 95 %, over people and prompts. Exit 1 if nobody's votes count.
    """
    from sosie.api.comparing.panels import PanelResults, count_votes
    from sosie.api.lines import json_of

    kept = 0
    with session(workspace) as opened, output.progress():
        for event in count_votes(opened, name, out, language):
            output.event(event)
            if not isinstance(event, PanelResults):
                continue
            kept = len(event.results.kept)
            if output.as_json:
                output.line(json_of(event))
            else:
                for line in _lines(event.results):
                    output.data(line)
                if event.page:
                    output.data(str(event.page))
    return 0 if kept else 1


def _lines(results: Results) -> Iterator[str]:
    """The results as people read them."""
    out = [one for one in results.people if one.why]
    yield f"{results.panel.name}\t{len(results.kept)} people, {results.votes} votes, {len(out)} people left out"
    for one in out:
        yield f"left out\t{one.person}\t{one.why}"
    if not results.kept:
        yield "nobody has voted yet: nothing is said of the cells or the judges"
        return
    if results.undecided is not None:
        yield f"cannot tell\t{results.undecided:.0%} of the votes"
    yield ""
    for cell in results.strengths:
        yield f"cell\t{cell.cell}\tchosen over the mean cell {_share(cell.chance)}\tlog strength {_number(cell.log)}"
    yield ""
    yield f"people with each other\t{_share(results.with_each_other)}"
    yield f"people with most others\t{_share(results.with_most)}"
    for one in results.agreements:
        area = "" if one.auc is None else f"\tAUC {one.auc:.2f}"
        more = one.why_not or f"{one.covered:.0%} of the votes have a score"
        yield f"{one.name} with people\t{_share(one.share)}{area}\t{more}"
    yield ""
    for fitted in results.thresholds:
        yield f"threshold\t{fitted.name}\t{_fitted(fitted)}"
    for fitted in results.seen:
        yield f"difference seen\t{fitted.name}\t{_fitted(fitted)}"


def _share(one: Estimate) -> str:
    if one.value is None:
        return "unknown"
    interval = "too few people for an interval" if one.low is None else f"{one.low:.0%} to {one.high:.0%}"
    return f"{one.value:.0%} ({interval}; n {one.n})"


def _number(one: Estimate) -> str:
    if one.value is None:
        return "unknown"
    return f"{one.value:+.2f}" + ("" if one.low is None else f" ({one.low:+.2f} to {one.high:+.2f})")


def _fitted(one: Fitted) -> str:
    if one.value is None or one.held is None:
        return f"none: {one.why_not}"
    held = one.held
    return f"{one.value:.3g}\tholds for {held.rate:.0%} ({held.low:.0%} to {held.high:.0%}) of {held.n} other votes"
