"""`sosie train`: a character's LoRA."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from sosie.cli.options import PATH, common, session
from sosie.cli.output import Output
from sosie.core import Event, Progress
from sosie.core.errors import UsageError
from sosie.workspace.workspace import Workspace

if TYPE_CHECKING:
    from sosie.api.training import Trained, TrainOrder
    from sosie.store.training import StoredTraining
    from sosie.training.events import Sampled, Stepped

DONE = ("finished", "over-trained", "asked")
"""Causes of the end after which there is nothing more to do."""


@click.command("train")
@click.argument("characters", nargs=-1)
@click.option("--recipe", "recipe_name", help="The recipe whose model and [training] count. Default: the character's.")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped or killed, to the same losses.")
@click.option("--list", "only_list", is_flag=True, help="Only show the runs on record, failed ones too.")
@click.option(
    "--ask",
    "wish",
    type=click.Choice(["sample", "deliver"]),
    help="Have the run that goes on draw samples now, or end and deliver the best so far.",
)
@click.option("--continue-from", default="", metavar="LORA", help="Begin with the weights of this LoRA.")
@click.option("--regularisation", type=PATH, help="A folder of images of others, with captions.")
@click.option(
    "--log-with",
    multiple=True,
    type=click.Choice(["tensorboard", "wandb", "mlflow"]),
    help="A logger beside log.jsonl; may be given again. Default: TensorBoard, where it is installed.",
)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to train."
)
@click.option("--weight", type=float, default=1.0, show_default=True, help="How strongly recipes will use the LoRA.")
@click.option(
    "--price",
    type=click.FloatRange(0),
    help="What an hour costs: shows what is left to pay. Default: a pod's price.",
)
@click.option("--no-add", is_flag=True, help="Do not give the LoRA to the character; it goes to outputs/CHARACTER.")
@click.option(
    "--engine",
    default="",
    metavar="ENGINE",
    help="The machine that trains: ssh:USER@HOST, or pod:NAME (see docs/pods.md). Default: this one.",
)
@click.option("--down", is_flag=True, help="With --engine pod:NAME: end the pod when the file is here.")
@click.option("--each", is_flag=True, help="One LoRA of each character, not one of all together.")
@click.option(
    "--devices",
    metavar="all|0,1",
    help="With --each: train on these cards at once, a process and a character each (see docs/throughput.md).",
)
@common
def command(characters: tuple[str, ...], output: Output, workspace: Workspace, **flags: Any) -> int:
    """Train one LoRA of CHARACTERS, and deliver the checkpoint that the judges like best.

    Learned from is the character's dataset (sosie dataset build), or else two thirds of the references; judged
    is by the others. Ctrl-C stops after the step; the same command with --resume goes on.

    Exit 1 if the loss went wrong or the disk was full, 130 if it was interrupted.
    """
    from sosie.api.training import Trained, priced, train
    from sosie.training.events import Stepped

    if flags["only_list"]:
        return _list(output, workspace, characters)
    if not characters:
        raise UsageError("no character was named", "sosie train CHARACTER --recipe RECIPE")
    if flags["wish"]:
        return _ask(output, workspace, characters, flags)
    _check_machine(flags)
    if flags["each"]:
        return _train_each(output, workspace, characters, flags)
    if flags["devices"]:
        hint = "add --each for one LoRA of each character, or choose a card with CUDA_VISIBLE_DEVICES"
        raise UsageError("--devices without --each: one LoRA is trained on one card", hint)
    order = priced(workspace, _order(workspace, characters, flags))
    done: Trained | None = None
    cost = ""
    with session(workspace) as opened, output.progress(), closing(train(opened, order)) as events:
        for event in events:
            if isinstance(event, Trained):
                done = event
            elif isinstance(event, Stepped):
                cost = _cost(event, order.price)
            elif isinstance(event, Progress):
                output.event(replace(event, what=event.what + cost))
            else:
                _show(output, event)
    if done is None:
        return 2
    code = _finish(output, done)
    if flags["down"] and not code:
        _end_pod(output, workspace, flags["engine"])
    return code


def _check_machine(flags: dict[str, Any]) -> None:
    """Raises `UsageError` for options that have no sense together."""
    if flags["down"] and not flags["engine"].startswith("pod:"):
        raise UsageError("--down ends a pod, and none trains", "add --engine pod:NAME")
    wrong = [name for name in ("devices", "log_with", "each") if flags[name]] if flags["engine"] else []
    if wrong:
        flag = f"--{wrong[0].replace('_', '-')}"
        raise UsageError(f"{flag} is for trainings on this machine", "leave it out, or leave --engine out")


def _end_pod(output: Output, workspace: Workspace, engine: str) -> None:
    from sosie.api.renting.rent import end_pod

    name = engine.removeprefix("pod:").partition("?")[0]
    with session(workspace) as opened:
        pod = end_pod(opened, name)
    output.say(f"pod {name} (lease {pod.lease}) has ended; it bills no more")


def _ask(output: Output, workspace: Workspace, names: tuple[str, ...], flags: dict[str, Any]) -> int:
    """Leaves a wish for the newest run of these characters."""
    from sosie.api.lines import json_of
    from sosie.api.views.trainings import ask_run, is_going_on, newest_run

    found = newest_run(workspace, tuple(dict.fromkeys(names)), flags["recipe_name"] or "")
    run = ask_run(workspace, found.id, flags["wish"])
    output.line(json_of(run)) if output.as_json else output.data(_run_text(run))
    goes_on = is_going_on(workspace, run)
    output.say("it does so after its next step" if goes_on else "it does so when it is resumed: add --resume")
    return 0


def _train_each(output: Output, workspace: Workspace, names: tuple[str, ...], flags: dict[str, Any]) -> int:
    """As many runs as characters; the worst end counts."""
    from sosie.api.training import Trained
    from sosie.api.workers.training_each import Apart, NotTrained, train_each
    from sosie.training.events import Stepped

    orders = [_order(workspace, (name,), flags) for name in dict.fromkeys(names)]
    codes = [0]
    with (
        session(workspace) as opened,
        output.progress(),
        closing(train_each(opened, orders, flags["devices"] or "")) as runs,
    ):
        for run in runs:
            match run:
                case NotTrained():
                    output.error(f"{run.name}: {run.error.message}", run.error.hint)
                    codes.append(2)
                case Apart(event=Trained() as done):
                    codes.append(_finish(output, done))
                case Apart(event=Progress() as step):
                    output.event(replace(step, what=f"{run.name}: {step.what}"))
                case Apart(event=Stepped()):
                    pass
                case Apart():
                    _show(output, run.event)
    return max(codes)


def _order(workspace: Workspace, names: tuple[str, ...], flags: dict[str, Any]) -> TrainOrder:
    from sosie.api.training import TrainOrder
    from sosie.workspace.characters import load_character
    from sosie.workspace.recipes import load_recipe

    people = tuple(load_character(workspace, name) for name in dict.fromkeys(names))
    recipe_name = flags["recipe_name"] or people[0].recipe
    if not recipe_name:
        raise UsageError(f"--recipe is missing, and '{names[0]}' has no recipe of their own", "add --recipe mini")
    return TrainOrder(
        people,
        load_recipe(workspace, recipe_name),
        flags["resume"],
        flags["continue_from"],
        flags["regularisation"],
        flags["device"],
        flags["log_with"],
        flags["weight"],
        not flags["no_add"],
        flags["price"],
        flags["engine"],
    )


def _show(output: Output, event: Event) -> None:
    from sosie.dataset.build import AddedImage, BuiltSet
    from sosie.training.events import RolledBack, Sampled

    match event:
        case AddedImage():
            output.say(f"{event.path.name}: {event.member.caption}") if output.verbose else None
        case BuiltSet():
            output.say(f"training set: {event.total} images in {event.folder}")
        case Sampled():
            output.say(_judgement(event))
        case RolledBack():
            output.say(f"back at step {event.step}, with {event.scale:g} times the learning rate")
        case _:
            output.event(event)


def _cost(event: Stepped, price: float | None) -> str:
    """What the rest of a run will cost at `price` an hour; empty without one."""
    return "" if price is None else f", {event.left / 3600 * price:.2f} to pay"


def _judgement(event: Sampled) -> str:
    scores = event.scores
    if scores is None:
        return f"step {event.step}: samples drawn"
    identity = [f"{entry.judge} {entry.value:.3f}" for entry in scores.identity] or ["identity not measured"]
    rest = (("copy-paste", scores.copy_paste), ("adherence", scores.adherence), ("sound", scores.sound))
    others = [f"{name} {value:.2f}" for name, value in rest if value is not None]
    return f"step {event.step}: {', '.join([*identity, *others])}"


def _finish(output: Output, done: Trained) -> int:
    from sosie.api.lines import json_of
    from sosie.loop.training_record import CAUSES

    record = done.record
    end = record.end
    if output.as_json:
        output.line(json_of(done))
    elif end.path is not None:
        output.data(str(end.path))
    output.say(f"{CAUSES.get(end.cause, end.cause)}: {end.step} of {record.start.steps} steps; report: {done.report}")
    if done.given_to:
        output.say(f"{', '.join(done.given_to)} got it; the trigger is {', '.join(done.triggers)}")
    if end.cause == "interrupted":
        output.error("interrupted; the state is saved", "run the same command with --resume to go on")
        return 130
    if end.cause not in DONE:
        output.error(f"{CAUSES.get(end.cause, end.cause)}: {end.message}", "mend it, then add --resume")
    return int(end.cause not in DONE)


def _list(output: Output, workspace: Workspace, characters: tuple[str, ...]) -> int:
    from sosie.api.lines import json_of
    from sosie.api.training import list_runs

    with session(workspace) as opened:
        runs = list_runs(opened)
    for run in runs:
        if characters and not set(characters) & set(run.start.characters):
            continue
        if output.as_json:
            output.line(json_of(run))
        else:
            output.data(_run_text(run))
    return 0


def _run_text(run: StoredTraining) -> str:
    start, end = run.start, run.end
    scores = end.scores or {}
    identity: dict[str, float] = scores.get("identity", {})
    likeness = " ".join(f"{judge} {value:.3f}" for judge, value in identity.items()) or "-"
    best = "-" if end.best is None else f"best {end.best}"
    cells = (
        str(run.id),
        run.started[:16].replace("T", " "),
        ", ".join(start.characters),
        start.recipe,
        f"dataset {start.dataset[:8]} ({start.images} images)",
        f"step {end.step} of {start.steps}",
        end.cause or "killed, or still going on",
        best,
        likeness,
        str(end.path or end.message or "-"),
    )
    return "\t".join(cells)
