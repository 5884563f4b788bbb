"""Generate: images of a character that pass, delivered with their evidence."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sosie.api.engines import Workers, open_engine, open_graphs
from sosie.api.outbox import Outbox, signing_key
from sosie.core import Character, Draw, Engine, Event, Finding, Note, Plan, Progress, Recipe, Request, Result, plan
from sosie.core.errors import CheckFailedError, UsageError
from sosie.core.finding import Rule, has_errors
from sosie.core.plan import needed_stages
from sosie.core.schema import digest
from sosie.doctor.fit.partners import R013
from sosie.doctor.graph_files import W010, W012
from sosie.doctor.graph_structure import W014
from sosie.doctor.output import check_output
from sosie.doctor.recipes import R002, R004, check_recipe
from sosie.doctor.words import check_words
from sosie.engines import DEFAULT, scheme_of
from sosie.families.contract.draws import Settings
from sosie.families.contract.graphs import GraphChoices
from sosie.files.images import Picture, read_picture
from sosie.loop.attempts import first_plan, run
from sosie.loop.colours import check_colours
from sosie.loop.judge import Judge
from sosie.loop.judge_room import Processes
from sosie.loop.judging import ImageSource, check_given, make_judge
from sosie.loop.task import Attempt, Bench, Drawn, Task
from sosie.provenance.parameters import Metadata
from sosie.reports.report import Report
from sosie.store.record import Record
from sosie.workspace.bill import Bill, resolve
from sosie.workspace.library import Library
from sosie.workspace.prompts import Asked, Asking, PromptLine, recognise
from sosie.workspace.prompts.asked import A008
from sosie.workspace.prompts.choices import Wildcards
from sosie.workspace.prompts.loras import Loras
from sosie.workspace.session import Session

if TYPE_CHECKING:
    from sosie.engines.comfy.workflow import Workflow
    from sosie.scorers.identity import Gate

E031 = Rule("SOS-E031", "info", "An image to work on was changed when it was read")

MAX_IMAGES = 10_000

UNDERSTOOD = (A008.code, W014.code)
"""What was read from a prompt beside its words, and which image of a workflow is taken: always said."""

MISSING_HERE = (R002.code, R004.code, R013.code, W010.code, W012.code)
"""Files that are not on this machine, or not once, and stages that are incomplete for that reason."""


@dataclass(frozen=True)
class Given:
    """An image to work on in place of a generated one, and the kinds of stages to run (empty: all that can)."""

    image: Path | None = None
    stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """What is to be delivered: `n` images a prompt line, into `out`, within `attempts` x n tries.

    `provenance` False delivers bare images; `metadata` is what other programs read of them; the record keeps
    both choices. A `workflow` is the user's own graph, whose recipe this is then.
    `choices` are of ComfyUI's graphs.
    """

    character: Character
    recipe: Recipe
    prompts: tuple[PromptLine, ...]
    n: int
    seed: int
    out: Path
    attempts: int = 8
    engine: str = DEFAULT
    provenance: bool = True
    negative_prompt: str | None = None
    given: Given = field(default_factory=Given)
    settings: Settings = field(default_factory=Settings)
    workers: Workers = field(default_factory=Workers)
    workflow: Workflow | None = None
    choices: GraphChoices = field(default_factory=GraphChoices)
    metadata: Metadata = "none"


@dataclass(frozen=True, eq=False)
class Delivered(Result):
    """An attempt, and where its image lies: delivered if kept, else in the store."""

    attempt: Attempt
    image: Path

    @property
    def kept(self) -> bool:
        """Whether it passed."""
        return self.attempt.verdict.outcome == "keep"


@dataclass(frozen=True)
class Summary(Result):
    """The end of a run: how many were kept of each prompt, and the pictures to look at."""

    kept: tuple[tuple[Task, int], ...]
    sheet: Path
    page: Path

    @property
    def short(self) -> tuple[tuple[Task, int], ...]:
        """The prompts that did not get all their images."""
        return tuple((task, count) for task, count in self.kept if count < task.n)


def generate(session: Session, order: Order) -> Generator[Event]:
    """Checks, then attempts until every prompt has its images or its budget is spent.

    Raises `CheckFailedError` when a check finds an error; nothing is rendered then.
    """
    asked, told = recognise(order.prompts, _asking(session, order))
    if has_errors(told):
        yield from told
        raise _stopped(told)
    picture = read_picture(order.given.image) if order.given.image else None
    requests = _requests(session, order, asked, picture)
    bill = _resolve(session, order, requests)
    findings = [*told, *_read_as(order, picture), *_check_files(order, bill), *_check_room(order)]
    if has_errors(findings):
        yield from findings
        raise _stopped(findings)
    assets, engine = _open(session, order, bill)
    try:
        source = ImageSource(order.engine, order.workflow)
        judge, judging = make_judge(session, order.character, order.recipe, bill, source)
        findings += judging
        tasks = _tasks(order, asked, requests, judge)
        findings += _told_here(session, order)
        for task in tasks:
            first = first_plan(task, assets)
            findings += [*check_words(first, bill), *engine.check(first)]
        if picture is not None:
            findings += check_given(judge, picture.image, first_plan(tasks[0], assets))
        findings = list(dict.fromkeys(findings))
        if not has_errors(findings):
            _expect_effect(order, tasks, assets)
        yield from findings
        if has_errors(findings):
            raise _stopped(findings)
        started = session.store.begin_run("generate", _arguments(order))
        session.store.add_findings(started, findings)
        files = {entry.name: entry.path for entry in bill if entry.path is not None}
        outbox = _outbox(session, order, started, files)
        with Processes() as room:
            bench = Bench(engine, session.store, assets, room, outbox.deliver)
            yield from _work_through(session, order, tasks, bench, started)
    finally:
        engine.close()


def first_plans(session: Session, order: Order) -> tuple[list[Plan], list[Finding]]:
    """The plans that a run begins with, before anything is judged, and what was found; none if that is an error."""
    asked, found = recognise(order.prompts, _asking(session, order))
    if has_errors(found):
        return [], list(found)
    picture = read_picture(order.given.image) if order.given.image else None
    requests = _requests(session, order, asked, picture)
    bill = _resolve(session, order, requests)
    found = [*found, *_read_as(order, picture), *_check_files(order, bill)]
    if has_errors(found):
        return [], found
    counts = [1 if one.alone else order.n for one in asked]
    pairs = [(request, index) for request, n in zip(requests, counts, strict=True) for index in range(n)]
    return [plan(order.recipe, order.character, one, Draw(index), bill.digests) for one, index in pairs], found


def _asking(session: Session, order: Order) -> Asking:
    """What the prompt lines are read with."""
    if not 1 <= order.n <= MAX_IMAGES:
        raise UsageError(f"-n {order.n} is out of range: 1 to {MAX_IMAGES}")
    if order.attempts < 1:
        raise UsageError(f"--attempts {order.attempts} is out of range: at least 1")
    workspace = session.workspace
    loras = Loras(order.character, order.recipe, Library(workspace), scheme_of(order.engine).is_remote)
    drawn = order.given.image is None and (not order.given.stages or "generate" in order.given.stages)
    return Asking(
        loras, Wildcards(workspace.wildcards), order.seed, order.n, order.workflow is not None, works_on=not drawn
    )


def _resolve(session: Session, order: Order, requests: Sequence[Request]) -> Bill:
    """What the recipe and the prompts name; nothing for a workflow, whose files the servers have."""
    if order.workflow is not None:
        return Bill()
    loras = {lora.file: lora for request in requests for lora in request.loras}
    asked = replace(requests[0], loras=tuple(loras.values()))
    stages = needed_stages(order.recipe, order.character, asked)
    return resolve(session.workspace, stages, order.character, scheme_of(order.engine).is_remote)


def _check_files(order: Order, bill: Bill) -> list[Finding]:
    """What can be said of the recipe here; what is missing here may be on the engine's servers, which are asked."""
    if order.workflow is not None:
        return []
    findings = check_recipe(order.recipe, bill)
    if bill.remote:
        return [finding for finding in findings if finding.code not in MISSING_HERE]
    return findings


