"""The sections on what was found: what works, what does not and why, LoRAs, tests and experiments."""

from __future__ import annotations

from sosie.core.experiment_result import Contrast, ExperimentResult
from sosie.knowledge.trial import Trial
from sosie.reports.audit.audit import Audit
from sosie.reports.audit.document import Bar, Bars, Block, Cell, Lines, Mark, Section, Table
from sosie.reports.audit.words import Words
from sosie.store.training import StoredTraining

MARKS: dict[str, Mark] = {"works": "good", "fails": "bad", "unclear": "doubt"}

VERDICTS: dict[str, Mark] = {"better": "good", "worse": "bad", "same": "", "undecided": "doubt"}

SHOWN_SETTINGS = ("rank", "alpha", "precision", "learning_rate", "batch", "resolution")
"""Settings of a training run that its row names, where they are on record."""


def works(audit: Audit, words: Words) -> Section:
    """Section 1: what works, by whose judgement, and the share of images that was kept."""
    blocks: list[Block] = []
    found = [one.noun for one in audit.trials if one.noun.outcome == "works"]
    if found:
        columns = ("component", "setting", "result", "evidence")
        rows = tuple(
            (Cell(one.component, "good"), Cell(one.setting), Cell(one.result), measured(one, words)) for one in found
        )
        blocks.append(Table(tuple(map(words, columns)), rows))
    if audit.shares:
        bars = tuple(
            Bar(
                one.recipe,
                one.kept / one.drawn,
                words(
                    "share_text",
                    kept=one.kept,
                    drawn=one.drawn,
                    low=words.share(one.low),
                    high=words.share(one.high),
                ),
                one.low,
                one.high,
            )
            for one in audit.shares
        )
        blocks.append(Bars(words("shares_title"), bars))
    return Section(1, words("works_title"), tuple(blocks), words("works_empty"), words("works_lead"))


def measured(trial: Trial, words: Words) -> Cell:
    """What a judge measured, with its interval; or that it was an eye."""
    if not trial.measured_by:
        return Cell(words("by_eye"), "doubt")
    if trial.value is None:
        return Cell(words("by_judge", judge=trial.measured_by))
    text = words.number(trial.value, 3)
    if trial.low is not None and trial.high is not None:
        text += f" ({words('to', low=words.number(trial.low, 3), high=words.number(trial.high, 3))})"
    return Cell(f"{text}, {words('by_judge', judge=trial.measured_by)}")


def fails(audit: Audit, words: Words) -> Section:
    """Section 2: what does not work, why, and what the doctor says of it; each series of tries once."""
    rows: list[tuple[Cell, ...]] = []
    for name, tries in _series(audit).items():
        bad = [one for one in tries if one.outcome != "works"]
        if bad:
            title = words("tries", name=name, bad=len(bad), all=len(tries)) if len(tries) > 1 else name
            causes = dict.fromkeys(one.cause for one in bad if one.cause)
            results = dict.fromkeys(one.result for one in bad)
            rows.append(
                (
                    Cell(title, MARKS[bad[-1].outcome]),
                    Cell("; ".join(results)),
                    Cell("; ".join(causes) or words("cause_unknown"), "" if causes else "doubt"),
                    _doctor(_common(bad)),
                )
            )
    for kept in audit.files:
        errors = [f"{one.code}: {one.message}" for one in kept.noun.findings if one.severity == "error"]
        if errors and not any(text in row[-1].text for row in rows for text in errors):
            rows.append((Cell(kept.noun.name, "bad"), Cell(kept.noun.what), Cell(kept.noun.use), _doctor(errors)))
    columns = tuple(map(words, ("subject", "seen", "cause", "doctor")))
    blocks = (Table(columns, tuple(rows)),) if rows else ()
    return Section(2, words("fails_title"), blocks, words("fails_empty"), words("fails_lead"))


def _series(audit: Audit) -> dict[str, list[Trial]]:
    """The tries by series, or by component where they have none."""
    found: dict[str, list[Trial]] = {}
    for one in audit.trials:
        found.setdefault(one.noun.series or one.noun.component, []).append(one.noun)
    return found


