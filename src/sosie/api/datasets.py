"""A training set that Sosie draws itself: the character with the identity guides, kept where two judges pass."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace

from sosie.api.engines import open_engine
from sosie.api.generation import MISSING_HERE, described
from sosie.core import Character, Event, Finding, Note, Progress, Recipe, Request, derive_seed
from sosie.core.errors import CheckFailedError, UsageError
from sosie.core.finding import has_errors
from sosie.core.plan import needed_stages
from sosie.dataset import image_set
from sosie.dataset.balance import Kind, asked, is_wanted, kind_of
from sosie.dataset.build import (
    AddedImage,
    BuiltSet,
    Captioning,
    OfferedImage,
    add,
    dataset_folder,
    looks,
    sample_of,
)
from sosie.dataset.check.faces import T024
from sosie.dataset.image_set import Member
from sosie.doctor.recipes import check_recipe
from sosie.engines import DEFAULT, scheme_of
from sosie.loop.attempts import first_plan, run
from sosie.loop.judge import Judge
from sosie.loop.judge_room import Processes
from sosie.loop.judging import ImageSource, make_judge
from sosie.loop.task import Attempt, Bench, Drawn, Task
from sosie.store import Outgoing
from sosie.workspace.bill import resolve
from sosie.workspace.session import Session
from sosie.workspace.writing import writing

MAX_IMAGES = 1000
JUDGES = 2
"""So many judges must pass a picture: one alone is deceived too easily by what is learned from afterwards."""


@dataclass(frozen=True)
class Bootstrap:
    """A set of `n` images in all, drawn by `recipe`; each picture that is asked for gets `attempts` tries."""

    character: Character
    recipe: Recipe
    n: int
    seed: int = 0
    attempts: int = 4
    engine: str = DEFAULT
    command: str = ""


@dataclass(eq=False)
class _State:
    """What is in the set, what kinds of pictures are, and what passed beside; `run` is the record's number."""

    run: int
    judge: Judge
    members: list[Member]
    taken: list[Kind] = field(default_factory=list[Kind])
    passed: list[Kind] = field(default_factory=list[Kind])
    spare: list[Attempt] = field(default_factory=list[Attempt])
    refused: set[str] = field(default_factory=set[str])
    tried: int = 0


def bootstrap(session: Session, order: Bootstrap) -> Generator[Event]:
    """Draws until the set has its images, or as many pictures as were wanted twice were asked for in vain.

    What the store holds is not drawn again, so a run that was killed goes on where it was. Copies of a
    reference, or of each other, are taken out again. Raises `CheckFailedError` if a check finds an error or
    fewer than two judges can judge.
    """
    if not 1 <= order.n <= MAX_IMAGES:
        raise UsageError(f"--bootstrap {order.n} is out of range: 1 to {MAX_IMAGES}")
    if order.attempts < 1:
        raise UsageError(f"--attempts {order.attempts} is out of range: at least 1")
    stages = needed_stages(order.recipe, order.character)
    bill = resolve(session.workspace, stages, order.character, scheme_of(order.engine).is_remote)
    findings = check_recipe(order.recipe, bill)
    if bill.remote:
        findings = [finding for finding in findings if finding.code not in MISSING_HERE]
    if has_errors(findings):
        yield from findings
        raise _stopped()
    assets = bill.digests
    engine = open_engine(session, order.engine, bill, order.character)
    try:
        judge, judging = make_judge(session, order.character, order.recipe, bill, ImageSource(order.engine))
        findings += [*judging, *engine.check(first_plan(_task(order, judge, 0), assets))]
        yield from dict.fromkeys(findings)
        if has_errors(findings):
            raise _stopped()
        judges = [entry.encoder.name for entry in judge.gate.judges]
        if len(judges) < JUDGES:
            raise CheckFailedError(
                f"a set is drawn for two judges to pass, and there is {len(judges)}: {', '.join(judges) or 'none'}",
                'pip install "sosie[judges]"',
            )
        with Processes() as room:
            yield from _draw(session, order, Bench(engine, session.store, assets, room), judge)
    finally:
        engine.close()