def _told_here(session: Session, order: Order) -> list[Finding]:
    """What the doctor sees of a workflow: why a server refuses it, or fails. No error: the server may know better."""
    if order.workflow is None:
        return []
    from sosie.doctor.workflows import check_graph

    workflow, workspace = order.workflow, session.workspace
    found = check_graph(workspace, workflow.drawing, workflow.path.name, workspace.known_table)
    serious = [finding for finding in found if finding.severity != "info" and finding.code not in MISSING_HERE]
    return [*workflow.told, *(replace(finding, severity="warning") for finding in serious)]


def _open(session: Session, order: Order, bill: Bill) -> tuple[Mapping[str, str], Engine]:
    """The digests of what is used, and the engine."""
    if order.workflow is not None:
        return order.workflow.assets, open_graphs(session, order.engine, order.workflow.compiler)
    assets = bill.digests
    if order.choices != GraphChoices():
        return assets, _open_variant(session, order, bill)
    return assets, open_engine(session, order.engine, bill, order.character, order.settings, order.workers)


def _open_variant(session: Session, order: Order, bill: Bill) -> Engine:
    """ComfyUI with graphs that are made otherwise than usual."""
    from sosie.api.comfy_graphs import open_compiler

    return open_graphs(session, order.engine, open_compiler(session, bill, order.choices), order.choices.variant)


