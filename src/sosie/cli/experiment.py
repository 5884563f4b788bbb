"""`sosie experiment`: new, run, resume, report and list."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import PATH, common, session
from sosie.cli.output import Output
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.api.experiments import ExperimentDone, ExperimentOrder
    from sosie.core.experiment_result import Contrast, ExperimentResult
    from sosie.lab.course import CellDone, Looked
    from sosie.lab.forecast import Forecast

ENGINE = click.option("--engine", default="diffusers", show_default=True, help="What draws, as of sosie generate.")
KEEP_LOADED = click.option(
    "--keep-loaded", type=float, default=0.0, metavar="MINUTES", help="Keep the models loaded that long."
)
DEVICES = click.option("--devices", default="", metavar="all|0,1", help="The cards to draw on, as of sosie generate.")

WORDS = {
    "better": "better",
    "worse": "worse",
    "same": "no difference beyond the margin",
    "undecided": "undecided",
}


@click.group("experiment")
def command() -> None:
    """Ask what a change does, and let images answer: declared first, measured, with honest error rates."""


@command.command("new")
@click.argument("name")
@click.option("--character", required=True, help="Whose face it is about.")
@click.option("--recipe", default="mini", show_default=True, help="The recipe that is changed.")
@common
def new(name: str, character: str, recipe: str, output: Output, workspace: Workspace) -> None:
    """Write experiments/NAME.toml, a design to edit."""
    from sosie.api.experiments import new_experiment

    path = new_experiment(workspace, name, character, recipe)
    output.line({"name": name, "path": str(path)}) if output.as_json else output.data(str(path))


@command.command("run")
@click.argument("file", type=PATH)
@ENGINE
@KEEP_LOADED
@DEVICES
@click.option("--dry-run", is_flag=True, help="Say what it would take and what it could show, and draw nothing.")
@click.option("--price", type=click.FloatRange(min=0), default=0.0, metavar="AMOUNT", help="Of an hour, of --dry-run.")
@common
def run(file: Path, output: Output, workspace: Workspace, **flags: Any) -> int:
    """Run the experiment in FILE: every arm draws each prompt with each seed.

    What the store holds is not drawn again, so the same command goes on where it was stopped. A cell that fails
    is written down with its error, and the others go on. Exit 1 if a cell failed, or an arm was stopped by a check.
    """
    from sosie.api.engines import Workers
    from sosie.api.experiments import foretell, read_order

    order = read_order(file, flags["engine"], Workers(flags["devices"], flags["keep_loaded"]))
    if flags["dry_run"]:
        _show_forecast(output, foretell(workspace, order, flags["price"]))
        return 0
    return _run(output, workspace, order)


@command.command("resume")
@click.argument("name")
@KEEP_LOADED
@DEVICES
@common
def resume(name: str, output: Output, workspace: Workspace, keep_loaded: float, devices: str) -> int:
    """Go on with the experiment NAME (its name or id) as it was declared, on the same engine."""
    from dataclasses import replace

    from sosie.api.engines import Workers
    from sosie.api.experiments import order_again

    return _run(output, workspace, replace(order_again(workspace, name), workers=Workers(devices, keep_loaded)))


@command.command("report")
@click.argument("name")
@common
def report(name: str, output: Output, workspace: Workspace) -> int:
    """Write down anew what the experiment NAME has found so far, and draw nothing."""
    from dataclasses import replace

    from sosie.api.experiments import order_again

    return _run(output, workspace, replace(order_again(workspace, name), draws=False))


@command.command("list")
@common
def list_(output: Output, workspace: Workspace) -> None:
    """Name every experiment that was begun here, and what it found."""
    from sosie.api.experiments import experiments

    for one in experiments(workspace):
        if output.as_json:
            found_so_far = _summary(one.result) if one.result else {}
            output.line({"id": one.id, "state": "killed", "question": one.question, "arms": one.arms, **found_so_far})
            continue
        state = one.result.state if one.result else "killed"
        found = [f"{each.name}: {WORDS[each.verdict]}" for each in one.result.contrasts] if one.result else []
        shown = [text for text in found if not text.endswith("undecided")]
        output.data(f"{one.id}\t{state}\t{one.arms} arms\t{'; '.join(shown) or 'nothing decided'}")


def _run(output: Output, workspace: Workspace, order: ExperimentOrder) -> int:
    from sosie.api.experiments import ExperimentDone, run_experiment
    from sosie.lab.course import CellDone, Looked

    done: ExperimentDone | None = None
    with session(workspace) as opened, output.progress(), closing(run_experiment(opened, order)) as events:
        for event in events:
            if isinstance(event, CellDone):
                _show_cell(output, event)
            elif isinstance(event, Looked):
                _show_look(output, event)
            elif isinstance(event, ExperimentDone):
                done = event
            else:
                output.event(event)
    return _finish(output, done) if done else 2


def _show_cell(output: Output, event: CellDone) -> None:
    cell = event.cell
    if cell.error is not None:
        output.finding(cell.error)
    elif output.as_json:
        from sosie.core.schema import to_table

        output.line({"kind": "cell", **to_table(cell)})
    elif output.verbose:
        score = "no score" if cell.score is None else f"{cell.score:.3f}"
        output.say(f"{event.number} of {event.total}: {cell.arm}, prompt {cell.prompt + 1}, seed {cell.seed}: {score}")
    output.step(f"{event.number} of at most {event.total} images", event.number, event.total)


def _show_look(output: Output, look: Looked) -> None:
    for one in look.decided:
        output.say(f"after {look.blocks} blocks: {_verdict(one)}")
    for name in look.dropped:
        output.say(f"after {look.blocks} blocks: {name}: behind, dropped from the race")


def _verdict(one: Contrast) -> str:
    return f"{one.name}: {WORDS[one.verdict]}{_interval(one)}"


def _interval(one: Contrast) -> str:
    if one.estimate is None:
        return ""
    if one.low is None or one.high is None:
        return f", {one.estimate:+.3f}"
    return f", {one.estimate:+.3f} ({one.low:+.3f} to {one.high:+.3f})"


def _finish(output: Output, done: ExperimentDone) -> int:
    result = done.result
    if output.as_json:
        output.line({"kind": "experiment", **_summary(result), "file": str(done.file), "page": str(done.page)})
    else:
        for one in result.contrasts:
            note = f"; {one.note}" if one.note else ""
            output.data(f"{one.name}\t{WORDS[one.verdict]}{_interval(one)}\t{one.n} blocks{note}")
    for sentence in result.deviations:
        output.say(sentence)
    output.say(_winner(result))
    output.say(f"{result.id} ({result.state}): {done.page}")
    wrong = any(one.failed for one in result.arms) or any(not one.blocks for one in result.arms)
    return int(wrong)


def _summary(result: ExperimentResult) -> dict[str, Any]:
    """What a JSON line holds of a result; the file has all of it."""
    from sosie.core.schema import to_table

    winner = to_table(result.winner) if result.winner else None
    return {
        "id": result.id,
        "digest": result.digest,
        "state": result.state,
        "question": result.question,
        "contrasts": to_table(result.contrasts),
        "winner": winner,
        "deviations": list(result.deviations),
    }


def _winner(result: ExperimentResult) -> str:
    if result.winner is None:
        return "no arm was shown to be better than the baseline"
    if result.winner.fresh is None:
        return f"{result.winner.arm} won, and was not measured again: no decision may rest on it yet"
    said = "confirmed" if result.winner.is_confirmed else "not confirmed"
    return f"{result.winner.arm} won; on fresh seeds{_interval(result.winner.fresh)}: {said}"


def _show_forecast(output: Output, found: Forecast) -> None:
    if output.as_json:
        from sosie.core.schema import to_table

        output.line({**to_table(found), "images": found.images})
        return
    design = found.design
    rows = [
        ("cells", f"{found.cells:,} ({found.arms:,} arms x {found.blocks:,} blocks), {found.contrasts:,} comparisons"),
        ("images", f"at most {found.images:,}, of which {found.fresh:,} measure the winner again"),
        ("hours", f"unknown: {found.basis}" if found.hours is None else f"{found.hours:.2f} ({found.basis})"),
        ("money", "unknown" if found.money is None else f"{found.money:.2f}"),
        ("disk", f"{found.bytes / 2**20:,.0f} MiB"),
        ("looks", f"every {design.every} blocks" if design.stopping == "anytime" else "one, at the end"),
        ("can show", _can_show(found)),
    ]
    for name, text in rows:
        output.data(f"{name}\t{text}")


def _can_show(found: Forecast) -> str:
    design = found.design
    if design.unit == "training run":
        return "what training runs differ by; at least 3 of each treatment are tested"
    if found.smallest is None:
        return f"no difference below {design.clip:g}: more seeds are needed"
    four = f"; four times the seeds: {found.longer:.3g}" if found.longer is not None else ""
    return (
        f"differences from {found.smallest:.3g} on (margin {design.margin:g}, paired ones spread {design.sd:g}){four}"
    )