def _draw(session: Session, order: Bootstrap, bench: Bench, judge: Judge) -> Generator[Event]:
    arguments = {"character": order.character.name, "recipe": order.recipe.name, "n": order.n, "seed": order.seed}
    started = session.store.begin_run("dataset", arguments)
    folder = dataset_folder(session, order.character)
    state = _State(started, judge, list(image_set.read_members(folder)))
    state.taken = [kind for member in state.members if (kind := kind_of(sample_of(session, folder / member.file)))]
    state.passed = list(state.taken)
    before, place, outcome = len(state.members), 0, "interrupted"
    try:
        while len(state.members) < order.n and place < 2 * order.n:
            yield from _one(session, order, bench, state, place)
            place += 1
            if len(state.members) >= order.n or place == 2 * order.n:
                yield from _fill(session, order, state)
                yield from _without_copies(session, order, state)
        outcome = "done"
    finally:
        session.store.end_run(started, outcome)
        session.store.sweep()
    yield BuiltSet(folder, len(state.members), len(state.members) - before, state.tried - len(state.members) + before)


def _one(session: Session, order: Bootstrap, bench: Bench, state: _State, place: int) -> Generator[Event]:
    """Asks for the picture at a place, and takes it if it passes and helps the balance."""
    for event in run([_task(order, state.judge, place)], bench):
        if isinstance(event, Note | Finding | Drawn):
            continue
        at = Progress(f"{len(state.members)} of {order.n}, picture {place + 1}", len(state.members), order.n)
        if isinstance(event, Progress):
            yield replace(event, what=f"{at.what}: {described(event)}", done=at.done, total=at.total)
            continue
        state.tried += 1
        yield at
        if event.verdict.outcome != "keep" or _source(event) in state.refused:
            continue
        kind = kind_of(sample_of(session, event.stored.image))
        if kind is None or _source(event) in {member.source for member in state.members}:
            continue
        if is_wanted(kind, state.taken, state.passed, order.n):
            yield _take(session, order, state, event)
            state.taken.append(kind)
        else:
            state.spare.append(event)
        state.passed.append(kind)


def _fill(session: Session, order: Bootstrap, state: _State) -> Generator[Event]:
    """Takes what passed and was not wanted for the balance, where nothing better came."""
    missing = max(0, order.n - len(state.members))
    spare, state.spare = state.spare[:missing], state.spare[missing:]
    for attempt in spare:
        yield _take(session, order, state, attempt)
    if spare:
        yield Note(f"{len(spare)} images more of poses or framings that were there enough, since no others came")


def _take(session: Session, order: Bootstrap, state: _State, attempt: Attempt) -> AddedImage:
    item = OfferedImage(attempt.stored.image, _source(attempt))
    sha256 = attempt.stored.sha256
    target = dataset_folder(session, order.character) / image_set.name_in_set(item.path, sha256)
    with session.store.delivering(Outgoing(state.run, attempt.stored.id, target, False, sha256)):
        return AddedImage(*add(session, order.character, state.members, item, Captioning(order.recipe, order.command)))


def _without_copies(session: Session, order: Bootstrap, state: _State) -> Generator[Event]:
    """Takes out what shows the same picture as a reference, or as an earlier image of the set."""
    folder = dataset_folder(session, order.character)
    drawn = [member for member in state.members if member.source.startswith("plan:")]
    references = list(session.reference_paths(order.character).values())
    others = [folder / member.file for member in state.members if member not in drawn]
    _, findings = image_set.sift([folder / member.file for member in drawn], [*references, *others], (), looks(session))
    copies = {finding.subject for finding in findings if finding.code == T024.code}
    gone = [member for member in drawn if str(folder / member.file) in copies]
    for member in gone:
        yield from (finding for finding in findings if finding.subject == str(folder / member.file))
        state.refused.add(member.source)
        with writing(session.workspace, order.character.name):
            image_set.remove_image(folder, member.file)
            image_set.refresh(folder, state.members)
            image_set.write_members(folder, state.members)
    if gone:
        state.taken = [kind for one in state.members if (kind := kind_of(sample_of(session, folder / one.file)))]


def _task(order: Bootstrap, judge: Judge, place: int) -> Task:
    request = Request(
        recipe=order.recipe.name,
        character=order.character.name,
        prompt=asked(order.recipe.calibration.prompts, place),
        seed=derive_seed(order.seed, place, 0),
    )
    return Task(f"{place + 1:03d}", order.recipe, order.character, request, 1, order.attempts, judge)


def _source(attempt: Attempt) -> str:
    return f"plan:{attempt.plan.id}"


def _stopped() -> CheckFailedError:
    return CheckFailedError("nothing was drawn: the checks before the run found an error")