def _expect_effect(order: Order, tasks: Sequence[Task], assets: Mapping[str, str]) -> None:
    """Raises `UsageError` for choices that change no graph, of images or of their repairs."""
    if order.choices == GraphChoices():
        return
    from sosie.engines.comfy.compile import expect_effect

    task = tasks[0]
    repair = Draw(attempt=1, source="0" * 64)
    repairs = [plan(task.recipe, task.character, task.request, repair, assets)] if task.recipe.repair else []
    expect_effect([*(first_plan(task, assets) for task in tasks), *repairs], order.choices)


def _outbox(session: Session, order: Order, started: int, files: Mapping[str, Path]) -> Outbox:
    key = signing_key(session) if order.provenance else None
    return Outbox(started, order.out, order.choices.variant, key, order.metadata, files)


def _work_through(
    session: Session, order: Order, tasks: Sequence[Task], bench: Bench, started: int
) -> Generator[Finding | Progress | Note | Result]:
    done: list[Delivered] = []
    counted = _Counted(tuple(tasks))
    outcome = "interrupted"
    try:
        for event in run(tasks, bench):
            if isinstance(event, Drawn):
                counted.drawn += 1
            elif isinstance(event, Progress):
                yield counted.overall(event)
            elif isinstance(event, Attempt):
                counted.add(event)
                done.append(Delivered(event, event.delivered or event.stored.image))
                yield done[-1]
            else:
                if isinstance(event, Finding):
                    session.store.add_findings(started, [event])
                yield event
        outcome = "done"
        with Record(session.store.folder) as record:
            unlike = list(check_colours(record, [one.attempt for one in done]))
        session.store.add_findings(started, unlike)
        yield from unlike
        from sosie.reports.publish import write_report

        sheet, page = write_report(_report(session, order, done, tasks[0].judge.gate), order.out)
        yield Summary(tuple(counted.kept.items()), sheet, page)
    finally:
        session.store.end_run(started, outcome)
        session.store.sweep()