def _common(trials: list[Trial]) -> list[str]:
    """What the doctor says of each of them: the errors, and where there are none what it says first."""
    each = [[f"{found.code}: {found.message}" for found in one.findings if found.severity == "error"] for one in trials]
    common = [text for text in each[0] if all(text in texts for texts in each)]
    return common or [f"{found.code}: {found.message}" for found in trials[0].findings[:1]]


def _doctor(texts: list[str]) -> Cell:
    return Cell("; ".join(texts) or "-", quoted=bool(texts))


def loras(audit: Audit, words: Words) -> Section:
    """Section 4: every training run, the oldest first, why it ended and what it taught."""
    columns = tuple(map(words, ("run", "base", "set", "settings", "ending", "taught")))
    rows = tuple(_run(run, audit, words) for run in reversed(audit.trainings))
    blocks = (Table(columns, rows),) if rows else ()
    return Section(4, words("loras_title"), blocks, words("loras_empty"), words("loras_lead"))


def _run(run: StoredTraining, audit: Audit, words: Words) -> tuple[Cell, ...]:
    start, end = run.start, run.end
    settings = [
        f"{words(f'setting_{name}')} {start.settings[name]}" for name in SHOWN_SETTINGS if name in start.settings
    ]
    unknown = Cell(words("not_recorded"), "doubt")
    is_good = end.path is not None
    ended = words(f"cause_{end.cause.replace('-', '_') or 'open'}")
    said = [words("steps", done=words.number(end.step), all=words.number(start.steps))] if start.steps else []
    message = f" {end.message}" if end.message else ""
    file = end.path.name if end.path else words("nothing_delivered")
    return (
        Cell(f"{start.recipe or start.family} · {words.day(run.started)}"),
        Cell(f"{start.base} ({start.family})", full=start.base_sha256),
        Cell(words("images", n=start.images), full=start.dataset) if start.images else unknown,
        Cell(", ".join((*said, *settings))) if said or settings else unknown,
        Cell(f"{ended}.{message} {file}", "good" if is_good else "bad", full=end.sha256),
        Cell(" ".join(audit.taught(run.id)) or "-"),
    )


def tests(audit: Audit, words: Words) -> Section:
    """Section 10: the experiments with their contrasts, and each series of tries by hand."""
    blocks: list[Block] = [_experiment(one, words) for one in audit.experiments]
    for name, tries in _series(audit).items():
        if len(tries) > 1:
            columns = tuple(map(words, ("test", "setting", "seen", "doctor")))
            rows = tuple(
                (
                    Cell(one.component, MARKS[one.outcome]),
                    Cell(one.setting),
                    Cell(one.result),
                    _doctor(_own(one, tries)),
                )
                for one in tries
            )
            blocks.append(Table(columns, rows, name))
            common = _common(tries)
            if common and _doctor(common).text != "-":
                blocks.append(Lines((_doctor(common),), words("of_all")))
    return Section(10, words("tests_title"), tuple(blocks), words("tests_empty"), words("tests_lead"))


def _own(trial: Trial, tries: list[Trial]) -> list[str]:
    """What the doctor says of this try alone."""
    others = {(found.code, found.message) for one in tries if one is not trial for found in one.findings}
    return [f"{one.code}: {one.message}" for one in trial.findings if (one.code, one.message) not in others]


def _experiment(result: ExperimentResult, words: Words) -> Block:
    columns = tuple(map(words, ("contrast", "verdict", "difference", "blocks")))
    rows = tuple(_contrast(one, words) for one in result.contrasts)
    title = words("experiment", id=result.id, question=result.question, scale=result.scale)
    if rows:
        return Table(columns, rows, title)
    return Lines((Cell(words(f"state_{result.state}"), "doubt"),), title)


def _contrast(one: Contrast, words: Words) -> tuple[Cell, ...]:
    figure = Cell("-")
    if one.estimate is not None:
        interval = ""
        if one.low is not None and one.high is not None:
            interval = f" ({words('to', low=words.number(one.low, 3), high=words.number(one.high, 3))})"
        figure = Cell(f"{words.number(one.estimate, 3)}{interval}", number=True)
    verdict = Cell(words(f"verdict_{one.verdict}"), VERDICTS[one.verdict])
    return Cell(one.name), verdict, figure, Cell(str(one.n), number=True)