class _Counted:
    """How far the images of all tasks are."""

    def __init__(self, tasks: tuple[Task, ...]) -> None:
        self.kept = dict.fromkeys(tasks, 0)
        self.drawn = self._found = self._judged = 0
        self._wanted = sum(task.n for task in tasks)

    def add(self, attempt: Attempt) -> None:
        """One more is finished."""
        self.kept[attempt.task] += attempt.verdict.outcome == "keep"
        self._found += attempt.resumed
        self._judged += not attempt.resumed

    def overall(self, event: Progress) -> Progress:
        """The engine's progress of one attempt as that of all images; a preview keeps its picture."""
        kept, share = sum(self.kept.values()), event.share if event.what not in ("load", "install", "bring") else 0.0
        text = f"{kept} of {self._wanted} kept, attempt {self._found + self.drawn + 1}: {described(event)}"
        likely = min(self.drawn - self._judged + share, self._wanted - kept)
        return replace(event, what=text, done=kept + 0.9 * likely, total=self._wanted)


def described(event: Progress) -> str:
    """What an engine is at with an image."""
    if event.what == "load":
        return "loading the model"
    if event.what == "queue":
        ahead: int | None = getattr(event, "ahead", None)
        return "waiting for the server" + (f", {ahead} before it" if ahead else "")
    if event.what == "install":
        return "making the machine ready"
    if event.what == "bring":
        return f"bringing models to the machine, {event.done / 1e9:.2f} of {event.total / 1e9:.2f} GB"
    return f"step {event.done:g} of {event.total:g}"


def _report(session: Session, order: Order, done: Sequence[Delivered], gate: Gate) -> Report:
    attempts = [item.attempt for item in done]
    with Record(session.store.folder) as record:
        rows = tuple(record.attempt(one.stored.id, one.task.judge.id) for one in attempts)
    references = tuple(session.reference_paths(order.character).values())
    return Report(digest(_arguments(order)), order.out, order.character.name, references, rows, gate)


def _read_as(order: Order, picture: Picture | None) -> Iterator[Finding]:
    """What was done to the image to work on: what is drawn has no transparent parts, and the colours of sRGB."""
    for note in picture.notes if picture else ():
        of_alpha = "transparent" in note
        hint = "put it on the background that it is to have; what is drawn has no transparent parts" if of_alpha else ""
        yield E031.at(
            str(order.given.image), f"{order.given.image} {note}", hint, severity="warning" if of_alpha else "info"
        )


def _requests(session: Session, order: Order, asked: Sequence[Asked], picture: Picture | None) -> list[Request]:
    """One for each line, or for each image of a line of which something is chosen."""
    source, size = "", (None, None)
    if picture is not None:
        source, size = session.store.add_source(picture.image), picture.image.size
    requests = [one.request(order.recipe.name, order.character.name, order.negative_prompt) for one in asked]
    width, height = size
    return [
        replace(one, width=width or one.width, height=height or one.height, source=source, stages=order.given.stages)
        for one in requests
    ]


def _tasks(order: Order, asked: Sequence[Asked], requests: Sequence[Request], judge: Judge) -> list[Task]:
    counts = [1 if one.alone else order.n for one in asked]
    return [
        Task(one.line.name, order.recipe, order.character, request, n, order.attempts * n, judge)
        for one, request, n in zip(asked, requests, counts, strict=True)
    ]


def _check_room(order: Order) -> list[Finding]:
    return check_output(order.out, order.n * len(order.prompts), order.recipe.width * order.recipe.height)


def _arguments(order: Order) -> dict[str, object]:
    return {
        "character": order.character.name,
        "recipe": order.recipe.name,
        "prompts": [line.prompt for line in order.prompts],
        "n": order.n,
        "seed": order.seed,
        "attempts": order.attempts,
        "engine": order.engine,
        "face_detailer": order.choices.faces == "server",
        "tiles": order.choices.tiles,
        "workflow": str(order.workflow.path) if order.workflow else "",
        "set": list(order.workflow.settings) if order.workflow else [],
        "provenance": order.provenance,
        "metadata": order.metadata,
        "from": str(order.given.image or ""),
        "stages": list(order.given.stages),
    }


def _stopped(findings: Sequence[Finding]) -> CheckFailedError:
    errors = [finding for finding in findings if finding.severity == "error"]
    return CheckFailedError(f"nothing was rendered: {len(errors)} of the checks before the run found an error")
